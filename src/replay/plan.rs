//! The plan of a replay.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::pace::Pace;
use crate::wire::VniRange;

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

/// What to send, where to, and how, is in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Captures, in the order in which they are sent.
    pub inputs: Vec<Input>,
    /// The address that the datagrams go to.
    pub to: SocketAddr,
    /// VNIs that frames take turns in.
    pub vni: VniRange,
    /// The pace at which frames are due.
    pub pace: Pace,
    /// How many times all inputs are sent.
    pub loops: u64,
    /// Source address of the datagrams; the route decides if there is none.
    pub from: Option<IpAddr>,
    /// True where the outer UDP checksum is computed; otherwise it is zero.
    pub checksum: bool,
    /// True where a progress bar is drawn, if standard error is a terminal.
    pub progress: bool,
}
