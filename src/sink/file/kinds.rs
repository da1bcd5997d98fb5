//! The files of a session have frames of the kinds that come in it.
//!
//! By default all frames have an Ethernet header. Where bare packets are written as they came, they
//! have a link type of their own. A session almost always has frames of one kind, and its files one
//! link type: that of its first frame. Once a frame of the other kind has come, the file ends, and
//! the session's files have an interface for each kind from then on. Classic pcap has no
//! interfaces, so there all get an Ethernet header then.

use super::part::Batch;
use super::plan::FilePlan;
use crate::lane::Run;
use crate::record::bare_ip::BareIp;
use crate::record::contents::Statistics;
use crate::record::format::Format;
use crate::record::pcap::Record;
use crate::wire::LinkType;

/// The kinds of frames that have come in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    ethernet: bool,
    raw: bool,
}

/// The way in which frames of one kind stand in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The interface that they came by.
    pub(super) interface: u32,
    /// True where they are packets without the header that was made up.
    pub(super) is_raw: bool,
}

impl Kinds {
    /// Returns these kinds and that of the frames of a run.
    pub(super) fn and(self, run: &Run) -> Self {
        Self { ethernet: self.ethernet || !run.is_bare_ip, raw: self.raw || run.is_bare_ip }
    }

    /// Returns the link types of a file, in the order of their interfaces.
    pub(super) fn link_types(self, plan: &FilePlan) -> &'static [LinkType] {
        match (plan.bare_ip, self.ethernet, self.raw) {
            (BareIp::Raw, false, true) => &[LinkType::Raw],
            (BareIp::Raw, true, true) if plan.format == Format::PcapNg => &[LinkType::Ethernet, LinkType::Raw],
            _ => &[LinkType::Ethernet],
        }
    }

    /// Returns the form of the frames of a run, of whose kind there was one before.
    pub(super) fn form(self, plan: &FilePlan, run: &Run) -> Form {
        let is_raw = |link_type: &LinkType| run.is_bare_ip && *link_type == LinkType::Raw;
        let interface = (0..).zip(self.link_types(plan)).find(|(_, link_type)| is_raw(link_type));
        interface.map_or_else(Form::default, |(interface, _)| Form { interface, is_raw: true })
    }

    /// Returns what there is to say at the end of a file, of each of its interfaces. Of what was
    /// lost the kind is not known, so it counts for the first.
    pub(super) fn statistics(
        self,
        plan: &FilePlan,
        all: Batch,
        kernel_dropped: u64,
        lost: u64,
    ) -> impl Iterator<Item = Statistics> {
        let (start, end) = all.span.unwrap_or_default();
        let link_types = self.link_types(plan);
        let second = if link_types.len() > 1 { all.bare } else { 0 };
        (0..).zip([all.frames - second, second]).zip(link_types).map(move |((interface, frames), _)| {
            let is_first = interface == 0;
            let dropped = if is_first { lost } else { 0 };
            Statistics {
                interface,
                start,
                end,
                received: frames + dropped,
                dropped,
                accepted: frames + dropped,
                kernel_dropped: if is_first { kernel_dropped } else { 0 },
                delivered: frames,
            }
        })
    }
}

impl Form {
    /// Returns the record as it is written.
    pub(super) fn of(self, record: Record<'_>) -> Record<'_> {
        if self.is_raw { record.undressed() } else { record }
    }
}
