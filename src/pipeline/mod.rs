//! The pipeline is the running sensor: workers, outputs, and how they start and end.

pub mod bypass;
mod change;
pub mod decap;
mod gauges;
pub(crate) mod inline;
mod marks;
pub mod outlet;
mod output;
mod pulse;
pub(crate) mod quota;
pub mod step;
pub mod worker;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::bypass::Bypass;
use self::change::Live;
pub(crate) use self::change::{ChangeError, Changes, Opened, Opening};
use self::decap::{ReservedBits, Timestamps};
pub(crate) use self::gauges::{Gauges, OutputGauge};
use self::marks::Marks;
use self::outlet::Outlet;
pub(crate) use self::output::{Destination, OutputError, OutputPlan};
pub(crate) use self::pulse::Beat;
use self::quota::Quota;
use self::step::Step;
use self::worker::{Ended, Why, Worker};
use crate::episode::Episode;
use crate::ledger::{Ledger, Snapshot};
use crate::record::Timestamp;
use crate::route::policy::Policy;
use crate::route::{Registry, SessionTable};
use crate::sink::Orders;
use crate::sink::tap::{TagKeeper, TagMap};
use crate::source::{Allowed, Front, LiveSource};
use crate::wire::VniMask;

/// The plan of what the sensor does with datagrams, whatever their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelinePlan {
    /// The policy for reserved bits in the VXLAN header.
    pub reserved_bits: ReservedBits,
    /// The bits of VNIs that name networks.
    pub vni_mask: VniMask,
    /// The clock that frames have their times of.
    pub timestamps: Timestamps,
    /// The most sessions told apart.
    pub max_sessions: u32,
    /// Datagrams after which the sensor ends by itself.
    pub count: Option<u64>,
    /// What becomes of each session's frames.
    pub policy: Arc<Policy>,
    /// The outputs.
    pub outputs: Vec<OutputPlan>,
}

impl PipelinePlan {
    /// Returns the memory for frames on their way into the outputs, in bytes, with `workers`
    /// workers.
    #[must_use]
    pub(crate) fn queue_memory(&self, workers: usize) -> usize {
        self.outputs.iter().map(|output| output.queue_memory(workers)).sum()
    }

    /// Returns the file with the tags of sessions; none where no output gives frames any.
    #[must_use]
    pub(crate) fn tags(&self) -> Option<&Path> {
        self.outputs.iter().find_map(|output| output.to.tags())
    }
}

/// A running sensor.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// All counters, live.
    pub ledger: Arc<Ledger>,
    /// The sessions seen so far.
    pub registry: Arc<Registry>,
    /// The state that it is in, live.
    pub gauges: Arc<Gauges>,
    /// The orders that the outputs get meanwhile.
    pub orders: Arc<Orders>,
    /// Receives when the sensor is to end by itself: a worker has failed, the quota is spent, or no
    /// source has any more.
    pub ended: Receiver<()>,
    /// The time at which it began to receive.
    pub started: Timestamp,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Ended>>,
    live: Live,
    /// Keeps the tags of sessions in their file, where they have some.
    tags: Option<TagKeeper>,
}

/// The outcome of a sensor that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The ledger.
    pub snapshot: Snapshot,
    /// The failures on the way, each in a sentence.
    pub failures: Vec<String>,
    /// Sources that were stopped before their end. What they had left is not in the ledger.
    pub cut_short: usize,
}

