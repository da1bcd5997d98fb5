//! The ends of the way of frames: a thread for each output takes chunks from its lanes.

pub mod file;
pub mod interface;
#[cfg(test)]
pub(crate) mod namespace;
mod open_files;
pub(crate) mod tap;
pub mod watch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;

use crate::condition::Condition;
use crate::lane::{Inbox, Lent};
use crate::ledger::OutputCounters;
use crate::record::Timestamp;
use crate::route::SessionId;
use crate::whose;

/// An output, which its own thread runs.
///
/// ```text
/// tick ──▶ behind ──▶ consume ──▶ tick    with each chunk
///   └────────────────────────────▶ tick    when nothing came until the time that it returned
/// forget                                   after the chunk by which all lanes have said so
/// cut                                      before a tick, when somebody has asked for it
/// drain                                    before the last ticks, when all lanes have ended
/// finish                                   once, after the last chunk of all lanes
/// ```
pub trait Sink: Send + 'static {
    /// Takes the records of a chunk. Each of its frames is written or counted as dropped, now or by
    /// [`Sink::finish`]. An output that holds on to the chunk keeps its memory from the lane.
    fn consume(&mut self, chunk: &Arc<Lent>);

    /// Hears before each chunk how far the output is behind, as [`Inbox::behind`] has it.
    fn behind(&mut self, _thousandths: u32) {}

    /// Forgets sessions: no frame comes any more that has one of these numbers, until they are
    /// others'.
    fn forget(&mut self, _sessions: &[SessionId]) {}

    /// Does what is due by time. It is called between chunks, and at the time that it returned
    /// last. `now` and the time of day `time` are the same time by two clocks. Returns the time at
    /// which it wants to be called again.
    fn tick(&mut self, now: Instant, time: Timestamp) -> Instant;

    /// Completes the files that are written to. It is called when somebody asks for what there is
    /// so far. Nothing happens where there is nothing to complete.
    fn cut(&mut self) {}

    /// Hears that all lanes have ended: the chunks that still come wait already, and
    /// [`Sink::finish`] is near. Nothing has to be done for readers until then.
    fn drain(&mut self) {}

    /// Ends the output. It is called once, after the last chunk.
    fn finish(&mut self);
}

/// The orders to outputs while they run.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    cuts: AtomicU32,
}

impl Orders {
    /// Asks all outputs to complete what they are writing.
    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of times that this was asked for.
    fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// A thread of an output, which tells when it ends, also by a panic.
struct Ending(Arc<Condition>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Starts the thread of an output. It ends when all lanes have ended and their last chunks are
/// consumed. `condition` hears when each of its steps begins and ends, and `counters` how long it
/// takes for a chunk.
///
/// # Errors
/// The thread cannot be created.
pub(crate) fn spawn(
    name: &str,
    mut sink: impl Sink,
    mut inbox: Inbox,
    orders: Arc<Orders>,
    condition: Arc<Condition>,
    counters: Arc<OutputCounters>,
) -> io::Result<JoinHandle<()>> {
    let run = move || {
        let ending = Ending(condition);
        let condition = &ending.0;
        let mut cuts = orders.cuts();
        loop {
            condition.step_begins();
            let asked = orders.cuts();
            if asked != cuts {
                cuts = asked;
                sink.cut();
            }
            if inbox.has_ended() {
                sink.drain();
            }
            let due = sink.tick(Instant::now(), Timestamp::now());
            condition.step_ends();
            match inbox.full.recv_deadline(due) {
                Ok(chunk) => {
                    condition.step_begins();
                    let chunk = inbox.lend(chunk);
                    sink.behind(inbox.behind());
                    let begun = Instant::now();
                    sink.consume(&chunk);
                    counters.durations.add(begun.elapsed());
                    // The numbers are free when nobody has this any more.
                    if let Some(forget) = inbox.forgotten(&chunk) {
                        sink.forget(&forget.sessions);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        sink.finish();
    };
    thread::Builder::new().name(format!("vxtap-{name}")).spawn(whose::inherited(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{LanePlan, lanes};
    use std::time::Duration;

    /// Notes what it hears.
    struct Listener(Arc<std::sync::Mutex<Vec<u32>>>, Arc<AtomicU32>);

    impl Sink for Listener {
        fn behind(&mut self, thousandths: u32) {
            self.0.lock().unwrap().push(thousandths);
        }
        fn consume(&mut self, _: &Arc<Lent>) {}
        fn tick(&mut self, now: Instant, _: Timestamp) -> Instant {
            now + Duration::from_secs(1)
        }
        fn drain(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        fn finish(&mut self) {}
    }

    /// Runs an output to its end.
    fn run(sink: impl Sink, inbox: Inbox) {
        spawn("test", sink, inbox, Arc::default(), Arc::default(), Arc::default()).unwrap().join().unwrap();
    }

    #[test]
    fn an_output_hears_when_no_lane_is_left() {
        let (mut lanes, inbox) = lanes(LanePlan::default(), vec![Arc::default(), Arc::default()]);
        assert!(!inbox.has_ended());
        drop(lanes.pop());
        assert!(!inbox.has_ended(), "one is left");
        drop(lanes);
        assert!(inbox.has_ended());
        let drained = Arc::default();
        run(Listener(Arc::default(), Arc::clone(&drained)), inbox);
        assert_eq!(drained.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_output_hears_before_each_chunk_how_far_it_is_behind() {
        let (mut lanes, inbox) = lanes(LanePlan::default(), vec![Arc::default()]);
        while inbox.full.len() < 3 {
            lanes[0].offer(SessionId::OVERFLOW, Timestamp::from_ns(1), &[7; 9000], 9000);
        }
        // The one that is being filled comes as well.
        drop(lanes);
        let heard = Arc::default();
        run(Listener(Arc::clone(&heard), Arc::default()), inbox);
        assert_eq!(*heard.lock().unwrap(), [750, 500, 250, 0]);
    }
}
