//! Captures are read, and the datagrams of mirrors in them found.
//!
//! A capture has whole outer packets, of whatever link type, among others that no mirror has sent.
//! What the kernel does for a socket is done here: ports are told apart, and fragments put
//! together.

mod counts;
mod fragments;
mod opened;
mod packets;
mod source;

pub(crate) use self::counts::Counts;
pub(crate) use self::opened::Opened;
pub use self::opened::{Input, OpenError};
pub(crate) use self::packets::{Came, Packets};
pub use self::source::{CaptureSource, Readout, Unread};
