//! A worker has a table of its sessions.

use std::sync::Arc;

use hashbrown::HashMap;

use super::policy::{PlanNumber, Policy};
use super::{Registry, SessionId};
use crate::ledger::{Seat, SessionCounts};
use crate::record::Timestamp;
use crate::session::{Session, Words};

/// Sessions without a number whose plan is remembered.
const REMEMBERED: usize = 256;

/// Finds the session of a frame and counts it. The table is owned by one worker: no lock, and no
/// allocation but when a session is seen first.
///
/// A full registry takes no more sessions: then one atomic load shows that a session that is not in
/// this table is beyond the limit, so a flood of new sessions never takes the lock. Nor does a
/// session whose frames go nowhere by its plan, which gets no number.
#[derive(Debug)]
pub struct SessionTable {
    registry: Arc<Registry>,
    /// Sessions taken over from the registry so far.
    known: u32,
    /// Each session by its own words, and by those of every port that it came to where plans depend
    /// on the port.
    ids: HashMap<Words, Known, foldhash::fast::RandomState>,
    /// The session of the frame before: mirror traffic comes in trains.
    last: (Words, Known),
    /// The counts of the frames, by the session's number.
    counts: Arc<SessionCounts>,
    policy: Arc<Policy>,
    port_mask: u16,
    /// The number of policies that the table has had: a plan of an earlier one is asked for again.
    generation: u32,
    /// Sessions without a number, with their plans.
    unnumbered: Box<[(Words, Known)]>,
}

/// What belongs to a session.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: SessionId,
    /// The policy that the plan is of.
    generation: u32,
    plan: PlanNumber,
    /// Where its frames are counted. It follows from the number, but to look it up with the number
    /// is quicker than to work it out for each frame where sessions mix.
    seat: Seat,
}

impl Known {
    /// Makes what is known of a session of this number: frames that go nowhere are not counted as
    /// the session's.
    fn new(id: SessionId, plan: PlanNumber, generation: u32) -> Self {
        let counted = if plan == PlanNumber::DROP { SessionId::OVERFLOW } else { id };
        Self { id, generation, plan, seat: Seat::of(counted.index()) }
    }
}

/// What a frame's session is, and the plan for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number, or [`SessionId::OVERFLOW`] beyond the limit. It means nothing with
    /// [`PlanNumber::DROP`].
    pub id: SessionId,
    /// The plan.
    pub plan: PlanNumber,
}

