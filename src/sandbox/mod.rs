//! A running sensor gives up what it does not need: it reads packets that anybody can send.
//!
//! ```text
//! plan ─▶ helper for ─▶ enter ─────────▶ sockets, ─▶ drop_capabilities ─▶ threads, ─▶ seal
//!         commands      Landlock, rings  programs                         outputs     seccomp
//! ```
//!
//! Landlock's rules are of a thread and those that it starts, so they come before all threads. They
//! are about paths and TCP, and what is opened afterwards is among what they let through. The rest
//! would be in the way of opening: it comes last, and for all threads.
//!
//! What cannot be put in force is said, or ends the start, as [`Mode`] says.

mod capabilities;
mod filter;
mod landlock;
mod made;
mod mode;
mod needs;
mod state;
mod threads;

use std::io;
use std::path::Path;

use rustix::thread::set_no_new_privs;

use self::landlock::Rules;
use self::made::Made;
pub use self::mode::{Mode, SandboxPlan};
pub use self::needs::Needs;
pub use self::state::State;
pub use crate::sys::rings::Stock;
use crate::sys::{pcap, rings};

/// Why a sensor that is to give up everything does not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "the sandbox is required and cannot be: {0}; systemd's SystemCallFilter= may forbid it; `--sandbox auto` goes without what is not to \
     be had"
)]
pub struct SandboxError(String);

/// What a sensor has given up so far. Where it is dropped before it is sealed, nothing that was
/// made for it stays.
#[derive(Debug)]
pub struct Sandbox {
    mode: Mode,
    needs: Needs,
    rules: Option<Rules>,
    missing: Vec<String>,
    made: Made,
}

impl Sandbox {
    /// Gives up all paths and ports that are not needed. There are no other threads yet.
    ///
    /// # Errors
    /// That is required, and the kernel cannot do it.
    pub fn enter(mode: Mode, needs: Needs) -> Result<Self, SandboxError> {
        let mut sandbox = Self { mode, needs, ..Self::off() };
        if mode != Mode::Off {
            let _ = set_no_new_privs(true);
            // What is loaded later would be memory that can be executed.
            pcap::preload();
            rings::stock(sandbox.needs.rings);
            sandbox.made = Made::for_captures(&sandbox.needs.captures);
            let rules = landlock::restrict(&sandbox.needs).map_err(|error| error.to_string());
            sandbox.rules = sandbox.note("Landlock", rules)?;
        }
        Ok(sandbox)
    }

    /// Gives up nothing.
    #[must_use]
    pub fn off() -> Self {
        let needs = Needs::default();
        Self { mode: Mode::Off, needs, rules: None, missing: Vec::new(), made: Made::default() }
    }

    /// Gives up all capabilities but those that a sensor with these outputs needs, and with a
    /// program in the kernel, if it has one. Of threads there are few yet, and none that waits for
    /// a disk: each has to do it itself.
    ///
    /// # Errors
    /// That is required, and a thread does not do it.
    pub fn drop_capabilities(&mut self, has_program: bool) -> Result<(), SandboxError> {
        self.needs.program = has_program;
        if self.mode != Mode::Off {
            let dropped = capabilities::drop_unneeded(&self.needs).map_err(|error| error.to_string());
            self.note("giving up capabilities", dropped)?;
        }
        Ok(())
    }

    /// Gives up the rest, in all threads: what is needed was opened. Returns what is in force.
    ///
    /// # Errors
    /// That is required, and the kernel cannot do it.
    pub fn seal(&mut self) -> Result<State, SandboxError> {
        self.made.keep();
        if self.mode != Mode::Off {
            let filtered = filter::install(&self.needs).map_err(|error| error.to_string());
            if self.note("filtering system calls", filtered)?.is_none() {
                rings::unstock();
            }
        }
        let landlock = self.rules.as_ref().map(|rules| rules.version);
        Ok(State::read(self.mode, landlock, self.missing.clone()))
    }

    fn note<T>(&mut self, what: &str, result: Result<T, String>) -> Result<Option<T>, SandboxError> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(error) if self.mode == Mode::Require => Err(SandboxError(format!("{what}: {error}"))),
            Err(error) => {
                self.missing.push(format!("{what}: {error}"));
                Ok(None)
            }
        }
    }

    /// Says which directory of a plan captures cannot be written to any more, in words and with
    /// what to do.
    #[must_use]
    pub fn lacks(&self, needs: &Needs) -> Option<String> {
        let rules = self.rules.as_ref()?;
        let directory = needs.captures.iter().find(|directory| !rules.reach(directory))?;
        Some(format!(
            "the sandbox does not let the sensor write to {}: restart it, or list the directory under directories of [sandbox] before the \
             next start",
            directory.display()
        ))
    }

    /// Says what to do about a file or directory that cannot be read for want of a right, where the
    /// sandbox may be in the way.
    #[must_use]
    pub fn advice(&self, denied: &Path) -> Option<&'static str> {
        let real = needs::real(denied);
        let is_ours = self.rules.as_ref().is_some_and(|rules| !rules.read.iter().any(|root| real.starts_with(root)));
        is_ours.then_some(
            "the sandbox does not let the sensor read it; restart it, and have what is read again in a directory of its own, as /etc/vxtap",
        )
    }

    /// Adds to an error to read this file what to do, where the sandbox may be in the way.
    #[must_use]
    pub fn advised(&self, path: &Path, error: io::Error) -> io::Error {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        match is_denied.then(|| self.advice(path)).flatten() {
            Some(advice) => io::Error::other(format!("{error}: {advice}")),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests;
