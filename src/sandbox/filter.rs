//! A filter lets the sensor make the system calls that it needs, and no others.
//!
//! What is not let through fails with `EPERM`, and does not end the process: a library that comes
//! to make a new call is to go on without it. `clone3(2)` has its flags in memory, where a filter
//! cannot read them, and fails with `ENOSYS`, so that threads are made by `clone(2)`.

use std::collections::BTreeMap;
use std::io;

use libc::{SYS_bpf, SYS_clone, SYS_clone3, SYS_ioctl, SYS_mmap, SYS_mprotect, SYS_prctl, SYS_prlimit64, SYS_socket};
use libc::{SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_tgkill, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::needs::Needs;
use crate::sys::seccomp;

/// Calls that need no condition.
const PLAIN: &[c_long] = &[
    // Datagrams, questions, netlink
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Waiting
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Files
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    // Of a file that is open, which its rules were asked for
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Rings that are there
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Memory
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // The process
    // How the process that runs commands has ended
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_capget,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_umask,
];

/// Calls of old that x86-64 has beside these.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_link,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_accept,
    libc::SYS_getrlimit,
    libc::SYS_getpgrp,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[libc::SYS_accept, libc::SYS_getrlimit];

/// What may be asked of an open device, terminal or socket.
const IOCTLS: &[u64] = &[
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::TUNSETIFF,
    libc::TUNGETIFF,
    libc::TUNSETOFFLOAD,
    libc::TUNSETSNDBUF,
    libc::TUNSETPERSIST,
    libc::TUNGETFEATURES,
    libc::TUNSETQUEUE,
    /* SIOCGIFNAME */ 0x8910,
    /* SIOCGIFFLAGS */ 0x8913,
    /* SIOCGIFMTU */ 0x8921,
    /* SIOCGIFHWADDR */ 0x8927,
    /* SIOCGIFINDEX */ 0x8933,
    /* SIOCETHTOOL */ 0x8946,
];

/// What may be asked of prctl(2): names of threads and of memory, what is in force, and what the
/// process was started with.
const PRCTLS: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_SET_VMA as u64,
    libc::PR_GET_THP_DISABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_CAPBSET_READ as u64,
    /* PR_GET_AUXV, which rustix asks for when somebody first needs it */ 0x4155_5856,
];

/// What may be asked of bpf(2): to read and write maps, and to attach and find programs that are
/// loaded. `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF: &[u64] = &[
    /* MAP_LOOKUP_ELEM */ 1, /* MAP_UPDATE_ELEM */ 2, /* MAP_DELETE_ELEM */ 3,
    /* MAP_GET_NEXT_KEY */ 4, /* PROG_ATTACH */ 8, /* PROG_DETACH */ 9,
    /* OBJ_GET_INFO_BY_FD */ 15, /* PROG_QUERY */ 16, /* MAP_LOOKUP_AND_DELETE_ELEM */ 21,
    /* MAP_LOOKUP_BATCH */ 24, /* MAP_LOOKUP_AND_DELETE_BATCH */ 25, /* MAP_UPDATE_BATCH */ 26,
    /* MAP_DELETE_BATCH */ 27, /* LINK_CREATE */ 28, /* LINK_UPDATE */ 29, /* LINK_DETACH */ 34,
];

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    /// It cannot be made.
    #[error("the filter of system calls cannot be made: {0}")]
    Make(#[from] BackendError),
    /// The kernel does not take it.
    #[error("seccomp: {0}")]
    Install(#[from] io::Error),
}

/// Puts the filter in force for all threads of the process.
///
/// # Errors
/// The kernel has no such filters, or takes none from this process.
pub(super) fn install(needs: &Needs) -> Result<(), FilterError> {
    // Of two filters the one that refuses counts. Each new thread is refused once before it is
    // made, of which nobody is to hear.
    let missing = [(SYS_clone3, Vec::new())].into();
    let errno = |error: i32| SeccompAction::Errno(error.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let missing: BpfProgram =
        SeccompFilter::new(missing, SeccompAction::Allow, errno(libc::ENOSYS), arch)?.try_into()?;
    let refused: BpfProgram =
        SeccompFilter::new(rules(needs)?, errno(libc::EPERM), SeccompAction::Allow, arch)?.try_into()?;
    seccomp::install(&missing, false)?;
    seccomp::install(&refused, true)?;
    Ok(())
}

fn rules(needs: &Needs) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let plain = PLAIN.iter().chain(OLD).chain([&SYS_clone3]);
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = plain.map(|call| (*call, Vec::new())).collect();
    let [unix, netlink] = [libc::AF_UNIX, libc::AF_NETLINK].map(|family| u64::from(family.unsigned_abs()));
    rules.insert(SYS_socket, one_of(0, &[unix, netlink])?);
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    for call in [SYS_mmap, SYS_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    rules.insert(SYS_ioctl, one_of(1, IOCTLS)?);
    // What is sent so is a connection by another name.
    let connects = u64::from(libc::MSG_FASTOPEN.unsigned_abs());
    for (call, flags) in [(SYS_sendto, 3), (SYS_sendmsg, 2), (SYS_sendmmsg, 3)] {
        rules.insert(call, vec![rule(flags, SeccompCmpOp::MaskedEq(connects), 0)?]);
    }
    rules.insert(SYS_prctl, one_of(0, PRCTLS)?);
    // Limits are read, and threads of this process get signals.
    rules.insert(SYS_prlimit64, vec![long(2, SeccompCmpOp::Eq, 0)?]);
    rules.insert(SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    if needs.program || needs.interfaces {
        rules.insert(SYS_bpf, one_of(0, BPF)?);
    }
    Ok(rules)
}

/// Lets a call through where an argument has one of these values.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| rule(argument, SeccompCmpOp::Eq, *value)).collect()
}

/// Lets a call through where an argument of 32 bits is so.
fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?])
}

/// Lets a call through where an argument of 64 bits is so.
fn long(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value)?])
}
