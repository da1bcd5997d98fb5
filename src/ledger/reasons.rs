//! The reasons by which something is counted, and what each means.

use super::catalogue::{Equation, Facts, Weighed, Weight};
use crate::wire::{DropReason, reasons};

reasons! {
    /// The reason why the program in the kernel did not redirect a frame, which then took the way
    /// through the worker.
    pub enum NotRedirected {
        /// The datagram is not one with a faultless header of VXLAN, or of GENEVE without options,
        /// and a frame of usual length, and nothing else.
        Odd = "odd",
        /// The kernel could not take the outer headers off.
        Failed = "failed",
        /// The interface was down, gone, or not there yet.
        NoInterface = "no_interface",
        /// The entry of the session keeps its frames out of the interface; or the session is new,
        /// and the program is yet to hear that they go there, and by which tag.
        Session = "session",
    }
}

reasons! {
    /// The reason why an output did not write a frame it was offered.
    pub enum OutputDrop {
        /// The output is behind and its memory is full.
        LaneFull = "lane_full",
        /// No space on the file system, or a quota reached.
        DiskFull = "disk_full",
        /// Any other failure of open or write, or a capture that was written and is gone or
        /// changed.
        WriteError = "write_error",
        /// The output's thread has ended.
        OutputGone = "output_gone",
        /// The interface is down or was deleted.
        InterfaceDown = "interface_down",
        /// The host would hear what enters the interface, or speak there: somebody changed its
        /// settings.
        InterfaceNotDeaf = "interface_not_deaf",
        /// Not an IP packet, for an interface that takes nothing else.
        NotIp = "not_ip",
        /// The program in the kernel redirected the frame, but it did not come out of the
        /// interface: the queue to the interface was full, or the interface had gone down a moment
        /// before.
        RedirectLost = "redirect_lost",
        /// A VLAN tag and less than 2 bytes of what it tags: the kernel drops such a frame, which
        /// ends within 20 bytes, before any sniffer sees it.
        RuntTaggedFrame = "runt_tagged_frame",
    }
}

reasons! {
    /// The reason why the configuration keeps a frame out of an output.
    pub enum Filtered {
        /// The session is not for this output: it is not allowed, its plan drops it or names other
        /// outputs, or the output does not take its VNI.
        Session = "session",
        /// Another of the equal outputs has the conversation.
        Share = "share",
        /// A rule of the session rejects the packet, or no rule accepts it.
        Rule = "rule",
        /// A filter expression, of the session or of the output, does not match.
        Expression = "expression",
        /// Another session of the group had delivered the packet before.
        Duplicate = "duplicate",
        /// The packet is beyond what is kept of its flow.
        Cutoff = "cutoff",
    }
}

impl Weighed for Filtered {
    fn facts(self, shared: Facts) -> Facts {
        shared
    }
}

impl Weighed for NotRedirected {
    fn facts(self, shared: Facts) -> Facts {
        shared
    }
}

impl Weighed for DropReason {
    fn facts(self, shared: Facts) -> Facts {
        match self {
            // Refused because somebody asked for that.
            DropReason::ReservedBits => shared.weight(Weight::Besides),
            // Of the latter two, there was no frame to lose.
            DropReason::CriticalOption | DropReason::ControlMessage | DropReason::KeepAlive => {
                shared.weight(Weight::Besides).sparse()
            }
            DropReason::TruncatedDatagram
            | DropReason::ShortVxlanHeader
            | DropReason::VniFlagClear
            | DropReason::RuntInnerFrame
            | DropReason::WrongChecksum => shared.weight(Weight::Lost),
            DropReason::ShortTunnelHeader
            | DropReason::UnknownTunnelVersion
            | DropReason::BadGeneveOptions
            | DropReason::BadTzspTags
            | DropReason::UnknownInnerProtocol => shared.weight(Weight::Lost).sparse(),
        }
    }
}

impl OutputDrop {
    /// Says whether frames dropped for this reason are a loss of their sessions. What an interface
    /// never takes is none, and whose the frames were that the kernel lost on their way into one is
    /// not known.
    pub(super) const fn is_by_session(self) -> bool {
        !matches!(self, OutputDrop::NotIp | OutputDrop::RedirectLost)
    }
}

impl Weighed for OutputDrop {
    fn facts(self, shared: Facts) -> Facts {
        let shared = if self.is_by_session() { shared.left(&[Equation::Lost]) } else { shared };
        match self {
            OutputDrop::LaneFull => {
                shared.weight(Weight::Lost).warning("an output is behind and its --queue is full: frames dropped")
            }
            OutputDrop::RedirectLost => shared.weight(Weight::Lost).warning(
                "redirected frames did not enter the interface: it has just gone down, or the kernel's queue to it was \
                 full (raise it with: sysctl -w net.core.netdev_max_backlog=10000)",
            ),
            OutputDrop::RuntTaggedFrame => shared.weight(Weight::Lost),
            // An interface that takes IP packets alone.
            OutputDrop::NotIp => shared.weight(Weight::Besides),
            OutputDrop::DiskFull
            | OutputDrop::WriteError
            | OutputDrop::OutputGone
            | OutputDrop::InterfaceDown
            | OutputDrop::InterfaceNotDeaf => shared.weight(Weight::Failed),
        }
    }
}
