//! A TCP port to answer on is typed by people.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::typed::as_typed;

/// An address and a TCP port to answer on, as `127.0.0.1:9479`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub SocketAddr);

as_typed!(Port, port);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads an address and a port. A port alone could mean this host or all hosts, so it is neither.
///
/// # Errors
/// The text is nothing of the kind; the error says what to write.
pub(crate) fn port(text: &str) -> Result<Port, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("port 0 is any port; name one, as 127.0.0.1:9479".into()),
            _ => Ok(Port(address)),
        };
    }
    if let Ok(port @ 1..) = text.parse::<u16>() {
        return Err(format!(
            "a port without an address; write 127.0.0.1:{port} for this host, 0.0.0.0:{port} for others"
        ));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("an address without a port; write {}", SocketAddr::new(address, 9479)));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return Err(format!("names are not looked up; write 127.0.0.1:{port}"));
    }
    Err("not an address with a port; write it as 127.0.0.1:9479 or [::1]:9479".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_an_address() {
        for fine in ["127.0.0.1:9479", "[::1]:9479", "0.0.0.0:80"] {
            assert_eq!(port(fine).unwrap().to_string(), fine);
        }
        for (wrong, advice) in [
            ("9479", "write 127.0.0.1:9479 for this host"),
            ("127.0.0.1", "write 127.0.0.1:9479"),
            ("::1", "write [::1]:9479"),
            ("localhost:80", "write 127.0.0.1:80"),
            ("127.0.0.1:0", "name one"),
            ("http://127.0.0.1:80", "write it as 127.0.0.1:9479"),
            ("", "write it as"),
        ] {
            let said = port(wrong).unwrap_err();
            assert!(said.contains(advice), "{wrong}: {said}");
        }
    }
}
