//! Says whether the kernel could write what it was given.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Fails where bytes of the file could not be written to the disk, and no open file was told of it
/// before (sync_file_range(2); the kernel's `file_check_and_advance_wb_err`). It waits for what is
/// being written, and begins nothing.
///
/// # Errors
/// The error that writing the bytes ended with.
pub(crate) fn check(file: &File) -> io::Result<()> {
    // SAFETY: The call takes no pointer, and `file` keeps its descriptor open.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WAIT_BEFORE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_be_written_is_well_and_a_pipe_is_no_file() {
        let file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut &file, b"bytes").unwrap();
        check(&file).unwrap();
        let (read, _write) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(read));
        assert_eq!(check(&pipe).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    }
}
