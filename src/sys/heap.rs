//! Gives access to the heap of the C library, which zstd uses.

/// Gives memory that has been freed back to the kernel. Memory that lies between allocations in use
/// stays with the process otherwise.
///
/// The call takes the time that the kernel needs to take the pages, and that of a walk over what is
/// free.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    // SAFETY: malloc_trim(3) takes a number, may be called by any thread, and touches only what is
    // not allocated.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
