//! The reasons why nothing can be stripped, or nothing more.

use std::io;
use std::path::PathBuf;

use crate::pipeline::OutputError;
use crate::record::read::ReadError;

/// The reason why stripping cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DecapError {
    /// A file cannot be opened.
    #[error("cannot read {name}: {source}")]
    Open {
        /// The file.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file to write is one of those that are read.
    #[error("{} is read, so it cannot be written: give -o another name", .0.display())]
    Same(PathBuf),
    /// What is to be written cannot be.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The reason why a capture was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is damaged, or no capture.
    #[error(transparent)]
    Damaged(ReadError),
    /// It cannot be read, or decompressed, from there on.
    #[error("{error}; at byte {offset} of the capture, behind {frames} whole frames")]
    Broken {
        /// The fault.
        error: ReadError,
        /// Bytes of the capture, decompressed, that were read before.
        offset: u64,
        /// Frames before it.
        frames: u64,
    },
    /// A frame is not of a mirror, and that was to be the end (`--others stop`).
    #[error(
        "{name}: frame {frame} is not of a mirror ({reason}), and --others stop ends there; --others drop leaves such frames out, --others pass keeps them"
    )]
    Other {
        /// The capture.
        name: String,
        /// The number of the frame, from 1.
        frame: u64,
        /// The reason why it is not of a mirror.
        reason: &'static str,
    },
}
