//! The kernel is asked about network interfaces here, and told what to change: `rtnetlink(7)`,
//! include/uapi/linux/rtnetlink.h, if_link.h, pkt_sched.h, pkt_cls.h.
//!
//! A handful of fixed messages is encoded here. All numbers are in the byte order of the machine,
//! and attributes are padded to 4 bytes.

mod address;
mod notices;

pub use address::Address;
pub use notices::Notices;

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Length of a message header: length u32, type u16, flags u16, sequence number u32, port u32.
const HEADER_LEN: usize = 16;
/// Length of an attribute header: length u16, type u16.
const ATTRIBUTE_LEN: usize = 4;
/// Length of `struct ifinfomsg`: family u8, padding u8, type u16, index i32, flags u32, change mask
/// u32.
const IFINFO_LEN: usize = 16;
/// Length of `struct tcmsg`: family u8, padding, index i32, handle u32, parent u32, info u32.
const TCMSG_LEN: usize = 20;

/// The parent, in `struct tcmsg`, of filters on what an interface receives: `TC_H_MAKE(TC_H_CLSACT,
/// TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;
/// Parent of a `clsact` queueing discipline, `TC_H_CLSACT`, and its handle.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// The `tcm_info` of a filter for all protocols: `ETH_P_ALL` in network byte order. Priority 0, in
/// the high half, has the kernel put the filter before those that are there.
const ALL_PROTOCOLS: u16 = 3u16.to_be();

/// linux/if_link.h, linux/pkt_cls.h and linux/tc_act/tc_gact.h, where libc lacks them.
const NLA_TYPE_MASK: u16 = 0x3fff;
const IFLA_ADDRESS: u16 = 1;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_MATCHALL_ACT: u16 = 2;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_GACT_PARMS: u16 = 2;
const TC_ACT_SHOT: u32 = 2;
const FIRST_ACTION: u16 = 1;
/// Programs of these names drop what they see at the ingress of an interface that frames are
/// redirected into.
const OUR_PROGRAMS: &[u8] = b"vxtap_";

/// The classic BPF program `ret #2`: one instruction that returns `TC_ACT_SHOT`.
const DROP_PROGRAM: [u8; 8] = {
    // BPF_RET | BPF_K
    let [code_low, code_high] = 6u16.to_ne_bytes();
    let [a, b, c, d] = TC_ACT_SHOT.to_ne_bytes();
    [code_low, code_high, 0, 0, a, b, c, d]
};

/// A tun or tap interface, as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunLink {
    /// True where a frame begins with an Ethernet header.
    pub tap: bool,
    /// True where it was made with `IFF_MULTI_QUEUE`, and must be attached to with it.
    pub multi_queue: bool,
}

/// A VLAN device, as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The number of the interface below it, in this network namespace.
    pub below: u32,
    /// The type that announces its tag: 0x8100 or 0x88a8.
    pub ethertype: u16,
    /// The number of the VLAN.
    pub number: u16,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
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
    pub rx_packets: u64,
    /// Frames that were to be received and were dropped.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
}

/// A socket to the kernel, for the network namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket {
    socket: OwnedFd,
}

/// A message that is being built.
struct Message(Vec<u8>);

