//! A bounded number of open files.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use lru::LruCache;

use crate::route::SessionId;
use crate::storage::{Identity, Storage, StoredFile};

/// Descriptors left to the rest of the program: sockets, logs, the signal pipe, the manifest,
/// commands, a directory being read.
const RESERVED: u64 = 48;

/// The open files, by session. When there are too many, the one used least recently is closed; it
/// is opened again, to append, when its session has more. A file is flushed before it is closed, so
/// closing loses nothing that its session does not hear of.
#[derive(Debug)]
pub(super) struct OpenFiles {
    storage: Arc<dyn Storage>,
    files: LruCache<SessionId, Box<dyn StoredFile>>,
    /// Sessions whose file failed as it was closed for another, until they ask for it.
    failed: HashMap<SessionId, io::Error>,
    limit: usize,
}

impl OpenFiles {
    /// Makes a set of open files that has at most `limit`.
    pub(super) fn new(storage: Arc<dyn Storage>, limit: usize) -> Self {
        Self { storage, files: LruCache::unbounded(), failed: HashMap::new(), limit: limit.max(1) }
    }

    /// Creates the file of `session`, which must not exist.
    ///
    /// # Errors
    /// The error of `open(2)`; `EEXIST` where the file exists.
    pub(super) fn create(&mut self, session: SessionId, path: &Path) -> io::Result<Identity> {
        self.open(session, |storage| storage.create(path))?;
        self.opened(session)?.identity()
    }

    /// Returns the file of `session`, opened again where it was closed. It has to be the one that
    /// was created, whatever has its name now.
    ///
    /// # Errors
    /// The error of `open(2)`, or that of flushing the file when it was closed.
    pub(super) fn get(
        &mut self,
        session: SessionId,
        path: &Path,
        file: &Identity,
    ) -> io::Result<&mut Box<dyn StoredFile>> {
        if let Some(error) = self.failed.remove(&session) {
            return Err(error);
        }
        if self.files.get(&session).is_none() {
            self.open(session, |storage| match storage.append(path)? {
                found if found.identity()? == *file => Ok(found),
                _ => Err(io::Error::other("another file has its name")),
            })?;
        }
        self.opened(session)
    }

    fn opened(&mut self, session: SessionId) -> io::Result<&mut Box<dyn StoredFile>> {
        self.files.get_mut(&session).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Closes the file of `session`, and gives it away if it was open.
    pub(super) fn take(&mut self, session: SessionId) -> Option<Box<dyn StoredFile>> {
        self.failed.remove(&session);
        self.files.pop(&session)
    }

    fn open(
        &mut self,
        session: SessionId,
        open: impl Fn(&dyn Storage) -> io::Result<Box<dyn StoredFile>>,
    ) -> io::Result<()> {
        while self.files.len() >= self.limit {
            self.close_oldest();
        }
        loop {
            match open(&*self.storage) {
                Ok(file) => {
                    self.files.push(session, file);
                    return Ok(());
                }
                // Others in the process used more than was reserved for them.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE)) && !self.files.is_empty() => {
                    self.close_oldest();
                    self.limit = self.files.len().max(1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn close_oldest(&mut self) {
        if let Some((session, mut file)) = self.files.pop_lru()
            && let Err(error) = file.flush()
        {
            self.failed.insert(session, error);
        }
    }
}

/// Returns the number of files that an output may keep open in a process that may have so many
/// descriptors.
#[must_use]
pub(crate) fn allowed(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(RESERVED).max(1)).unwrap_or(usize::MAX)
}

/// Returns the descriptors that a process needs to keep so many files open.
#[must_use]
pub(crate) fn needed(files: u64) -> u64 {
    files.saturating_add(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_files_are_closed_and_appended_to_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = std::sync::Arc::new(crate::route::Registry::new(10));
        let mut table = crate::route::SessionTable::new(registry);
        let ids: Vec<SessionId> = (0..10)
            .map(|vni| {
                let vni = crate::wire::Vni::new(vni).unwrap();
                let key = crate::session::Session::vxlan(std::net::Ipv6Addr::LOCALHOST, vni);
                table.find_and_count(key, 1, crate::record::Timestamp::from_ns(0))
            })
            .collect();
        let path = |id: SessionId| dir.path().join(id.index().to_string());
        let mut open = OpenFiles::new(Arc::new(crate::storage::Disk::default()), 3);
        let files: Vec<Identity> = ids.iter().map(|id| open.create(*id, &path(*id)).unwrap()).collect();
        assert_eq!(open.files.len(), 3);
        for round in 0..3u8 {
            for (id, file) in ids.iter().zip(&files) {
                open.get(*id, &path(*id), file).unwrap().write_all(&[round]).unwrap();
            }
        }
        for id in &ids {
            assert_eq!(std::fs::read(path(*id)).unwrap(), [0, 1, 2]);
        }
        assert_eq!(open.create(ids[0], &path(ids[0])).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(open.take(ids[0]));
        assert!(open.files.len() <= 3);
        // A file that took its name is not written to.
        std::fs::remove_file(path(ids[0])).unwrap();
        std::fs::write(path(ids[0]), "another's").unwrap();
        assert_eq!(open.get(ids[0], &path(ids[0]), &files[0]).unwrap_err().to_string(), "another file has its name");
    }
}
