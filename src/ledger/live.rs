//! The counters of a sensor, while it counts in them.

use std::sync::Arc;

use super::catalogue::Cell;
use super::counted::Counted;
use super::counters::{Expired, ExpiredCounters, WorkerCounters};
use super::lost::LostBy;
use super::outputs::Outputs;
use super::rare::Sums;
use super::sessions::{SessionTotals, Upstream};
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
    /// sensor runs and afterwards. `named` are the sessions with their numbers and labels.
    #[must_use]
    pub(crate) fn sessions(&self, named: impl IntoIterator<Item = (usize, Session, Label)>) -> Counted {
        // What was lost of frames, and which of them are duplicates, is counted behind them.
        let LostBy { expired, sessions: lost } = self.outputs.lost();
        // What a session that expires has counted goes from its cells to these: it is not read
        // twice.
        let sum = ExpiredCounters::sum(&self.workers.iter().map(|worker| &worker.expired).collect::<Vec<_>>());
        let expired = Expired { lost: expired, ..sum };
        let duplicates = Sums::of(self.workers.iter().map(|worker| &worker.sessions.duplicates));
        // What came late was missing before.
        let late = Sums::of(self.workers.iter().map(|worker| &worker.sessions.late));
        let missed = Sums::of(self.workers.iter().map(|worker| &worker.sessions.missed));
        let of = |(number, session, label)| {
            let counted = self.workers.iter().filter_map(|worker| worker.sessions.totals(number, session));
            let (lost, duplicates) = (lost.get(number), duplicates.get(number));
            let totals = counted.reduce(|sum, more| sum.add(&more))?;
            let upstream = Upstream { missed: missed.get(number), late: late.get(number) };
            Some(SessionTotals { label, lost, duplicates, upstream, ..totals })
        };
        let mut sessions: Vec<_> = named.into_iter().filter_map(of).collect();
        sessions.sort_unstable_by_key(|totals| totals.session);
        Counted { sessions, expired, lost_beyond: lost.get(0) }
    }
}
