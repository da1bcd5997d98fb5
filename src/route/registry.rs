//! All workers share one registry of sessions.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::SessionId;
use super::policy::Policy;
use super::tags::Tags;
use crate::session::{Label, Session, Tag};

/// A registry gives sessions their numbers, up to a limit. It is locked only when a session is seen
/// first, or named.
#[derive(Debug)]
pub struct Registry {
    limit: u32,
    /// The length of `sessions`, by which a worker sees without the lock whether there is anything
    /// new.
    count: AtomicU32,
    /// The number of times that sessions were given other labels.
    labelled: AtomicU32,
    sessions: Mutex<Sessions>,
    /// The number of tags that are kept elsewhere. It is locked while they are.
    kept: Mutex<usize>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Session number n is at n - 1.
    all: Vec<Registered>,
    ids: HashMap<Session, SessionId, foldhash::fast::RandomState>,
    /// The tags of sessions, where they have some.
    tags: Option<Tags>,
}

/// A session with what is known of it beside its number.
#[derive(Debug)]
struct Registered {
    session: Session,
    /// The port that its first datagram came to.
    port: u16,
    label: Label,
}

impl Registry {
    /// Makes a registry for up to `limit` sessions.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            count: AtomicU32::new(0),
            labelled: AtomicU32::new(0),
            sessions: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Gives each session a tag from now on, those that are listed the one that they have there.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> Self {
        *self.kept.get_mut() = tags.all().len();
        self.sessions.get_mut().tags = Some(tags);
        self
    }

    /// Returns the tag of the session of number `id`. The overflow session has that of the rest.
    #[must_use]
    pub(crate) fn tag(&self, id: SessionId) -> Tag {
        self.label(id).tag.unwrap_or(Tag::REST)
    }

    /// Has `keep` keep all tags, where there are some that it has not kept yet.
    ///
    /// # Errors
    /// Those of `keep`, which is asked again the next time.
    pub(crate) fn save_tags<E>(&self, keep: impl FnOnce(&[(Session, Tag)]) -> Result<(), E>) -> Result<(), E> {
        let mut kept = self.kept.lock();
        // They are copied, so that no worker waits for the file.
        let tags = match &self.lock().tags {
            Some(tags) if tags.all().len() > *kept => tags.all().to_vec(),
            _ => return Ok(()),
        };
        keep(&tags)?;
        *kept = tags.len();
        Ok(())
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

    /// Returns the number of `session`, a new one where it is not known; none at the limit. A new
    /// one has the label that `policy` has for it, by the `port` that its datagram came to.
    pub(super) fn register(&self, session: Session, port: u16, policy: &Policy) -> Option<SessionId> {
        let mut sessions = self.lock();
        if let Some(id) = sessions.ids.get(&session) {
            return Some(*id);
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= self.limit {
            return None;
        }
        let id = SessionId(count + 1);
        let tag = sessions.tags.as_mut().map(|tags| tags.of(session));
        let label = Label { tag, ..policy.plan_of(&session, port).label.clone() };
        sessions.all.push(Registered { session, port, label });
        sessions.ids.insert(session, id);
        self.count.store(count + 1, Ordering::Release);
        Some(id)
    }

    /// Gives all sessions the labels that `policy` has for them. Called when all workers have the
    /// policy: one that does not may give a new session the label of before.
    pub fn relabel(&self, policy: &Policy) {
        for Registered { session, port, label } in &mut self.lock().all {
            *label = Label { tag: label.tag, ..policy.plan_of(session, *port).label.clone() };
        }
        self.labelled.fetch_add(1, Ordering::Release);
    }

    /// Returns how often sessions were given other labels. Whoever remembers a label looks whether
    /// that has grown.
    #[must_use]
    pub(crate) fn labelled(&self) -> u32 {
        self.labelled.load(Ordering::Acquire)
    }

    /// Returns the label of the session of number `id`; an empty one for the overflow session.
    #[must_use]
    pub(crate) fn label(&self, id: SessionId) -> Label {
        let place = id.index().checked_sub(1);
        place.and_then(|place| Some(self.lock().all.get(place)?.label.clone())).unwrap_or_default()
    }

    /// Returns all sessions with their labels, in the order of their numbers.
    #[must_use]
    pub(crate) fn sessions(&self) -> Vec<(Session, Label)> {
        self.lock().all.iter().map(|known| (known.session, known.label.clone())).collect()
    }

    /// Returns the sessions after the first `known`, in their order. They are copied, so that
    /// nobody waits for what the caller does with them.
    #[must_use]
    pub(crate) fn since(&self, known: u32) -> Vec<(SessionId, Session)> {
        let sessions = self.lock();
        let all = sessions.all.iter().map(|known| known.session);
        (1..).map(SessionId).zip(all).skip(known as usize).collect()
    }

    /// Returns the session of number `id`; none for the overflow session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<Session> {
        Some(self.lock().all.get(id.index().checked_sub(1)?)?.session)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Every change is complete before the next that could panic, so a poisoned lock still
        // guards whole data.
        self.sessions.lock()
    }
}
