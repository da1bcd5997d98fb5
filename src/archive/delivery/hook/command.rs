//! A published capture has a shell command run, with no more rights than that needs.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::evidence::{Algorithm, Capture};

/// The shell that runs commands.
pub(super) const SHELL: &str = "/bin/sh";

/// The beginning of the names of all variables that a command is told something by.
pub(super) const PREFIX: &str = "VXTAP_";

/// What one command is to be run for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    /// The command, as it was asked for.
    pub(super) command: Arc<str>,
    /// The place of the capture.
    pub(super) path: PathBuf,
    /// What the command is told by its environment, beside the path.
    pub(super) variables: Vec<(String, String)>,
}

/// The reason for which a command is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    /// The command was never begun, so it is tried again.
    NotBegun(String),
    /// The command has ended, or never can begin.
    Ended(String),
}

impl Errand {
    pub(super) fn new(command: Arc<str>, path: &Path, capture: &Capture) -> Self {
        Self { command, path: path.to_owned(), variables: variables(capture) }
    }

    /// Has the shell run the command, and waits for its end.
    ///
    /// # Errors
    /// It could not be begun, or is no success.
    pub(super) fn run(&self, shell: &Path) -> Result<(), Failure> {
        shed_capabilities().map_err(|error| Failure::NotBegun(format!("cannot take capabilities from it: {error}")))?;
        let mut child = self.command(shell).spawn().map_err(|error| {
            let why = format!("cannot start {}: {error}", shell.display());
            match error.kind() {
                // It is too long, or has a null byte: it is no different the next time.
                io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => Failure::Ended(why),
                _ => Failure::NotBegun(why),
            }
        })?;
        let status = child.wait().map_err(|error| Failure::Ended(format!("cannot wait for it: {error}")))?;
        if status.success() { Ok(()) } else { Err(Failure::Ended(status.to_string())) }
    }

    /// Makes `SHELL -c COMMAND vxtap PATH`. The path is `$1` and `VXTAP_FILE`, whatever characters
    /// it has.
    ///
    /// A command that mentions neither gets the path as its last argument, and so does one that
    /// ends in the name of a function of its own.
    ///
    /// The command's output goes to standard error: standard output has the ledger. The command
    /// gets a process group of its own, so that a Ctrl-C meant for the sensor does not end it.
    fn command(&self, shell: &Path) -> Command {
        let command = &*self.command;
        let script = if takes_path_last(command) { format!("{command} \"$@\"") } else { command.to_owned() };
        let mut shell = Command::new(shell);
        shell
            .args(["-c", &script, "vxtap"])
            .arg(&self.path)
            .env("VXTAP_FILE", &self.path)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .process_group(0);
        shell
    }
}

/// Returns what a command is told of a capture, beside its path.
fn variables(capture: &Capture) -> Vec<(String, String)> {
    let session = capture.session.as_ref();
    let dropped = capture.dropped.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let facts = [
        ("SOURCE", session.map(|session| session.address().to_string()).unwrap_or_default()),
        ("VNI", session.map(|session| session.vni.to_string()).unwrap_or_default()),
        ("NAME", capture.name.clone().unwrap_or_default()),
        ("FRAMES", capture.frames.to_string()),
        ("BYTES", capture.bytes.to_string()),
        ("DROPPED", dropped.to_string()),
        ("FIRST", capture.first.to_string()),
        ("LAST", capture.last.to_string()),
        ("FORMAT", capture.format.clone()),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value)).into_iter();
    // One of them, as in the line; the others are empty, whatever this process was started with.
    let hashes = Algorithm::ALL.into_iter().map(|algorithm| {
        let hash = capture.hash.filter(|hash| hash.algorithm() == algorithm);
        (algorithm.key().to_uppercase(), hash.map(|hash| hash.to_string()).unwrap_or_default())
    });
    facts.chain(hashes).map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
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