impl Pipeline {
    /// Starts the outputs, then a worker for each source, which lets in what is allowed.
    /// `front` is what works in front of the workers.
    ///
    /// # Errors
    /// An output, a source or a thread cannot start.
    pub(crate) fn start<S: LiveSource + Send + Debug + 'static>(
        plan: &PipelinePlan,
        allowed: &Arc<Allowed>,
        mut sources: Vec<S>,
        mut front: Front,
    ) -> Result<Self, OutputError> {
        let mut registry = Registry::new(plan.max_sessions);
        let mut map = None;
        if let Some(path) = plan.tags() {
            let (file, tags) = TagMap::open(path)?;
            registry = registry.tagged(tags);
            map = Some(file);
        }
        let registry = Arc::new(registry);
        let tags = map.map(|map| map.keep(Arc::clone(&registry))).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let quota = plan.count.map(|n| Arc::new(Quota::new(n)));
        let mut ledger = Ledger::default();
        let counters: Vec<_> = sources.iter().map(|_| ledger.worker()).collect();
        let orders = Arc::new(Orders::default());
        let gauges = Arc::new(Gauges::new(sources.iter().map(LiveSource::backlog).collect()));

        let redirected = plan.outputs.iter().find(|output| matches!(output.to, Destination::Redirect(_)));
        let marks = match (redirected, &front.redirect) {
            (Some(output), Some(redirect)) => {
                Some(Marks::begin(redirect.marking(), &output.name, output.to.tags().is_some(), &plan.policy)?)
            }
            _ => None,
        };
        let unseen = front.redirect.as_ref().is_some_and(|redirect| !redirect.copies);

        let mut sinks = Vec::with_capacity(plan.outputs.len());
        let mut outlets: Vec<Vec<Outlet>> = sources.iter().map(|_| Vec::new()).collect();
        for output in &plan.outputs {
            let started = output.start(&counters, &registry, &orders, &mut front, marks.as_ref())?;
            for (worker, outlet) in outlets.iter_mut().zip(started.outlets) {
                worker.push(outlet);
            }
            ledger.outputs.push(started.output);
            gauges.come(Arc::clone(&started.running.gauge));
            sinks.push(started.running);
        }

        // The sources begin only now. What outputs have to read first may take seconds, and receive
        // buffers would overflow meanwhile.
        sources.iter_mut().try_for_each(LiveSource::begin).map_err(OutputError::Receive)?;
        let started = Timestamp::now();
        let (ended_sender, ended) = bounded(1);
        let mut workers = Vec::with_capacity(sources.len());
        let running = Arc::new(AtomicUsize::new(sources.len()));
        let Front { accounts, gate, store, .. } = front;
        let mut accounts = accounts.into_iter();
        let mut changes = Vec::with_capacity(sources.len());
        for (number, ((source, outlets), counters)) in sources.into_iter().zip(outlets).zip(counters).enumerate() {
            let sessions = SessionTable::new(Arc::clone(&registry));
            let mut step = Step::new(plan.reserved_bits, Arc::clone(allowed), sessions, outlets, counters);
            step.mask(plan.vni_mask);
            step.adopt(Arc::clone(&plan.policy));
            step.share_sessions(source.shares_sessions());
            step.take_times_of(plan.timestamps);
            let (change, heard) = bounded(1);
            changes.push(change);
            let worker = Worker::new(source, step, Bypass::new(accounts.next()), quota.clone()).hears(heard);
            let worker = worker.shows(gauges.workers.get(number).cloned().unwrap_or_default());
            let stop = Arc::clone(&stop);
            let thread = thread::Builder::new().name(format!("vxtap-rx{number}"));
            let tell = Tell { ended: ended_sender.clone(), running: Arc::clone(&running), why: Why::Failed };
            workers.push(thread.spawn(move || {
                let mut tell = tell;
                let ended = worker.run(&stop);
                tell.why = ended.why;
                ended
            })?);
        }
        let ledger = Arc::new(ledger);
        let live = Live {
            ledger: Arc::clone(&ledger),
            registry: Arc::clone(&registry),
            gauges: Arc::clone(&gauges),
            orders: Arc::clone(&orders),
            workers: changes,
            allowed: Arc::clone(allowed),
            reserved_bits: plan.reserved_bits,
            policy: Arc::clone(&plan.policy),
            gate,
            store,
            sinks,
            retiring: Vec::new(),
            pending: None,
            leaving: None,
            held_up: Episode::default(),
            redirected: redirected.map(|output| output.name.clone()),
            marks,
            unseen,
            failures: Vec::new(),
        };
        Ok(Self { ledger, registry, gauges, orders, ended, started, stop, workers, live, tags })
    }

    /// Looks whether these changes can be made. Returns the outputs that are to be opened first,
    /// which any thread can do.
    ///
    /// # Errors
    /// Nothing has changed: a name is there twice or not at all, an output is fed by the program in
    /// the kernel, or a worker stalls since the last change.
    pub(crate) fn prepare(&mut self, changes: &Changes) -> Result<Opening, ChangeError> {
        self.live.prepare(changes)
    }

    /// Makes these changes while the sensor runs. The outputs that come are `opened`.
    ///
    /// # Errors
    /// Nothing has changed: an output cannot be opened, the program in the kernel cannot keep what
    /// is needed, or a worker stalls since the last change. Or a worker stalls now: it makes the
    /// change when it goes on.
    pub(crate) fn make(&mut self, changes: Changes, opened: Opened) -> Result<(), ChangeError> {
        self.live.make(changes, opened)
    }

    /// Makes these changes at once, of which no disk may hold up what comes.
    ///
    /// # Errors
    /// As [`Pipeline::prepare`] and [`Pipeline::make`].
    pub(crate) fn change(&mut self, changes: Changes) -> Result<(), ChangeError> {
        self.live.change(changes)
    }

    /// Forgets sessions that have sent nothing for `idle`: one step of it. Returns whether there is
    /// another.
    ///
    /// # Errors
    /// A worker stalls. Nothing is lost by it.
    pub(crate) fn expire(&mut self, idle: Duration) -> Result<bool, ChangeError> {
        self.live.expire(idle)
    }

    /// Returns the sessions that are allowed.
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.live.allowed
    }

    /// Looks which of the outputs that were taken away have finished, and whether all workers have
    /// made the last change. Returns whether all have.
    pub(crate) fn reap(&mut self) -> bool {
        self.live.reap();
        !self.live.is_busy()
    }

    /// Stops receiving, drains everything, completes the outputs and adds up the ledger.
    #[must_use]
    pub(crate) fn end(mut self) -> Outcome {
        self.live.reap();
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        let mut sources = Vec::with_capacity(self.workers.len());
        let mut cut_short = 0;
        for (worker, counters) in self.workers.into_iter().zip(&self.ledger.workers) {
            match worker.join() {
                Ok(ended) => {
                    cut_short += usize::from(ended.cut_short);
                    sources.push((ended.source, ended.refused, counters));
                    failures.extend(ended.failure.map(|error| format!("a worker could not receive: {error}")));
                }
                Err(_) => failures.push("a worker panicked: please report this".into()),
            }
        }
        // All workers have ended, so what they refused meanwhile is counted, and their ports can be
        // given up.
        for (mut source, counted, counters) in sources {
            counters.refused_at_stop.add(source.refused().saturating_sub(counted));
        }
        failures.extend(self.live.finish());
        drop(self.tags);
        let sessions = self.ledger.sessions(self.registry.sessions());
        let snapshot = Snapshot::of(&self.ledger, self.started, sessions).settled();
        if cut_short > 0 {
            tracing::warn!(
                "{cut_short} sources were stopped before their end; what they had left is not in the ledger"
            );
        }
        Outcome { cut_short, ..Outcome::of(snapshot, failures) }
    }
}

impl Outcome {
    /// Makes the outcome of what has ended with this ledger, whose failures are added to
    /// `failures`.
    fn of(snapshot: Snapshot, mut failures: Vec<String>) -> Self {
        if let Err(imbalance) = snapshot.check() {
            failures.push(format!("{imbalance}: please report this"));
        }
        if snapshot.failed() > 0 {
            failures.push("an output failed: see the drops of the outputs in the ledger".into());
        }
        Self { snapshot, failures, cut_short: 0 }
    }
}

/// Tells that the sensor is to end when a worker has ended, where that follows from it. The end of
/// one source is no reason while another worker runs.
struct Tell {
    ended: Sender<()>,
    /// Workers that have not ended yet.
    running: Arc<AtomicUsize>,
    /// The reason for which the worker ended. A worker that panicked leaves it at a failure.
    why: Why,
}

impl Drop for Tell {
    fn drop(&mut self) {
        let is_last = self.running.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last || self.why != Why::End {
            // It has been told already, or nobody listens where the sensor was told to end.
            let _ = self.ended.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
