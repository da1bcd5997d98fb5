//! The last room of the file system. The archive makes room, but not while it syncs, hashes or salvages a file.

use std::io;
use std::path::Path;
use std::time::Instant;

use crate::archive::MinFree;
use crate::storage::Storage;

/// Half of what is to be left free. What is above it may be used until the archive makes room, so that the two are not at odds.
#[derive(Debug)]
pub(super) struct Reserve {
    min: Option<MinFree>,
    next: Instant,
}

impl Reserve {
    pub(super) fn new(min: Option<MinFree>) -> Self {
        Self { min, next: Instant::now() }
    }

    /// Looks at it, if it is time to.
    ///
    /// # Errors
    /// Where some of it is used.
    pub(super) fn look(&mut self, storage: &dyn Storage, directory: &Path) -> io::Result<()> {
        let Some(min) = self.min else { return Ok(()) };
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        // What cannot be known is not a reason to lose frames.
        let Ok(space) = storage.space(directory) else { return Ok(()) };
        self.next = now + min.look_after(space);
        if space.free >= min.of(space.total) / 2 {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, "less than half of --min-free is free"))
    }
}
