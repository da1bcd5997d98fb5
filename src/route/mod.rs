//! Demultiplexing: which mirror session a frame belongs to, and which outputs want it.
//!
//! A session is (outer source address, VNI). Each worker has a [`SessionTable`] of its own, looked up without a lock;
//! the shared [`Registry`] gives a session its number when any worker sees it first, so that one session received by two
//! workers is still one session for the outputs.

mod id;
mod registry;
mod selection;
mod table;

pub use id::SessionId;
pub use registry::Registry;
pub use selection::{Candidate, Selection, Share};
pub use table::SessionTable;
