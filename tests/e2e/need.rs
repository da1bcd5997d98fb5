//! A test asks here for what it needs of the host.

use std::env;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use aya::util::KernelVersion;

pub(crate) use crate::host::corpus;
use crate::{host, netns};

/// Says whether a test can run that needs namespaces and these programs. Says why not; with `CI`
/// set it fails instead.
#[must_use]
pub(crate) fn programs(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| !is_installed(name));
    match (namespaces(), missing) {
        (Err(why), _) => skip(why),
        (Ok(()), Some(name)) => skip(&format!("{name} is not installed")),
        (Ok(()), None) => true,
    }
}

/// Says that a test cannot run here, for a reason that only trying shows; with `CI` set it fails
/// instead.
pub(crate) fn cannot(why: &str) {
    host::skip(why);
}

/// Says that part of a test cannot run on this kernel, which is as its configuration is, in CI too.
pub(crate) fn part_is_left_out(why: &str) {
    host::say("left out in part", why);
}

/// Says whether this is Linux `major`.`minor` or later.
pub(crate) fn is_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().unwrap() >= KernelVersion::new(major, minor, 0)
}

fn skip(why: &str) -> bool {
    host::skip(why);
    false
}

fn namespaces() -> Result<(), &'static str> {
    static ANSWER: OnceLock<Result<(), &'static str>> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root");
        }
        if !is_installed("ip") {
            return Err("ip is not installed");
        }
        netns::probe().map_err(|()| "ip netns add fails here")
    })
}

fn is_installed(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// Says whether this command succeeds, without a word.
#[must_use]
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
