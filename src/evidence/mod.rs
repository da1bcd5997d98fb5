//! Evidence says which captures a directory had, what they held, and what became of them.
//!
//! `manifest.jsonl` is only ever appended to. Each line is a JSON object that names the hash of the
//! line before, so that whoever noted the hash of one line can prove that no line up to it was
//! changed, removed or added since. A file's line is written before the file gets its name: a
//! published capture without a line, or one that differs from its line, is not of our making,
//! unless power was lost and nothing was synced.
//!
//! A line is whole when its newline is there. A crash in the middle of one leaves a torn last line.
//! What it was to announce has not happened then, and the next start cuts it off.

pub mod catalogue;
mod contents;
mod digest;
mod event;
mod file_hash;
mod lines;
pub mod lock;
mod manifest;
pub mod names;

pub use catalogue::Catalogue;
pub use contents::{Contents, Entry};
pub use digest::{Digest, Hasher, NotADigest};
pub use event::{Capture, Event, Line, PruneReason};
pub use file_hash::{Algorithm, FileHash, FileHasher};
pub use lines::{Lines, NAME, Read};
pub use manifest::{Edited, Manifest, ManifestError};
