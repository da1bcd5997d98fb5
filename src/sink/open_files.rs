//! A bounded number of open files.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use lru::LruCache;

use crate::route::SessionId;

/// Descriptors left to the rest of the program: sockets, logs, the signal pipe, a directory being read.
const RESERVED: u64 = 32;

/// Captures hold what people said and typed: nothing for everybody. The umask can only take more away.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Creates `directory` and what is missing above it.
///
/// # Errors
/// What `mkdir(2)` returns.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

/// The open files, by session. When there are too many, the one used least recently is closed; it is opened again, to append, when
/// its session has more. A file holds nothing back: what was written to it is in the kernel, so closing loses nothing.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: LruCache<SessionId, File>,
    limit: usize,
}

impl OpenFiles {
    /// At most `limit` files.
    pub(super) fn new(limit: usize) -> Self {
        Self { files: LruCache::unbounded(), limit: limit.max(1) }
    }

    /// Creates the file of `session`, which must not exist.
    ///
    /// # Errors
    /// What `open(2)` returns; `EEXIST` where the file exists.
    pub(super) fn create(&mut self, session: SessionId, path: &Path) -> io::Result<()> {
        self.open(session, path, OpenOptions::new().append(true).create_new(true).mode(FILE_MODE))
    }

    /// The file of `session`, opened again where it was closed.
    ///
    /// # Errors
    /// What `open(2)` returns.
    pub(super) fn get(&mut self, session: SessionId, path: &Path) -> io::Result<&mut File> {
        if self.files.get(&session).is_none() {
            self.open(session, path, OpenOptions::new().append(true))?;
        }
        self.files.get_mut(&session).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Closes the file of `session`.
    pub(super) fn close(&mut self, session: SessionId) {
        self.files.pop(&session);
    }

    fn open(&mut self, session: SessionId, path: &Path, how: &OpenOptions) -> io::Result<()> {
        while self.files.len() >= self.limit {
            self.files.pop_lru();
            tracing::trace!(limit = self.limit, "a file is closed for another");
        }
        loop {
            match how.open(path) {
                Ok(file) => {
                    self.files.push(session, file);
                    return Ok(());
                }
                // Others in the process used more than was reserved for them.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE)) && !self.files.is_empty() => {
                    self.files.pop_lru();
                    self.limit = self.files.len().max(1);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Raises the descriptor limit to what the host allows, and returns how many files an output may keep open.
#[must_use]
pub fn allowed() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    // Unlimited reads as none.
    let files = current.unwrap_or(1 << 20).saturating_sub(RESERVED).max(1);
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn least_recently_used_files_are_closed_and_appended_to_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = std::sync::Arc::new(crate::route::Registry::new(10));
        let mut table = crate::route::SessionTable::new(registry);
        let ids: Vec<SessionId> = (0..10)
            .map(|vni| {
                let vni = crate::wire::Vni::new(vni).unwrap();
                let key = crate::route::SessionKey { source: std::net::Ipv6Addr::LOCALHOST, vni };
                table.count(key, 1, crate::record::Timestamp::from_ns(0))
            })
            .collect();
        let path = |id: SessionId| dir.path().join(id.index().to_string());
        let mut open = OpenFiles::new(3);
        for id in &ids {
            open.create(*id, &path(*id)).unwrap();
        }
        assert_eq!(open.files.len(), 3);
        for round in 0..3u8 {
            for id in &ids {
                open.get(*id, &path(*id)).unwrap().write_all(&[round]).unwrap();
            }
        }
        for id in &ids {
            assert_eq!(std::fs::read(path(*id)).unwrap(), [0, 1, 2]);
        }
        assert_eq!(open.create(ids[0], &path(ids[0])).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        open.close(ids[0]);
        assert!(open.files.len() <= 3);
    }
}
