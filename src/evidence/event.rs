//! A manifest has lines, and each tells of an event.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::file_hash::{Blake3, FileHash, Hashes, optional};
use crate::record::Timestamp;
use crate::session::{Session, Tag};

/// A complete capture file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capture {
    /// The path of the file, relative to the directory of the manifest, with `/` between the
    /// components.
    pub path: String,
    /// The session whose frames it has; none for the sessions beyond the limit.
    pub session: Option<Session>,
    /// The name that people gave the session, as the path has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag that the session has on interfaces where sessions are told apart by tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
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
    /// The captures were too many.
    KeepFiles,
    /// The capture was too old.
    KeepAge,
    /// The file system had too little room.
    MinFree,
}

impl PruneReason {
    /// Returns the name of the limit, as in manifests.
    #[must_use]
    pub(crate) const fn label(self) -> &'static str {
        match self {
            PruneReason::KeepBytes => "keep_bytes",
            PruneReason::KeepFiles => "keep_files",
            PruneReason::KeepAge => "keep_age",
            PruneReason::MinFree => "min_free",
        }
    }

    /// Returns the option that sets the limit.
    #[must_use]
    pub(crate) const fn option(self) -> &'static str {
        match self {
            PruneReason::KeepBytes => "--keep-bytes",
            PruneReason::KeepFiles => "--keep-files",
            PruneReason::KeepAge => "--keep-age",
            PruneReason::MinFree => "--min-free",
        }
    }
}

/// An event: it happened to the files of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A capture is complete. It gets its name right after this line is written.
    Published(Capture),
    /// A capture that a crash left behind is complete. It gets its name right after this line is
    /// written.
    Recovered(Capture),
    /// A capture gave way to newer ones.
    Pruned {
        /// The path at which it was.
        path: String,
        /// Hash of its bytes, where its line has one.
        #[serde(flatten, with = "optional")]
        hash: Option<FileHash>,
        /// The limit that it was over.
        reason: PruneReason,
        /// Consumers of published captures that had not heard of it. Old lines have no such field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        undelivered: Vec<String>,
    },
    /// A file that a crash left behind, and that is no capture, was moved aside.
    SetAside {
        /// The path at which it is now.
        path: String,
        /// Bytes of the file.
        bytes: u64,
        /// Hash of these.
        #[serde(flatten)]
        hash: FileHash,
        /// The fault of the file.
        why: String,
    },
    /// Frames were lost that belong to no file.
    Lost {
        /// The session whose frames these were; none for the sessions beyond the limit.
        session: Option<Session>,
        /// Frames by reason.
        dropped: BTreeMap<String, u64>,
    },
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line<E = Event> {
    /// The time at which it was written.
    pub time: Timestamp,
    /// The event that it tells of.
    #[serde(flatten)]
    pub event: E,
    /// Hash of the bytes of the line before, without the newline; zeros in the first.
    pub previous: Digest,
}

/// The fields that lines have, whatever they say.
///
/// Lines are read through this type and not as [`Event`] is declared, because serde keeps the
/// fields of a tagged and flattened type in memory until it has seen the tag. A manifest can have a
/// million lines, for which whoever starts waits.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    time: Timestamp,
    event: Kind,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    session: Option<Session>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    tag: Option<Tag>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    frames: Option<u64>,
    frame_bytes: Option<u64>,
    bytes: Option<u64>,
    dropped: Option<BTreeMap<String, u64>>,
    kernel_dropped: Option<u64>,
    #[serde(borrow)]
    format: Option<Cow<'a, str>>,
    #[serde(borrow)]
    compression: Option<Cow<'a, str>>,
    sha256: Option<Digest>,
    blake3: Option<Blake3>,
    reason: Option<PruneReason>,
    #[serde(default)]
    undelivered: Vec<String>,
    #[serde(borrow)]
    why: Option<Cow<'a, str>>,
    previous: Digest,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Published,
    Recovered,
    Pruned,
    SetAside,
    Lost,
}

/// Returns what a line has in the field `name`, or an error where it has no such field.
fn need<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("missing field `{name}`"))
}

impl Fields<'_> {
    fn path(&mut self) -> Result<String, String> {
        need(self.path.take(), "path").map(Cow::into_owned)
    }

    fn hash(&mut self) -> Result<Option<FileHash>, String> {
        let hashes = Hashes { sha256: self.sha256.take(), blake3: self.blake3.take() };
        hashes.hash().map_err(str::to_owned)
    }

    fn capture(&mut self) -> Result<Capture, String> {
        Ok(Capture {
            path: self.path()?,
            session: self.session,
            name: self.name.take().map(Cow::into_owned),
            tag: self.tag,
            first: need(self.first, "first")?,
            last: need(self.last, "last")?,
            frames: need(self.frames, "frames")?,
            frame_bytes: need(self.frame_bytes, "frame_bytes")?,
            bytes: need(self.bytes, "bytes")?,
            dropped: need(self.dropped.take(), "dropped")?,
            kernel_dropped: need(self.kernel_dropped, "kernel_dropped")?,
            format: need(self.format.take(), "format")?.into_owned(),
            compression: self.compression.take().map(Cow::into_owned),
            hash: self.hash()?,
        })
    }

    fn event(&mut self) -> Result<Event, String> {
        Ok(match self.event {
            Kind::Published => Event::Published(self.capture()?),
            Kind::Recovered => Event::Recovered(self.capture()?),
            Kind::Pruned => {
                let (path, hash, reason) = (self.path()?, self.hash()?, need(self.reason, "reason")?);
                Event::Pruned { path, hash, reason, undelivered: std::mem::take(&mut self.undelivered) }
            }
            Kind::SetAside => Event::SetAside {
                path: self.path()?,
                bytes: need(self.bytes, "bytes")?,
                hash: self.hash()?.ok_or("there is no hash")?,
                why: need(self.why.take(), "why")?.into_owned(),
            },
            Kind::Lost => Event::Lost { session: self.session, dropped: need(self.dropped.take(), "dropped")? },
        })
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::deserialize(deserializer)?;
        let event = fields.event().map_err(D::Error::custom)?;
        Ok(Line { time: fields.time, event, previous: fields.previous })
    }
}

/// The one field of a line that is read where the others cannot be.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) previous: Digest,
}
