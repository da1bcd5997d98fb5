//! The addresses of an interface are read and taken off here.

use std::fmt;
use std::io;
use std::net::IpAddr;

use super::message::{Message, attributes, u32_at};
use super::socket::RouteSocket;

/// Length of `struct ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, index u32.
const IFADDR_LEN: usize = 8;
/// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// The host's address.
    pub ip: IpAddr,
    /// Length of the network's part, in bits.
    pub prefix: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Address {
    /// Reads the body of an `RTM_NEWADDR` message, which has the number of the interface too.
    fn parse(body: &[u8]) -> Option<(u32, Self)> {
        let mut found = None;
        for (kind, value) in attributes(body.get(IFADDR_LEN..)?) {
            let ip = match (value.len(), kind) {
                (4, IFA_ADDRESS | IFA_LOCAL) => IpAddr::from(*value.first_chunk::<4>()?),
                (16, IFA_ADDRESS | IFA_LOCAL) => IpAddr::from(*value.first_chunk::<16>()?),
                _ => continue,
            };
            // Where both attributes are there, the other address is the far end's.
            if found.is_none() || kind == IFA_LOCAL {
                found = Some(ip);
            }
        }
        Some((u32_at(body, 4)?, Self { ip: found?, prefix: *body.get(1)? }))
    }

    fn family(self) -> i32 {
        if self.ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
    }
}

impl RouteSocket {
    /// Lists the addresses of an interface.
    ///
    /// # Errors
    /// The error that netlink reports.
    pub(crate) fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDR_LEN]);
        let mut found = Vec::new();
        self.exchange(message, libc::RTM_NEWADDR, |body| {
            found.extend(Address::parse(body).filter(|(of, _)| *of == index).map(|(_, address)| address));
        })?;
        Ok(found)
    }

    /// Takes an address off an interface.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EADDRNOTAVAIL` where the interface does not have the
    /// address. Otherwise the error that netlink reports.
    pub(crate) fn remove_address(&self, index: u32, address: Address) -> io::Result<()> {
        let mut body = [u8::try_from(address.family()).unwrap_or(0), address.prefix, 0, 0, 0, 0, 0, 0];
        body[4..].copy_from_slice(&index.to_ne_bytes());
        let message = Message::new(libc::RTM_DELADDR, libc::NLM_F_ACK, &body);
        let message = match address.ip {
            IpAddr::V4(v4) => message.attribute(IFA_LOCAL, &v4.octets()),
            IpAddr::V6(v6) => message.attribute(IFA_LOCAL, &v6.octets()),
        };
        self.exchange(message, 0, |_| ())
    }
}
