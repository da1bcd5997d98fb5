//! All workers share one registry of sessions.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::SessionId;
use crate::session::Session;

/// A registry gives sessions their numbers, up to a limit. It is locked only when a session is seen
/// first, or named.
#[derive(Debug)]
pub struct Registry {
    limit: u32,
    /// The length of `sessions`, by which a worker sees without the lock whether there is anything
    /// new.
    count: AtomicU32,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Session number n is at n - 1.
    all: Vec<Session>,
    ids: HashMap<Session, SessionId, foldhash::fast::RandomState>,
}

impl Registry {
    /// Makes a registry for up to `limit` sessions.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, count: AtomicU32::new(0), sessions: Mutex::default() }
    }

    /// Returns the most sessions that there can be.
    #[must_use]
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns how many sessions were seen so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns the number of `session`, a new one where it is not known; none at the limit.
    pub(super) fn register(&self, session: Session) -> Option<SessionId> {
        let mut sessions = self.lock();
        if let Some(id) = sessions.ids.get(&session) {
            return Some(*id);
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= self.limit {
            return None;
        }
        let id = SessionId(count + 1);
        sessions.all.push(session);
        sessions.ids.insert(session, id);
        self.count.store(count + 1, Ordering::Release);
        Some(id)
    }

    /// Returns all sessions, in the order of their numbers.
    #[must_use]
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.lock().all.clone()
    }

    /// Returns the sessions after the first `known`, in their order. They are copied, so that
    /// nobody waits for what the caller does with them.
    #[must_use]
    pub(crate) fn since(&self, known: u32) -> Vec<(SessionId, Session)> {
        (1..).map(SessionId).zip(self.lock().all.iter().copied()).skip(known as usize).collect()
    }

    /// Returns the session of number `id`; none for the overflow session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<Session> {
        self.lock().all.get(id.index().checked_sub(1)?).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Every change is complete before the next that could panic, so a poisoned lock still
        // guards whole data.
        self.sessions.lock()
    }
}
