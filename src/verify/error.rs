//! Why a directory cannot be verified.

use std::io;
use std::path::PathBuf;

use crate::evidence::NAME;

/// Why a directory cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be listed.
    #[error("cannot read {path}: {source}", path = path.display())]
    Directory {
        /// The directory, or one in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has no manifest.
    #[error("there is no {NAME} in {directory}: {advice}", directory = directory.display())]
    NoManifest {
        /// The directory.
        directory: PathBuf,
        /// What to do.
        advice: String,
    },
    /// The manifest cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
