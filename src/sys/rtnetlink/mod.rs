//! What the kernel knows of network interfaces and how it is told: `rtnetlink(7)`, include/uapi/linux/rtnetlink.h, if_link.h, pkt_sched.h,
//! pkt_cls.h.
//!
//! A handful of fixed messages, encoded here. All numbers are in the byte order of the machine, attributes are padded to 4 bytes.

mod address;
mod filter;
mod link;
mod message;
mod notices;
mod socket;

pub use self::address::Address;
pub use self::link::{Link, TunLink, Vlan};
pub use self::notices::Notices;
pub use self::socket::RouteSocket;
