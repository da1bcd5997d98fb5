//! The gauges show the state of a running pipeline: what cannot be added up, as counters can.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::pulse::Pulse;
use crate::condition::Condition;
use crate::lane::Queue;
use crate::source::Backlog;

/// The gauges of a pipeline.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// The pulse of each worker.
    pub workers: Vec<Arc<Pulse>>,
    /// Where the datagrams of each worker wait.
    pub backlogs: Vec<Backlog>,
    /// The outputs that run. The lock is taken where one comes or goes, and where somebody looks.
    outputs: Mutex<Vec<Arc<OutputGauge>>>,
}

/// The gauge of one output.
#[derive(Debug)]
pub(crate) struct OutputGauge {
    /// The name of the output.
    pub name: String,
    /// The kind of the output, as the configuration has it.
    pub kind: &'static str,
    /// The directory that captures are written to, where it writes some.
    pub directory: Option<PathBuf>,
    /// The interface that frames enter, where they enter one.
    pub interface: Option<String>,
    /// Says whether a sensor without it may be sent no traffic.
    pub(super) essential: AtomicBool,
    /// Says whether it takes frames.
    pub condition: Arc<Condition>,
    /// What waits for it.
    pub queue: Queue,
}

impl OutputGauge {
    /// Says whether a sensor without it may be sent no traffic.
    pub(crate) fn is_essential(&self) -> bool {
        self.essential.load(Ordering::Relaxed)
    }
}

impl Gauges {
    /// Makes the gauges of the workers that have these backlogs, and of no output.
    pub(super) fn new(backlogs: Vec<Backlog>) -> Self {
        Self { workers: backlogs.iter().map(|_| Arc::default()).collect(), backlogs, outputs: Mutex::default() }
    }

    /// Adds the gauge of an output that has come.
    pub(super) fn come(&self, output: Arc<OutputGauge>) {
        self.outputs.lock().push(output);
    }

    /// Takes away the gauge of the output of this name.
    pub(super) fn go(&self, name: &str) {
        self.outputs.lock().retain(|output| output.name != name);
    }

    /// Returns the gauges of the outputs that run.
    pub(crate) fn outputs(&self) -> Vec<Arc<OutputGauge>> {
        self.outputs.lock().clone()
    }
}
