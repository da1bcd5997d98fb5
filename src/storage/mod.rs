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
mod mode;
mod place;
mod regular;
mod small;
mod status;

pub(crate) use self::changed::{Changed, changed};
pub(crate) use self::direct::FILES as WRITTEN_DIRECTLY;
pub use self::disk::Disk;
pub(crate) use self::disk::probe;
pub(crate) use self::files::Space;
pub use self::files::{Storage, StoredFile};
pub(crate) use self::limit::{explain, file_size_limit};
pub use self::mode::Direct;
pub(crate) use self::regular::NotRegular;
pub(crate) use self::small::{TooLarge, read_small, read_small_bytes};
pub(crate) use self::status::Identity;