impl SessionTable {
    /// Makes a table that shares `registry` with the other workers'. The frames of all sessions go
    /// to all outputs.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        let none = (Words::NONE, Known::new(SessionId::OVERFLOW, PlanNumber::PLAIN, 0));
        Self {
            registry,
            known: 0,
            ids: HashMap::default(),
            last: none,
            counts: Arc::default(),
            policy: Arc::default(),
            port_mask: 0,
            generation: 0,
            unnumbered: vec![none; REMEMBERED].into(),
        }
    }

    /// Has frames counted there from now on.
    pub(crate) fn count_in(&mut self, counts: Arc<SessionCounts>) {
        self.counts = counts;
    }

    /// Treats frames by this policy from now on. Each session's plan is asked for when its next
    /// frame comes.
    pub(crate) fn adopt(&mut self, policy: Arc<Policy>) {
        self.generation = self.generation.wrapping_add(1);
        if self.port_mask != 0 {
            self.ids.retain(|words, _| words.is_of_every_port());
        }
        self.port_mask = policy.port_mask();
        self.policy = policy;
        self.forget_unnumbered();
    }

    /// Returns the policy.
    #[inline]
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the number of `session`, given on first sight, or [`SessionId::OVERFLOW`] beyond the
    /// limit. Counts a frame of `bytes` bytes received at `time`.
    #[inline]
    pub fn count(&mut self, session: Session, bytes: usize, time: Timestamp) -> SessionId {
        self.see(&session, 0, bytes, time).id
    }

    /// Finds the session and its plan, by the port that its datagram came to. Counts a frame of
    /// `bytes` bytes received at `time`, unless it goes nowhere.
    #[inline]
    pub(crate) fn see(&mut self, session: &Session, port: u16, bytes: usize, time: Timestamp) -> Seen {
        let Known { id, seat, plan, .. } = self.look_up(session, port);
        // Frames beyond the limit are counted too, in a seat that no session has and nobody reads.
        self.counts.add(seat, 1, bytes as u64, [time, time]);
        Seen { id, plan }
    }

    /// Adds what was counted elsewhere of `session`. Its frames went somewhere, so it has a number
    /// whatever its plan is by now.
    pub(crate) fn add(
        &mut self,
        session: Session,
        frames: u64,
        bytes: u64,
        [first, last]: [Timestamp; 2],
    ) -> SessionId {
        let known = self.ids.get(&session.words()).map(|known| known.id);
        let id = known.or_else(|| self.first_sight(&session, 0)).unwrap_or(SessionId::OVERFLOW);
        if id != SessionId::OVERFLOW && frames > 0 {
            self.counts.add(Seat::of(id.index()), frames, bytes, [first, last]);
        }
        id
    }

    #[inline]
    fn look_up(&mut self, session: &Session, port: u16) -> Known {
        let words = session.words().at(port & self.port_mask);
        if self.last.0 != words {
            let known = match self.ids.get(&words) {
                Some(known) if known.generation == self.generation => *known,
                Some(Known { id, .. }) => self.ask(*id, session, port, words),
                None => self.unknown(session, port, words),
            };
            self.last = (words, known);
        }
        self.last.1
    }

    /// Asks for the plan of a session that has a number.
    #[cold]
    fn ask(&mut self, id: SessionId, session: &Session, port: u16, words: Words) -> Known {
        let known = Known::new(id, self.policy.number_of(session, port), self.generation);
        self.ids.insert(words, known);
        known
    }

    /// Finds out about a session that is not in the table, with this port.
    #[cold]
    fn unknown(&mut self, session: &Session, port: u16, words: Words) -> Known {
        let mut plan = PlanNumber::PLAIN;
        if !self.policy.is_empty() {
            match self.unnumbered.get(words.slot()) {
                Some((remembered, known)) if *remembered == words => return *known,
                _ => {}
            }
            if self.port_mask != 0
                && let Some(known) = self.ids.get(&session.words())
            {
                return self.ask(known.id, session, port, words);
            }
            plan = self.policy.number_of(session, port);
        }
        // A session whose frames go nowhere must not use up a number.
        let id = if plan == PlanNumber::DROP { None } else { self.first_sight(session, port) };
        if let Some(id) = id {
            return self.ask(id, session, port, words);
        }
        let known = Known::new(SessionId::OVERFLOW, plan, self.generation);
        if let Some(remembered) = self.unnumbered.get_mut(words.slot()) {
            *remembered = (words, known);
        }
        known
    }

    /// Has a session numbered, and takes over those that other workers saw first. Returns none
    /// beyond the limit.
    fn first_sight(&mut self, session: &Session, _port: u16) -> Option<SessionId> {
        if self.known == self.registry.limit() {
            return None;
        }
        let id = self.registry.register(*session);
        // Their plans are asked for when their frames come.
        let earlier = self.generation.wrapping_sub(1);
        for (id, session) in self.registry.since(self.known) {
            self.ids.insert(session.words(), Known::new(id, PlanNumber::PLAIN, earlier));
            self.known += 1;
        }
        id
    }

    /// Forgets which sessions have no number.
    fn forget_unnumbered(&mut self) {
        let none = (Words::NONE, Known::new(SessionId::OVERFLOW, PlanNumber::PLAIN, self.generation));
        self.unnumbered.fill(none);
        self.last = none;
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Entry, Match, SessionPlan};
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
        let seven = a.count(session(7), 64, at(5));
        let eight = b.count(session(8), 64, at(6));
        assert_ne!(seven, eight);
        assert_eq!(b.count(session(7), 100, at(3)), seven);
        assert_eq!(a.count(session(8), 1, at(9)), eight);
        assert_eq!(registry.count(), 2);
        assert_eq!(registry.session(seven), Some(session(7)));
        assert_eq!(registry.session(SessionId::OVERFLOW), None);
    }

    #[test]
    fn the_same_vni_from_two_sources_is_two_sessions() {
        let mut table = SessionTable::new(Arc::new(Registry::new(10)));
        let other = Session { source: Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped(), ..session(1) };
        assert_ne!(table.count(session(1), 64, at(1)), table.count(other, 64, at(1)));
    }

    #[test]
    fn beyond_the_limit_all_is_overflow_and_memory_stays() {
        let registry = Arc::new(Registry::new(3));
        let mut a = SessionTable::new(Arc::clone(&registry));
        let mut b = SessionTable::new(Arc::clone(&registry));
        a.count(session(0), 64, at(1));
        let mut overflow = 0;
        for vni in 0..10_000 {
            overflow += u64::from(b.count(session(vni), 64, at(1)) == SessionId::OVERFLOW);
            a.count(session(vni), 64, at(1));
        }
        assert_eq!(registry.count(), 3);
        assert_eq!(overflow, 9_997);
        assert!(b.ids.len() == 3);
        assert_eq!(a.count(session(2), 64, at(1)), b.count(session(2), 64, at(1)));
    }

    #[test]
    fn totals_have_first_and_last() {
        let (mut ledger, registry) = (Ledger::default(), Arc::new(Registry::new(3)));
        let mut table = SessionTable::new(Arc::clone(&registry));
        table.count_in(Arc::clone(&ledger.worker().sessions));
        let totals = || ledger.sessions(registry.sessions());
        for (bytes, time) in [(60, 20), (40, 10), (50, 30)] {
            table.count(session(1), bytes, at(time));
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

    /// Makes a policy that drops these VNIs and cuts the frames of those.
    fn dropping(drop: &[u32], cut: &[u32], port: Option<u16>) -> Arc<Policy> {
        let entry = |vnis: &[u32], plan| {
            let vnis = Some(vnis.iter().filter_map(|vni| Vni::new(*vni)).collect());
            Entry { sessions: Match { vnis, port, ..Match::default() }, plan }
        };
        let entries = vec![
            entry(drop, SessionPlan { drop: true, ..SessionPlan::default() }),
            entry(cut, SessionPlan { snaplen: Some(64), ..SessionPlan::default() }),
        ];
        Arc::new(Policy::new(entries).unwrap())
    }

    fn see(table: &mut SessionTable, vni: u32, port: u16) -> (SessionId, PlanNumber) {
        let Seen { id, plan } = table.see(&session(vni), port, 64, at(1));
        (id, plan)
    }

    #[test]
    fn a_session_that_goes_nowhere_has_no_number_and_the_others_have_their_plans() {
        let mut ledger = Ledger::default();
        let registry = Arc::new(Registry::new(2));
        let mut table = SessionTable::new(Arc::clone(&registry));
        table.count_in(Arc::clone(&ledger.worker().sessions));
        let all: Vec<u32> = (100..2000).collect();
        table.adopt(dropping(&all, &[2, 4], None));
        for round in 0..2 {
            for vni in &all {
                assert_eq!(see(&mut table, *vni, 1).1, PlanNumber::DROP, "{round} {vni}");
            }
            assert_eq!(registry.count(), 2 * round);
            let ids = [1, 2, 3, 4].map(|vni| see(&mut table, vni, 1));
            assert_eq!(ids.map(|(id, _)| id.index()), [1, 2, 0, 0]);
            let [plain, cut, other, also_cut] = ids.map(|(_, plan)| plan);
            assert_eq!((plain, other), (PlanNumber::PLAIN, PlanNumber::PLAIN));
            assert_eq!(cut, also_cut, "beyond the limit too");
            assert_eq!(table.policy().plan(cut).snaplen, Some(64));
        }
        let frames: Vec<u64> = ledger.sessions(registry.sessions()).iter().map(|s| s.frames).collect();
        assert_eq!(frames, [2, 2]);
    }

    #[test]
    fn another_policy_is_asked_for_every_session() {
        let mut ledger = Ledger::default();
        let registry = Arc::new(Registry::new(2));
        let mut table = SessionTable::new(Arc::clone(&registry));
        table.count_in(Arc::clone(&ledger.worker().sessions));
        let plans = |table: &mut SessionTable| [1, 2, 3, 1].map(|vni| see(table, vni, 1).1);
        let (plain, drop) = (PlanNumber::PLAIN, PlanNumber::DROP);
        assert_eq!(plans(&mut table), [plain; 4]);
        table.adopt(dropping(&[1, 3], &[], None));
        assert_eq!(plans(&mut table), [drop, plain, drop, drop]);
        table.adopt(dropping(&[2], &[], None));
        assert_eq!(plans(&mut table), [plain, drop, plain, plain]);
        assert_eq!(see(&mut table, 1, 1).0.index(), 1, "the number that it had");
        table.adopt(Arc::default());
        assert_eq!(plans(&mut table), [plain; 4]);
        let frames: Vec<u64> = ledger.sessions(registry.sessions()).iter().map(|s| s.frames).collect();
        assert_eq!(frames, [2 + 2 + 1 + 2, 3], "of the frames that went somewhere");
    }

    #[test]
    fn a_plan_may_depend_on_the_port() {
        let registry = Arc::new(Registry::new(1));
        let mut table = SessionTable::new(Arc::clone(&registry));
        table.adopt(dropping(&[1, 9], &[], Some(8472)));
        let (plain, drop) = (PlanNumber::PLAIN, PlanNumber::DROP);
        for _ in 0..2 {
            for (vni, port, number, plan) in
                [(1, 8472, 0, drop), (1, 4789, 1, plain), (1, 8472, 1, drop), (9, 8472, 0, drop), (9, 4789, 0, plain)]
            {
                let (id, found) = see(&mut table, vni, port);
                assert_eq!(found, plan, "{vni} {port}");
                assert!(plan == drop || id.index() == number, "{vni} {port}: {id:?}");
            }
        }
        assert_eq!(registry.count(), 1);
        table.adopt(Arc::default());
        assert_eq!(see(&mut table, 1, 8472), see(&mut table, 1, 4789));
        assert_eq!(table.ids.len(), 1);
    }
}
