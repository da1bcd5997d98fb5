//! Evidence says which captures a directory had, what they held, and what became of them.
//!
//! `manifest.jsonl` is only ever appended to. Each line is a JSON object that names the hash of the
//! line before, so that whoever noted the hash of one line can prove that no line up to it was
//! changed, removed or added since. A file's line is written before the file gets its name: a
//! published capture without a line, or one that differs from its line, is not of our making,
//! unless power was lost and nothing was synced.
//!
//! A line is whole when its newline is there. A crash in the middle of one leaves a torn last line.
//! The event that it was to announce has not happened then, and the next start cuts the line off.

pub(crate) mod catalogue;
mod contents;
mod digest;
mod event;
mod file_hash;
mod lines;
pub(crate) mod lock;
mod manifest;
pub(crate) mod names;

pub(crate) use contents::{Contents, Entry};
pub use digest::Digest;
pub use event::{Capture, Event};
pub(crate) use event::{Line, PruneReason};
pub(crate) use file_hash::FileHasher;
pub use file_hash::{Algorithm, FileHash};
pub(crate) use lines::{Lines, NAME};
pub use manifest::Manifest;
pub(crate) use manifest::{Edited, ManifestError};
