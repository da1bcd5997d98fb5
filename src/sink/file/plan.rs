//! A plan says how captures are written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::Clock;
use crate::archive::{ArchivePlan, Encoding};
use crate::record::bare_ip::BareIp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::storage::Direct;

/// The form of captures, and the place where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// The directory that has the sessions' directories.
    pub directory: PathBuf,
    /// Bytes of a file at most, before compression, unless a single record is larger.
    pub rotate_size: u64,
    /// Frames of a file at most.
    pub rotate_frames: Option<u64>,
    /// A file ends at a multiple of this since the epoch.
    pub rotate_time: Duration,
    /// The clock by whose time files end.
    pub clock: Clock,
    /// Bytes kept of a frame, as the file header says.
    pub snaplen: u32,
    /// Time that a record stays in a buffer.
    pub linger: Duration,
    /// Bytes that the buffers of all sessions may use.
    pub buffer_memory: usize,
    /// Files open at the same time.
    pub open_files: usize,
    /// Format of the files.
    pub format: Format,
    /// The form of packets that came without an Ethernet header.
    pub bare_ip: BareIp,
    /// Compression of the files, if they are compressed.
    pub compression: Option<Compression>,
    /// Choice of the files that are written past the page cache.
    pub direct: Direct,
    /// Plan for complete files: what becomes of them.
    pub archive: ArchivePlan,
}

impl FilePlan {
    /// Plans plain files of whole frames below `directory`, each of a session, which nothing cuts.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            rotate_size: u64::MAX,
            rotate_frames: None,
            rotate_time: Duration::from_secs(1 << 40),
            clock: Clock::Wall,
            snaplen: 262_144,
            linger: Duration::from_secs(1),
            buffer_memory: 16 << 20,
            open_files: 16,
            format: Format::Pcap,
            bare_ip: BareIp::Ethernet,
            compression: None,
            direct: Direct::Off,
            archive: ArchivePlan::default(),
        }
    }

    /// Returns the way in which files are encoded.
    #[must_use]
    pub(super) fn encoding(&self) -> Encoding {
        Encoding { format: self.format, compression: self.compression }
    }

    /// Returns the end of the names of files.
    #[must_use]
    pub(super) fn ending(&self) -> String {
        let format = self.format.extension();
        self.compression.map_or_else(|| format.into(), |compression| format!("{format}.{}", compression.extension()))
    }
}
