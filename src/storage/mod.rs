//! Captures are kept here: files and directories behind one small trait.
//!
//! Everything that is done to the files of an output goes through [`Storage`]. So tests can put one
//! in its place that writes short, fails, stalls, or forgets what was not synced.

mod changed;
mod direct;
mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod files;
mod limit;
mod place;
mod regular;
mod small;
mod status;

pub use self::changed::{Changed, changed};
pub use self::direct::Direct;
pub use self::disk::{Disk, probe};
pub use self::files::{Space, Storage, StoredFile};
pub use self::limit::{explain, file_size_limit};
pub use self::place::Named;
pub use self::regular::NotRegular;
pub use self::small::{TooLarge, read_small};
pub use self::status::{Identity, Status};
