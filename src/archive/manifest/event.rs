//! The lines of a manifest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::Digest;
use super::file_hash::{FileHash, optional};
use crate::archive::budget::PruneReason;
use crate::archive::name::{PART, is_published, parse_session};
use crate::record::Timestamp;

/// A mirror session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Outer source address.
    pub source: IpAddr,
    /// VXLAN network identifier.
    pub vni: u32,
}

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

/// Endings of captures, after which `.part` may stand.
const ENDINGS: [&str; 6] = [".pcap", ".pcapng", ".pcap.lz4", ".pcapng.lz4", ".pcap.zst", ".pcapng.zst"];

/// Whether a file of this name is a capture, complete or not.
#[must_use]
pub fn is_capture(name: &str) -> bool {
    let whole = name.strip_suffix(".part").unwrap_or(name);
    ENDINGS.iter().any(|ending| whole.len() > ending.len() && whole.ends_with(ending))
}

/// Whether a path that a manifest names may be touched: a session's directory and a capture in it, and nothing else.
///
/// A manifest may have been tampered with. What it says must not lead to another file.
#[must_use]
pub fn is_capture_path(path: &str) -> bool {
    is_inside(path)
        && path.split_once('/').is_some_and(|(directory, name)| {
            !name.contains('/') && parse_session(directory).is_some() && is_capture(name)
        })
}

/// Whether a path is that of a capture that is complete. No line publishes or removes another.
#[must_use]
pub fn is_complete_path(path: &str) -> bool {
    is_capture_path(path) && !path.ends_with(PART)
}

/// The same, where the name is such as this program gives: what a line says was published or removed
/// may be removed.
#[must_use]
pub fn is_removable_path(path: &str) -> bool {
    is_complete_path(path) && path.split_once('/').is_some_and(|(directory, name)| is_published(directory, name))
}

/// Whether a path leads to something below the directory, and is written in the one way there is to write it.
#[must_use]
pub fn is_inside(path: &str) -> bool {
    let normal = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    // Components skip `//`, `/./` and a trailing `/`, and the system ends names at NUL.
    normal && path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_captures_may_be_touched() {
        for fine in [
            "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap",
            "overflow/x.pcapng",
            "vni0_2001-db8--1/b.pcap.lz4",
            "overflow/b.pcapng.zst",
            "overflow/b.pcap.part",
            "overflow/b.pcap.zst.part",
            "overflow/..b.pcap",
        ] {
            assert!(is_capture_path(fine), "{fine}");
        }
        for wrong in [
            "",
            "b.pcap",
            "/a/b.pcap",
            "/b.pcap",
            "../b.pcap",
            "overflow/../b.pcap",
            "overflow/../../b.pcap",
            "./b.pcap",
            "a/b.pcap",
            "vni7_evil/b.pcap",
            "overflow//b.pcap",
            "overflow/b/c.pcap",
            "overflow/b.pcap/",
            "overflow/.pcap",
            "overflow/b.part",
            "overflow/b.pcap.part.part",
            "overflow/b.pcap.gz",
            "overflow/manifest.jsonl",
            "overflow/b.pcap\0",
            "overflow\0/b.pcap",
        ] {
            assert!(!is_capture_path(wrong), "{wrong:?}");
        }
        let name = "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001";
        assert!(is_removable_path(&format!("{name}.pcap")) && is_removable_path(&format!("{name}.recovered.pcap")));
        for wrong in [
            format!("{name}.pcap.part"),
            format!("x/../{name}.pcap"),
            format!("/{name}.pcap"),
            "vni7_192.0.2.1/mine.pcap".into(),
            "vni8_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap".into(),
            "unsalvageable/vni7_192.0.2.1_20261124T031829Z_000001.pcap".into(),
        ] {
            assert!(!is_removable_path(&wrong), "{wrong}");
        }
        for part in ["overflow/b.pcap.part", "overflow/b.pcap.zst.part"] {
            assert!(!is_complete_path(part) && is_complete_path(part.strip_suffix(".part").unwrap()), "{part}");
        }
        assert!(is_inside("damaged/b.pcap.part.1") && is_inside("b") && !is_inside("../b") && !is_inside(""));
    }
}
