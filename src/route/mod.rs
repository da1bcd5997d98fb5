//! Routing says which mirror session a frame belongs to, what becomes of the session's frames, and
//! which outputs want them.
//!
//! Each worker has a [`SessionTable`] of its own, which is looked up without a lock. The shared
//! [`Registry`] gives a session its number when any worker sees it first, so that one session which
//! two workers receive is still one session for the outputs. The [`policy`] has the plan of each
//! session, and most sessions have the plain one, by which a frame is offered to every output.
//! Other plans give a verdict for each frame.

pub mod cutoff;
pub mod dedup;
mod filter;
mod id;
pub mod policy;
mod registry;
mod selection;
pub mod slice;
mod table;
mod tags;
mod verdict;
mod wanted;

#[cfg(any(test, fuzzing))]
pub(crate) use filter::Program;
pub use filter::{Action, CompileError, Expression, MOST_RULES, Ports, Rule, Rules, RulesError};
pub use id::SessionId;
pub(crate) use registry::Registered;
pub use registry::Registry;
pub(crate) use selection::{Candidate, Selection, Share};
pub(crate) use table::Seen;
pub use table::SessionTable;
pub use tags::{Tags, TagsError};
pub(crate) use verdict::{Asked, verdict};
pub(crate) use wanted::Watched;
pub use wanted::{NotWanted, Wanted};
