//! A worker has a table of its sessions.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::policy::{PlanNumber, Policy};
use super::{Registry, SessionId};
use crate::ledger::{Forgotten, Seat, SessionCounts};
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
    /// How often the registry had given a number when its sessions were taken over last.
    known: u64,
    /// Entries have 32 bytes. What is in them besides costs cache lines where sessions mix.
    ids: HashMap<Words, SessionId, foldhash::fast::RandomState>,
    /// Sessions that were forgotten last: they may have their numbers yet.
    forgotten: HashSet<Words, foldhash::fast::RandomState>,
    /// The session of the frame before: mirror traffic comes in trains.
    last: Last,
    /// The counts of the frames, by the session's number.
    counts: Arc<SessionCounts>,
    plans: Plans,
}

/// A session as it is known again, with what belongs to it.
#[derive(Debug)]
struct Last {
    words: Words,
    /// The port that its datagram came to, where that matters.
    port: u16,
    seen: Seen,
    seat: Seat,
}

const _: () = assert!(size_of::<(Words, SessionId)>() == 32);

/// A frame's session, and the plan for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number, or [`SessionId::OVERFLOW`] beyond the limit. It means nothing with
    /// [`PlanNumber::DROP`].
    pub id: SessionId,
    /// The plan.
    pub plan: PlanNumber,
}

/// What the policy was asked.
#[derive(Debug, Default)]
struct Plans {
    policy: Arc<Policy>,
    /// True where the policy has no entries: nothing is asked.
    is_plain: bool,
    port_mask: u16,
    /// The plans of the sessions, by their numbers, each for the port that it was asked for last.
    numbered: Vec<Option<(PlanNumber, u16)>>,
    /// Plans of sessions without a number.
    unnumbered: Vec<Option<(Words, u16, PlanNumber)>>,
}

