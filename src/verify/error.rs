//! A directory cannot be verified for one of these reasons.

use std::io;
use std::path::PathBuf;

use crate::evidence::NAME;

/// The reason for which a directory cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A directory cannot be listed.
    #[error("cannot read {path}: {source}", path = path.display())]
    Directory {
        /// The directory, or one in it.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The directory has no manifest.
    #[error("there is no {NAME} in {directory}: {advice}", directory = directory.display())]
    NoManifest {
        /// The directory.
        directory: PathBuf,
        /// Advice on what to do.
        advice: String,
    },
    /// The manifest cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
