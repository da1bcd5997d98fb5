//! What a sensor and the process that runs its commands say to each other: one object a packet.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::command::{Errand, Failure};

/// A packet is at most so long. The system takes commands that are an eighth of it.
pub(super) const MOST: usize = 1 << 20;

/// Asks for a command to be run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    /// The number that the answer has, too.
    pub(super) number: u64,
    command: String,
    /// The bytes of the path, which need not be text.
    path: Vec<u8>,
    variables: Vec<(String, String)>,
}

impl Ask {
    pub(super) fn new(number: u64, errand: &Errand) -> Self {
        Self {
            number,
            command: errand.command.to_string(),
            path: errand.path.as_os_str().as_bytes().to_vec(),
            variables: errand.variables.clone(),
        }
    }

    pub(super) fn errand(self) -> Errand {
        let path = PathBuf::from(OsString::from_vec(self.path));
        Errand { command: self.command.into(), path, variables: self.variables }
    }
}

/// Says what became of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The number that was asked with.
    pub(super) number: u64,
    /// Why it is no success, if it is none.
    pub(super) failure: Option<Failure>,
}
