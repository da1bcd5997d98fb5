//! The ledger added up, at the end or while the sensor runs.
//!
//! While the sensor runs, counters grow as they are read, and yet a snapshot never has more on the
//! right of an equation than on the left. What the left has more is on its way (`in_flight`). That
//! rests on two orders:
//!
//! 1. A frame is counted on the left before it is counted on the right: `received` before
//!    `decapsulated`, that before its session and before `offered`, and that before `written`,
//!    `filtered` or `dropped`, and that before it is lost of its session. It is counted on the
//!    right once, in one counter.
//! 2. A snapshot reads in the reverse order: first sessions, then outputs, then workers, and in
//!    each the right before the left. For that, the sums of all ends of an output are taken counter
//!    by counter, the one declared last first.
//!
//! So each frame that was read on the right was on the left by then, if memory keeps the order.
//! [`Counter::add`](super::counter::Counter::add) is a release store, and
//! [`Counter::get`](super::counter::Counter::get) is an acquire load: whoever reads a value sees
//! everything that the writer did before it. That also holds across threads, because a frame goes
//! from a lane to a sink by a channel, which is a release and an acquire as well. On x86 stores and
//! loads are seen in order anyway, and both are plain moves: what the words promise is that the
//! compiler keeps the order, too. On ARM they are `stlr` and `ldar` (or `ldapr`), without which a
//! reader could see `written` grow before `offered`.
//!
//! Frames and bytes that move from one counter to another later, as those that are `gone`, are
//! counted on their own. They are in no equation, so they need no order. The moves are made when
//! the sensor has ended ([`Snapshot::settled`]): no counter of a running sensor falls.

use std::collections::BTreeMap;

use serde::Serialize;

use super::busiest::{Busiest, VniFrames};
use super::catalogue::Cell;
use super::counted::Counted;
use super::counters::{Expired, OutputTotals, Overflow, OverflowCounters, WorkerCounters, WorkerTotals};
use super::live::Ledger;
use super::outputs::Partly;
use super::pairs::{PairFrames, Pairs};
use super::sessions::SessionTotals;
use crate::record::Timestamp;

/// Sums over all workers and outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// Time at which the sensor began to receive.
    pub started: Timestamp,
    /// Time at which this was added up.
    pub ended: Timestamp,
    /// Counts of the workers.
    #[serde(flatten)]
    pub datagrams: WorkerTotals,
    /// The VNIs that most of the frames have that are not allowed, as far as a program in the
    /// kernel did not see to them.
    pub unselected_vnis: Vec<VniFrames>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, OutputTotals>,
    /// The outputs that were not there all the time, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partly: BTreeMap<String, Partly>,
    /// The mirror sessions in the order of source and VNI.
    pub sessions: Vec<SessionTotals>,
    /// Counts of what came from sessions that have expired.
    #[serde(skip_serializing_if = "is_none")]
    pub expired: Expired,
    /// Counts of what came from sessions beyond the limit.
    pub overflow: Overflow,
    /// The duplicates by the two sessions that delivered them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<PairFrames>,
}

fn is_none(expired: &Expired) -> bool {
    *expired == Expired::default()
}

impl Snapshot {
    /// Adds up the counters of `ledger`; `sessions` is what the workers counted per session, in the
    /// order of source and VNI.
    #[must_use]
    pub fn of(ledger: &Ledger, started: Timestamp, sessions: impl Into<Counted>) -> Self {
        let Counted { sessions, expired, lost_beyond } = sessions.into();
        let (mut outputs, mut partly) = (BTreeMap::new(), BTreeMap::new());
        for (name, (totals, part)) in ledger.outputs.sums() {
            partly.extend(part.map(|part| (name.clone(), part)));
            outputs.insert(name, totals);
        }
        let workers: Vec<&WorkerCounters> = ledger.workers.iter().map(|worker| &**worker).collect();
        let overflow = OverflowCounters::sum(&workers.iter().map(|worker| &worker.overflow).collect::<Vec<_>>());
        let overflow = Overflow { lost: lost_beyond, ..overflow };
        let datagrams = WorkerCounters::sum(&workers);
        let unselected_vnis = Busiest::of(workers.iter().map(|worker| &worker.unselected_vnis));
        let duplicates = Pairs::of(workers.iter().map(|worker| &worker.duplicates));
        let (version, ended) = (env!("CARGO_PKG_VERSION"), Timestamp::now());
        Self {
            version,
            started,
            ended,
            datagrams,
            unselected_vnis,
            outputs,
            partly,
            sessions,
            expired,
            overflow,
            duplicates,
        }
    }

    /// Makes the moves from one counter to another: the ledger of a sensor that has ended.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.outputs = self.outputs.into_iter().map(|(name, totals)| (name, totals.settled())).collect();
        self
    }
}
