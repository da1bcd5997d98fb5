//! An end of an output is there for a while, which is told in datagrams of its worker.

use std::sync::{Arc, OnceLock};

use super::counter::Counter;

/// The time for which a worker has a lane into an output. It is measured in the datagrams that this
/// worker has decapsulated, which makes it exact: each of them is offered to the lanes that the
/// worker has.
#[derive(Debug, Default)]
pub struct Presence {
    begun: OnceLock<Begun>,
    /// One more than what the worker had decapsulated when the lane was taken away; zero as long as
    /// it is there.
    until: Counter,
    /// The datagrams of lanes that were there before, which this one counts as well.
    before: Counter,
}

/// A worker, as far as it counts.
pub(crate) trait Decapsulates: std::fmt::Debug + Send + Sync {
    /// Returns how many datagrams the worker has decapsulated.
    fn decapsulated(&self) -> u64;
}

#[derive(Debug)]
struct Begun {
    worker: Arc<dyn Decapsulates>,
    /// The number that the worker had decapsulated when the lane came.
    since: u64,
}

impl Presence {
    /// Notes that the lane is there from now on. The worker itself calls this, once.
    pub(crate) fn begin(&self, worker: Arc<dyn Decapsulates>) {
        self.begun.get_or_init(|| Begun { since: worker.decapsulated(), worker });
    }

    /// Notes that the worker has taken the lane away. The worker itself calls this.
    pub(crate) fn end(&self) {
        if let Some(begun) = self.begun.get() {
            self.until.raise(begun.worker.decapsulated() + 1);
        }
    }

    /// Counts the datagrams of a lane as well that is there no more.
    pub(super) fn take_over(&self, ended: &Self) {
        self.before.add(ended.decapsulated());
    }

    /// Returns how many datagrams the worker has decapsulated meanwhile.
    pub(super) fn decapsulated(&self) -> u64 {
        let until = self.until.get();
        let own = self.begun.get().map_or(0, |begun| {
            let now = if until == 0 { begun.worker.decapsulated() } else { until - 1 };
            now.saturating_sub(begun.since)
        });
        self.before.get() + own
    }
}
