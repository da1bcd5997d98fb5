//! Interfaces have settings, and some of these can be changed.

use std::io;

#[cfg(test)]
use super::message::u64_at;
use super::message::{IFINFO_LEN, Message, attribute, attributes, text, u16_at, u32_at};
use super::socket::RouteSocket;

/// linux/if_link.h, where libc lacks them.
const IFLA_ADDRESS: u16 = 1;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
#[cfg(test)]
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// A tun or tap interface, as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TunLink {
    /// True where a frame begins with an Ethernet header.
    pub tap: bool,
    /// True where it was made with `IFF_MULTI_QUEUE`, and must be attached to with it.
    pub multi_queue: bool,
}

/// A VLAN device, as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vlan {
    /// The number of the interface below it, in this network namespace.
    pub below: u32,
    /// The type that announces its tag: 0x8100 or 0x88a8.
    pub ethertype: u16,
    /// The number of the VLAN.
    pub number: u16,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; zero where it has none.
    pub address: [u8; 6],
    /// The number of the bond or bridge that it is a part of.
    pub master: Option<u32>,
    /// The VLAN, where the interface's kind is `vlan`.
    pub vlan: Option<Vlan>,
    /// The UDP port that the kernel receives on for it, where the interface's kind is `vxlan`.
    pub vxlan: Option<u16>,
    /// `ARPHRD_ETHER` and others, netdevice(7): the kind of link-layer header.
    pub hardware: u16,
    /// `IFF_UP` and others, netdevice(7).
    pub flags: u32,
    /// The MTU, in bytes.
    pub mtu: u32,
    /// Its kind, as `ip link add type` calls it; a network card has none.
    pub kind: Option<String>,
    /// The number of the XDP program on it, whatever the mode.
    pub xdp: Option<u32>,
    /// The tun or tap interface, where the kind is `tun`.
    pub tun: Option<TunLink>,
    /// Frames received.
    #[cfg(test)]
    pub rx_packets: u64,
    /// Frames that were to be received and were dropped.
    #[cfg(test)]
    pub rx_dropped: u64,
    /// Frames sent.
    #[cfg(test)]
    pub tx_packets: u64,
}

impl Link {
    /// Reads the body of an `RTM_NEWLINK` message.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut link =
            Self { hardware: u16_at(body, 2)?, index: u32_at(body, 4)?, flags: u32_at(body, 8)?, ..Self::default() };
        let (mut below, mut vlan, mut elsewhere) = (None, None, false);
        for (kind, value) in attributes(body.get(IFINFO_LEN..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = String::from_utf8_lossy(text(value)).into_owned(),
                IFLA_ADDRESS => link.address = value.try_into().unwrap_or_default(),
                IFLA_MASTER => link.master = u32_at(value, 0),
                IFLA_LINK => below = u32_at(value, 0),
                IFLA_LINK_NETNSID => elsewhere = true,
                libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
                #[cfg(test)]
                IFLA_STATS64 => {
                    // struct rtnl_link_stats64
                    link.rx_packets = u64_at(value, 0)?;
                    link.tx_packets = u64_at(value, 8)?;
                    link.rx_dropped = u64_at(value, 48)?;
                }
                IFLA_XDP => {
                    link.xdp = attribute(value, IFLA_XDP_PROG_ID).and_then(|id| u32_at(id, 0)).filter(|id| *id != 0)
                }
                IFLA_LINKINFO => {
                    let name = attribute(value, IFLA_INFO_KIND).map(text).unwrap_or_default();
                    link.kind = Some(String::from_utf8_lossy(name).into_owned());
                    let data = attribute(value, IFLA_INFO_DATA).unwrap_or_default();
                    let number = |kind| attribute(data, kind).and_then(|v| v.first()).copied();
                    if let (b"tun", Some(kind)) = (name, number(IFLA_TUN_TYPE)) {
                        let multi_queue = number(IFLA_TUN_MULTI_QUEUE).is_some_and(|n| n != 0);
                        link.tun = Some(TunLink { tap: i32::from(kind) == libc::IFF_TAP, multi_queue });
                    }
                    let number = |kind| attribute(data, kind).and_then(|value| u16_at(value, 0));
                    if let (b"vlan", Some(id), Some(protocol)) =
                        (name, number(IFLA_VLAN_ID), number(IFLA_VLAN_PROTOCOL))
                    {
                        vlan = Some((id, u16::from_be(protocol)));
                    }
                    if let (b"vxlan", Some(port)) = (name, number(IFLA_VXLAN_PORT)) {
                        link.vxlan = Some(u16::from_be(port));
                    }
                }
                _ => {}
            }
        }
        if let (Some((number, ethertype)), Some(below), false) = (vlan, below, elsewhere) {
            link.vlan = Some(Vlan { below, ethertype, number });
        }
        Some(link)
    }
}

impl RouteSocket {
    /// Finds the interface of this name.
    ///
    /// # Errors
    /// `ENODEV`: there is none. Otherwise the error that netlink reports.
    pub(crate) fn link(&self, name: &str) -> io::Result<Link> {
        let name = [name.as_bytes(), &[0]].concat();
        self.get_link(Message::link(libc::RTM_GETLINK, 0, 0, 0).attribute(libc::IFLA_IFNAME, &name))
    }

    /// Finds the interface of this number, whatever its name by now.
    ///
    /// # Errors
    /// `ENODEV`: there is none. Otherwise the error that netlink reports.
    pub(crate) fn link_of(&self, index: u32) -> io::Result<Link> {
        self.get_link(Message::link(libc::RTM_GETLINK, index, 0, 0))
    }

    fn get_link(&self, message: Message) -> io::Result<Link> {
        let mut link = None;
        self.exchange(message, libc::RTM_NEWLINK, |body| link = Link::parse(body))?;
        link.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Lists all interfaces.
    ///
    /// # Errors
    /// The error that netlink reports.
    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        let dump = libc::NLM_F_DUMP;
        let mut links = Vec::new();
        self.exchange(Message::new(libc::RTM_GETLINK, dump, &[0; IFINFO_LEN]), libc::RTM_NEWLINK, |body| {
            links.extend(Link::parse(body));
        })?;
        Ok(links)
    }

    /// Sets those flags of an interface that `mask` has (`IFF_UP` and others) to their values in
    /// `flags`.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN. Otherwise the error that netlink reports.
    pub(crate) fn set_flags(&self, index: u32, flags: u32, mask: u32) -> io::Result<()> {
        self.exchange(Message::link(libc::RTM_NEWLINK, index, flags, mask), 0, |_| ())
    }

    /// Sets the MTU of an interface, in bytes.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EINVAL` where the interface cannot have it. Otherwise the
    /// error that netlink reports.
    pub(crate) fn set_mtu(&self, index: u32, mtu: u32) -> io::Result<()> {
        let message = Message::link(libc::RTM_NEWLINK, index, 0, 0).attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        self.exchange(message, 0, |_| ())
    }

    /// Has an interface go without an IPv6 link-local address when it comes up, and so without
    /// router solicitations (`ip link set addrgenmode none`).
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EAFNOSUPPORT` where there is no IPv6. Otherwise the error
    /// that netlink reports.
    pub(crate) fn no_link_local(&self, index: u32) -> io::Result<()> {
        let family = u16::try_from(libc::AF_INET6).unwrap_or(0);
        let message = Message::link(libc::RTM_NEWLINK, index, 0, 0).nested(IFLA_AF_SPEC, |families| {
            families.nested(family, |ipv6| ipv6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]))
        });
        self.exchange(message, 0, |_| ())
    }
}
