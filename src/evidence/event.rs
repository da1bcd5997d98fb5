//! The lines of a manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::file_hash::{FileHash, optional};
use crate::record::Timestamp;
use crate::session::Session;

/// A complete capture file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Where it is, relative to the directory of the manifest, with `/` between the components.
    pub path: String,
    /// Whose frames it has; none for the sessions beyond the limit.
    pub session: Option<Session>,
    /// Earliest receive time of a frame.
    pub first: Timestamp,
    /// Latest receive time of a frame.
    pub last: Timestamp,
    /// Frames in it.
    pub frames: u64,
    /// Bytes of these frames.
    pub frame_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames of the session that were lost in the span of the file, by reason; none that is zero.
    pub dropped: BTreeMap<String, u64>,
    /// Datagrams of all sessions that the kernel dropped in that span.
    pub kernel_dropped: u64,
    /// `pcap`, `pcap-us` or `pcapng`.
    pub format: String,
    /// `lz4` or `zstd:LEVEL`; none for a file as it is.
    pub compression: Option<String>,
    /// Hash of the file's bytes; none where files are not hashed.
    #[serde(flatten, with = "optional")]
    pub hash: Option<FileHash>,
}

/// The limit that a capture had to go for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneReason {
    /// The captures had too many bytes together.
    KeepBytes,
    /// There were too many.
    KeepFiles,
    /// It was too old.
    KeepAge,
    /// The file system had too little room.
    MinFree,
}

impl PruneReason {
    /// The name of the limit, as in manifests.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            PruneReason::KeepBytes => "keep_bytes",
            PruneReason::KeepFiles => "keep_files",
            PruneReason::KeepAge => "keep_age",
            PruneReason::MinFree => "min_free",
        }
    }

    /// The option that sets it.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            PruneReason::KeepBytes => "--keep-bytes",
            PruneReason::KeepFiles => "--keep-files",
            PruneReason::KeepAge => "--keep-age",
            PruneReason::MinFree => "--min-free",
        }
    }
}

/// What happened to the files of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A capture is complete. It gets its name right after this line is written.
    Published(Capture),
    /// The same, of a capture that a crash left behind.
    Recovered(Capture),
    /// A capture gave way to newer ones.
    Pruned {
        /// Where it was.
        path: String,
        /// Hash of its bytes, where its line has one.
        #[serde(flatten, with = "optional")]
        hash: Option<FileHash>,
        /// Which limit it was over.
        reason: PruneReason,
        /// Consumers of published captures that had not heard of it. Lines of before have no such
        /// field.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        undelivered: Vec<String>,
    },
    /// What a crash left behind, and is no capture.
    SetAside {
        /// Where it is now.
        path: String,
        /// Bytes of the file.
        bytes: u64,
        /// Hash of these.
        #[serde(flatten)]
        hash: FileHash,
        /// What is wrong with it.
        why: String,
    },
    /// Frames were lost that belong to no file.
    Lost {
        /// Whose; none for the sessions beyond the limit.
        session: Option<Session>,
        /// Frames by reason.
        dropped: BTreeMap<String, u64>,
    },
}

/// A line as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<E = Event> {
    /// When it was written.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: E,
    /// Hash of the bytes of the line before, without the newline; zeros in the first.
    pub previous: Digest,
}

/// The one field of a line that is read where the others cannot be.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) previous: Digest,
}
