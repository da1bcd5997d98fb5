//! A backlog has the captures that a consumer is owed and has no room for: those of earlier runs,
//! and those that came faster than it worked.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use super::consumer::Job;
use super::job::old_job;
use crate::archive::books::Books;
use crate::episode::Episode;
use crate::evidence::Capture;

/// Captures of which the backlog has all that a consumer is told. Of others it has the paths. Tests
/// have few captures.
const MOST: usize = if cfg!(test) { 80 } else { 10_000 };

/// After a try to read captures that failed for some, the next one waits a second, and as many
/// times as long as the try took.
const AGAIN: Duration = Duration::from_secs(1);
const LONGER: u32 = 20;

/// Captures whose turn has not come.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The first of them.
    jobs: VecDeque<Job>,
    /// The paths of the others. Their lines are read again when there are no jobs left.
    later: BTreeSet<String>,
    /// The next time at which captures are read, where some could not be.
    next_read: Option<Instant>,
    /// Lasts while captures cannot be read.
    unreadable: Episode,
}

/// The captures that were to be read and turned out to be missing or unknown.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Captures on record whose file is not there.
    pub(super) missing: Vec<String>,
    /// Captures that are not on record, or no longer.
    pub(super) unknown: Vec<String>,
}

impl Backlog {
    /// Returns the number of captures.
    pub(super) fn len(&self) -> usize {
        self.jobs.len() + self.later.len()
    }

    /// Adds a capture behind the others.
    pub(super) fn push(&mut self, job: Job) {
        if self.later.is_empty() && self.jobs.len() < MOST {
            self.jobs.push_back(job);
        } else {
            self.later.insert(job.capture.path);
        }
    }

    /// Adds captures of which the path is known.
    pub(super) fn add_paths(&mut self, paths: impl IntoIterator<Item = String>) {
        self.later.extend(paths);
    }

    /// Takes the first capture out, as long as captures need not be read for it.
    pub(super) fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Puts a capture back that was taken out.
    pub(super) fn put_back(&mut self, job: Job) {
        self.jobs.push_front(job);
    }

    /// Forgets a capture. Returns false where the backlog does not have it.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let before = self.len();
        self.later.remove(path);
        self.jobs.retain(|job| job.capture.path != path);
        self.len() < before
    }

    /// Reads captures of which only the path is known, where there are no others left. What cannot
    /// be read stays, and is tried again later.
    pub(super) fn read(&mut self, consumer: &str, books: &Books) -> Found {
        let begin = Instant::now();
        let mut found = Found::default();
        if !self.jobs.is_empty() || self.later.is_empty() || self.next_read.is_some_and(|next| begin < next) {
            return found;
        }
        match self.try_to_read(&mut found, books) {
            Ok(()) => {
                self.next_read = None;
                self.unreadable.ends();
            }
            Err(error) => {
                self.next_read = Some(Instant::now() + AGAIN + begin.elapsed() * LONGER);
                if self.unreadable.begins() {
                    tracing::warn!(
                        %error, consumer,
                        "cannot read captures that a consumer has not heard of; trying again"
                    );
                }
            }
        }
        found
    }

    /// # Errors
    /// The manifest cannot be read, or the system does not tell whether some file is there. Others
    /// are read all the same.
    fn try_to_read(&mut self, found: &mut Found, books: &Books) -> io::Result<()> {
        let wanted: BTreeSet<String> = self.later.iter().take(MOST).cloned().collect();
        let captures = books.manifest.captures(|path| wanted.contains(path))?;
        let mut captures: HashMap<String, Capture> =
            captures.into_iter().map(|capture| (capture.path.clone(), capture)).collect();
        let mut result = Ok(());
        for relative in wanted {
            let Some(capture) = captures.remove(&relative) else {
                self.later.remove(&relative);
                found.unknown.push(relative);
                continue;
            };
            let path = books.directory.join(&relative);
            match books.storage.status(&path) {
                Ok(Some(file)) => {
                    self.later.remove(&relative);
                    self.jobs.push_back(old_job(path, capture, file.identity, &books.storage));
                }
                Ok(None) => {
                    self.later.remove(&relative);
                    found.missing.push(relative);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }
}
