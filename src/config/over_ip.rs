//! Where something comes over IP is an address without a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::address::Listen;

/// Reads what is behind the word for such an encapsulation: an address of this host,
/// or nothing or `*` for all.
///
/// # Errors
/// The text is no address, or a link-local one without its interface; the error says what to type.
pub(super) fn address(word: &str, text: &str) -> Result<Listen, String> {
    if matches!(text, "" | "*") {
        return Ok(Listen::Any(0));
    }
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let (address, interface) =
        inside.split_once('%').map_or((inside, None), |(address, interface)| (address, Some(interface)));
    match (address.parse().map(|address: IpAddr| address.to_canonical()), interface) {
        (Ok(IpAddr::V6(address)), Some(interface)) if address.is_unicast_link_local() => match interface.parse() {
            Ok(index) => Ok(Listen::At(SocketAddrV6::new(address, 0, 0, index).into())),
            Err(_) => Ok(Listen::On(address, interface.to_owned(), 0)),
        },
        (Ok(IpAddr::V6(address)), None) if address.is_unicast_link_local() => {
            Err(format!("a link-local address needs its interface; write {word}:[{address}%eth0]"))
        }
        (Ok(address), None) => Ok(Listen::At(SocketAddr::new(address, 0))),
        _ => {
            Err(format!("{word} comes over IP and has no port; write {word}:10.0.0.7, or gre-udp:4754 for GRE in UDP"))
        }
    }
}

/// Writes such an address as [`address`] reads it, with the word in front.
pub(super) fn write(f: &mut fmt::Formatter<'_>, word: &str, at: &Listen) -> fmt::Result {
    match at {
        Listen::Any(_) => f.write_str(word),
        Listen::At(SocketAddr::V4(v4)) => write!(f, "{word}:{}", v4.ip()),
        Listen::At(SocketAddr::V6(v6)) if v6.scope_id() == 0 => write!(f, "{word}:[{}]", v6.ip()),
        Listen::At(SocketAddr::V6(v6)) => write!(f, "{word}:[{}%{}]", v6.ip(), v6.scope_id()),
        Listen::On(address, interface, _) => write!(f, "{word}:[{address}%{interface}]"),
    }
}
