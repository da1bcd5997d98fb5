//! Where something comes over IP is an address without a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::address::{Listen, link_local, scoped};
use crate::source::Portless;

/// Reads what is behind the word for such an encapsulation: an address of this host,
/// or nothing or `*` for all.
///
/// # Errors
/// The text is no address, or a link-local one without its interface; the error says what to type.
pub(super) fn address(word: &str, text: &str) -> Result<Listen, String> {
    let text = text.trim();
    if matches!(text, "" | "*") {
        return Ok(Listen::Any(0));
    }
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let (address, interface) = scoped(inside);
    match (address.parse().map(|address: IpAddr| address.to_canonical()), interface) {
        (Ok(IpAddr::V6(address)), interface) if address.is_unicast_link_local() => {
            link_local(address, interface, 0, &format!("{word}:[{address}%eth0]"))
        }
        (Ok(address), None) => Ok(Listen::At(SocketAddr::new(address, 0))),
        (Ok(address), Some(_)) => {
            Err(format!("only a link-local address has an interface behind %; write {word}:{address}"))
        }
        (Err(_), _) => {
            Err(format!("{word} comes over IP and has no port; write {word}:10.0.0.7, or gre-udp:4754 for GRE in UDP"))
        }
    }
}

/// Writes such an address as [`address`] reads it, with the word in front.
pub(super) fn write(f: &mut fmt::Formatter<'_>, word: &str, at: &Listen) -> fmt::Result {
    match at {
        Listen::Any(_) => f.write_str(word),
        Listen::At(at) => write!(f, "{word}:{}", Portless(*at)),
        Listen::On(address, interface, _) => write!(f, "{word}:[{address}%{interface}]"),
    }
}
