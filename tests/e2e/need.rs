//! A test asks here for what it needs of the host.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use aya::util::KernelVersion;

use crate::netns;

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

/// Returns the real captures, where they are.
#[must_use]
pub(crate) fn corpus() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let path = env::var_os("VXTAP_CORPUS").map_or_else(beside, PathBuf::from);
    if path.join("inner").is_dir() {
        return Some(path);
    }
    skip(&format!("no corpus of captures at {}; VXTAP_CORPUS names another place", path.display()));
    None
}

/// Says that a test cannot run here, for a reason that only trying shows; with `CI` set it fails
/// instead.
pub(crate) fn cannot(why: &str) {
    skip(why);
}

/// Says that part of a test cannot run on this kernel, which is as its configuration is, in CI too.
pub(crate) fn part_is_left_out(why: &str) {
    say("left out in part", why);
}

/// Says whether this is Linux `major`.`minor` or later.
pub(crate) fn is_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().unwrap() >= KernelVersion::new(major, minor, 0)
}

fn skip(why: &str) -> bool {
    assert!(env::var_os("CI").is_none(), "nothing may be skipped in CI: {why}");
    say("skipped", why);
    false
}

/// Says why a test does not run, past the test harness, which shows the output of failed tests
/// only.
fn say(what: &str, why: &str) {
    let thread = std::thread::current();
    // In one piece, since other tests say so at the same time.
    let line = format!("{what}: {}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = io::stderr().write_all(line.as_bytes());
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
