//! A filter at an interface's ingress keeps what it receives from the host.

use std::io;

use super::message::{Message, TCMSG_LEN, attribute, text, u16_at, u32_at};
use super::socket::RouteSocket;

/// The parent, in `struct tcmsg`, of filters on what an interface receives: `TC_H_MAKE(TC_H_CLSACT,
/// TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;
/// Parent of a `clsact` queueing discipline, `TC_H_CLSACT`, and its handle.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// The `tcm_info` of a filter for all protocols: `ETH_P_ALL` in network byte order. Priority 0, in
/// the high half, has the kernel put the filter before those that are there.
const ALL_PROTOCOLS: u16 = 3u16.to_be();

/// linux/pkt_cls.h and linux/tc_act/tc_gact.h.
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
    /// Says whether everything that the interface receives is dropped before the host sees it: by
    /// [`RouteSocket::drop_ingress`], or by `tc filter add ... ingress matchall action drop`. A
    /// filter that is asked before and may let frames through undoes it.
    ///
    /// # Errors
    /// The error that netlink reports.
    pub(crate) fn drops_ingress(&self, index: u32) -> io::Result<bool> {
        let message = Message::traffic_control(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, 0, INGRESS, 0);
        let mut decided = None;
        // The kernel tells of the filters of a chain in the order in which they are asked.
        self.exchange(message, libc::RTM_NEWTFILTER, |body| {
            decided = decided.or(verdict(body).filter(|verdict| *verdict != Verdict::DropsOrNext));
        })?;
        Ok(decided == Some(Verdict::DropsAll))
    }

    /// Says whether any filter is asked about what the interface receives.
    ///
    /// # Errors
    /// The error that netlink reports.
    pub(crate) fn has_ingress_filters(&self, index: u32) -> io::Result<bool> {
        let message = Message::traffic_control(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, 0, INGRESS, 0);
        let mut found = false;
        self.exchange(message, libc::RTM_NEWTFILTER, |_| found = true)?;
        Ok(found)
    }

    /// Takes all filters off the interface, in both directions.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN. Otherwise the error that netlink reports.
    pub(crate) fn remove_filters(&self, index: u32) -> io::Result<()> {
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
    pub(crate) fn drop_ingress(&self, index: u32) -> io::Result<()> {
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
