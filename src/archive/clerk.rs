//! The clerk is the archive's thread.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, select};

use super::books::Books;
use super::handover::{Replan, Task};
use super::names;
use super::plan::Encoding;
use super::queue::{FILES, Queue};
use super::recovery::Recovery;
use super::stock::Stock;
use super::takeover;
use crate::evidence::Contents;

/// The time between two looks at the budget, and between two attempts at what failed.
const TICK: Duration = Duration::from_secs(1);
/// The number of times that the end tries to publish what could not be published, and the time
/// between two of them. What is short, as descriptors, may come back.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);

/// Does what the archive is asked to do, one thing after the other.
#[derive(Debug)]
pub(super) struct Clerk {
    books: Books,
    stock: Stock,
    queue: Queue,
    recovery: Recovery,
    /// The time for which the end waits for consumers: see [`super::ArchivePlan::patience`].
    patience: Option<Duration>,
}

impl Clerk {
    /// Takes over what the directory has: what is published counts in the budget, what was
    /// announced is completed, and what a crash left behind is listed, to be salvaged by and by.
    pub(super) fn new(mut books: Books, mut stock: Stock, encoding: Encoding, contents: &Contents) -> Self {
        takeover::take_over(contents, &mut books, &mut stock);
        let recovery = Recovery::find(&books, contents);
        stock.deliveries.take_over(contents, &books);
        Self { books, stock, queue: Queue::new(encoding), recovery, patience: None }
    }

    /// Has the end wait for consumers for so long.
    pub(super) fn waits(self, patience: Option<Duration>) -> Self {
        Self { patience, ..self }
    }

    /// Works until the last file is handed over, then completes what can be.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        let mut next_tick = Instant::now();
        let done = self.stock.deliveries.done();
        loop {
            let now = Instant::now();
            let look = self.stock.pruning.keeper.look();
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick();
            } else if look.is_some_and(|look| now >= look) {
                self.stock.keep_budget(&mut self.books);
            }
            let idle = self.stock.pruning.keeper.look().map_or(next_tick, |look| look.min(next_tick));
            let due = if self.recovery.is_empty() { idle } else { now };
            select! {
                recv(tasks) -> task => match task {
                    Ok(task) => self.work_off(task, tasks),
                    Err(RecvError) => break,
                },
                recv(done) -> done => done.into_iter().for_each(|done| self.stock.deliveries.hear(done)),
                default(due.saturating_duration_since(Instant::now())) => {
                    if !self.recovery.is_empty() {
                        self.recovery.salvage_one(&mut self.books, &mut self.stock);
                        self.stock.keep_budget(&mut self.books);
                    }
                }
            }
        }
        self.end();
    }

    /// Does a task, and what waits behind it.
    fn work_off(&mut self, task: Task, tasks: &Receiver<Task>) {
        let (mut files, mut next) = (VecDeque::new(), Some(task));
        let last = loop {
            match next {
                Some(Task::Publish(closed)) => files.push_back(closed),
                other => break other,
            }
            next = if files.len() < FILES { tasks.try_recv().ok() } else { None };
        };
        // Lines are in the order of what they tell of.
        self.queue.publish(files, &mut self.books, &mut self.stock);
        match last {
            Some(Task::Salvage(broken)) => self.recovery.add(broken, &mut self.books),
            Some(Task::Lost(session, losses)) => self.books.record_loss(session, losses),
            Some(Task::Replan(replan)) => self.replan(*replan),
            Some(Task::Publish(_)) | None => {}
        }
    }

    /// Goes by another plan from here on.
    fn replan(&mut self, Replan { plan, encoding }: Replan) {
        let synced = self.books.syncs();
        self.books.replan(&plan);
        if self.books.syncs() && !synced {
            names::sync(&*self.books.storage, &self.books.directory);
        }
        self.stock.pruning.keeper.replan(plan.budget);
        self.patience = plan.patience;
        self.queue.encode(encoding);
        if let Err(error) = self.stock.deliveries.replan(plan.on_publish.as_deref(), &self.books) {
            let text = "the command of --on-publish cannot be run for what is published from here on";
            tracing::error!(%error, "{}", self.books.wording.put(text));
        }
        self.stock.pruning.announce(&self.stock.deliveries);
        self.stock.keep_budget(&mut self.books);
    }

    /// Tries again what failed, and keeps the budget.
    fn tick(&mut self) {
        self.books.look_for_manifest();
        self.books.write_again();
        self.queue.retry(&mut self.books, &mut self.stock);
        self.recovery.retry();
        self.stock.pruning.remove_pruned(&mut self.books);
        self.stock.keep_budget(&mut self.books);
        self.stock.pruning.report();
        if self.recovery.is_done() {
            self.stock.deliveries.forget_unnamed();
        }
        self.stock.deliveries.tick(&self.books);
    }

    fn end(mut self) {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            // What an earlier process left can wait for the next.
            self.recovery.keep_own();
            while !self.recovery.is_empty() {
                self.recovery.salvage_one(&mut self.books, &mut self.stock);
            }
            self.tick();
            let is_done = self.queue.is_empty() && self.books.unwritten().len() == 0 && self.recovery.own().len() == 0;
            // Trying again would not help once somebody changed the manifest.
            if is_done || self.books.is_edited() {
                break;
            }
        }
        let unpublished = self.queue.give_up_all(&mut self.books);
        self.books.counters.unpublished.add(self.recovery.own().len() as u64);
        for path in unpublished.iter().map(|names| &*names.part).chain(self.recovery.own()) {
            tracing::error!(
                path = %path.display(),
                "a capture file could not be published: it stays under this name, and the next start salvages it"
            );
        }
        self.stock.deliveries.finish(self.patience, &self.books);
        // What was kept for a consumer that is done now may go.
        self.stock.keep_budget(&mut self.books);
        for event in self.books.unwritten() {
            let line = serde_json::to_string(event).unwrap_or_default();
            tracing::error!(
                line,
                "a line about what has happened could not be written to the manifest, and is missing there"
            );
        }
        tracing::info!(
            files = self.stock.pruning.keeper.shelf.files(),
            last_line = %self.books.manifest.head(),
            "captures on record; the hash of the manifest's last line, noted elsewhere, is for vxtap verify --head"
        );
    }
}
