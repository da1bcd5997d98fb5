//! The directory that captures go to has to be one that files can be created in.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::{Disk, Storage, probe};

/// The reason why a directory cannot take captures.
#[derive(Debug, thiserror::Error)]
#[error("cannot write captures to {directory}: {error}; {advice}", directory = directory.display())]
pub struct DirectoryError {
    directory: PathBuf,
    error: io::Error,
    advice: &'static str,
}

/// The advice about /proc and its like, and about what `chattr +i` protects from everybody.
const NO_PLACE: &str =
    "that is no place for files: a virtual file system, or marked immutable; name another with --write";

/// The advice about a mount that is read-only, for all or, by the protection of a unit, for this
/// process alone.
const READ_ONLY: &str = "it is read-only for this process: name another with --write, or in a unit of systemd allow this one \
                         (`systemctl edit` the unit: [Service] ReadWritePaths=DIR)";

/// Creates `directory` where it is missing and proves that files can be created in it.
///
/// # Errors
/// The error of the file system, and what to do.
pub(crate) fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    let fail = |error: io::Error| {
        let advice = match error.kind() {
            _ if error.raw_os_error() == Some(libc::EPERM) => NO_PLACE,
            // Directories that are missing above it would have been created.
            io::ErrorKind::NotFound => NO_PLACE,
            io::ErrorKind::PermissionDenied => "make it writable for this user, or name another with --write",
            io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or name another with --write",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "part of that path is a file; name another with --write"
            }
            _ => "name another with --write",
        };
        DirectoryError { directory: directory.to_path_buf(), error, advice }
    };
    Disk::default().create_directory(directory).map_err(fail)?;
    probe(directory).map_err(fail)
}