impl SessionTable {
    /// Makes a table that shares `registry` with the other workers'. The frames of all sessions go
    /// to all outputs.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            known: 0,
            ids: HashMap::default(),
            forgotten: HashSet::default(),
            last: Last::none(),
            counts: Arc::default(),
            plans: Plans::of(Arc::default()),
        }
    }

    /// Has frames counted there from now on.
    pub(crate) fn count_in(&mut self, counts: Arc<SessionCounts>) {
        self.counts = counts;
    }

    /// Treats frames by this policy from now on. The plan of a session is asked for when its next
    /// frame comes.
    pub(crate) fn adopt(&mut self, policy: Arc<Policy>) {
        self.plans = Plans::of(policy);
        self.last = Last::none();
    }

    /// Returns the policy.
    #[inline]
    pub(crate) fn policy(&self) -> &Policy {
        &self.plans.policy
    }

    /// Returns two sessions by their numbers.
    pub(crate) fn pair(&self, first: SessionId, second: SessionId) -> Option<[Session; 2]> {
        Some([self.registry.session(first)?, self.registry.session(second)?])
    }

    /// Returns the number of `session`, given on first sight, or [`SessionId::OVERFLOW`] beyond the
    /// limit. Counts a frame of `bytes` bytes received at `time`.
    #[inline]
    pub fn find_and_count(&mut self, session: Session, bytes: usize, time: Timestamp) -> SessionId {
        self.see(&session, 0, bytes, time).id
    }

    /// Finds the session and its plan, by the port that its datagram came to. Counts a frame of
    /// `bytes` bytes received at `time`, unless it goes nowhere.
    #[inline]
    pub(crate) fn see(&mut self, session: &Session, port: u16, bytes: usize, time: Timestamp) -> Seen {
        self.look_up(session, port);
        // Frames beyond the limit are counted too, in a seat that no session has and nobody reads.
        self.counts.add(self.last.seat, 1, bytes as u64, [time, time]);
        self.last.seen
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
        let id = match self.ids.get(&session.words()) {
            Some(id) => *id,
            None => self.first_sight(&session, 0),
        };
        if id != SessionId::OVERFLOW && frames > 0 {
            self.counts.add(Seat::of(id.index()), frames, bytes, [first, last]);
        }
        id
    }

    /// Makes `session` the one that was seen last.
    #[inline(always)]
    fn look_up(&mut self, session: &Session, port: u16) {
        let words = session.words();
        if self.last.words != words || self.last.port != port & self.plans.port_mask {
            // A copy: one that is lent has to be in memory, for each frame.
            self.find(*session, words, port);
        }
    }

    #[inline(never)]
    fn find(&mut self, session: Session, words: Words, came_to: u16) {
        let port = came_to & self.plans.port_mask;
        let seen = match self.ids.get(&words) {
            Some(id) if self.plans.is_plain => Seen { id: *id, plan: PlanNumber::PLAIN },
            Some(id) => Seen { id: *id, plan: self.plans.of_numbered(*id, &session, port) },
            None => self.unknown(session, words, came_to),
        };
        // Frames that go nowhere are not counted as the session's.
        let counted = if seen.plan == PlanNumber::DROP { SessionId::OVERFLOW } else { seen.id };
        self.last = Last { words, port, seen, seat: Seat::of(counted.index()) };
    }

    /// Finds out about a session that is not in the table. It is registered with the port whether
    /// that matters to this policy or not: it may to the next.
    #[inline(never)]
    fn unknown(&mut self, session: Session, words: Words, came_to: u16) -> Seen {
        let port = came_to & self.plans.port_mask;
        if self.plans.is_plain {
            return Seen { id: self.first_sight(&session, came_to), plan: PlanNumber::PLAIN };
        }
        if let Some(plan) = self.plans.policy.decided_by_vni(session.vni) {
            let goes = plan != PlanNumber::DROP;
            let id = if goes { self.first_sight(&session, came_to) } else { SessionId::OVERFLOW };
            return Seen { id, plan };
        }
        let remembered = self.plans.remembered(&words, port);
        if let Some(plan) = remembered.filter(|plan| *plan == PlanNumber::DROP || self.is_beyond_the_limit(&words)) {
            return Seen { id: SessionId::OVERFLOW, plan };
        }
        let plan = self.plans.policy.number_of(&session, port);
        // A session whose frames go nowhere must not use up a number.
        let id = if plan == PlanNumber::DROP { SessionId::OVERFLOW } else { self.first_sight(&session, came_to) };
        if id == SessionId::OVERFLOW {
            self.plans.remember(words, port, plan);
        }
        Seen { id, plan }
    }

    /// Has a session numbered, and takes over those that other workers saw first.
    #[inline]
    fn first_sight(&mut self, session: &Session, port: u16) -> SessionId {
        let is_beyond = self.is_beyond_the_limit(&session.words());
        if is_beyond { SessionId::OVERFLOW } else { self.register(session, port) }
    }

    #[cold]
    fn register(&mut self, session: &Session, port: u16) -> SessionId {
        let id = self.registry.register(*session, port, &self.plans.policy);
        self.take_over();
        // One that was forgotten here, and not everywhere, has the number that it had.
        if let Some(id) = id {
            self.ids.insert(session.words(), id);
        }
        id.unwrap_or(SessionId::OVERFLOW)
    }

    /// Says whether a session that is not in this table is beyond the limit.
    fn is_beyond_the_limit(&self, words: &Words) -> bool {
        // In this order: a number that is given after the first look shows in the second.
        self.registry.is_full() && self.known == self.registry.given() && !self.forgotten.contains(words)
    }

    /// Takes over the sessions that got a number since the last time.
    fn take_over(&mut self) {
        let (new, known) = self.registry.since(self.known);
        self.ids.extend(new.into_iter().map(|(id, session)| (session.words(), id)));
        self.known = known;
    }

    /// Forgets sessions, unless another worker has seen them again. Their frames so far count as
    /// those of expired ones, which `expired` hears of.
    pub(crate) fn forget(&mut self, sessions: &[SessionId], mut expired: impl FnMut(Forgotten)) {
        self.look_again();
        self.take_over();
        self.forgotten.clear();
        for (id, session) in self.registry.leaving(sessions) {
            self.forgotten.extend(self.ids.remove_entry(&session.words()).map(|(words, _)| words));
            let forgotten = self.counts.forget(id.index());
            if forgotten.frames > 0 {
                expired(forgotten);
            }
            if let Some(plan) = self.plans.numbered.get_mut(id.index()) {
                *plan = None;
            }
        }
    }

    /// Looks up the session of the next frame again, whatever the last was: it may have got a
    /// number, or lost it.
    pub(crate) fn look_again(&mut self) {
        self.last = Last::none();
    }
}

