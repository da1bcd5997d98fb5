//! Routing says which mirror session a frame belongs to, and which outputs want it.
//!
//! Each worker has a [`SessionTable`] of its own, which is looked up without a lock. The shared
//! [`Registry`] gives a session its number when any worker sees it first, so that one session which
//! two workers receive is still one session for the outputs.

mod filter;
mod id;
mod registry;
mod selection;
mod table;

pub use filter::{Action, CompileError, Expression, MOST_RULES, Ports, Rule, Rules, RulesError};
pub use id::SessionId;
pub use registry::Registry;
pub(crate) use selection::{Candidate, Selection, Share};
pub use table::SessionTable;
