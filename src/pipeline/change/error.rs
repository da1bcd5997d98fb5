//! A sensor does not change for one of these reasons.

use std::io;
use std::time::Duration;

use super::super::output::OutputError;
use crate::source::bpf::BpfError;

/// The time for which workers are waited for. One that waits for datagrams looks 20 times a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The reason for which a sensor does not change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// An output cannot be opened. Nothing has changed.
    #[error("output {name}: {error}")]
    Open {
        /// The name of the output.
        name: String,
        /// The reason.
        error: Box<OutputError>,
    },
    /// Two outputs would have one name. Nothing has changed.
    #[error("there is an output {0} already")]
    Twice(String),
    /// An output that is to go is not there. Nothing has changed.
    #[error("there is no output {0}")]
    Unknown(String),
    /// An output that the program in the kernel feeds cannot come or go. Nothing has changed.
    #[error("output {0} needs a restart: the program in the kernel redirects into it")]
    Redirected(String),
    /// A worker has not taken over the change before this one. Nothing has changed.
    #[error("a worker stalls: it has not taken over the last change yet")]
    Stalls,
    /// A worker takes its time. The change is made, and that worker makes it when it goes on.
    #[error("a worker stalls: after {PATIENCE:?} it has not taken over the change, and will when it goes on")]
    Slow,
    /// The program in the kernel cannot keep more of a frame. Nothing has changed.
    #[error("the program on the interface cannot keep more of a frame: {0}")]
    Keep(BpfError),
    /// The program in the kernel cannot redirect other sessions. Nothing has changed.
    #[error("the program on the interface cannot redirect other sessions: {0}")]
    Redirect(BpfError),
    /// Outputs cannot be opened where nobody waits for them. Nothing has changed.
    #[error("outputs cannot be opened: {0}")]
    Thread(io::Error),
}

impl ChangeError {
    /// Says whether the change is made, or will be.
    pub(crate) fn is_made(&self) -> bool {
        matches!(self, Self::Slow)
    }
}
