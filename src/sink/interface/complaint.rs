//! A complaint says what is wrong with an interface and cannot be mended by this process.

use std::fmt;
use std::io;

/// Something about an interface that is not as it should be and that the process may not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The fault, in half a sentence.
    pub what: String,
    /// The command to run about it, as root.
    pub command: String,
    /// True where no frame is to enter the interface until that is done.
    pub closes: bool,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; as root: {}", self.what, self.command)
    }
}

/// Says whether this failure is for want of privilege, or of a writable /proc, as in a container.
pub(super) fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
}
