//! All workers share one registry of sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::SessionId;
use super::policy::Policy;
use super::tags::Tags;
use crate::record::Timestamp;
use crate::session::{Label, Session, Tag};

/// A registry gives sessions their numbers, up to a limit. It is locked only when a session is seen
/// first, named, or forgotten.
#[derive(Debug)]
pub struct Registry {
    limit: u32,
    /// Sessions that have a number.
    count: AtomicU32,
    /// How often a number was given, by which a worker sees without the lock whether there is
    /// anything new.
    given: AtomicU64,
    /// The number of times that sessions were given other labels.
    labelled: AtomicU32,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Session number n is at n - 1; none where the number is free.
    all: Vec<Option<Known>>,
    /// Numbers that are free again.
    free: Vec<SessionId>,
    ids: HashMap<Session, SessionId, foldhash::fast::RandomState>,
    /// The sessions in the order in which they got their numbers, as far as a worker may not have
    /// taken them over.
    given: VecDeque<(SessionId, Session)>,
    /// How often a number was given before these.
    taken_over: u64,
    /// The number of sessions that have come so far.
    come: u64,
    /// The tags of sessions, where they have some.
    tags: Option<Tags>,
}

/// What is known of a session that has a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registered {
    /// The session.
    pub session: Session,
    /// Its tag, where sessions have tags.
    pub tag: Option<Tag>,
}

/// A session, and its name if it has one.
type Seen = (Session, Option<Arc<str>>);

/// A session with what is known of it beside its number.
#[derive(Debug)]
struct Known {
    session: Session,
    /// The port that its first datagram came to.
    port: u16,
    label: Label,
    /// The time at which it got its number.
    since: Timestamp,
    /// The number of sessions that had come with it.
    come: u64,
    /// True while workers forget it. One that sees it again meanwhile has it stay.
    leaves: bool,
}

