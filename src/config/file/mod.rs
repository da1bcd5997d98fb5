//! A configuration file says all that the flags of `vxtap run` can say, and more.
//!
//! ```text
//! vxtap.toml ─▶ TOML ─▶ Settings ─▶ RunPlan
//!               │       │           │
//!               └───────┴───────────┴─▶ Faults: file, line, caret, advice
//! ```
//!
//! **A new key** is a field of its table in [`settings`](super::settings) with its default, a line
//! in `schema.rs`, and what it means in [`plan`](super::plan). A new type of value is read and
//! written in `value.rs`. An error about the value names the setting by
//! [`Said`](super::origin::Said), and is shown with the place then. `docs/configure.md` has a table
//! of all keys, which a test compares.

mod fault;
mod include;
mod planned;
mod reader;
mod rules;
mod schema;
mod syntax;
mod value;
mod writer;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use self::fault::Faults;
use self::fault::{Fault, Text};
use self::include::Unread;
use self::reader::Reading;
use self::value::Wrong;
pub use self::writer::{WriteError, write};
pub(crate) use self::writer::{changed, write_sessions};
use super::error::PlanError;
use super::plan::RunPlan;
use super::settings::Settings;
use crate::host::HostFacts;
use crate::sandbox::Sandbox;
use crate::setting::key;
use crate::storage::read_small_bytes;

/// The reasons why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}{}", advice(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// The file has faults.
    #[error("{faults}")]
    Faults {
        /// The faults.
        faults: Faults,
        /// Says whether the file may be right and something of the host is late.
        may_pass: bool,
    },
}

impl ConfigError {
    /// Says what to do where a sandbox is in the way.
    #[must_use]
    pub(crate) fn advised(self, sandbox: &Sandbox) -> Self {
        match self {
            Self::Read { path, error } => Self::Read { error: sandbox.advised(&path, error), path },
            Self::Faults { mut faults, may_pass } => {
                faults.advise(|path| sandbox.advice(path));
                Self::Faults { faults, may_pass }
            }
        }
    }
}

/// Advises those for whom `-c` is a number of packets.
fn advice(path: &Path) -> &'static str {
    let is_number = path.to_str().is_some_and(|path| path.bytes().all(|byte| byte.is_ascii_digit()));
    if is_number { "; to end after that many datagrams write --count" } else { "" }
}

/// The places that a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The directories that files are included from, whatever is there.
    pub directories: Vec<PathBuf>,
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Config {
    /// What the file says.
    pub settings: Settings,
    /// The places that it was read from.
    pub places: Places,
    texts: Vec<Text>,
    faults: Vec<Fault>,
    /// The values and outputs that could not be taken, by path.
    failed: BTreeSet<String>,
}

impl Config {
    /// Reads a configuration file. Values that cannot be taken are kept as faults, which
    /// [`Config::plan`] returns with those of the plan.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML in UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read_small_bytes(path, include::MOST)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::of(Text::new(path, bytes))
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        Self::of(Text::new(path, text.into_bytes()))
    }

    fn of(text: Text) -> Result<Self, ConfigError> {
        let (root, errors) = DeTable::parse_recoverable(&text.text);
        let mut reading = Reading::new(&text);
        let mut syntax = syntax::faults(&errors, root.get_ref(), &text, &reading);
        let mut settings = Settings::default();
        let mut texts = Vec::new();
        let patterns = if syntax.is_empty() { reading.include(root.get_ref()) } else { Vec::new() };
        for included in include::read(&text.path, &patterns) {
            match included {
                Ok(other) => {
                    reading.enter(&other);
                    let (root, errors) = DeTable::parse_recoverable(&other.text);
                    let faults = syntax::faults(&errors, root.get_ref(), &other, &reading);
                    if faults.is_empty() {
                        reading.included(root.get_ref(), &mut settings.session);
                    }
                    syntax.extend(faults);
                    texts.push(other);
                }
                Err(Unread { wrong: Wrong { span, fault, advice }, denied }) => {
                    reading.enter(&text);
                    reading.unread(fault, span, advice, denied);
                }
            }
        }
        reading.enter(&text);
        if syntax.is_empty() {
            reading.settings(root.get_ref(), &mut settings);
        }
        let directories = include::directories(&text.path, &patterns);
        texts.insert(0, text);
        if !syntax.is_empty() {
            return Err(ConfigError::Faults { faults: Faults::new(texts, syntax), may_pass: false });
        }
        let Reading { faults, failed, origins, .. } = reading;
        settings.origins = origins;
        let files = texts.iter().map(|text| text.path.to_path_buf()).collect();
        Ok(Self { settings, places: Places { files, directories }, texts, faults, failed })
    }

    /// Returns the values that cannot be taken, if there are any.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> Option<Faults> {
        (!self.faults.is_empty()).then(|| Faults::new(self.texts.clone(), self.faults.clone()))
    }

    /// Makes the plan that the file asks for on this host.
    ///
    /// # Errors
    /// The file has faults: values that cannot be taken, or that make no sense together or on this
    /// host.
    pub fn plan(mut self, host: &HostFacts) -> Result<(Settings, RunPlan), ConfigError> {
        let planned = RunPlan::of_file(&self.settings, host);
        let errors = match planned {
            Ok(plan) if self.faults.is_empty() => return Ok((self.settings, plan)),
            Ok(_) => Vec::new(),
            Err(errors) => errors,
        };
        let may_pass = self.faults.is_empty() && errors.iter().all(PlanError::may_pass);
        // What follows from a value that could not be taken is no fault of its own.
        let is_own = |error: &&PlanError| !follows(error, &self.failed);
        self.faults.extend(errors.iter().filter(is_own).map(planned::fault));
        Err(ConfigError::Faults { faults: Faults::new(self.texts, self.faults), may_pass })
    }
}

/// Says whether an error follows from one of the values and outputs that could not be taken.
fn follows(error: &PlanError, failed: &BTreeSet<String>) -> bool {
    let is_unread = |name: &str| failed.contains(key::OUTPUT) || failed.contains(&key::output(name));
    let names_unread = matches!(error, PlanError::NoOutput { name, .. } if is_unread(name));
    names_unread || error.about().iter().any(|(said, _)| failed.contains(said.path()))
}

#[cfg(test)]
mod tests;
