//! The limit of a file's size that the process has is read and named here.

use std::io;

use rustix::process::{Resource, getrlimit};

/// Returns how many bytes a file of this process can have at most; none where there is no limit.
#[must_use]
pub(crate) fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Puts an error of a storage into words; where a limit is the reason, the words name the limit.
#[must_use]
pub(crate) fn explain(error: &io::Error) -> String {
    match file_size_limit() {
        Some(limit) if error.kind() == io::ErrorKind::FileTooLarge => {
            format!("{error} (RLIMIT_FSIZE, `ulimit -f`, LimitFSIZE= of a unit: {limit} bytes)")
        }
        _ => error.to_string(),
    }
}
