//! The kernel says of each thread what it may do.

use std::io;

use procfs::process::{Process, Status};

/// Returns the status of each thread of this process.
pub(super) fn threads() -> io::Result<Vec<Status>> {
    let tasks = Process::myself().and_then(|this| this.tasks()).map_err(io::Error::other)?;
    // One that ends meanwhile has no status.
    Ok(tasks.flatten().filter_map(|task| task.status().ok()).collect())
}
