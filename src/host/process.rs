//! The kernel that runs lets this process do some things and not others.

use std::fs;

use aya::util::KernelVersion;
use procfs::process::Process;

/// Numbers of capabilities in `/proc/self/status` (capabilities(7)).
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Returns the release of the kernel where it is older than `major.minor`; `None` also where nobody
/// tells.
#[must_use]
pub(crate) fn kernel_before(major: u8, minor: u8) -> Option<String> {
    let is_older = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(major, minor, 0));
    is_older.then(|| fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned())
}

/// Returns the capabilities that this process lacks to load and attach programs; none where nobody
/// tells.
#[must_use]
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    let status = Process::myself().and_then(|process| process.status());
    status.map(|status| missing(status.capeff)).unwrap_or_default()
}

/// Returns the capabilities that a process with these effective ones lacks.
fn missing(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    // Without CAP_PERFMON the verifier also follows what a processor might only guess at, and
    // refuses pointers to where a header may begin.
    let needed = [
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
    ];
    needed.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_older_than_a_later_one() {
        assert_eq!(kernel_before(1, 0), None);
        assert!(kernel_before(250, 0).is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit())));
    }

    #[test]
    fn capabilities_are_named() {
        let bits = |numbers: &[u32]| numbers.iter().map(|n| 1u64 << n).sum::<u64>();
        assert_eq!(missing(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(bits(&[BPF])), ["CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(bits(&[NET_ADMIN, PERFMON])), ["CAP_BPF"]);
        assert_eq!(missing(bits(&[BPF, NET_ADMIN])), ["CAP_PERFMON"]);
        assert!(missing(bits(&[BPF, NET_ADMIN, PERFMON])).is_empty());
        assert!(missing(bits(&[SYS_ADMIN, NET_ADMIN])).is_empty());
    }
}
