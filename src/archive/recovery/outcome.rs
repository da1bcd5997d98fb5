//! The salvage of a file has an outcome.

use std::io;

use crate::evidence::Capture;
use crate::storage::Changed;

/// Says what became of a file.
#[derive(Debug)]
pub(super) enum Salvaged {
    /// So many frames of it, with so many bytes, were published.
    Recovered {
        /// Frames.
        frames: u64,
        /// Bytes of them.
        frame_bytes: u64,
    },
    /// It holds no frame and no other byte that may be one.
    Empty,
    /// It was moved aside.
    Aside,
}

impl Salvaged {
    /// Tells of the frames of a capture, which were published.
    pub(super) fn recovered(capture: &Capture) -> Self {
        Self::Recovered { frames: capture.frames, frame_bytes: capture.frame_bytes }
    }
}

/// Says why a file is left as it is.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something failed, which may change.
    Io(io::Error),
    /// Somebody changed a file of this process.
    Changed(Changed),
    /// It is no capture, for this reason.
    Unsalvageable(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}
