//! The reasons why nothing can be stripped, or nothing more.

use std::path::PathBuf;

use crate::pipeline::OutputError;
use crate::source::capture;

/// The reason why stripping cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DecapError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(#[from] capture::OpenError),
    /// The file to write is one of those that are read.
    #[error("{} is read, so it cannot be written: give -o another name", .0.display())]
    Same(PathBuf),
    /// Nobody could sniff on an interface that is made for the frames and goes with them.
    #[error(
        "there is no interface {0}, and so no sniffer that would see the frames: `ip tuntap add dev {0} mode tap`, then start one"
    )]
    NoInterface(String),
    /// What is to be written cannot be.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The reason why a capture was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is damaged, no capture, or cannot be read.
    #[error(transparent)]
    Capture(#[from] capture::Unread),
    /// Nothing more is read of any capture: the program was told to end, or the output has failed.
    #[error("{name} was read up to frame {frames} only: {}", if *.interrupted { "interrupted" } else { "nothing more can be written" })]
    Left {
        /// The capture.
        name: String,
        /// The frames that were read.
        frames: u64,
        /// True where the program was told to end.
        interrupted: bool,
    },
    /// A frame is not of a mirror, and that was to be the end (`--others stop`).
    #[error(
        "{name}: frame {frame} is not of a mirror ({reason}), and --others stop ends there; --others drop leaves such frames out, --others pass keeps those of Ethernet"
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
