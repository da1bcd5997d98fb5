//! A change reaches the workers of a running sensor between two batches, all or nothing.
//!
//! What is new is opened first, and nothing has changed if that fails. Then each worker gets one
//! message, which it takes over before it receives the next batch: so a frame is decided by what
//! was before or by what is after, and by nothing in between. What is taken away is not stopped.
//! Its lanes end, its thread finishes what they have handed over, and nobody waits for that here.

mod error;
mod opening;

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

pub(crate) use self::error::ChangeError;
use self::error::PATIENCE;
pub(crate) use self::opening::{Opened, Opening};
use super::decap::ReservedBits;
use super::gauges::Gauges;
use super::marks::Marks;
use super::outlet::Outlet;
use super::output::{Destination, OutputPlan, Running};
use super::step::Step;
use crate::episode::Episode;
use crate::lane::Forget;
use crate::ledger::{Ledger, Seat};
use crate::record::Timestamp;
use crate::route::policy::Policy;
use crate::route::{Registry, SessionId};
use crate::service::Store;
use crate::sink::Orders;
use crate::sink::interface::kept_name;
use crate::source::Allowed;
use crate::source::bpf::{Gate, Kept};

/// The changes of a running sensor, which are made together; by default nothing changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// The sessions that are allowed from now on, where that changes.
    pub allowed: Option<Allowed>,
    /// The policy for sessions from now on, where that changes.
    pub policy: Option<Arc<Policy>>,
    /// What becomes of datagrams with reserved bits from now on, where that changes.
    pub reserved_bits: Option<ReservedBits>,
    /// How much of a frame the program in the kernel keeps from now on, where that changes.
    pub kept: Option<Kept>,
    /// The outputs that come.
    pub add: Vec<OutputPlan>,
    /// The names of the outputs that go.
    pub remove: Vec<String>,
    /// The outputs that stay and are another way from now on. What an output has at its start alone
    /// is as it was.
    pub change: Vec<OutputPlan>,
}

/// The message to a worker.
#[derive(Debug)]
pub(super) struct Change {
    allowed: Arc<Allowed>,
    reserved_bits: ReservedBits,
    policy: Arc<Policy>,
    add: Vec<Outlet>,
    remove: Arc<[String]>,
    change: Arc<[OutputPlan]>,
    /// The sessions that are forgotten.
    forget: Option<Arc<Forget>>,
    /// The way by which the worker gives up what it has no use for any more. When all ends of it
    /// are gone, all workers have made the change.
    done: Sender<Vec<Outlet>>,
}

impl Change {
    /// Makes the change of one worker.
    pub(super) fn apply(self, step: &mut Step) {
        let Self { allowed, reserved_bits, policy, add, remove, change, forget, done } = self;
        step.allowed = allowed;
        step.reserved_bits = reserved_bits;
        let goes = |outlet: &mut Outlet| remove.iter().any(|name| name == outlet.lane.output());
        let gone: Vec<Outlet> = step.outlets.extract_if(.., goes).collect();
        gone.iter().for_each(|outlet| outlet.lane.detach());
        step.outlets.extend(add);
        for outlet in &mut step.outlets {
            outlet.lane.attach(&step.counters);
            if let Some(plan) = change.iter().find(|plan| plan.name == outlet.lane.output()) {
                outlet.selection = plan.selection.clone();
                outlet.lane.replan(&plan.lane);
            }
        }
        if std::ptr::eq(step.sessions.policy(), &raw const *policy) {
            step.number_outlets();
        } else {
            step.adopt(policy);
        }
        if let Some(forget) = forget {
            step.forget(&forget);
        }
        step.sessions.look_again();
        // The memory of a lane is given back by another thread. Nobody may wait for it any more.
        let _ = done.send(gone);
    }
}

/// Sessions that workers and outputs are forgetting.
#[derive(Debug)]
pub(super) struct Leaving {
    sessions: Vec<SessionId>,
    /// What all of them hold until they have forgotten.
    forget: Weak<Forget>,
    /// What all workers have taken over from the registry by then.
    taken_over: u64,
}

/// A change that workers have not made yet, all of them.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its other ends are gone when all have made it.
    done: Receiver<Vec<Outlet>>,
    /// True where sessions get other labels.
    renames: bool,
    /// True where other sessions are allowed.
    narrows: bool,
    /// How much the program in the kernel is to keep, where that changes.
    kept: Option<Kept>,
    /// The policy that workers may have, kept so that none gives back its memory.
    _before: Arc<Policy>,
}

