//! A manifest may have a second name, as a snapshot made of hard links (`cp -al`) gives it.
//!
//! A line that is appended to the manifest would be appended to the snapshot, and a torn line cut
//! off. So the manifest's name gets a copy, before anything is written, and the snapshot keeps the
//! file as it was.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown};

use crate::evidence::lock;
use crate::storage::{Storage, StoredFile, changed};

/// The ending of the copy until it has the name.
const COPY: &str = ".copy";

/// Returns how many names a file has.
pub(super) fn names(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.nlink())
}

/// Gives `path`, which is the name of `old`, a file of its own, with `content`. Returns the new
/// file, to append to and locked.
pub(super) fn copy(
    storage: &dyn Storage,
    path: &Path,
    old: &File,
    content: impl Read,
) -> io::Result<(Box<dyn StoredFile>, File)> {
    try_to_copy(storage, path, old, content).map_err(|error| {
        let names = old.metadata().map_or(0, |old| old.nlink());
        io::Error::new(
            error.kind(),
            format!("it has {names} names, as in a snapshot made of hard links, which is not written to, and cannot be copied: {error}"),
        )
    })
}

fn try_to_copy(
    storage: &dyn Storage,
    path: &Path,
    old: &File,
    mut content: impl Read,
) -> io::Result<(Box<dyn StoredFile>, File)> {
    let mut name = path.as_os_str().to_owned();
    name.push(COPY);
    let copy = Path::new(&name);
    // A copy that is there was left by a crash.
    if storage.exists(copy)? {
        storage.remove(copy)?;
    }
    let result = (|| {
        let mut new = storage.create(copy)?;
        let length = io::copy(&mut content, &mut new)?;
        new.sync()?;
        let identity = new.identity()?;
        drop(new);
        let (file, locked) = (storage.log(copy)?, storage.open(copy, OFlags::RDWR)?);
        if file.identity()? != identity || changed(storage, copy, &identity, length..=length).is_some() {
            return Err(io::Error::other("somebody changed the copy"));
        }
        let former = old.metadata()?;
        // The copy belongs to whom the file belonged, where this user may give it away, and the
        // same may read it.
        let _ = fchown(&locked, Some(Uid::from_raw(former.uid())), Some(Gid::from_raw(former.gid())));
        fchmod(&locked, Mode::from_raw_mode(former.mode()))?;
        // A file system without locks was told of at the start.
        let _ = lock::try_lock(&locked);
        storage.replace(copy, path)?;
        Ok((file, locked))
    })();
    if result.is_err() {
        let _ = storage.remove(copy);
    }
    result
}
