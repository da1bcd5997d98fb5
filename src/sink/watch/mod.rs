//! A watch is an output for a while: somebody looks at the frames as they come.
//!
//! Its sink waits for nobody. It puts the chunks of its lanes into the [`Feed`] as they are, and
//! who watches takes them from there. As long as they are there, or on their way to who watches,
//! the lanes do not have them: so the memory of the lanes is all that a watch uses, and what does
//! not fit is dropped by them and counted.

mod feed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sink;
use crate::lane::{CHUNK_MEMORY, LanePlan, Lent, WhenFull};
use crate::ledger::Output;
use crate::record::Timestamp;
use crate::route::Wanted;

pub use self::feed::{Feed, Outcome, Over, Watching};

/// The memory of a watch, for all workers together, unless each of them would have less than two
/// chunks.
const QUEUE: usize = 8 << 20;
/// The time that a record waits for more: who watches takes it for at once.
const LINGER: Duration = Duration::from_millis(50);
/// The time for which who watches can still take what is there when the watch has ended.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time between two looks at the clock where no end is set.
const SELDOM: Duration = Duration::from_secs(3600);

/// The plan of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchPlan {
    /// The sessions whose frames are wanted.
    pub wanted: Wanted,
    /// The place where who watches takes the frames.
    pub feed: Arc<Feed>,
    /// The time after which it ends by itself.
    pub duration: Option<Duration>,
}

impl WatchPlan {
    /// Plans the lanes of a watch that keeps `snaplen` bytes of a frame, with this many `workers`.
    #[must_use]
    pub fn lane(snaplen: usize, workers: usize) -> LanePlan {
        let chunks = (QUEUE / CHUNK_MEMORY / workers.max(1)).max(2);
        // Whose frames were dropped is of no interest here, so the lanes need not note it.
        LanePlan { chunks, linger: LINGER, snaplen, sessions: 0, when_full: WhenFull::Skip }
    }
}

/// The output's side of a watch.
#[derive(Debug)]
pub(crate) struct WatchSink {
    feed: Arc<Feed>,
    until: Option<Instant>,
}

impl WatchSink {
    /// Begins a watch. The ends that `output` has are those of its lanes.
    pub(crate) fn new(plan: &WatchPlan, output: &mut Output) -> Self {
        plan.feed.begin(output);
        let until = plan.duration.and_then(|duration| Instant::now().checked_add(duration));
        Self { feed: Arc::clone(&plan.feed), until }
    }
}

impl Sink for WatchSink {
    fn consume(&mut self, chunk: &Arc<Lent>) {
        self.feed.put(chunk);
    }

    fn tick(&mut self, now: Instant, _: Timestamp) -> Instant {
        match self.until {
            Some(until) if now >= until => {
                self.until = None;
                self.feed.end(Over::Time);
                now + SELDOM
            }
            Some(until) => until,
            None => now + SELDOM,
        }
    }

    fn finish(&mut self) {
        self.feed.finish(PATIENCE);
    }
}

#[cfg(test)]
mod tests;
