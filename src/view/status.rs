//! The document that says how a sensor does.

use serde::{Deserialize, Serialize};

use crate::record::Timestamp;
use crate::sandbox;

/// The version of the documents that are made of a view.
pub const SCHEMA: u32 = 1;

/// Says whether the sensor may be sent traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// True where it may.
    pub ready: bool,
    /// The reasons for which it may not.
    pub reasons: Vec<String>,
}

impl Default for Ready {
    /// A sensor that has started may be sent traffic.
    fn default() -> Self {
        Self { ready: true, reasons: Vec::new() }
    }
}

/// How a sensor does. Clients read the same document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this document.
    pub schema: u32,
    /// The version of the program.
    pub version: String,
    /// The number of the process.
    pub pid: u32,
    /// The time at which the sensor began to receive.
    pub started: Timestamp,
    /// The time of this document.
    pub now: Timestamp,
    /// The time since it began to receive, whatever was done to the clock.
    pub uptime_seconds: f64,
    /// What came in the last hour, or since it began to receive where that is less.
    #[serde(default)]
    pub last_hour: LastHour,
    /// What it does.
    pub state: State,
    /// True where it may be sent traffic.
    pub ready: bool,
    /// The reasons for which it may not.
    pub reasons: Vec<String>,
    /// True where all workers turn.
    pub live: bool,
    /// The addresses that it listens on.
    pub listen: Vec<String>,
    /// The source of its datagrams, in words.
    pub source: String,
    /// The workers, in the order of their numbers.
    pub workers: Vec<WorkerState>,
    /// The sessions, as far as they are counted.
    pub sessions: SessionsState,
    /// The outputs that run, in the order in which they came.
    pub outputs: Vec<OutputState>,
    /// What came and is not where it was to go, by place and reason, the largest first.
    pub losses: Vec<Loss>,
    /// The configuration file.
    pub config: Configuration,
    /// What the sensor has given up.
    #[serde(default)]
    pub sandbox: sandbox::State,
}

/// What came lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LastHour {
    /// The time that is meant: an hour and up to a minute more, or all the time.
    pub seconds: f64,
    /// Datagrams that were received in it.
    pub received: u64,
    /// The bytes of these, without the outer headers.
    pub received_bytes: u64,
}

/// Datagrams or frames that were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The output that lost frames; none for datagrams that were lost before all outputs.
    pub output: Option<String>,
    /// The reason, as the ledger names it.
    pub reason: String,
    /// How many there were so far.
    pub count: u64,
}

/// What a sensor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It receives.
    Receiving,
    /// It receives, and is about to end.
    Draining,
}

/// How a worker does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerState {
    /// Its number.
    pub worker: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// The time since its last turn.
    pub idle_seconds: f64,
    /// The time that it did not spend waiting.
    pub busy_seconds: f64,
}

/// How many sessions there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsState {
    /// Sessions that have a number.
    pub count: u32,
    /// The most that have one.
    pub limit: u32,
}

/// How an output does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    /// Its name.
    pub name: String,
    /// Its kind: `pcap`, `tap`, `redirect` or `watch`.
    pub kind: String,
    /// True where a sensor without it may be sent no traffic.
    pub essential: bool,
    /// True where it takes frames.
    pub up: bool,
    /// The reason for which it does not.
    pub reason: Option<String>,
    /// The directory that captures are written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The interface that frames enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The memory of what waits for it.
    pub queue_bytes: u64,
    /// The most that can wait for it.
    pub queue_limit_bytes: u64,
    /// The bytes that are free on its file system, where that is known.
    pub free_bytes: Option<u64>,
}

/// What became of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its path, if there is one.
    pub path: Option<String>,
    /// How often it was read again and applied.
    pub applied: u64,
    /// How often it was read again and refused.
    pub refused: u64,
    /// The last time.
    pub last: Option<Reload>,
}

/// What became of a file that was read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The time at which that was known.
    pub at: Timestamp,
    /// True where it is in force.
    pub ok: bool,
    /// The reason for which it is not.
    pub error: Option<String>,
}
