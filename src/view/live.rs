//! A running sensor, to look at.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::facts::Facts;
use super::pace::{Pace, Received};
use super::reloads::Reloads;
use super::space::Spaces;
use super::status::{Configuration, Loss, OutputState, Ready, SCHEMA, SessionsState, State, Status, WorkerState};
use crate::ledger::{Ledger, Losses, SessionTotals, Snapshot};
use crate::pipeline::{Beat, Gauges, Pipeline};
use crate::record::Timestamp;
use crate::route::Registry;
use crate::storage::Space;

/// The time without a turn after which a worker stalls. One that has nothing to do turns twenty
/// times a second.
const STALL: Duration = Duration::from_secs(5);

/// A running sensor, as others see it.
#[derive(Debug)]
pub struct View {
    /// All counters, live.
    pub(crate) ledger: Arc<Ledger>,
    /// The sessions seen so far.
    pub(crate) registry: Arc<Registry>,
    pub(crate) gauges: Arc<Gauges>,
    /// The time at which the sensor began to receive.
    pub(crate) started: Timestamp,
    begun: Instant,
    pace: Mutex<Pace>,
    facts: Mutex<Arc<Facts>>,
    reloads: Mutex<Reloads>,
    draining: AtomicBool,
    ending: AtomicBool,
    ready: Mutex<Ready>,
    spaces: Spaces,
}

impl View {
    /// Makes the view of a pipeline that runs as `facts` say.
    #[must_use]
    pub(crate) fn new(pipeline: &Pipeline, facts: Facts) -> Self {
        let begun = Instant::now();
        Self {
            ledger: Arc::clone(&pipeline.ledger),
            registry: Arc::clone(&pipeline.registry),
            gauges: Arc::clone(&pipeline.gauges),
            started: pipeline.started,
            begun,
            pace: Mutex::new(Pace::new(begun)),
            facts: Mutex::new(Arc::new(facts)),
            reloads: Mutex::default(),
            draining: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ready: Mutex::default(),
            spaces: Spaces::default(),
        }
    }