/// The part of a running sensor that changes.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) ledger: Arc<Ledger>,
    pub(super) registry: Arc<Registry>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) orders: Arc<Orders>,
    /// The ways by which changes reach the workers.
    pub(super) workers: Vec<Sender<Change>>,
    /// The sessions that are allowed.
    pub(super) allowed: Arc<Allowed>,
    /// What becomes of datagrams with reserved bits.
    pub(super) reserved_bits: ReservedBits,
    /// The policy for sessions.
    pub(super) policy: Arc<Policy>,
    /// The program's part in what is allowed.
    pub(super) gate: Option<Gate>,
    /// What a service manager keeps over a restart.
    pub(super) store: Arc<Store>,
    /// The outputs that run.
    pub(super) sinks: Vec<Running>,
    /// The threads of outputs that were taken away and may not have finished.
    pub(super) retiring: Vec<Running>,
    /// The last change, until all workers have made it.
    pub(super) pending: Option<Pending>,
    /// The sessions that are being forgotten.
    pub(super) leaving: Option<Leaving>,
    /// Lasts while no session is forgotten for the sake of outputs that have gone.
    pub(super) held_up: Episode,
    /// The output that a program in the kernel feeds.
    pub(super) redirected: Option<String>,
    /// The sessions that this program redirects.
    pub(super) marks: Option<Arc<Marks>>,
    /// True where workers see nothing of what this program redirects.
    pub(super) unseen: bool,
    /// Outputs that were taken away and then failed, each in a sentence.
    pub(super) failures: Vec<String>,
}

impl Live {
    /// Looks whether these changes can be made. Returns the outputs that are to be opened first.
    ///
    /// # Errors
    /// Nothing has changed: a name is there twice or not at all, an output is fed by the program in
    /// the kernel, or a worker stalls since the last change.
    pub(super) fn prepare(&mut self, changes: &Changes) -> Result<Opening, ChangeError> {
        self.reap();
        self.check(changes)?;
        let (ledger, registry) = (Arc::clone(&self.ledger), Arc::clone(&self.registry));
        let (orders, store) = (Arc::clone(&self.orders), Arc::clone(&self.store));
        Ok(Opening { plans: changes.add.clone(), ledger, registry, orders, store })
    }

    /// Makes these changes while the sensor runs. The outputs that come are `opened`.
    ///
    /// # Errors
    /// Nothing has changed: an output cannot be opened, the program in the kernel cannot keep what
    /// is needed, or a worker stalls since the last change. Or a worker stalls now: it makes the
    /// change when it goes on.
    pub(super) fn make(&mut self, changes: Changes, opened: Opened) -> Result<(), ChangeError> {
        self.reap();
        let Opened { outputs, outlets, failure } = opened;
        let failure = failure.or_else(|| self.check(&changes).err());
        let failure = failure.or_else(|| self.tell_program(&changes).err());
        if let Some(error) = failure {
            self.retiring.extend(outputs.into_iter().map(|(_, running)| running));
            return Err(error);
        }
        let before = Arc::clone(&self.allowed);
        let allowed = changes.allowed.map_or_else(|| Arc::clone(&before), Arc::new);
        let narrows = allowed != before;
        if let Some(gate) = self.gate.as_ref().filter(|_| narrows) {
            gate.widen(&before, &allowed);
        }
        // One that comes may have the name of one that goes.
        for name in &changes.remove {
            self.ledger.outputs.go(name);
            self.gauges.go(name);
            self.retiring.extend(self.sinks.extract_if(.., |sink| sink.name == *name));
        }
        for (output, running) in outputs {
            self.ledger.outputs.come(output);
            self.gauges.come(Arc::clone(&running.gauge));
            self.sinks.push(running);
        }
        let renames = changes.policy.is_some();
        let changed = changes.policy.map(|policy| policy.with_groups_of(&self.policy));
        let policy = changed.unwrap_or_else(|| Arc::clone(&self.policy));
        let before = std::mem::replace(&mut self.policy, policy);
        self.allowed = allowed;
        self.reserved_bits = changes.reserved_bits.unwrap_or(self.reserved_bits);
        self.replan(&changes.change);
        let done = self.tell(outlets, &changes.remove.into(), &changes.change.into(), None);
        self.pending = Some(Pending { done, renames, narrows, kept: changes.kept, _before: before });
        self.settle(Instant::now() + PATIENCE);
        if self.pending.is_some() { Err(ChangeError::Slow) } else { Ok(()) }
    }

    /// Makes these changes at once. What comes is opened here, so no disk may hold it up.
    ///
    /// # Errors
    /// As [`Live::prepare`] and [`Live::make`].
    pub(super) fn change(&mut self, changes: Changes) -> Result<(), ChangeError> {
        let opened = self.prepare(&changes)?.open();
        self.make(changes, opened)
    }