impl Registry {
    /// Makes a registry for up to `limit` sessions.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            count: AtomicU32::new(0),
            given: AtomicU64::new(0),
            labelled: AtomicU32::new(0),
            sessions: Mutex::default(),
        }
    }

    /// Gives each session a tag from now on, those that are listed the one that they have there.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> Self {
        self.sessions.get_mut().tags = Some(tags);
        self
    }

    /// Returns the tag of the session of number `id`. The overflow session has that of the rest.
    #[must_use]
    pub(crate) fn tag(&self, id: SessionId) -> Tag {
        self.label(id).tag.unwrap_or(Tag::REST)
    }

    /// Returns all tags, where there are more than `known`. They are copied, so that no worker
    /// waits for what the caller does with them.
    #[must_use]
    pub(crate) fn tags_beyond(&self, known: usize) -> Option<Vec<(Session, Tag)>> {
        let sessions = self.lock();
        let all = sessions.tags.as_ref()?.all();
        (all.len() > known).then(|| all.to_vec())
    }

    /// Says whether a session has had to do without a tag of its own, as all are given.
    #[must_use]
    pub(crate) fn is_out_of_tags(&self) -> bool {
        self.lock().tags.as_ref().is_some_and(Tags::are_out)
    }

    /// Says whether no session can get a number.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= self.limit
    }

    /// Returns how many sessions have a number.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns how often a number was given so far.
    #[must_use]
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// Returns the number of `session`, a new one where it is not known; none at the limit. A new
    /// one has the label that `policy` has for it, by the `port` that its datagram came to.
    pub(super) fn register(&self, session: Session, port: u16, policy: &Policy) -> Option<SessionId> {
        let mut sessions = self.lock();
        if let Some(id) = sessions.ids.get(&session).copied() {
            // Workers that have forgotten it take it over again.
            if sessions.of(id).is_some_and(|known| std::mem::take(&mut known.leaves)) {
                sessions.given.push_back((id, session));
                self.given.fetch_add(1, Ordering::Release);
            }
            return Some(id);
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= self.limit {
            return None;
        }
        let tag = sessions.tags.as_mut().map(|tags| tags.of(session));
        let label = Label { tag, ..policy.plan_of(&session, port).label.clone() };
        sessions.come += 1;
        let (since, come) = (Timestamp::now(), sessions.come);
        let registered = Some(Known { session, port, label, since, come, leaves: false });
        let id = match sessions.free.pop() {
            Some(id) => id,
            None => SessionId(u32::try_from(sessions.all.len()).ok()?.checked_add(1)?),
        };
        match sessions.all.get_mut(id.index().checked_sub(1)?) {
            Some(place) => *place = registered,
            None => sessions.all.push(registered),
        }
        sessions.ids.insert(session, id);
        sessions.given.push_back((id, session));
        self.count.store(count + 1, Ordering::Release);
        self.given.fetch_add(1, Ordering::Release);
        Some(id)
    }

    /// Says of which sessions workers are to forget the numbers: those that got theirs before
    /// `before`, and of which `is_idle` is true. They keep their numbers until
    /// [`Registry::free`].
    #[must_use]
    pub(crate) fn let_go(&self, before: Timestamp, is_idle: impl Fn(SessionId) -> bool) -> Vec<SessionId> {
        let mut leaving: Vec<SessionId> = {
            let sessions = self.lock();
            let all = (1..).map(SessionId).zip(&sessions.all);
            all.filter(|(_, known)| known.as_ref().is_some_and(|known| known.since < before))
                .map(|(id, _)| id)
                .collect()
        };
        // Workers can have the lock meanwhile.
        leaving.retain(|id| is_idle(*id));
        let mut sessions = self.lock();
        for id in &leaving {
            if let Some(known) = sessions.of(*id) {
                known.leaves = true;
            }
        }
        leaving
    }

    /// Returns those of these sessions that are still to be forgotten: none saw them again.
    #[must_use]
    pub(super) fn leaving(&self, sessions: &[SessionId]) -> Vec<(SessionId, Session)> {
        let mut known = self.lock();
        let leaving = sessions.iter().filter_map(|id| Some((*id, known.of(*id).filter(|known| known.leaves)?.session)));
        leaving.collect()
    }

    /// Frees the numbers of these sessions, unless one was seen again since it was let go. Called
    /// when nobody has anything of them any more, and all workers have taken over what was given
    /// until `taken_over`. Before others can have a number, `freed` hears of it. Returns how many
    /// are free.
    pub(crate) fn free(&self, leaving: &[SessionId], taken_over: u64, mut freed: impl FnMut(SessionId)) -> usize {
        let mut sessions = self.lock();
        let mut free = 0;
        for id in leaving {
            let place = id.index().checked_sub(1).and_then(|place| sessions.all.get_mut(place));
            let Some(known) = place.and_then(|place| place.take_if(|known| known.leaves)) else { continue };
            sessions.ids.remove(&known.session);
            freed(*id);
            sessions.free.push(*id);
            free += 1;
            self.count.fetch_sub(1, Ordering::Release);
        }
        while sessions.taken_over < taken_over && sessions.given.pop_front().is_some() {
            sessions.taken_over += 1;
        }
        free
    }

    /// Gives all sessions the labels that `policy` has for them. Called when all workers have the
    /// policy: one that does not may give a new session the label of before.
    pub fn relabel(&self, policy: &Policy) {
        for Known { session, port, label, .. } in self.lock().all.iter_mut().flatten() {
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
        place.and_then(|place| Some(self.lock().all.get(place)?.as_ref()?.label.clone())).unwrap_or_default()
    }

    /// Returns what is known of the session of number `id`; none for the overflow session.
    #[must_use]
    pub(crate) fn registered(&self, id: SessionId) -> Option<Registered> {
        let place = id.index().checked_sub(1)?;
        let sessions = self.lock();
        let Known { session, label, .. } = sessions.all.get(place)?.as_ref()?;
        Some(Registered { session: *session, tag: label.tag })
    }

    /// Returns all sessions with their numbers and labels, in the order of their numbers.
    #[must_use]
    pub(crate) fn sessions(&self) -> Vec<(usize, Session, Label)> {
        let sessions = self.lock();
        let known = (1..).zip(&sessions.all).filter_map(|(number, known)| Some((number, known.as_ref()?)));
        known.map(|(number, known)| (number, known.session, known.label.clone())).collect()
    }

    /// Returns the sessions that got a number after the first `known` times, in that order, and how
    /// often one was given by then. They are copied, so that nobody waits for what the caller does
    /// with them.
    #[must_use]
    pub(super) fn since(&self, known: u64) -> (Vec<(SessionId, Session)>, u64) {
        let sessions = self.lock();
        let skip = usize::try_from(known.saturating_sub(sessions.taken_over)).unwrap_or(usize::MAX);
        let new = sessions.given.iter().copied().skip(skip).collect();
        (new, sessions.taken_over + sessions.given.len() as u64)
    }

    /// Returns the sessions that have come after the first `known`, in that order, and how many
    /// have come so far, each with its name if it has one. One that was forgotten and comes back is
    /// new, unless it has its number still.
    #[must_use]
    pub(crate) fn new_since(&self, known: u64) -> (Vec<Seen>, u64) {
        let sessions = self.lock();
        if sessions.come == known {
            return (Vec::new(), known);
        }
        let mut new: Vec<&Known> = sessions.all.iter().flatten().filter(|session| session.come > known).collect();
        new.sort_unstable_by_key(|session| session.come);
        (new.into_iter().map(|new| (new.session, new.label.name.clone())).collect(), sessions.come)
    }

    /// Returns the session of number `id`; none for the overflow session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<Session> {
        Some(self.lock().all.get(id.index().checked_sub(1)?)?.as_ref()?.session)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Every change is complete before the next that could panic, so a poisoned lock still
        // guards whole data.
        self.sessions.lock()
    }
}

impl Sessions {
    fn of(&mut self, id: SessionId) -> Option<&mut Known> {
        self.all.get_mut(id.index().checked_sub(1)?)?.as_mut()
    }
}
