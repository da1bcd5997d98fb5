//! The kernel is asked about network interfaces here, and told what to change: `rtnetlink(7)`,
//! include/uapi/linux/rtnetlink.h, if_link.h, pkt_sched.h, pkt_cls.h.
//!
//! A handful of fixed messages is encoded here. All numbers are in the byte order of the machine,
//! and attributes are padded to 4 bytes.

mod address;
mod filter;
mod link;
mod message;
mod notices;
mod socket;

pub(crate) use self::address::Address;
pub(crate) use self::link::Link;
#[cfg(test)]
pub(crate) use self::link::{TunLink, Vlan};
pub(crate) use self::notices::Notices;
pub(crate) use self::socket::RouteSocket;
