//! Says whether a name still has the file that was written.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::files::Storage;
use super::regular::NotRegular;
use super::status::Identity;

/// The state that is found in place of a file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nothing has the name.
    Missing,
    /// The directory of the name leads elsewhere.
    Directory,
    /// The name is that of something that is no file.
    Kind(NotRegular),
    /// The name is that of another file.
    Other,
    /// It is the file, which has so many names.
    Links(u64),
    /// It is the file, with so many bytes.
    Length(u64),
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Changed::Missing => f.write_str("nothing"),
            Changed::Directory => f.write_str("another directory in place of its own"),
            Changed::Kind(what) => what.0.fmt(f),
            Changed::Other => f.write_str("another file"),
            Changed::Links(names) => write!(f, "the file with {names} names, which are hard links"),
            Changed::Length(bytes) => write!(f, "the file with {bytes} bytes, which is another length"),
        }
    }
}

/// Compares what has the name `path` with a file that was written: it has to be that file, have no
/// other name, and a length within `lengths`. It returns none where the file is as it was, or where
/// that cannot be told.
///
/// A change in place that keeps the length does not show here, but in the hash, which was computed
/// of what was written.
#[must_use]
pub(crate) fn changed(
    storage: &dyn Storage,
    path: &Path,
    file: &Identity,
    lengths: RangeInclusive<u64>,
) -> Option<Changed> {
    let found = match storage.status(path) {
        Ok(Some(found)) => found,
        Ok(None) => return Some(Changed::Missing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Some(Changed::Directory),
        Err(_) => return None,
    };
    if let Err(what) = NotRegular::of(found.kind) {
        Some(Changed::Kind(what))
    } else if found.identity != *file {
        Some(Changed::Other)
    } else if found.links != 1 {
        Some(Changed::Links(found.links))
    } else {
        (!lengths.contains(&found.length)).then_some(Changed::Length(found.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_file_is_known_whatever_is_done_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let directory = dir.path().join("d");
        fs::create_dir(&directory).unwrap();
        let (path, other) = (directory.join("a"), dir.path().join("b"));
        let mut file = disk.create(&path).unwrap();
        file.write_all(b"four").unwrap();
        let id = file.identity().unwrap();
        let look = || changed(&disk, &path, &id, 4..=4);
        assert_eq!(look(), None);
        fs::hard_link(&path, &other).unwrap();
        assert_eq!(look(), Some(Changed::Links(2)));
        fs::remove_file(&other).unwrap();
        file.cut(3).unwrap();
        assert_eq!(look(), Some(Changed::Length(3)));
        file.write_all(b"r").unwrap();
        assert_eq!(look(), None);
        // The inode's last name goes, and nobody has it open any more: its number is given again.
        drop(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(look(), Some(Changed::Missing));
        fs::write(&path, "four").unwrap();
        assert_eq!(look(), Some(Changed::Other));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(look(), Some(Changed::Kind(NotRegular("a symbolic link"))));
        fs::rename(&directory, &other).unwrap();
        std::os::unix::fs::symlink(&other, &directory).unwrap();
        assert_eq!(look(), Some(Changed::Directory));
    }
}
