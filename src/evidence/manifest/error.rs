//! Why a manifest cannot be used.

use std::io;
use std::path::PathBuf;

use crate::evidence::lock::LockError;
use crate::storage::NotRegular;

/// Why a manifest cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Another process writes to the directory.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// What has the name of the manifest is no file of ours: what a symbolic link leads to would be
    /// cut and written to.
    #[error(
        "{path} is {what}: move it away, or name another directory with --write; captures are recorded there, and only in a file",
        path = path.display(), what = what.0
    )]
    NotRegular {
        /// The manifest.
        path: PathBuf,
        /// What it is.
        what: NotRegular,
    },
    /// The manifest cannot be opened, read or cut.
    #[error("cannot {action} {path}: {source}; captures are recorded there", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
