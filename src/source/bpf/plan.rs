//! The settings of the fast path.

use crate::wire::VniMask;

/// The place on an interface that the program is attached to.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// At XDP where the driver lets it, else at tc.
    Auto,
    /// In the driver, before the kernel makes a packet of it: the fastest.
    Xdp,
    /// Where the kernel has just made a packet: any driver, any MTU.
    Tc,
}

/// The settings that are particular to this source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfPlan {
    /// Interfaces to attach to. Where none is named, those that the listen addresses are on.
    pub interfaces: Vec<String>,
    /// The place on the interfaces.
    pub attach: Attach,
    /// Bytes of each ring: a power of two, and at least a page.
    pub ring: u32,
    /// The most bytes of a UDP payload that are kept.
    pub keep: u32,
    /// True to drop sessions that are not allowed in the program.
    pub early: bool,
    /// True to take datagrams whatever address they are for.
    pub any_address: bool,
    /// True to verify UDP checksums.
    pub verify_checksum: bool,
    /// The bits of VNIs that name networks.
    pub vni_mask: VniMask,
    /// The settings of redirection, where frames are to be redirected into an interface.
    pub redirect: Option<RedirectPlan>,
}

impl BpfPlan {
    /// Returns how much of a UDP payload the program keeps.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept { payload: self.keep, copy: self.redirect.map_or(0, |redirect| redirect.keep) }
    }

    /// Takes over how much the program keeps in another plan.
    pub(crate) fn keep_as(&mut self, other: &Self) {
        self.keep = other.keep;
        if let (Some(redirect), Some(other)) = (&mut self.redirect, &other.redirect) {
            redirect.keep = other.keep;
        }
    }
}

/// The most bytes of a UDP payload that the program keeps. This can change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of what goes into a ring.
    pub payload: u32,
    /// Of a copy of what is redirected.
    pub copy: u32,
}

impl Kept {
    /// Returns what is enough for both.
    pub(super) fn or(self, other: Self) -> Self {
        Self { payload: self.payload.max(other.payload), copy: self.copy.max(other.copy) }
    }
}

/// The settings of redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectPlan {
    /// The most sessions told apart.
    pub sessions: u32,
    /// True to copy what is redirected into the ring.
    pub copy: bool,
    /// The most bytes of a UDP payload that such a copy keeps.
    pub keep: u32,
}
