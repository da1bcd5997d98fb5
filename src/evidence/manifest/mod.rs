//! A directory has a manifest, which one process appends to.

mod append;
mod edited;
mod error;
mod file;
#[cfg(test)]
mod tests;
mod unshare;

pub(crate) use edited::Edited;
pub(crate) use error::ManifestError;
pub use file::Manifest;
