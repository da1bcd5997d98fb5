//! Addresses are typed by people: where to listen, and where to send.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::typed::as_typed;
use crate::sink::interface::fault_of_name;

/// The IANA port of VXLAN (RFC 7348 section 8).
pub(crate) const VXLAN_PORT: u16 = 4789;

/// An address to receive on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// This port of all addresses.
    Any(u16),
    /// This address.
    At(SocketAddr),
    /// This link-local address of the interface of this name.
    On(Ipv6Addr, String, u16),
}

impl Listen {
    /// Returns the port.
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Any(port) | Self::On(.., port) => *port,
            Self::At(address) => address.port(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => port.fmt(f),
            Self::At(address) => address.fmt(f),
            Self::On(address, interface, port) => write!(f, "[{address}%{interface}]:{port}"),
        }
    }
}

as_typed!(Listen, listen);

/// The parts of what was typed.
struct Parts<'a> {
    /// `None` stands for all addresses.
    address: Option<IpAddr>,
    interface: Option<&'a str>,
    port: Option<u16>,
}

/// Reads an address, a port, or both, as `4789`, `0.0.0.0`, `10.0.0.7:4789`, `[::1]:4789` or
/// `[fe80::1%eth0]:4789`.
///
/// # Errors
/// The text is no address, or one that cannot be listened on; the error says what to type.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    listen_on(text, VXLAN_PORT)
}

/// Reads an address as [`listen`] does, with this port where there is none.
///
/// # Errors
/// Those of [`listen`].
pub(super) fn listen_on(text: &str, usual: u16) -> Result<Listen, String> {
    let Parts { address, interface, port } = parts(text.trim(), usual)?;
    let port = port.unwrap_or(usual);
    match (address, interface) {
        (None, _) => Ok(Listen::Any(port)),
        (Some(IpAddr::V6(address)), interface) if address.is_unicast_link_local() => {
            link_local(address, interface, port, &format!("[{address}%eth0]:{port}"))
        }
        (Some(address), Some(_)) => Err(format!(
            "only a link-local address has an interface behind %; write {}",
            SocketAddr::new(address, port)
        )),
        (Some(address), None) => Ok(Listen::At(SocketAddr::new(address, port))),
    }
}

/// Returns where a link-local address is listened on. `example` is how one is written.
///
/// # Errors
/// The interface is missing, or none can be called so; the error says what to type.
pub(super) fn link_local(
    address: Ipv6Addr,
    interface: Option<&str>,
    port: u16,
    example: &str,
) -> Result<Listen, String> {
    let missing = || Err(format!("a link-local address needs its interface; write {example}"));
    let Some(interface) = interface else { return missing() };
    match (interface.parse(), fault_of_name(interface)) {
        // The kernel has no interface of this number, and takes it for none.
        (Ok(0), _) => missing(),
        (Ok(index), _) => Ok(Listen::At(SocketAddrV6::new(address, port, 0, index).into())),
        (Err(_), None) => Ok(Listen::On(address, interface.to_owned(), port)),
        (Err(_), Some(fault)) => {
            Err(format!("no interface has the name {interface:?}, for {fault}; write one as {example}"))
        }
    }
}

/// Reads an address with or without a port; the port is [`VXLAN_PORT`] unless given.
///
/// # Errors
/// The text is no address, or one that cannot be listened on; the error says what to type.
pub(crate) fn target(text: &str) -> Result<SocketAddr, String> {
    let Parts { address, interface, port } = parts(text.trim(), VXLAN_PORT)?;
    let port = port.unwrap_or(VXLAN_PORT);
    let address = match address {
        None => return Err(format!("says no host to send to; write 192.0.2.10:{port}")),
        Some(address) if address.is_unspecified() => {
            return Err(format!("is no host's address; write 192.0.2.10:{port}, or 127.0.0.1:{port} for this host"));
        }
        Some(address) => address,
    };
    match (address, interface.map(str::parse)) {
        (IpAddr::V6(address), Some(Ok(index))) => Ok(SocketAddrV6::new(address, port, 0, index).into()),
        (address, Some(_)) => Err(format!(
            "names an interface; write its number, which `ip link` shows in front of the name: [{address}%2]:{port}"
        )),
        (address, None) => Ok(SocketAddr::new(address, port)),
    }
}

/// Reads an address as [`target`] does, and says whether its port was given.
///
/// # Errors
/// Those of [`target`].
pub(crate) fn target_with_port(text: &str) -> Result<(SocketAddr, bool), String> {
    let is_given = parts(text.trim(), VXLAN_PORT).is_ok_and(|parts| parts.port.is_some());
    target(text).map(|target| (target, is_given))
}

