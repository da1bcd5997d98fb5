//! The ledger added up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::catalogue::Cell;
use super::counters::{OutputTotals, Overflow, OverflowCounters, WorkerCounters, WorkerTotals};
use super::{Busiest, Ledger, VniFrames};
use crate::record::Timestamp;
use crate::session::Session;

/// Sums over all workers and outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// When the sensor began to receive.
    pub started: Timestamp,
    /// When this was added up.
    pub ended: Timestamp,
    /// What the workers counted.
    #[serde(flatten)]
    pub datagrams: WorkerTotals,
    /// The VNIs that most of the frames have that are not allowed, as far as a program in the kernel did not see to them.
    pub unselected_vnis: Vec<VniFrames>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, OutputTotals>,
    /// The mirror sessions in the order of source and VNI.
    pub sessions: Vec<SessionTotals>,
    /// What came from sessions beyond the limit.
    pub overflow: Overflow,
}

/// One mirror session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionTotals {
    /// Which session it is.
    #[serde(flatten)]
    pub session: Session,
    /// Frames.
    pub frames: u64,
    /// Bytes of the frames as they arrived.
    pub bytes: u64,
    /// Receive time of the first frame.
    pub first: Timestamp,
    /// Receive time of the last frame.
    pub last: Timestamp,
}

impl Snapshot {
    /// Adds up the counters of `ledger`; `sessions` is what the workers counted per session, in the order of source and
    /// VNI.
    #[must_use]
    pub fn of(ledger: &Ledger, started: Timestamp, sessions: Vec<SessionTotals>) -> Self {
        let outputs = ledger.outputs.iter().map(|output| (output.name.clone(), output.totals())).collect();
        let workers: Vec<&WorkerCounters> = ledger.workers.iter().map(|worker| &**worker).collect();
        let overflow = OverflowCounters::sum(&workers.iter().map(|worker| &worker.overflow).collect::<Vec<_>>());
        let datagrams = WorkerCounters::sum(&workers);
        let unselected_vnis = Busiest::of(workers.iter().map(|worker| &worker.unselected_vnis));
        let (version, ended) = (env!("CARGO_PKG_VERSION"), Timestamp::now());
        Self { version, started, ended, datagrams, unselected_vnis, outputs, sessions, overflow }
    }
}
