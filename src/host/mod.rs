//! A plan depends on facts of this machine. They are read once, at the start, and handed to the
//! planner: a plan for a host of another size is made by handing in other facts.
//!
//! Reading leaves the machine and the process as they are. One thing is changed for the sensor, the
//! limit of open files. It has a function of its own, [`raise_descriptor_limit`].

pub(crate) mod group;
pub(crate) mod port_owner;
pub(crate) mod process;
pub(crate) mod routes;
pub(crate) mod unit;

use std::env;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::thread;

use procfs::Current;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The runtime directory of the service.
const RUNTIME_DIRECTORY: &str = "/run/vxtap";

/// Descriptors of a process whose limit reads as none.
const UNLIMITED: u64 = 1 << 20;

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, which is the scope of a link-local address.
    pub index: u32,
}

/// The facts that a plan has to know about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Memory in bytes that this process may have, of the host's or of its control group's,
    /// whichever is less; `None` where nobody tells.
    pub memory: Option<u64>,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// CPUs that the host can ever have; `None` where nobody tells.
    pub possible_cpus: Option<usize>,
    /// Descriptors that this process may have once its limit is raised.
    pub descriptors: u64,
    /// Says whether the host has IPv6.
    pub ipv6: bool,
    /// The directory for files that a program has while it runs; `None` where there is none.
    pub runtime_directory: Option<PathBuf>,
    /// Says whether a service manager keeps sockets for the next process.
    pub keeps_sockets: bool,
    /// All interfaces; `None` where nobody tells.
    pub interfaces: Option<Vec<Interface>>,
}

impl HostFacts {
    /// Returns the facts of a host that nobody looked at: one that refuses nothing. A plan for it
    /// is wrong only where it were wrong on every host.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            memory: None,
            cpus: 1,
            possible_cpus: None,
            descriptors: UNLIMITED,
            ipv6: true,
            runtime_directory: None,
            keeps_sockets: false,
            interfaces: None,
        }
    }

    /// Returns these facts with the interfaces that there are now. The others are as they were, so
    /// that defaults that follow from them do not differ while a sensor runs.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { interfaces: Some(interfaces()), ..self.clone() }
    }

    /// Reads the facts of this machine.
    #[must_use]
    pub fn read() -> Self {
        Self {
            memory: least(procfs::Meminfo::current().map(|memory| memory.mem_total).ok(), group::memory()),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            possible_cpus: aya::util::nr_cpus().ok(),
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(UNLIMITED),
            // A host without IPv6 cannot make or bind a socket of its kind.
            ipv6: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok(),
            runtime_directory: runtime_directory(),
            keeps_sockets: asks_to_keep_sockets() && has_manager(),
            interfaces: Some(interfaces()),
        }
    }
}

/// Returns the lesser of two, of which nobody may tell either.
pub(crate) fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Reads the interfaces that there are now.
fn interfaces() -> Vec<Interface> {
    let found = pnet::datalink::interfaces().into_iter();
    found.map(|found| Interface { name: found.name, index: found.index }).collect()
}

/// Returns the directory that systemd made for this program (`RuntimeDirectory=`), else the one of
/// the service, if it is there.
#[must_use]
pub fn runtime_directory() -> Option<PathBuf> {
    if let Some(listed) = env::var_os("RUNTIME_DIRECTORY").filter(|listed| !listed.is_empty()) {
        return env::split_paths(&listed).next();
    }
    Some(PathBuf::from(RUNTIME_DIRECTORY)).filter(|directory| directory.is_dir())
}

/// Says whether a service manager is asked to keep sockets for the next process. It does not tell
/// whether it does before systemd 254.
#[must_use]
pub(crate) fn asks_to_keep_sockets() -> bool {
    env::var_os("VXTAP_KEEP_SOCKETS").is_some_and(|value| value == "1")
}

/// Says whether a service manager listens.
#[must_use]
pub(crate) fn has_manager() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// Lets this process have as many descriptors as [`HostFacts::descriptors`] says. Where that fails,
/// the limit stays as it is, and whoever opens files meets it.
pub(crate) fn raise_descriptor_limit() {
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read_and_stays_as_it_is() {
        let before = getrlimit(Resource::Nofile);
        let facts = HostFacts::read();
        assert_eq!(getrlimit(Resource::Nofile), before);
        assert!(facts.memory.is_some_and(|bytes| bytes > 1 << 20) && facts.cpus > 0 && facts.descriptors > 0);
        assert!(facts.possible_cpus.is_some_and(|possible| possible >= facts.cpus));
        assert!(facts.interfaces.iter().flatten().any(|interface| interface.name == "lo" && interface.index == 1));
    }

    #[test]
    fn what_defaults_follow_from_is_as_it_was() {
        let before = HostFacts { cpus: 4711, ipv6: false, ..HostFacts::unknown() };
        let again = before.again();
        assert!(again.interfaces.iter().flatten().any(|interface| interface.name == "lo"));
        assert_eq!(HostFacts { interfaces: None, ..again }, before);
    }
}
