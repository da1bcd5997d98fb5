//! Tests of all kinds ask here for the corpus of real captures, and say so where they cannot run.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Returns the folder of the real captures, where they are: `VXTAP_CORPUS` says where, else they
/// are beside the project.
#[must_use]
pub(crate) fn corpus() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let path = env::var_os("VXTAP_CORPUS").map_or_else(beside, PathBuf::from);
    if ["inner", "vxlan"].iter().all(|kind| path.join(kind).is_dir()) {
        return Some(path);
    }
    skip(&format!("no corpus of captures at {}; VXTAP_CORPUS names another place", path.display()));
    None
}

/// Says that a test cannot run here; with `CI` set it fails instead.
pub(crate) fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "nothing may be skipped in CI: {why}");
    say("skipped", why);
}

/// Says why a test does not run, past the test harness, which shows the output of failed tests
/// only.
pub(crate) fn say(what: &str, why: &str) {
    let thread = std::thread::current();
    // In one piece, since other tests say so at the same time.
    let line = format!("{what}: {}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = io::stderr().write_all(line.as_bytes());
}