impl Message {
    /// Begins a message of type `kind` with `body`.
    fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut body = [0; IFINFO_LEN];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body[12..16].copy_from_slice(&change.to_ne_bytes());
        Self::new(kind, libc::NLM_F_ACK, &body)
    }

    fn traffic_control(kind: u16, flags: i32, index: u32, handle: u32, parent: u32, info: u32) -> Self {
        let mut body = [0; TCMSG_LEN];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&handle.to_ne_bytes());
        body[12..16].copy_from_slice(&parent.to_ne_bytes());
        body[16..20].copy_from_slice(&info.to_ne_bytes());
        Self::new(kind, flags, &body)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_LEN + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that holds attributes.
    fn nested(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Self {
        let at = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        let mut message = inside(self);
        let length = u16::try_from(message.0.len() - at).unwrap_or(u16::MAX);
        message.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Yields type and value of each attribute in `bytes`, up to the first that is not whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Finds the value of the first attribute of this type.
fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Returns text without its terminating zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
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

/// The effect of a filter on frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The filter drops all.
    DropsAll,
    /// The filter drops some, or is one that lets none pass to the host and is known by its name.
    /// The next filter is asked for the others.
    DropsOrNext,
    /// The filter may let some through.
    MayPass,
}

/// Judges a filter by the body of an `RTM_NEWTFILTER` message. There is no verdict where the filter
/// is not asked first, or where the message is the head of filters, which are told of next.
fn verdict(body: &[u8]) -> Option<Verdict> {
    let rest = body.get(TCMSG_LEN..)?;
    let options = attribute(rest, TCA_OPTIONS)?;
    if attribute(rest, TCA_CHAIN).and_then(|chain| u32_at(chain, 0)).is_some_and(|chain| chain != 0) {
        return None;
    }
    // tcm_info has the protocol in its low half.
    let protocol = u16_at(body, if cfg!(target_endian = "little") { 16 } else { 18 });
    let is_ours = || attribute(options, TCA_BPF_NAME).map(text).is_some_and(|name| name.starts_with(OUR_PROGRAMS));
    Some(match drops(rest, options) {
        true if protocol == Some(ALL_PROTOCOLS) => Verdict::DropsAll,
        true => Verdict::DropsOrNext,
        false if is_ours() => Verdict::DropsOrNext,
        false => Verdict::MayPass,
    })
}

/// Says whether a filter drops what it is asked about, in one of the two ways that `tc` has for it.
fn drops(attributes: &[u8], options: &[u8]) -> bool {
    match attribute(attributes, TCA_KIND).map(text) {
        Some(b"bpf") => {
            let direct = attribute(options, TCA_BPF_FLAGS).and_then(|flags| u32_at(flags, 0)).unwrap_or(0);
            direct & TCA_BPF_FLAG_ACT_DIRECT != 0 && attribute(options, TCA_BPF_OPS) == Some(&DROP_PROGRAM)
        }
        Some(b"matchall") => attribute(options, TCA_MATCHALL_ACT)
            .and_then(|actions| attribute(actions, FIRST_ACTION))
            .filter(|action| attribute(action, TCA_ACT_KIND).map(text) == Some(b"gact"))
            .and_then(|action| attribute(action, TCA_ACT_OPTIONS))
            .and_then(|options| attribute(options, TCA_GACT_PARMS))
            // struct tc_gact: index, capabilities, action
            .and_then(|parameters| u32_at(parameters, 8))
            .is_some_and(|action| action == TC_ACT_SHOT),
        _ => false,
    }
}

impl RouteSocket {
    /// Opens a socket for the network namespace of the calling thread.
    ///
    /// # Errors
    /// The error of `socket(2)`.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// Sends a message and passes the body of each answer of type `wanted` to `found`, up to the
    /// acknowledgement or the end of a list.
    fn exchange(&self, message: Message, wanted: u16, mut found: impl FnMut(&[u8])) -> io::Result<()> {
        send(&self.socket, &message.finish(), SendFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut answers = buffer.get(..length.min(buffer.len())).unwrap_or_default();
            while let (Some(length), Some(kind)) = (u32_at(answers, 0), u16_at(answers, 4)) {
                let length = usize::try_from(length).map_err(io::Error::other)?;
                let Some(body) = answers.get(HEADER_LEN..length) else { break };
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        // struct nlmsgerr begins with an error number, negated; 0 acknowledges.
                        let error = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ if kind == wanted => found(body),
                    _ => {}
                }
                answers = answers.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Finds the interface of this name.
    ///
    /// # Errors
    /// `ENODEV`: there is none. Otherwise the error that netlink reports.
    pub fn link(&self, name: &str) -> io::Result<Link> {
        let name = [name.as_bytes(), &[0]].concat();
        self.get_link(Message::link(libc::RTM_GETLINK, 0, 0, 0).attribute(libc::IFLA_IFNAME, &name))
    }

    /// Finds the interface of this number, whatever its name by now.
    ///
    /// # Errors
    /// `ENODEV`: there is none. Otherwise the error that netlink reports.
    pub fn link_of(&self, index: u32) -> io::Result<Link> {
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
    pub fn links(&self) -> io::Result<Vec<Link>> {
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
    pub fn set_flags(&self, index: u32, flags: u32, mask: u32) -> io::Result<()> {
        self.exchange(Message::link(libc::RTM_NEWLINK, index, flags, mask), 0, |_| ())
    }

    /// Sets the MTU of an interface, in bytes.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EINVAL` where the interface cannot have it. Otherwise the
    /// error that netlink reports.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> io::Result<()> {
        let message = Message::link(libc::RTM_NEWLINK, index, 0, 0).attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        self.exchange(message, 0, |_| ())
    }

    /// Has an interface go without an IPv6 link-local address when it comes up, and so without
    /// router solicitations (`ip link set addrgenmode none`).
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `EAFNOSUPPORT` where there is no IPv6. Otherwise the error
    /// that netlink reports.
    pub fn no_link_local(&self, index: u32) -> io::Result<()> {
        let family = u16::try_from(libc::AF_INET6).unwrap_or(0);
        let message = Message::link(libc::RTM_NEWLINK, index, 0, 0).nested(IFLA_AF_SPEC, |families| {
            families.nested(family, |ipv6| ipv6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]))
        });
        self.exchange(message, 0, |_| ())
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN. Else what netlink says.
    pub fn delete(&self, index: u32) -> io::Result<()> {
        self.exchange(Message::link(libc::RTM_DELLINK, index, 0, 0), 0, |_| ())
    }

    /// Says whether everything that the interface receives is dropped before the host sees it: by
    /// [`RouteSocket::drop_ingress`], or by `tc filter add ... ingress matchall action drop`. A
    /// filter that is asked before and may let frames through undoes it.
    ///
    /// # Errors
    /// The error that netlink reports.
    pub fn drops_ingress(&self, index: u32) -> io::Result<bool> {
        let message = Message::traffic_control(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, 0, INGRESS, 0);
        let mut decided = None;
        // The kernel tells of the filters of a chain in the order in which they are asked.
        self.exchange(message, libc::RTM_NEWTFILTER, |body| {
            decided = decided.or(verdict(body).filter(|verdict| *verdict != Verdict::DropsOrNext));
        })?;
        Ok(decided == Some(Verdict::DropsAll))
    }

    /// Takes all filters off the interface, in both directions.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN. Otherwise the error that netlink reports.
    pub fn remove_filters(&self, index: u32) -> io::Result<()> {
        let message = Message::traffic_control(libc::RTM_DELQDISC, libc::NLM_F_ACK, index, CLSACT_HANDLE, CLSACT, 0);
        self.exchange(message, 0, |_| ())
    }

    /// Has everything that the interface receives dropped before the host sees it, but after packet
    /// sockets have seen it. That is what `tc qdisc add dev NAME clsact; tc filter add dev NAME
    /// ingress bpf direct-action bytecode '1,6 0 0 2'` does.
    ///
    /// `__netif_receive_skb_core` (net/core/dev.c) hands a frame to packet sockets first, then to
    /// the ingress filters, and then to VLAN interfaces, bridges and protocols. A filter of one
    /// classic BPF instruction needs the `cls_bpf` module only; `matchall` would need two, and an
    /// action object.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, `ENOENT` where the kernel has no `sch_ingress` or `cls_bpf`.
    /// Otherwise the error that netlink reports.
    pub fn drop_ingress(&self, index: u32) -> io::Result<()> {
        let create = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let message = Message::traffic_control(libc::RTM_NEWQDISC, create, index, CLSACT_HANDLE, CLSACT, 0)
            .attribute(TCA_KIND, b"clsact\0");
        match self.exchange(message, 0, |_| ()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        let info = u32::from(ALL_PROTOCOLS);
        let message = Message::traffic_control(libc::RTM_NEWTFILTER, create, index, 0, INGRESS, info)
            .attribute(TCA_KIND, b"bpf\0")
            .nested(TCA_OPTIONS, |options| {
                options
                    .attribute(TCA_BPF_OPS_LEN, &1u16.to_ne_bytes())
                    .attribute(TCA_BPF_OPS, &DROP_PROGRAM)
                    .attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
            });
        self.exchange(message, 0, |_| ())
    }
}