    /// Waits until `end` for the workers to make the last change, and then does what has to wait
    /// for that: before, a worker may give a new session the label of before, and have use for a
    /// session that the program would drop, or for more of a frame. Returns whether there was a
    /// change that is made now.
    fn settle(&mut self, end: Instant) -> bool {
        let Some(pending) = self.pending.take_if(|pending| wait(&pending.done, end)) else { return false };
        if pending.renames {
            self.registry.relabel(&self.policy);
            self.marks.iter().for_each(|marks| marks.settle());
        }
        if let Some(gate) = self.gate.as_ref().filter(|_| pending.narrows) {
            gate.narrow(&self.allowed);
        }
        if let (Some(gate), Some(kept)) = (&self.gate, pending.kept) {
            gate.keep(kept);
        }
        true
    }

    /// Has the program in the kernel do what is right both before and after a change.
    fn tell_program(&self, changes: &Changes) -> Result<(), ChangeError> {
        self.mark_for(changes.policy.as_ref())?;
        self.keep_also(changes.kept).inspect_err(|_| {
            if let Some(marks) = self.marks.as_ref().filter(|_| changes.policy.is_some()) {
                marks.withdraw();
            }
        })
    }

    /// Has the program in the kernel keep what is kept before and after a change. What workers see
    /// of a frame from then on is enough for both.
    fn keep_also(&self, kept: Option<Kept>) -> Result<(), ChangeError> {
        let (Some(gate), Some(kept)) = (&self.gate, kept) else { return Ok(()) };
        gate.keep_also(kept).map_err(ChangeError::Keep)
    }

    /// Has the program in the kernel redirect what goes into the interface both before and after a
    /// change.
    fn mark_for(&self, policy: Option<&Arc<Policy>>) -> Result<(), ChangeError> {
        let (Some(marks), Some(policy)) = (&self.marks, policy) else { return Ok(()) };
        marks.prepare(policy).map_err(ChangeError::Redirect)
    }

    /// Says whether the outputs that come and go are such that can, and whether the workers have
    /// taken over the last change.
    fn check(&self, changes: &Changes) -> Result<(), ChangeError> {
        let all = || self.sinks.iter().map(|sink| &sink.name);
        if let Some(plan) = changes.change.iter().find(|plan| all().all(|name| *name != plan.name)) {
            return Err(ChangeError::Unknown(plan.name.clone()));
        }
        for name in &changes.remove {
            if self.redirected.as_ref() == Some(name) {
                return Err(ChangeError::Redirected(name.clone()));
            }
            if self.sinks.iter().all(|sink| sink.name != *name) {
                return Err(ChangeError::Unknown(name.clone()));
            }
        }
        let stays = self.sinks.iter().map(|sink| &sink.name).filter(|name| !changes.remove.contains(name));
        let mut names: Vec<&String> = stays.collect();
        for output in &changes.add {
            if matches!(output.to, Destination::Redirect(_)) {
                return Err(ChangeError::Redirected(output.name.clone()));
            }
            if names.contains(&&output.name) {
                return Err(ChangeError::Twice(output.name.clone()));
            }
            names.push(&output.name);
        }
        if self.stalls() { Err(ChangeError::Stalls) } else { Ok(()) }
    }

    /// Says whether a worker has not taken over the last change.
    fn stalls(&self) -> bool {
        self.pending.is_some() || self.workers.iter().any(Sender::is_full)
    }

    /// Tells all workers. A worker that has ended needs no change.
    fn tell(
        &self,
        outlets: Vec<Vec<Outlet>>,
        remove: &Arc<[String]>,
        change: &Arc<[OutputPlan]>,
        forget: Option<&Arc<Forget>>,
    ) -> Receiver<Vec<Outlet>> {
        let (done, gone) = unbounded();
        for (worker, add) in self.workers.iter().zip(outlets) {
            let (allowed, policy) = (Arc::clone(&self.allowed), Arc::clone(&self.policy));
            let (remove, change, done) = (Arc::clone(remove), Arc::clone(change), done.clone());
            let (forget, reserved_bits) = (forget.cloned(), self.reserved_bits);
            let _ = worker.try_send(Change { allowed, reserved_bits, policy, add, remove, change, forget, done });
        }
        gone
    }

