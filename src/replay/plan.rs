//! A plan says what is to be sent, where to, and how.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::error::ReplayError;
use super::pace::Pace;
use super::wrap::Wrap;
use crate::record::read::ReadError;
use crate::wire::{Carrier, VniRange};

/// A capture to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// A capture that is part of the program.
    Memory {
        /// The name that messages give it.
        name: &'static str,
        /// The file's bytes.
        bytes: &'static [u8],
    },
}

/// A plan of what to send, where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Captures, in the order in which they are sent.
    pub inputs: Vec<Input>,
    /// The address that the datagrams go to.
    pub to: SocketAddr,
    /// The way in which frames are wrapped.
    pub wrap: Wrap,
    /// The protocol that carries it. Over IP the port of the address must be 0.
    pub carrier: Carrier,
    /// VNIs that frames take turns in.
    pub vni: VniRange,
    /// The pace at which frames are due.
    pub pace: Pace,
    /// The number of times that all inputs are sent.
    pub loops: u64,
    /// Source address of the datagrams; the route decides if there is none.
    pub from: Option<IpAddr>,
    /// True where the outer UDP checksum is computed; otherwise it is zero.
    pub checksum: bool,
    /// True where a progress bar is drawn, if standard error is a terminal.
    pub progress: bool,
}

impl Input {
    /// Returns the length in bytes, or 0 if it is not known; an error if the input cannot be
    /// opened.
    pub(super) fn size(&self) -> Result<u64, ReadError> {
        let path = match self {
            Input::Memory { bytes, .. } => return Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Input::File(path) => path,
        };
        let look = || {
            let metadata = fs::metadata(path)?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // A pipe can be opened only once.
            if metadata.is_file() {
                fs::File::open(path)?;
            }
            Ok(metadata.len())
        };
        look().map_err(|source| ReadError::Io { name: path.display().to_string(), source })
    }

    /// Says whether the input can be read again. A pipe is empty, or its writer gone, when it is
    /// opened again.
    pub(super) fn can_be_played_again(&self) -> Result<(), ReplayError> {
        match self {
            // A file that has vanished is reported when it is played.
            Input::File(path) if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) => {
                Err(ReplayError::Once(path.clone()))
            }
            Input::File(_) | Input::Memory { .. } => Ok(()),
        }
    }
}
