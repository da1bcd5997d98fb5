//! What becomes of a capture once it is complete: it is put on record, published, and removed again when there are too many.

pub mod budget;
pub mod hook;
pub mod manifest;

pub use budget::{BudgetPlan, Entry, MinFree, PruneReason, Shelf};
pub use hook::{Hook, HookCounters, HookTotals, Unfinished};
pub use manifest::{Capture, Contents, Digest, Event, Hasher, Kept, Manifest, ManifestError, Session};
