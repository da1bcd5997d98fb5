//! The counters of a sensor, while it counts in them.

use std::sync::Arc;

use super::catalogue::Cell;
use super::counters::{OutputCounters, OutputTotals, WorkerCounters};
use super::outputs::Outputs;
use super::sessions::SessionTotals;
use crate::session::Session;

/// The counters of one output: one set per lane, one for the sink.
#[derive(Debug)]
pub struct Output {
    /// The output's name, as `pcap`.
    pub name: String,
    /// Every end's counters.
    pub ends: Vec<Arc<OutputCounters>>,
}

impl Output {
    /// Adds a set of counters for one end of this output.
    pub(crate) fn end(&mut self) -> Arc<OutputCounters> {
        let counters = Arc::new(OutputCounters::default());
        self.ends.push(Arc::clone(&counters));
        counters
    }

    /// Adds up what the ends count.
    #[must_use]
    pub fn totals(&self) -> OutputTotals {
        OutputCounters::sum(&self.ends.iter().map(|end| &**end).collect::<Vec<_>>())
    }
}

/// All counters of a sensor.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Per worker.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Per output, also of those that run no more.
    pub outputs: Outputs,
}

impl Ledger {
    /// Adds a worker.
    pub fn worker(&mut self) -> Arc<WorkerCounters> {
        let counters = Arc::new(WorkerCounters::default());
        self.workers.push(Arc::clone(&counters));
        counters
    }

    /// Returns what the workers counted by session, in the order of the sessions, as long as the
    /// sensor runs and afterwards. `named` are the sessions in the order of their numbers, from 1.
    #[must_use]
    pub(crate) fn sessions(&self, named: impl IntoIterator<Item = Session>) -> Vec<SessionTotals> {
        let of = |(number, session)| {
            let counted = self.workers.iter().filter_map(|worker| worker.sessions.totals(number, session));
            counted.reduce(|sum, more| sum.add(&more))
        };
        let mut sessions: Vec<_> = (1..).zip(named).filter_map(of).collect();
        sessions.sort_unstable_by_key(|totals| totals.session);
        sessions
    }
}