impl Last {
    fn none() -> Self {
        let seen = Seen { id: SessionId::OVERFLOW, plan: PlanNumber::PLAIN };
        Self { words: Words::NONE, port: 0, seen, seat: Seat::default() }
    }
}

impl Plans {
    fn of(policy: Arc<Policy>) -> Self {
        let is_plain = policy.is_empty();
        let unnumbered = if is_plain { Vec::new() } else { vec![None; REMEMBERED] };
        Self { port_mask: policy.port_mask(), policy, is_plain, numbered: Vec::new(), unnumbered }
    }

    /// Returns the plan of a session that has a number.
    #[inline]
    fn of_numbered(&mut self, id: SessionId, session: &Session, port: u16) -> PlanNumber {
        match self.numbered.get(id.index()) {
            Some(Some((plan, asked))) if *asked == port => *plan,
            _ => self.ask(id, *session, port),
        }
    }

    #[cold]
    fn ask(&mut self, id: SessionId, session: Session, port: u16) -> PlanNumber {
        let plan = self.policy.number_of(&session, port);
        if self.numbered.len() <= id.index() {
            self.numbered.resize(id.index() + 1, None);
        }
        self.numbered[id.index()] = Some((plan, port));
        plan
    }

    /// Returns the plan of a session without a number, if it was asked for lately.
    fn remembered(&self, words: &Words, port: u16) -> Option<PlanNumber> {
        let (remembered, asked, plan) = self.unnumbered.get(words.slot()).copied().flatten()?;
        (remembered == *words && asked == port).then_some(plan)
    }

