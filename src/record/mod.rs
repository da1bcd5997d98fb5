//! Capture formats: encoding records and reading files.

pub mod pcap;
mod timestamp;

pub use timestamp::Timestamp;
