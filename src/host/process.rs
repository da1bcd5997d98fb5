//! The kernel that runs lets this process do some things and not others.

use std::fs;

use aya::util::KernelVersion;
use procfs::process::Process;

/// A right that the kernel gives or withholds; its number in `/proc/self/status`
/// (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Capability {
    /// Ports below 1024.
    NetBindService = 10,
    /// Interfaces, and receive buffers beyond the usual.
    NetAdmin = 12,
    /// Raw sockets.
    NetRaw = 13,
    /// All that the others below give, and more.
    SysAdmin = 21,
    /// A verifier of programs that is less strict.
    Perfmon = 38,
    /// Programs and their maps.
    Bpf = 39,
}

impl Capability {
    /// The capabilities that loading and attaching programs takes.
    ///
    /// Without CAP_PERFMON the verifier also follows what a processor might only guess at, and
    /// refuses pointers to where a header may begin.
    pub(crate) const PROGRAMS: [Self; 3] = [Self::Bpf, Self::NetAdmin, Self::Perfmon];

    /// Returns those of which each gives this one.
    pub(crate) const fn givers(self) -> &'static [Self] {
        match self {
            Self::NetBindService => &[Self::NetBindService],
            Self::NetAdmin => &[Self::NetAdmin],
            Self::NetRaw => &[Self::NetRaw],
            Self::SysAdmin => &[Self::SysAdmin],
            Self::Perfmon => &[Self::Perfmon, Self::SysAdmin],
            Self::Bpf => &[Self::Bpf, Self::SysAdmin],
        }
    }

    /// Returns its name.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// The capabilities that a process may use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// Reads those of this process; `None` where nobody tells.
    #[must_use]
    pub(crate) fn effective() -> Option<Self> {
        let status = Process::myself().and_then(|process| process.status());
        status.map(|status| Self(status.capeff)).ok()
    }

    /// Returns a set of these.
    #[cfg(test)]
    pub(crate) fn of(these: &[Capability]) -> Self {
        Self(these.iter().map(|one| 1u64 << *one as u32).sum())
    }

    /// Says whether this one is among them, or one that stands for it.
    #[must_use]
    pub(crate) fn has(self, one: Capability) -> bool {
        one.givers().iter().any(|giver| self.0 >> *giver as u32 & 1 == 1)
    }
}

/// Returns the release of the kernel that runs; `None` where nobody tells.
#[must_use]
pub(crate) fn release() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|release| release.trim().to_owned())
}

/// Returns the release of the kernel where it is older than `major.minor`; `None` also where nobody
/// tells.
#[must_use]
pub(crate) fn kernel_before(major: u8, minor: u8) -> Option<String> {
    let is_older = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(major, minor, 0));
    is_older.then(|| release().unwrap_or_default())
}

/// Returns the capabilities that this process lacks to load and attach programs; none where nobody
/// tells.
#[must_use]
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    Capabilities::effective().map(missing).unwrap_or_default()
}

/// Returns the capabilities that a process with these lacks to load and attach programs.
fn missing(effective: Capabilities) -> Vec<&'static str> {
    Capability::PROGRAMS.into_iter().filter(|one| !effective.has(*one)).map(Capability::name).collect()
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
        use Capability::{Bpf, NetAdmin, Perfmon, SysAdmin};
        let missing = |these: &[Capability]| missing(Capabilities::of(these));
        assert_eq!(missing(&[]), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(&[Bpf]), ["CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(&[NetAdmin, Perfmon]), ["CAP_BPF"]);
        assert_eq!(missing(&[Bpf, NetAdmin]), ["CAP_PERFMON"]);
        assert!(missing(&[Bpf, NetAdmin, Perfmon]).is_empty());
        assert!(missing(&[SysAdmin, NetAdmin]).is_empty());
    }
}
