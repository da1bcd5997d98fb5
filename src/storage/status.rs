//! Says which file has a name.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use rustix::path::Arg;

/// Tells a file from others, whatever its name: its device, its inode, and when that was born,
/// where the file system knows. The number of a removed inode is soon another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: (u32, u32),
    inode: u64,
    born: Option<(i64, u32)>,
}

/// The state of what has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The file that it is.
    pub identity: Identity,
    /// Its kind; a link is not followed.
    pub kind: FileType,
    /// The names that it has.
    pub links: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Returns the status of `name` in `directory`; where `name` is empty, that of `directory` itself,
/// which may be an open file.
pub(super) fn status(directory: impl AsFd, name: impl Arg) -> io::Result<Status> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let found = statx(directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let born =
        (found.stx_mask & StatxFlags::BTIME.bits() != 0).then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
    Ok(Status {
        identity: Identity { device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino, born },
        kind: FileType::from_raw_mode(found.stx_mode.into()),
        links: found.stx_nlink.into(),
        length: found.stx_size,
    })
}
