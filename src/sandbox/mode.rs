//! Whether a sensor is to give up what it does not need.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whether a sensor is to give up what it does not need.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As far as the kernel has the means.
    #[default]
    Auto,
    /// All of it; without the means (Landlock of Linux 5.19 or later, seccomp) it does not start.
    Require,
    /// Nothing.
    Off,
}

/// What a sensor is to give up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxPlan {
    /// Whether it gives up what it does not need.
    pub mode: Mode,
    /// Directories that captures may come to be written to.
    pub directories: Vec<PathBuf>,
}
