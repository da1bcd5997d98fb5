//! A published capture has a shell command run, with no more rights than that needs.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::evidence::{Algorithm, Capture};

/// Makes `SHELL -c COMMAND vxtap PATH`. The path is `$1` and `VXTAP_FILE`, whatever characters it
/// has.
///
/// A command that mentions neither gets the path as its last argument, and so does one that ends in
/// the name of a function of its own.
///
/// The command's output goes to standard error: standard output has the ledger. The command gets a
/// process group of its own, so that a Ctrl-C meant for the sensor does not end it.
pub(super) fn command(shell: &Path, command: &str, path: &Path, capture: &Capture) -> Command {
    let session = capture.session.as_ref();
    let dropped = capture.dropped.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let script = if takes_path_last(command) { format!("{command} \"$@\"") } else { command.to_owned() };
    let mut shell = Command::new(shell);
    shell
        .args(["-c", &script, "vxtap"])
        .arg(path)
        .env("VXTAP_FILE", path)
        .env("VXTAP_SOURCE", session.map(|session| session.address().to_string()).unwrap_or_default())
        .env("VXTAP_VNI", session.map(|session| session.vni.to_string()).unwrap_or_default())
        .env("VXTAP_NAME", capture.name.as_deref().unwrap_or_default())
        .env("VXTAP_FRAMES", capture.frames.to_string())
        .env("VXTAP_BYTES", capture.bytes.to_string())
        .env("VXTAP_DROPPED", dropped.to_string())
        .env("VXTAP_FIRST", capture.first.to_string())
        .env("VXTAP_LAST", capture.last.to_string())
        .env("VXTAP_FORMAT", &capture.format)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .process_group(0);
    // One of them, as in the line; the others are empty, whatever this process was started with.
    for algorithm in Algorithm::ALL {
        let hash = capture.hash.filter(|hash| hash.algorithm() == algorithm);
        let name = format!("VXTAP_{}", algorithm.key().to_uppercase());
        shell.env(name, hash.map(|hash| hash.to_string()).unwrap_or_default());
    }
    shell
}

/// Says whether a command expects the path as its last argument.
fn takes_path_last(command: &str) -> bool {
    let mentions = ["VXTAP_FILE", "$1", "${1", "$@", "${@", "$*", "${*"];
    !mentions.iter().any(|mention| command.contains(mention)) || calls_own_function(command)
}

/// Says whether the last word of a command is the name of a function that the command defines.
/// Inside the function `$1` is an argument of the call.
fn calls_own_function(command: &str) -> bool {
    let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = command.rsplit(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
    let is_definition = |at: usize| {
        let (before, rest) = command.split_at(at);
        let rest = rest.strip_prefix(name).unwrap_or_default().trim_start();
        !before.ends_with(is_part_of_name)
            && rest.strip_prefix('(').is_some_and(|rest| rest.trim_start().starts_with(')'))
    };
    !name.is_empty()
        && name.chars().all(is_part_of_name)
        && command.match_indices(name).any(|(at, _)| is_definition(at))
}

/// Has what this thread starts run without the capabilities that it would take over from here: the
/// inheritable ones, and with these the ambient ones (`capabilities(7)`). A thread keeps its own.
/// A command that root starts is root's, with all that root may do.
///
/// # Errors
/// The system refuses `capget(2)` or `capset(2)`.
pub(super) fn shed_capabilities() -> io::Result<()> {
    let sets = capabilities(None)?;
    if !sets.inheritable.is_empty() {
        set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..sets })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_put_behind_what_does_not_ask_for_it() {
        for asks in [
            "aws s3 cp \"$1\" s3://bucket/",
            "aws s3 cp \"${1}\" s3://bucket/ && echo done",
            "gzip -k -- \"$@\"",
            "cp $* /elsewhere",
            "cp \"$VXTAP_FILE\" /elsewhere",
            "index \"${VXTAP_FILE}\"; upload",
            "my_f() { cp \"$1\" /elsewhere; }; my_f \"$1\"",
            "my_f() { cp \"$1\" /elsewhere; }; f",
            "f \"$1\"; f",
            "cp \"$1\" /elsewhere;",
        ] {
            assert!(!takes_path_last(asks), "{asks}");
        }
        for other in [
            "/usr/local/bin/upload",
            "upload --to s3://bucket",
            "cd /elsewhere && index",
            "upload() { aws s3 cp --only-show-errors \"$1\" s3://evidence/; }; upload",
            "f () { cp \"$1\" /elsewhere\n}\nf",
            "true",
            "exit 3;",
            "(",
        ] {
            assert!(takes_path_last(other), "{other}");
        }
    }
}
