//! The counters of a sensor, while it counts in them.

use std::sync::Arc;

use super::counters::WorkerCounters;
use super::outputs::Outputs;
use super::sessions::SessionTotals;
use crate::session::{Label, Session};

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
    /// sensor runs and afterwards. `named` are the sessions with their labels in the order of
    /// their numbers, from 1.
    #[must_use]
    pub(crate) fn sessions(&self, named: impl IntoIterator<Item = (Session, Label)>) -> Vec<SessionTotals> {
        let of = |(number, (session, label)): (usize, (Session, Label))| {
            let counted = self.workers.iter().filter_map(|worker| worker.sessions.totals(number, session));
            counted.reduce(|sum, more| sum.add(&more)).map(|totals| SessionTotals { label, ..totals })
        };
        let mut sessions: Vec<_> = (1..).zip(named).filter_map(of).collect();
        sessions.sort_unstable_by_key(|totals| totals.session);
        sessions
    }
}
