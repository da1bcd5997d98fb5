//! A manifest cannot be used for one of these reasons.

use std::io;
use std::path::PathBuf;

use crate::evidence::lock::LockError;
use crate::storage::NotRegular;

/// The reason for which a manifest cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Another process writes to the directory.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// The name of the manifest is that of no file of ours: what a symbolic link leads to would be
    /// cut and written to.
    #[error(
        "{path} is {what}: move it away, or name another directory with --write; captures are recorded there, and only in a file",
        path = path.display(), what = what.0
    )]
    NotRegular {
        /// The manifest.
        path: PathBuf,
        /// The kind of thing that it is.
        what: NotRegular,
    },
    /// The manifest cannot be opened, read or cut.
    #[error("cannot {action} {path}: {source}; captures are recorded there", path = path.display())]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The manifest.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
