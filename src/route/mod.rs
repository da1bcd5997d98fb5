//! Demultiplexing: which mirror session a frame belongs to, and which outputs want it.
//!
//! A session is (outer source address, VNI). Each worker has a [`SessionTable`] of its own, looked up without a lock;
//! the shared [`Registry`] gives a session its number when any worker sees it first, so that one session received by two
//! workers is still one session for the outputs.

mod registry;
mod selection;
mod table;

pub use registry::Registry;
pub use selection::{Candidate, Selection, Share};
pub use table::SessionTable;

/// The number of a session: 0 for all sessions beyond the limit together, then in the order of first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u32);

impl SessionId {
    /// The session that stands for all beyond the limit.
    pub const OVERFLOW: SessionId = SessionId(0);

    /// The number as an index from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
