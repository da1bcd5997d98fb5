//! What is in force in a sensor, as the kernel says it.

use procfs::process::Status;
use serde::{Deserialize, Serialize};

use super::capabilities;
use super::mode::Mode;
use super::threads::threads;

/// What is in force in a sensor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What was asked for.
    pub mode: Mode,
    /// The version of Landlock's rules that are in force; none where there are none.
    pub landlock: Option<u32>,
    /// True where no program that it starts could have more rights.
    pub no_new_privs: bool,
    /// True where a filter of system calls is in force.
    pub seccomp: bool,
    /// The capabilities that some thread has, as `cap_net_admin`.
    pub capabilities: Vec<String>,
    /// What could not be put in force, each in a few words.
    pub missing: Vec<String>,
}

impl State {
    /// Asks the kernel what is in force in this process. Of Landlock it does not tell: `landlock`
    /// says what was put in force.
    pub(super) fn read(mode: Mode, landlock: Option<u32>, missing: Vec<String>) -> Self {
        let threads = threads().unwrap_or_default();
        let capabilities = threads.iter().fold(0, |all, thread| all | thread.capprm);
        let in_all = |is_so: fn(&Status) -> bool| !threads.is_empty() && threads.iter().all(is_so);
        Self {
            mode,
            landlock,
            no_new_privs: in_all(|thread| thread.nonewprivs == Some(1)),
            seccomp: in_all(|thread| thread.seccomp.is_some_and(|mode| mode > 0)),
            capabilities: capabilities::names(capabilities),
            missing,
        }
    }

    /// Says in a line what is in force.
    #[must_use]
    pub fn describe(&self) -> String {
        let landlock = self.landlock.map_or("no Landlock".into(), |version| format!("Landlock {version}"));
        let seccomp = if self.seccomp { "system calls are filtered" } else { "system calls are not filtered" };
        let capabilities = match &*self.capabilities {
            [] => "no capability".to_owned(),
            some => some.join(", "),
        };
        let privileges = if self.no_new_privs { "" } else { ", can get new privileges" };
        format!("{landlock}, {seccomp}, {capabilities}{privileges}")
    }
}