    fn remember(&mut self, words: Words, port: u16, plan: PlanNumber) {
        if let Some(slot) = self.unnumbered.get_mut(words.slot()) {
            *slot = Some((words, port, plan));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Entry, Match, SessionPlan};
    use super::*;
    use crate::ledger::Ledger;
    use crate::session::Label;
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

    #[test]
    fn an_entry_that_comes_later_names_a_session_by_the_port_that_it_came_to() {
        let registry = Arc::new(Registry::new(9));
        let mut table = SessionTable::new(Arc::clone(&registry));
        let label = Label { name: Some("a".into()), ..Label::default() };
        let with = |sessions| {
            let entries =
                vec![Entry { sessions, plan: SessionPlan { label: label.clone(), ..SessionPlan::default() } }];
            Arc::new(Policy::new(entries, Vec::new()).unwrap())
        };
        let vni = |vni| Some(Vni::new(vni).into_iter().collect());
        // While there are no entries, while none names a port, and where the VNI decides.
        for (number, policy) in [(1, None), (2, Some(Match { vnis: vni(9), ..Match::default() })), (9, None)] {
            policy.map(with).into_iter().for_each(|policy| table.adopt(policy));
            table.see(&session(number), 6081, 64, at(1));
        }
        for (port, name) in [(6081, Some("a")), (4789, None)] {
            registry.relabel(&with(Match { port: Some(port), ..Match::default() }));
            let labels = registry.sessions().into_iter().map(|(.., label)| label.name);
            assert!(labels.eq([name; 3].map(|name| name.map(Arc::from))), "{port}");
        }
    }

    fn let_go(registry: &Registry) -> Vec<SessionId> {
        registry.let_go(Timestamp::from_ns(u64::MAX), |_| true)
    }

    #[test]
    fn a_number_is_free_when_all_have_forgotten_its_session() {
        let mut ledger = Ledger::default();
        let registry = Arc::new(Registry::new(1));
        let mut tables = [(); 2].map(|()| SessionTable::new(Arc::clone(&registry)));
        tables.iter_mut().for_each(|table| table.count_in(Arc::clone(&ledger.worker().sessions)));
        let [a, b] = &mut tables;
        // With a policy, what is beyond the limit is remembered.
        for table in [&mut *a, &mut *b] {
            table.adopt(dropping(&[9], &[], None));
        }
        let [one, two] = [1, 2].map(|vni| move |table: &mut SessionTable| see(table, vni, 1).0.index());
        assert_eq!((one(a), one(b), two(b)), (1, 1, 0));
        let mut expired = Vec::new();
        let leaving = let_go(&registry);
        a.forget(&leaving, |gone| expired.push((gone.frames, gone.bytes)));
        assert_eq!(expired, [(1, 64)]);
        // A session that comes back before all have forgotten it has its number as before.
        assert_eq!((one(a), one(b)), (1, 1));
        b.forget(&leaving, |gone| expired.push((gone.frames, gone.bytes)));
        assert_eq!(registry.free(&leaving, registry.given(), |_| ()), 0);
        assert_eq!((one(a), one(b), two(a), two(b), registry.count()), (1, 1, 0, 0, 1));
        assert_eq!(expired.len(), 1, "what was not forgotten is not expired");

        let leaving = let_go(&registry);
        a.forget(&leaving, |gone| expired.push((gone.frames, 0)));
        b.forget(&leaving, |gone| expired.push((gone.frames, 0)));
        assert_eq!(two(b), 0, "not free yet");
        assert_eq!(registry.free(&leaving, registry.given(), |_| ()), 1);
        assert_eq!((registry.count(), registry.sessions().len()), (0, 0));
        a.look_again();
        b.look_again();
        assert_eq!((two(a), two(b), one(a), one(b)), (1, 1, 0, 0), "another has it");
        let counted = ledger.sessions(registry.sessions());
        assert_eq!((counted.len(), counted[0].session.vni.get(), counted[0].frames), (1, 2, 2));
        let frames: u64 = expired.iter().map(|(frames, _)| frames).sum();
        assert_eq!(frames, 6, "all of the first session, at both");
    }

    #[test]
    fn a_session_is_new_once_also_where_it_is_seen_again_before_its_number_is_free() {
        let registry = Arc::new(Registry::new(3));
        let mut table = SessionTable::new(Arc::clone(&registry));
        let new = |known: u64| {
            let (new, known) = registry.new_since(known);
            (new.iter().map(|(session, _)| session.vni.get()).collect::<Vec<_>>(), known)
        };
        see(&mut table, 2, 1);
        see(&mut table, 1, 1);
        assert_eq!(new(0), (vec![2, 1], 2));
        let leaving = let_go(&registry);
        table.forget(&leaving, |_| ());
        see(&mut table, 1, 1);
        see(&mut table, 3, 1);
        assert_eq!(registry.free(&leaving, registry.given(), |_| ()), 1);
        assert_eq!(new(2), (vec![3], 3), "all workers have taken it over, and nobody has said it");
        // It is another by now, with the number that it had.
        see(&mut table, 2, 1);
        assert_eq!((new(2), new(3), new(4)), ((vec![3, 2], 4), (vec![2], 4), (vec![], 4)));
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
        Arc::new(Policy::new(entries, Vec::new()).unwrap())
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
    }
}
