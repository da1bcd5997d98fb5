//! A small file that the user names is read here, and nothing else is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, stat};

use super::regular::NotRegular;

/// A file that is larger than it can sensibly be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("larger than {0} bytes, which is more than it can sensibly have")]
pub(crate) struct TooLarge(pub usize);

/// Reads the text of a regular file of at most `most` bytes. The path may lead there by symbolic
/// links, as those of programs that manage configurations do.
///
/// # Errors
/// The error of `open(2)` or `read(2)`. Within it is [`NotRegular`] where the path is not that of a
/// file, [`TooLarge`] where the file is longer, `InvalidData` where it is not UTF-8.
pub(crate) fn read_small(path: &Path, most: usize) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8");
    String::from_utf8(read_small_bytes(path, most)?).map_err(not_text)
}

/// Reads the bytes of such a file.
///
/// # Errors
/// As those of [`read_small`], whatever the bytes are.
pub(crate) fn read_small_bytes(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let check = |mode| NotRegular::of(FileType::from_raw_mode(mode)).map_err(io::Error::other);
    // The kind is asked for before the file is opened: opening a device can set something off.
    check(stat(path)?.st_mode)?;
    // These flags are for the case that it has become something else meanwhile: nobody waits for
    // the writer of a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    check(fstat(&file)?.st_mode)?;
    let mut bytes = Vec::new();
    // One more byte shows that there is more, whatever length the file says that it has.
    file.take((most as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(TooLarge(most)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat, symlinkat};
    use std::fs;

    #[test]
    fn a_regular_file_of_a_bounded_length_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "0123456789").unwrap();
        symlinkat("file", CWD, at("link")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlinkat("pipe", CWD, at("to-pipe")).unwrap();
        fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read_small(&at(name), 10).unwrap(), "0123456789");
        }
        let fails = |path: &Path| read_small(path, 9).unwrap_err().to_string();
        assert_eq!(fails(&at("file")), "larger than 9 bytes, which is more than it can sensibly have");
        assert_eq!(fails(&at("pipe")), "not a regular file but a named pipe");
        assert_eq!(fails(&at("to-pipe")), "not a regular file but a named pipe");
        assert_eq!(fails(Path::new("/dev/zero")), "not a regular file but a device");
        assert_eq!(fails(dir.path()), "not a regular file but a directory");
        assert_eq!(fails(&at("binary")), "it is not text in UTF-8");
        // This file has no length of its own, and is read all the same.
        assert!(read_small(Path::new("/proc/self/status"), 1 << 16).unwrap().contains("VmPeak"));
        assert_eq!(read_small(&at("missing"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
