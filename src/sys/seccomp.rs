//! Filters of system calls are put in force here: `seccomp(2)`.

use std::io;

use seccompiler::sock_filter;

/// Puts a filter in force for all threads of the process, which has `no_new_privs`. Where `log` is
/// true the kernel's log has what it refuses.
///
/// # Errors
/// `ENOSYS`, `EINVAL`: the kernel has no such filters. `EPERM`, `EACCES`: the process may not have
/// them. `ESRCH`: a thread has filters of its own.
pub(crate) fn install(program: &[sock_filter], log: bool) -> io::Result<()> {
    // Without this flag kernels before 5.16 slow the process down, for fear of what it might run.
    let mut flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if log {
        flags |= libc::SECCOMP_FILTER_FLAG_LOG;
    }
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies `length` instructions from `program`, which lives until the return,
    // and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    match result {
        0 => Ok(()),
        n if n < 0 => Err(io::Error::last_os_error()),
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
