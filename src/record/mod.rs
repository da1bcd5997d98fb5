//! Capture formats: encoding records, compressing, reading and salvaging files.

pub mod compress;
pub mod contents;
pub mod format;
pub mod pcap;
pub mod pcapng;
pub mod read;
pub mod salvage;
mod timestamp;
mod window;

pub use timestamp::Timestamp;