    /// Forgets sessions that have sent nothing for `idle`, so that others can have their numbers:
    /// one step of it. Workers forget them first. When the outputs have completed their files, the
    /// numbers are free. Returns whether there is another step.
    ///
    /// # Errors
    /// A worker stalls. Nothing is lost by it.
    pub(super) fn expire(&mut self, idle: Duration) -> Result<bool, ChangeError> {
        // Each step tells the workers something, which has to reach all of them.
        if self.stalls() {
            return Ok(self.leaving.is_some());
        }
        if let Some(leaving) = self.leaving.take_if(|leaving| leaving.forget.strong_count() == 0) {
            // What the others did before they let go of it is done.
            fence(Ordering::Acquire);
            let sessions = self.free(&leaving.sessions, leaving.taken_over);
            tracing::info!(sessions, idle = %humantime::format_duration(idle), "mirror sessions that sent nothing are forgotten");
            // What is beyond the limit may have a number now.
            return self.change(Changes::default()).map(|()| false);
        }
        // Nobody here knows when the last frame of a session was redirected that is not seen.
        if self.leaving.is_some() || self.unseen {
            return Ok(self.leaving.is_some());
        }
        // An output that was taken away does not hear what is forgotten, and asks whose a number is
        // as long as it has frames.
        if !self.retiring.is_empty() {
            if self.held_up.begins() {
                tracing::info!("no mirror session is forgotten until all outputs that were taken away have finished");
            }
            return Ok(false);
        }
        self.held_up.ends();
        let (before, taken_over) = (Timestamp::now().saturating_sub(idle), self.registry.given());
        let sessions = self.registry.let_go(before, |id| self.last(id).is_none_or(|last| last < before));
        if sessions.is_empty() {
            return Ok(false);
        }
        let forget = Arc::new(Forget { sessions: sessions.clone().into() });
        self.leaving = Some(Leaving { sessions, forget: Arc::downgrade(&forget), taken_over });
        let none = self.workers.iter().map(|_| Vec::new()).collect();
        let done = self.tell(none, &Arc::from([]), &Arc::from([]), Some(&forget));
        drop(forget);
        if wait(&done, Instant::now() + PATIENCE) { Ok(true) } else { Err(ChangeError::Slow) }
    }

    /// Returns the time of the last frame of a session, as far as workers have not forgotten it.
    fn last(&self, id: SessionId) -> Option<Timestamp> {
        self.ledger.workers.iter().filter_map(|worker| worker.sessions.last(id.index())).max()
    }

    /// Frees the numbers of these sessions, of which nobody has anything any more. Returns how many
    /// are free.
    fn free(&self, sessions: &[SessionId], taken_over: u64) -> usize {
        let free = |forget: &mut dyn FnMut(Seat)| self.registry.free(sessions, taken_over, |id| forget(id.seat()));
        self.ledger.outputs.forgetting(free)
    }

    /// Has the outputs that stay write by their new plans from the next file on.
    fn replan(&self, plans: &[OutputPlan]) {
        for plan in plans {
            let Some(sink) = self.sinks.iter().find(|sink| sink.name == plan.name) else { continue };
            sink.gauge.essential.store(plan.essential, Ordering::Relaxed);
            if let (Some(replans), Destination::Files(files)) = (&sink.replans, &plan.to) {
                replans.put(files.clone());
            }
        }
    }

    /// Says whether a change is not made by all yet, or an output that has gone has not finished.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some() || !self.retiring.is_empty()
    }

    /// Joins the threads of outputs that have gone and have finished, and completes a change that
    /// all workers have made meanwhile.
    pub(super) fn reap(&mut self) {
        if self.settle(Instant::now()) {
            tracing::info!("the worker that stalled goes on: the last change is in force");
        }
        for Running { name, thread, gauge, .. } in self.retiring.extract_if(.., |sink| sink.thread.is_finished()) {
            let stays = self.sinks.iter().any(|sink| sink.gauge.interface == gauge.interface);
            if let Some(interface) = gauge.interface.as_ref().filter(|_| !stays) {
                self.store.forget(&kept_name(interface));
            }
            match thread.join() {
                Ok(()) => tracing::info!(output = name, "the output has finished"),
                Err(_) => self.failures.push(format!("the output {name} panicked: please report this")),
            }
        }
    }

    /// Waits until all outputs have finished. The workers have ended before. Returns what failed,
    /// each in a sentence.
    pub(super) fn finish(mut self) -> Vec<String> {
        for Running { name, thread, .. } in self.sinks.drain(..).chain(self.retiring.drain(..)) {
            if thread.join().is_err() {
                self.failures.push(format!("the output {name} panicked: please report this"));
            }
        }
        if let Some(Leaving { mut sessions, taken_over, .. }) = self.leaving.take() {
            // A worker that ended before it heard of them has not forgotten them.
            sessions.retain(|id| self.last(*id).is_none());
            self.free(&sessions, taken_over);
        }
        self.failures
    }
}

/// Waits until `end` for all workers to make a change, and drops what they give up. Returns whether
/// they have made it.
fn wait(done: &Receiver<Vec<Outlet>>, end: Instant) -> bool {
    loop {
        match done.recv_deadline(end) {
            Ok(gone) => drop(gone),
            Err(error) => return error == RecvTimeoutError::Disconnected,
        }
    }
}

#[cfg(test)]
mod tests;
