//! Capture formats: encoding records and reading files.

pub mod pcap;
pub mod read;
mod timestamp;

pub use timestamp::Timestamp;
