//! A capture cannot be read for one of these reasons.

use std::io;

/// The reason for which a capture could not be read, or not to its end. Frames delivered before the
/// error are whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system could not open or read the file.
    #[error("{name}: {source}")]
    Io {
        /// The capture.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file has not a single byte.
    #[error("{name}: the file is empty")]
    Empty {
        /// The capture.
        name: String,
    },
    /// The first bytes are not those of a capture.
    #[error("{name}: not a pcap or pcapng file{hint}")]
    NotACapture {
        /// The capture.
        name: String,
        /// The kind that the file seems to be of instead, with what to do about it; may be empty.
        hint: &'static str,
    },
    /// The frames are of another link layer than Ethernet.
    #[error("{name}: link type {link_type} is not supported, only Ethernet is")]
    LinkType {
        /// The capture.
        name: String,
        /// Name and number of the link type.
        link_type: String,
    },
    /// A record makes no sense or its end is missing.
    #[error("{name}: damaged at byte {offset}: {damage}; {}", whole(*.frames))]
    Damaged {
        /// The capture.
        name: String,
        /// The place where the damaged record starts, in bytes from the start of the file.
        offset: u64,
        /// The fault of the record.
        damage: Damage,
        /// Frames before it, all whole.
        frames: u64,
    },
}

fn whole(frames: u64) -> String {
    match frames {
        0 => "no frame comes before it".into(),
        1 => "the 1 frame before it is whole".into(),
        n => format!("the {n} frames before it are whole"),
    }
}

/// The fault of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends within the file header, or within the header of a record.
    #[error("a {what} takes {needed} bytes but the file ends after {present}")]
    CutHeader {
        /// The header that is cut.
        what: &'static str,
        /// Its length.
        needed: usize,
        /// Bytes of it that are there.
        present: usize,
    },
    /// The file ends within a record's data.
    #[error("record claims {claimed} bytes but the file ends after {present}")]
    CutRecord {
        /// Length that the record states.
        claimed: u64,
        /// Bytes of it that are there.
        present: u64,
    },
    /// The record states a length that no capture has.
    #[error("record claims {claimed} bytes, more than the {limit} that a record can have")]
    TooLong {
        /// Length that the record states.
        claimed: u32,
        /// The limit.
        limit: u32,
    },
    /// A block is too short for the fields that each of its kind has.
    #[error("the fields of a {what} take {needed} bytes but it has {present}")]
    ShortBlock {
        /// The kind of block.
        what: &'static str,
        /// Length of the fields.
        needed: usize,
        /// Bytes that the block has for them.
        present: usize,
    },
    /// A packet block states more captured bytes than it has.
    #[error("packet block claims {claimed} bytes of frame but has {present}")]
    CutBlock {
        /// Length that the block states for the frame.
        claimed: u32,
        /// Bytes that the block has.
        present: usize,
    },
    /// A packet block names an interface that no block before it describes.
    #[error("packet block is of interface {0}, which the file does not describe")]
    UnknownInterface(u32),
    /// The lengths or contents of a pcapng block contradict each other.
    #[error("{0}")]
    Block(String),
}
