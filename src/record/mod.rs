//! Capture formats are encoded, compressed, read and salvaged here.

pub(crate) mod bare_ip;
pub mod compress;
pub(crate) mod contents;
pub(crate) mod format;
pub mod pcap;
pub(crate) mod pcapng;
pub mod read;
pub(crate) mod salvage;
mod timestamp;
mod window;

pub use timestamp::Timestamp;