    /// Adds up the ledger as it is now, with all sessions.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sessions = self.ledger.sessions(self.registry.sessions());
        Snapshot::of(&self.ledger, self.started, sessions)
    }

    /// Returns what the plan says that is in force.
    #[must_use]
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.lock())
    }

    /// Notes that another plan is in force.
    pub(crate) fn replan(&self, facts: Facts) {
        *self.facts.lock() = Arc::new(facts);
    }

    /// Notes that a file was read again and is in force.
    pub(crate) fn applied(&self) {
        self.reloads.lock().note(None);
    }

    /// Notes that a file was read again and is not in force, for this reason.
    pub(crate) fn refused(&self, error: String) {
        self.reloads.lock().note(Some(error));
    }

    /// Notes that the sensor is about to end.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Says whether the sensor is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Notes that the workers end now: that they do not turn means nothing any more.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Returns a sentence for each worker that does not turn.
    #[must_use]
    pub fn stalls(&self) -> Vec<String> {
        if self.ending.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let now = Instant::now();
        let idle = self.gauges.workers.iter().map(|pulse| pulse.beat(now).idle);
        let stalled = idle.enumerate().filter(|(_, idle)| *idle >= STALL);
        stalled.map(|(worker, idle)| format!("worker {worker} has not turned for {} s", idle.as_secs())).collect()
    }

    /// Returns what is known of the datagrams that wait for each worker: the inodes of its sockets,
    /// and the bytes in its rings.
    pub(crate) fn backlogs(&self) -> impl Iterator<Item = (&[u64], u64)> {
        self.gauges.backlogs.iter().map(|backlog| (&*backlog.sockets, backlog.ring_bytes()))
    }

    /// Returns the sessions as they are now, with what was counted of them.
    #[must_use]
    pub(crate) fn sessions(&self) -> Vec<SessionTotals> {
        self.ledger.sessions(self.registry.sessions()).sessions
    }

    /// Returns the time since the sensor began to receive, whatever was done to the clock.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns what was received so far.
    fn received(&self) -> Received {
        let workers = self.ledger.workers.iter();
        workers.fold((0, 0), |(datagrams, bytes), worker| {
            (datagrams + worker.received.get(), bytes + worker.received_bytes.get())
        })
    }

    /// Notes what was received by now, for the pace of the last hour. Called now and then.
    pub(crate) fn note_pace(&self, now: Instant) {
        self.pace.lock().note(now, || self.received());
    }

    /// Returns the essential outputs that take no frames, each with the reason.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        let outputs = self.gauges.outputs();
        let essential = outputs.iter().filter(|output| output.is_essential());
        essential.filter_map(|output| Some((output.name.clone(), output.condition.trouble()?))).collect()
    }

    /// Notes whether the sensor may be sent traffic.
    pub(crate) fn judge(&self, ready: Ready) {
        *self.ready.lock() = ready;
    }

    /// Says whether the sensor may be sent traffic. One that is about to end may not.
    #[must_use]
    pub fn ready(&self) -> Ready {
        let mut judged = self.ready.lock().clone();
        if self.is_draining() {
            judged.ready = false;
            judged.reasons.insert(0, "the sensor is about to end".into());
        }
        judged
    }

    /// Has file systems looked at that no thread looks at yet. Called now and then.
    ///
    /// # Errors
    /// A thread cannot be created.
    pub(crate) fn look_at_space(&self) -> io::Result<()> {
        self.spaces.follow(&self.gauges.outputs())
    }

    /// Returns the room on the file system of the output of this name, where that is known.
    #[must_use]
    pub(crate) fn space(&self, output: &str) -> Option<Space> {
        self.spaces.of(output)
    }

    /// Returns the time at which a file was last read again and applied, if one was.
    #[must_use]
    pub(crate) fn last_applied(&self) -> Option<Timestamp> {
        self.reloads.lock().succeeded
    }

    /// Returns what was lost so far.
    fn losses(&self) -> Vec<Loss> {
        let losses = Losses::of(&Snapshot::of(&self.ledger, self.started, Vec::new()));
        let loss = |(output, reason, count): (Option<&str>, &str, u64)| Loss {
            output: output.map(str::to_owned),
            reason: reason.to_owned(),
            count,
        };
        losses.list().map(loss).collect()
    }

    /// Returns the document that says how the sensor does.
    #[must_use]
    pub fn status(&self) -> Status {
        let (now, facts, Ready { ready, reasons }) = (Instant::now(), self.facts(), self.ready());
        let worker = |(worker, beat): (usize, Beat)| WorkerState {
            worker,
            turns: beat.turns,
            idle_seconds: beat.idle.as_secs_f64(),
            busy_seconds: beat.busy.as_secs_f64(),
        };
        let outputs = self.gauges.outputs().into_iter().map(|output| {
            let reason = output.condition.trouble();
            OutputState {
                name: output.name.clone(),
                kind: output.kind.into(),
                essential: output.is_essential(),
                up: reason.is_none(),
                reason,
                directory: output.directory.as_ref().map(|directory| directory.display().to_string()),
                interface: output.interface.clone(),
                queue_bytes: output.queue.bytes(),
                queue_limit_bytes: output.queue.limit(),
                free_bytes: self.space(&output.name).map(|space| space.free),
            }
        });
        let reloads = self.reloads.lock().clone();
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: process::id(),
            started: self.started,
            now: Timestamp::now(),
            uptime_seconds: self.uptime().as_secs_f64(),
            last_hour: self.pace.lock().lately(now, self.received()),
            state: if self.is_draining() { State::Draining } else { State::Receiving },
            ready,
            reasons,
            live: self.stalls().is_empty(),
            listen: facts.listen.clone(),
            source: facts.source.clone(),
            workers: self.gauges.workers.iter().map(|pulse| pulse.beat(now)).enumerate().map(worker).collect(),
            sessions: SessionsState { count: self.registry.count(), limit: facts.max_sessions },
            outputs: outputs.collect(),
            losses: self.losses(),
            config: Configuration {
                path: facts.config.as_ref().map(|path| path.display().to_string()),
                applied: reloads.applied,
                refused: reloads.refused,
                last: reloads.last,
            },
            sandbox: facts.sandbox.clone(),
        }
    }
}
