//! The salvage of a file has an outcome.

use std::io;

use crate::storage::Changed;

/// Says what became of a file.
#[derive(Debug)]
pub(super) enum Salvaged {
    /// It was published.
    Recovered,
    /// It holds no frame and no other byte that may be one.
    Empty,
    /// It was moved aside.
    Aside,
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
