//! The names of the archive itself are to survive a loss of power.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::storage::Storage;

/// Makes the manifest's name survive a loss of power, and those of `directory` and of what may have
/// been created above it.
pub(super) fn sync(storage: &dyn Storage, directory: &Path) {
    let synced = fs::canonicalize(directory).and_then(|path| {
        let device = fs::metadata(&path)?.dev();
        storage.sync_directory(&path)?;
        for above in path.ancestors().skip(1) {
            // What another file system holds, or this user cannot read, was there before.
            if fs::metadata(above)?.dev() != device {
                break;
            }
            match storage.sync_directory(above) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        Ok(())
    });
    if let Err(error) = synced {
        tracing::error!(path = %directory.display(), %error, "cannot sync the directory: a loss of power may take it away");
    }
}