/// Takes a text apart. What is advised has the usual port.
fn parts(text: &str, usual: u16) -> Result<Parts<'_>, String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) =
            rest.rsplit_once(']').ok_or_else(|| format!("has no ] behind the address; write [::1]:{usual}"))?;
        let (address, interface) = scoped(inside);
        let port = match behind {
            "" => None,
            _ => Some(port(behind.strip_prefix(':').unwrap_or(behind), &format!("[{inside}]"), usual)?),
        };
        return match address.parse() {
            Ok(IpAddr::V6(v6)) => Ok(Parts { address: Some(v6.into()), interface, port }),
            Ok(IpAddr::V4(v4)) => Err(format!("brackets are for IPv6; write {v4}:{}", port.unwrap_or(usual))),
            Err(_) => Err(format!("not an IPv6 address between the brackets; write [::1]:{usual}")),
        };
    }
    let (host, interface) = scoped(text);
    if let Ok(address) = host.parse::<IpAddr>() {
        if let Some((before, number)) = ambiguous(host) {
            return Err(format!(
                "is an address, or one with a port; write [{before}]:{number} for the port, [{host}]:{usual} for the address"
            ));
        }
        if interface.is_some() && address.is_ipv4() {
            return Err(format!("an IPv4 address has no interface behind %; write {address}:{usual}"));
        }
        return Ok(Parts { address: Some(address), interface, port: None });
    }
    if text == "*" {
        return Ok(Parts { address: None, interface: None, port: None });
    }
    if is_number(text) {
        return Ok(Parts { address: None, interface: None, port: Some(port(text, "0.0.0.0", usual)?) });
    }
    if let Some((host, number)) = text.rsplit_once(':') {
        if matches!(host, "" | "*") {
            return Ok(Parts { address: None, interface: None, port: Some(port(number, "0.0.0.0", usual)?) });
        }
        if let Ok(IpAddr::V4(v4)) = host.parse() {
            return Ok(Parts { address: Some(v4.into()), interface: None, port: Some(port(number, host, usual)?) });
        }
    }
    Err(neither(text, usual))
}

