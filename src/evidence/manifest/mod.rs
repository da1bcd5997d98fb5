//! A directory has a manifest, which one process appends to.

mod append;
mod edited;
mod error;
mod file;
#[cfg(test)]
mod tests;
mod unshare;

pub use edited::Edited;
pub use error::ManifestError;
pub use file::Manifest;
