//! A socket has a file that others find it by, which only its owner and root may open.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, open, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::error::{DoorError, LONGEST};

/// Connections that wait to be accepted.
const WAITING: i32 = 64;
/// The time for which another program that is making a socket in the directory is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file of a socket that this program listens at. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file.
    made: (u64, u64),
    /// Holds the file, so that no other gets its number.
    _held: OwnedFd,
}

/// Listens at a socket that only the user of this process and root may connect to.
///
/// A socket that nobody listens at any more is replaced. The directory is locked meanwhile, so that
/// of two programs that come at once one sees the other.
///
/// # Errors
/// Something else is there, as a link, which is never followed; another program listens, or has
/// locked the directory; or the directory does not let us.
pub(super) fn listen_at(path: &Path) -> Result<(UnixListener, SocketFile), DoorError> {
    let cannot = |error: Errno| DoorError::Socket { path: path.to_owned(), error: error.into() };
    if path.as_os_str().as_bytes().len() > LONGEST {
        return Err(DoorError::Long(path.to_owned()));
    }
    let _locked = lock(path).map_err(|error| match error {
        Errno::WOULDBLOCK => DoorError::Locked(path.to_owned()),
        error => cannot(error),
    })?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let listener = socket().map_err(cannot)?;
    // The file that bind makes has the permissions that the socket has, so it never has others.
    fchmod(&listener, Mode::RUSR | Mode::WUSR).map_err(cannot)?;
    let address = SocketAddrUnix::new(path).map_err(cannot)?;
    let bound = match bind(&listener, &address) {
        Err(Errno::ADDRINUSE) => {
            let found = look(path).map_err(cannot)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
                return Err(DoorError::Taken(path.to_owned()));
            }
            match connect(&socket().map_err(cannot)?, &address) {
                Err(Errno::CONNREFUSED) => {
                    fs::remove_file(path).map_err(|error| DoorError::Socket { path: path.to_owned(), error })?
                }
                // A queue that is full is somebody's, too.
                Ok(()) | Err(Errno::AGAIN) => return Err(DoorError::Lives(path.to_owned())),
                Err(error) => return Err(cannot(error)),
            }
            bind(&listener, &address)
        }
        bound => bound,
    };
    bound.map_err(cannot)?;
    let found = look(path).map_err(cannot)?;
    let held = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(cannot)?;
    let file = SocketFile { path: path.to_owned(), made: (found.st_dev, found.st_ino), _held: held };
    listen(&listener, WAITING).map_err(cannot)?;
    Ok((listener.into(), file))
}

/// Looks at what is at `path` itself, and not behind a link.
fn look(path: &Path) -> Result<Stat, Errno> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
}

/// Locks the directory of `path`, until the descriptor is dropped.
fn lock(path: &Path) -> Result<OwnedFd, Errno> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            locked => return locked.map(|()| directory),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _locked = lock(&self.path);
        // Somebody may have put another file there.
        if look(&self.path).is_ok_and(|found| (found.st_dev, found.st_ino) == self.made) {
            let removed: io::Result<()> = fs::remove_file(&self.path);
            if let Err(error) = removed {
                tracing::warn!("cannot remove {}: {error}", self.path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_the_owner_may_connect_and_the_file_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let (listener, file) = listen_at(&path).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let refused = listen_at(&path).unwrap_err().to_string();
        assert!(refused.contains("a sensor is there already"), "{refused}");
        // A listener that has gone without its file, as one that was killed.
        drop(listener);
        let (_second, new) = listen_at(&path).unwrap();
        drop(file);
        assert!(path.exists(), "the file of another stays");
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_else_is_replaced_or_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name| directory.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        symlink(at("nowhere"), at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["file", "link", "directory"] {
            assert!(matches!(listen_at(&at(name)), Err(DoorError::Taken(_))), "{name}");
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");
        assert!(!at("nowhere").exists());
        let missing = listen_at(&at("missing/control")).unwrap_err().to_string();
        assert!(missing.contains("No such file or directory"), "{missing}");
        let long = listen_at(&at(&"x".repeat(LONGEST))).unwrap_err().to_string();
        assert!(long.contains("longer than 107 bytes"), "{long}");
    }

    #[test]
    fn a_directory_that_is_locked_is_named_as_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let _others = lock(&path).unwrap();
        let locked = listen_at(&path).unwrap_err().to_string();
        assert!(locked.contains("another program has locked the directory"), "{locked}");
    }
}