/// Splits a text into an address and the interface behind it.
pub(super) fn scoped(text: &str) -> (&str, Option<&str>) {
    text.split_once('%').map_or((text, None), |(address, interface)| (address, Some(interface)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Finds an IPv6 address without brackets whose last group may be meant as a port. Returns what
/// stands before, and that group.
fn ambiguous(host: &str) -> Option<(&str, &str)> {
    let (before, last) = host.rsplit_once(':').filter(|(_, last)| is_number(last))?;
    if before.ends_with(':') {
        return (before == ":" && last.len() > 2).then_some(("::", last));
    }
    before.parse::<Ipv6Addr>().is_ok().then_some((before, last))
}

fn port(text: &str, host: &str, usual: u16) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if is_number(text) => Ok(port),
        Err(_) if is_number(text) => Err(format!("{text} is not a port, the largest is 65535; write {host}:{usual}")),
        _ => Err(format!("{text:?} is not the number of a port; write {host}:{usual}")),
    }
}

/// Advises on a text that is neither an address nor a port.
fn neither(text: &str, usual: u16) -> String {
    let first = text.split([',', ' ', '/']).next().unwrap_or_default();
    match text {
        "" => return format!("is empty; write 0.0.0.0:{usual}, or {usual} for all addresses"),
        "any" | "all" => return format!("not an address; write {usual} for that port of all addresses"),
        _ => {}
    }
    if text.starts_with('-') {
        return format!("not an address; write 0.0.0.0:{usual}, or {usual} for all addresses");
    }
    if let Some((_, rest)) = text.split_once("://") {
        return format!("not an address; write it without what is before ://, as {rest}");
    }
    if text.contains(',') {
        return format!("more than one address; give the option for each, the first with {first}");
    }
    if let Some((address, number)) = text.split_once(' ')
        && address.parse::<IpAddr>().is_ok()
    {
        return format!("has a space; write {address}:{}", number.trim());
    }
    if text.contains('/') && first.parse::<IpAddr>().is_ok() {
        return format!(
            "a network and not an address of this host; write {first}:{usual} (--from {text} keeps what comes from there)"
        );
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if host == "localhost" {
        return format!("names are not looked up; write 127.0.0.1:{usual} or [::1]:{usual}");
    }
    if host.contains(':') {
        return format!("not an address; IPv6 with a port is written [2001:db8::10]:{usual}");
    }
    format!(
        "not an address, and names are not looked up; write one as 192.0.2.10:{usual} (`ip -brief address` lists this host's, also \
         that of an interface {host:?})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_to_listen_on() {
        let at = |text: &str| Ok(Listen::At(text.parse().unwrap()));
        for (text, wanted) in [
            ("4789", Ok(Listen::Any(4789))),
            (":4789", Ok(Listen::Any(4789))),
            ("*:8472", Ok(Listen::Any(8472))),
            ("*", Ok(Listen::Any(4789))),
            ("0.0.0.0", at("0.0.0.0:4789")),
            ("0.0.0.0:8472", at("0.0.0.0:8472")),
            ("::", at("[::]:4789")),
            ("[::]", at("[::]:4789")),
            ("::1", at("[::1]:4789")),
            ("2001:db8::10", at("[2001:db8::10]:4789")),
            ("[::1:4789]", at("[::1:4789]:4789")),
            ("[::1]:0", at("[::1]:0")),
            ("[fe80::1%2]:4789", at("[fe80::1%2]:4789")),
            ("[fe80::1%eth0]:4789", Ok(Listen::On("fe80::1".parse().unwrap(), "eth0".into(), 4789))),
            ("fe80::1%eth0", Ok(Listen::On("fe80::1".parse().unwrap(), "eth0".into(), 4789))),
            ("fe80::1%a]b", Ok(Listen::On("fe80::1".parse().unwrap(), "a]b".into(), 4789))),
        ] {
            let written = wanted.as_ref().map(ToString::to_string).unwrap_or_default();
            assert_eq!(listen(&written), wanted, "{text} is written {written}");
            assert_eq!(listen(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_answered_with_what_to_type() {
        for (text, answer) in [
            ("", "write 0.0.0.0:4789"),
            ("localhost:4789", "write 127.0.0.1:4789 or [::1]:4789"),
            ("localhost", "write 127.0.0.1:4789 or [::1]:4789"),
            ("eth0", "write one as 192.0.2.10:4789"),
            ("bastion:4789", "write one as 192.0.2.10:4789"),
            ("any", "write 4789"),
            ("-1", "write 0.0.0.0:4789"),
            ("99999", "write 0.0.0.0:4789"),
            ("10.0.0.7:99999", "write 10.0.0.7:4789"),
            ("0.0.0.0:vxlan", "write 0.0.0.0:4789"),
            ("0.0.0.0:+4789", "write 0.0.0.0:4789"),
            (":+4789", "write 0.0.0.0:4789"),
            ("[::1]:+4789", "write [::1]:4789"),
            ("[0.0.0.0]:4789", "write 0.0.0.0:4789"),
            ("[::1", "write [::1]:4789"),
            ("::1:4789", "write [::1]:4789 for the port, [::1:4789]:4789 for the address"),
            ("::4789", "write [::]:4789 for the port"),
            ("2001:db8::g:4789", "written [2001:db8::10]:4789"),
            ("udp://0.0.0.0:4789", "as 0.0.0.0:4789"),
            ("10.0.0.7 4789", "write 10.0.0.7:4789"),
            ("10.0.0.7,10.0.0.8", "give the option for each"),
            ("10.0.0.0/8", "--from 10.0.0.0/8"),
            ("fe80::1", "write [fe80::1%eth0]:4789"),
            ("fe80::1%0", "needs its interface; write [fe80::1%eth0]:4789"),
            ("[fe80::1%]:4789", "no interface has the name \"\", for it is empty; write one as [fe80::1%eth0]:4789"),
            ("fe80::1%eth0:9 x", "write one as [fe80::1%eth0]:4789"),
            ("[fe80::1%an-interface-of-16]:8472", "longer than 15 bytes; write one as [fe80::1%eth0]:8472"),
            ("[fd00::1%eth0]:4789", "write [fd00::1]:4789"),
            ("10.0.0.7%eth0", "write 10.0.0.7:4789"),
        ] {
            let said = listen(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }

    #[test]
    fn targets() {
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1:4789"),
            ("192.0.2.1:8472", "192.0.2.1:8472"),
            ("2001:db8::1", "[2001:db8::1]:4789"),
            ("[2001:db8::1]", "[2001:db8::1]:4789"),
            ("[2001:db8::1]:8472", "[2001:db8::1]:8472"),
            ("[fe80::1%2]:4789", "[fe80::1%2]:4789"),
        ] {
            assert_eq!(target(text).as_ref().map(ToString::to_string).as_deref(), Ok(want));
        }
        for (text, answer) in [
            ("bastion", "write one as 192.0.2.10:4789"),
            ("4789", "write 192.0.2.10:4789"),
            ("0.0.0.0", "127.0.0.1:4789 for this host"),
            ("fe80::1%eth0", "[fe80::1%2]:4789"),
        ] {
            let said = target(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }
}
