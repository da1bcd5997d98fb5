//! All threads of the process give up capabilities.
//!
//! `capset(2)` is of the thread that calls it. So a signal has each of the others call it, as C
//! libraries do for `setuid(2)`. A thread that waits in the kernel does so meanwhile, and waits on.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A thread does as it is told within this time. It takes long where one waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// Threads may come while others are told.
const ROUNDS: usize = 10;

/// The capabilities that are kept.
static KEPT: AtomicU64 = AtomicU64::new(0);
/// The last thread that has given up the others.
static DONE: AtomicI32 = AtomicI32::new(0);

/// `struct __user_cap_header_struct`, include/uapi/linux/capability.h
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Has all threads keep these capabilities alone, by bits, and pass on none.
///
/// # Errors
/// This thread does not have all of them, or another does not answer.
pub(crate) fn keep_capabilities(kept: u64) -> io::Result<()> {
    KEPT.store(kept, Ordering::Release);
    if keep() != 0 {
        return Err(io::Error::last_os_error());
    }
    let signal = libc::SIGRTMAX() - 1;
    listen(signal)?;
    let mut told = vec![current()];
    for _ in 0..ROUNDS {
        let new: Vec<i32> = threads()?.into_iter().filter(|thread| !told.contains(thread)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            tell(thread, signal)?;
            told.push(thread);
        }
    }
    Ok(())
}

/// Calls a function of this file when the signal comes.
fn listen(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid value of this C struct: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the action is initialized, and its function does only what may be done in a signal
    // handler: it calls the kernel, and reads and writes atomics.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: each thread has such a place, for as long as it lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is of this thread, which is here and nowhere else.
    let before = unsafe { place.read() };
    if keep() == 0 {
        DONE.store(current(), Ordering::Release);
    }
    // SAFETY: as above. What the thread was at finds the number as it was.
    unsafe { place.write(before) };
}

/// Has this thread keep the capabilities that are to be kept. Returns what capset(2) does.
fn keep() -> libc::c_long {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let kept = KEPT.load(Ordering::Acquire);
    let header = Header { version: VERSION, pid: 0 };
    let [low, high] = [kept & u64::from(u32::MAX), kept >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let data = [low, high].map(|kept| Data { effective: kept, permitted: kept, inheritable: 0 });
    // SAFETY: the kernel reads a header and two halves of the sets, as this version has them.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }
}

/// Returns the number of this thread.
fn current() -> libc::pid_t {
    // SAFETY: the call has no condition.
    unsafe { libc::gettid() }
}

/// Returns the numbers of the threads of this process.
fn threads() -> io::Result<Vec<i32>> {
    let number = |name: std::ffi::OsString| name.to_str()?.parse().ok();
    fs::read_dir("/proc/self/task")?
        .filter_map(|entry| entry.map(|entry| number(entry.file_name())).transpose())
        .collect()
}

/// Sends the signal to a thread, and waits until it has done as it is told, or is no more.
fn tell(thread: i32, signal: libc::c_int) -> io::Result<()> {
    let process = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    DONE.store(0, Ordering::Release);
    let end = Instant::now() + PATIENCE;
    // SAFETY: sending a signal touches no memory of this process; the handler is as `listen` says.
    let sent = |signal: libc::c_int| unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) } == 0;
    if !sent(signal) {
        return Ok(());
    }
    while DONE.load(Ordering::Acquire) != thread {
        if !sent(0) {
            return Ok(());
        }
        if end < Instant::now() {
            return Err(io::Error::other(format!("the thread {thread} does not answer")));
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
