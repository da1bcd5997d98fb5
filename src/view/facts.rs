//! What the plan of a sensor says that others want to know.

use std::path::PathBuf;
use std::sync::Arc;

/// Facts of the plan that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The addresses that the sensor listens on.
    pub listen: Vec<String>,
    /// The source of its datagrams, in words.
    pub source: String,
    /// The most sessions that it tells apart.
    pub max_sessions: u32,
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// The settings that are in force, as a configuration file.
    pub text: Arc<str>,
}
