//! A regular file is opened here, and nothing else.
//!
//! Names in a directory of captures may be others' to give: a symbolic link leads to a file that is
//! not ours, and whoever opens a pipe waits until somebody opens its other end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Something has the name of a file and is none; the text says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a regular file but {0}")]
pub struct NotRegular(pub &'static str);

impl NotRegular {
    /// Refuses a kind that is not a regular file, and says what it is.
    pub(super) fn of(kind: FileType) -> Result<(), Self> {
        Err(NotRegular(match kind {
            FileType::RegularFile => return Ok(()),
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a named pipe",
            FileType::Directory => "a directory",
            FileType::Socket => "a socket",
            _ => "a device",
        }))
    }
}

/// Opens a regular file in `directory`, with these `flags`.
pub(super) fn open_regular_at(
    directory: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> io::Result<File> {
    let check = |mode| NotRegular::of(FileType::from_raw_mode(mode)).map_err(io::Error::other);
    if !flags.contains(OFlags::EXCL) {
        // The kind is asked for before the file is opened: opening a device can set something off.
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            found => check(found?.st_mode)?,
        }
    }
    // These flags are for the case that somebody exchanges the file now.
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(&directory, name, flags | safe, mode)?);
    check(fstat(&file)?.st_mode)?;
    // The kernel does not heed `O_NONBLOCK` for regular files, but a file system in user space may.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::fs::CWD;

    use super::*;
    use rustix::fs::{mknodat, symlinkat};
    use std::fs;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlinkat("file", CWD, at("link")).unwrap();
        symlinkat("nowhere", CWD, at("dangling")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let write = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        for (name, what) in [
            ("directory", "a directory"),
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
        ] {
            for flags in [OFlags::RDONLY, write] {
                let error = open_regular_at(CWD, &*at(name), flags, Mode::RUSR).unwrap_err();
                assert_eq!(error.to_string(), format!("not a regular file but {what}"), "{name}, {flags:?}");
            }
        }
        // A pipe that somebody reads can be opened for writing.
        let _reader = rustix::fs::open(at("pipe"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let error = open_regular_at(CWD, &*at("pipe"), write, Mode::RUSR).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file but a named pipe");
        assert!(!at("nowhere").exists());
        let read = |path: &Path| open_regular_at(CWD, path, OFlags::RDONLY, Mode::empty());
        assert_eq!(read(Path::new("/dev/null")).unwrap_err().to_string(), "not a regular file but a device");
        assert_eq!(read(&at("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = read(&at("file")).unwrap();
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
    }
}
