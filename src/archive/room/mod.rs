//! Room on disk: may frames be written, must something go?
//!
//! Both questions are answered here and nowhere else. The writer of captures asks the first of its
//! [`Room`], the archive's thread asks the second of its [`Keeper`]. The answers depend on this:
//!
//! | | |
//! |---|---|
//! | limits, as they were asked for | [`BudgetPlan`] |
//! | bytes of the files that are written to | [`Room::set_open_bytes`] |
//! | bytes that are handed over and not published | [`Claim`] |
//! | published captures | `Shelf` |
//! | what the file system has left | [`Storage::space`](crate::storage::Storage::space) |
//! | what the file system gives back late | `LateRoom` |

mod claims;
mod keeper;
mod late;
mod plan;
mod shelf;
mod writer;

pub(super) use claims::Claim;
pub(super) use keeper::Keeper;
pub use plan::BudgetPlan;
pub(crate) use plan::MinFree;
pub(crate) use writer::Room;
