//! A worker has a table of its sessions.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Registry, SessionId};
use crate::ledger::{Seat, SessionCounts};
use crate::record::Timestamp;
use crate::session::{Session, Words};

/// Finds the session of a frame and counts it. The table is owned by one worker: no lock, and no
/// allocation but when a session is seen first.
///
/// A full registry takes no more sessions: then one atomic load shows that a session that is not in
/// this table is beyond the limit, so a flood of new sessions never takes the lock.
#[derive(Debug)]
pub struct SessionTable {
    registry: Arc<Registry>,
    /// Sessions taken over from the registry so far.
    known: u32,
    /// Entries have 32 bytes. What is in them besides costs cache lines where sessions mix.
    ids: HashMap<Words, SessionId, foldhash::fast::RandomState>,
    /// The session of the frame before: mirror traffic comes in trains.
    last: Last,
    /// The counts of the frames, by the session's number.
    counts: Arc<SessionCounts>,
}

/// A session as it is known again, with what belongs to it.
#[derive(Debug)]
struct Last {
    words: Words,
    id: SessionId,
    seat: Seat,
}

const _: () = assert!(size_of::<(Words, SessionId)>() == 32);

impl SessionTable {
    /// Makes a table that shares `registry` with the other workers'.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        let last = Last { words: Words::NONE, id: SessionId::OVERFLOW, seat: Seat::default() };
        Self { registry, known: 0, ids: HashMap::default(), last, counts: Arc::default() }
    }

    /// Has frames counted there from now on.
    pub(crate) fn count_in(&mut self, counts: Arc<SessionCounts>) {
        self.counts = counts;
    }

    /// Returns the number of `session`, given on first sight, or [`SessionId::OVERFLOW`] beyond the
    /// limit. Counts a frame of `bytes` bytes received at `time`.
    #[inline]
    pub fn find_and_count(&mut self, session: Session, bytes: usize, time: Timestamp) -> SessionId {
        self.look_up(&session);
        // Frames beyond the limit are counted too, in a seat that no session has and nobody reads.
        self.counts.add(self.last.seat, 1, bytes as u64, [time, time]);
        self.last.id
    }

    /// Adds what was counted elsewhere of `session`.
    pub(crate) fn add(
        &mut self,
        session: Session,
        frames: u64,
        bytes: u64,
        [first, last]: [Timestamp; 2],
    ) -> SessionId {
        self.look_up(&session);
        let Last { id, seat, .. } = self.last;
        if id != SessionId::OVERFLOW && frames > 0 {
            self.counts.add(seat, frames, bytes, [first, last]);
        }
        id
    }

    /// Makes `session` the one that was seen last.
    #[inline]
    fn look_up(&mut self, session: &Session) {
        let words = session.words();
        if self.last.words != words {
            let id = match self.ids.get(&words) {
                Some(id) => *id,
                None => self.first_sight(session),
            };
            self.last = Last { words, id, seat: Seat::of(id.index()) };
        }
    }

    #[cold]
    fn first_sight(&mut self, session: &Session) -> SessionId {
        if self.known == self.registry.limit() {
            return SessionId::OVERFLOW;
        }
        let id = self.registry.register(*session);
        for (id, session) in self.registry.since(self.known) {
            self.ids.insert(session.words(), id);
        }
        self.known = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        id.unwrap_or(SessionId::OVERFLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::wire::Vni;
    use std::net::Ipv4Addr;

    fn session(vni: u32) -> Session {
        Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(vni).unwrap())
    }

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    #[test]
    fn two_workers_give_a_session_one_number() {
        let registry = Arc::new(Registry::new(10));
        let mut a = SessionTable::new(Arc::clone(&registry));
        let mut b = SessionTable::new(Arc::clone(&registry));
        let seven = a.find_and_count(session(7), 64, at(5));
        let eight = b.find_and_count(session(8), 64, at(6));
        assert_ne!(seven, eight);
        assert_eq!(b.find_and_count(session(7), 100, at(3)), seven);
        assert_eq!(a.find_and_count(session(8), 1, at(9)), eight);
        assert_eq!(registry.count(), 2);
        assert_eq!(registry.session(seven), Some(session(7)));
        assert_eq!(registry.session(SessionId::OVERFLOW), None);
    }

    #[test]
    fn the_same_vni_from_two_sources_is_two_sessions() {
        let mut table = SessionTable::new(Arc::new(Registry::new(10)));
        let other = Session { source: Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped(), ..session(1) };
        assert_ne!(table.find_and_count(session(1), 64, at(1)), table.find_and_count(other, 64, at(1)));
    }

    #[test]
    fn beyond_the_limit_all_is_overflow_and_memory_stays() {
        let registry = Arc::new(Registry::new(3));
        let mut a = SessionTable::new(Arc::clone(&registry));
        let mut b = SessionTable::new(Arc::clone(&registry));
        a.find_and_count(session(0), 64, at(1));
        let mut overflow = 0;
        for vni in 0..10_000 {
            overflow += u64::from(b.find_and_count(session(vni), 64, at(1)) == SessionId::OVERFLOW);
            a.find_and_count(session(vni), 64, at(1));
        }
        assert_eq!(registry.count(), 3);
        assert_eq!(overflow, 9_997);
        assert!(b.ids.len() == 3);
        assert_eq!(a.find_and_count(session(2), 64, at(1)), b.find_and_count(session(2), 64, at(1)));
    }

    #[test]
    fn totals_have_first_and_last() {
        let (mut ledger, registry) = (Ledger::default(), Arc::new(Registry::new(3)));
        let mut table = SessionTable::new(Arc::clone(&registry));
        table.count_in(Arc::clone(&ledger.worker().sessions));
        let totals = || ledger.sessions(registry.sessions());
        for (bytes, time) in [(60, 20), (40, 10), (50, 30)] {
            table.find_and_count(session(1), bytes, at(time));
        }
        let sessions = totals();
        let s = &sessions[0];
        assert_eq!((s.frames, s.bytes, s.first, s.last), (3, 150, at(10), at(30)));
        // Together with what was counted elsewhere, of this session, another, and beyond the limit.
        table.add(session(1), 2, 100, [at(5), at(8)]);
        table.add(session(2), 1, 60, [at(7), at(9)]);
        table.add(session(2), 0, 0, [at(0), at(99)]);
        table.add(session(3), 1, 60, [at(1), at(1)]);
        assert_eq!(table.add(session(4), 4, 240, [at(1), at(1)]), SessionId::OVERFLOW);
        let sessions = totals();
        let got: Vec<_> = sessions.iter().map(|s| (s.session.vni.get(), s.frames, s.bytes, s.first, s.last)).collect();
        assert_eq!(got, [(1, 5, 250, at(5), at(30)), (2, 1, 60, at(7), at(9)), (3, 1, 60, at(1), at(1))]);
    }
}
