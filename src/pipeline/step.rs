//! The step of a worker: it decapsulates one datagram, finds its session with the plan for it, and
//! offers the frame to the outputs.

use std::mem;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Instant;

use super::decap::{ReservedBits, Timestamps, decapsulate};
use super::outlet::Outlet;
use crate::lane::Forget;
use crate::ledger::{Filtered, WorkerCounters};
use crate::record::Timestamp;
use crate::route::cutoff::Flows;
use crate::route::policy::{PlanNumber, Policy};
use crate::route::{Asked, Candidate, Seen, Sequences, SessionId, SessionTable, Watched, verdict};
use crate::session::Session;
use crate::source::{Allowed, Datagram};
use crate::wire::{Decapsulated, DropReason, Encapsulation, Options, VniMask, bare, gpe, vxlan};

/// Takes datagrams to the outputs.
#[derive(Debug)]
pub struct Step {
    pub(super) reserved_bits: ReservedBits,
    /// The bits of VNIs that name networks.
    vni_mask: VniMask,
    pub(super) allowed: Arc<Allowed>,
    pub(super) sessions: SessionTable,
    flows: Flows,
    pub(super) outlets: Vec<Outlet>,
    pub(super) counters: Arc<WorkerCounters>,
    /// Room for a packet that gets an Ethernet header; none until the first comes.
    room: Vec<u8>,
    /// The numbers that senders give to frames.
    sequences: Sequences,
    /// True where other workers have frames of the same sessions, unless these come over IP.
    shares_sessions: bool,
    /// The clock that frames have their times of.
    timestamps: Timestamps,
}

impl Step {
    /// Makes a step from datagrams of the sessions that are allowed to `outlets`. The frames of all
    /// sessions go to all outputs.
    #[must_use]
    pub fn new(
        reserved_bits: ReservedBits,
        allowed: Arc<Allowed>,
        mut sessions: SessionTable,
        mut outlets: Vec<Outlet>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        sessions.count_in(Arc::clone(&counters.sessions));
        outlets.iter_mut().for_each(|outlet| outlet.lane.attach(&counters));
        Self {
            reserved_bits,
            vni_mask: VniMask::ALL,
            allowed,
            sessions,
            flows: Flows::default(),
            outlets,
            counters,
            room: Vec::new(),
            sequences: Sequences::default(),
            shares_sessions: false,
            timestamps: Timestamps::default(),
        }
    }

    /// Says whether other workers have frames of the same sessions that come over UDP. Their
    /// numbers tell nothing then.
    pub(super) fn share_sessions(&mut self, shares: bool) {
        self.shares_sessions = shares;
    }

    /// Has VNIs be these bits alone.
    pub(crate) fn mask(&mut self, vni_mask: VniMask) {
        self.vni_mask = vni_mask;
    }

    /// Says which clock frames have their times of.
    pub(crate) fn take_times_of(&mut self, timestamps: Timestamps) {
        self.timestamps = timestamps;
    }

    /// Treats frames by this policy from now on. Called between batches.
    pub fn adopt(&mut self, policy: Arc<Policy>) {
        self.sessions.adopt(policy);
        self.number_outlets();
    }

    /// Gives each outlet the number that its output has in the policy.
    pub(super) fn number_outlets(&mut self) {
        let policy = self.sessions.policy();
        self.outlets.iter_mut().for_each(|outlet| outlet.number = policy.number_of_output(outlet.lane.output()));
    }

    /// Forgets sessions, whose numbers others can get, and has the outputs hear of it behind all
    /// frames that they had.
    pub(super) fn forget(&mut self, forget: &Arc<Forget>) {
        let WorkerCounters { expired, duplicates, .. } = &*self.counters;
        self.flows.forget(&forget.sessions);
        self.sequences.forget(&forget.sessions);
        self.sessions.forget(&forget.sessions, |forgotten| {
            expired.frames.add(forgotten.frames);
            expired.bytes.add(forgotten.bytes);
            expired.duplicates.add(forgotten.duplicates);
        });
        // A pair of sessions has the numbers of both. Those that are forgotten are in order.
        let is_forgotten = |number: u64| forget.sessions.binary_search_by_key(&number, |id| id.index() as u64).is_ok();
        duplicates.forget(|pair| is_forgotten(pair >> 32) || is_forgotten(pair & u64::from(u32::MAX)));
        for outlet in &mut self.outlets {
            outlet.lane.forget(Arc::clone(forget));
            outlet.watched.iter_mut().for_each(Watched::forget);
        }
    }

    /// Decapsulates a datagram, finds its session and offers the frame to the outputs. Counts the
    /// datagram, whatever it is.
    #[inline]
    pub fn datagram(&mut self, datagram: &Datagram<'_>) {
        let counters = &*self.counters;
        counters.received.add(1);
        counters.received_bytes.add(datagram.length as u64);
        if datagram.encapsulation != Encapsulation::Vxlan {
            return self.wrapped(datagram, datagram.encapsulation);
        }
        let mut inner = match decapsulate(datagram, Encapsulation::Vxlan, self.reserved_bits) {
            Ok(inner) => inner,
            Err(reason) => return counters.dropped(reason).add(1),
        };
        if inner.reserved_bits {
            if gpe::is_bare(datagram.payload) {
                return self.wrapped(datagram, Encapsulation::Gpe);
            }
            counters.reserved_bits.add(1);
        }
        inner.direction = vxlan::direction(datagram.port, inner.vni);
        inner.vni = self.vni_mask.of(inner.vni);
        self.frame(datagram, &inner);
    }

    /// Does with a datagram what [`Step::datagram`] does, where it is not VXLAN.
    #[inline(never)]
    fn wrapped(&mut self, datagram: &Datagram<'_>, encapsulation: Encapsulation) {
        match decapsulate(datagram, encapsulation, self.reserved_bits) {
            Ok(inner) => self.unwrapped(datagram, &inner),
            Err(reason) => self.counters.dropped(reason).add(1),
        }
    }

    /// Does with a datagram what [`Step::datagram`] does, where somebody else has decapsulated it.
    #[inline(always)]
    pub(crate) fn take(&mut self, datagram: &Datagram<'_>, inner: Result<&Decapsulated<'_>, DropReason>) {
        self.counters.received.add(1);
        self.counters.received_bytes.add(datagram.length as u64);
        match inner {
            Ok(inner) if self.is_plain(inner) => self.frame(datagram, inner),
            Ok(inner) => self.unwrapped(datagram, inner),
            Err(reason) => self.counters.dropped(reason).add(1),
        }
    }

    /// Counts what the number of a wrap tells that is around another. It counts what the wrap's own
    /// session has, with this source, though the frame is of the session within.
    #[inline(never)]
    pub(crate) fn number(&mut self, source: Ipv6Addr, wrap: &Decapsulated<'_>) {
        let &Decapsulated { encapsulation, scope, sequence: Some(number), .. } = wrap else { return };
        let session = Session { encapsulation, source, scope, vni: self.vni_mask.of(wrap.vni) };
        let none = Timestamp::from_ns(0);
        let id = self.sessions.add(session, 0, 0, [none, none]);
        count_number(&self.counters, &mut self.sequences, id, number);
    }

    /// Says whether nothing in a header is to be looked at, but for the session.
    #[inline]
    fn is_plain(&self, inner: &Decapsulated<'_>) -> bool {
        let is_plain_vxlan = inner.encapsulation == Encapsulation::Vxlan && !inner.reserved_bits;
        is_plain_vxlan && inner.stamp.is_none() && self.vni_mask == VniMask::ALL
    }

    /// Goes on with what was wrapped in any way. A bare packet gets a header.
    #[inline(never)]
    fn unwrapped(&mut self, datagram: &Datagram<'_>, inner: &Decapsulated<'_>) {
        let counters = &*self.counters;
        counters.reserved_bits.add(u64::from(inner.reserved_bits));
        counters.unknown_options.add(u64::from(inner.options != Options::Known));
        let source = inner.source.unwrap_or(datagram.source);
        let timestamp = self.time(datagram.timestamp, inner);
        let datagram = &Datagram { source, timestamp, ..*datagram };
        let is_alone = !self.shares_sessions || datagram.port == 0;
        let vni = self.vni_mask.of(inner.vni);
        let inner = &Decapsulated { vni, sequence: inner.sequence.filter(|_| is_alone), ..*inner };
        let mut room = mem::take(&mut self.room);
        let dressed;
        let inner = if inner.bare.is_some() {
            room.resize(bare::ROOM, 0);
            dressed = bare::dress(inner, source, &mut room);
            &dressed
        } else {
            inner
        };
        self.frame(datagram, inner);
        self.room = room;
    }

    /// Returns the time of a frame that came at this time.
    fn time(&self, arrival: Timestamp, inner: &Decapsulated<'_>) -> Timestamp {
        let Some(stamp) = inner.stamp.filter(|_| self.timestamps == Timestamps::Switch) else { return arrival };
        let time = stamp.near(arrival.ns()).map(Timestamp::from_ns);
        self.counters.switch_time_unknown.add(time.is_none().into());
        time.unwrap_or(arrival)
    }

    /// Finds the session of a frame and offers it to the outputs.
    #[inline(always)]
    fn frame<'a>(&mut self, datagram: &Datagram<'a>, inner: &Decapsulated<'a>) {
        let counters = &*self.counters;
        counters.decapsulated.add(1);
        // This comes before the session is looked up: a session that is not allowed must not use up
        // a number. A frame that was delivered was allowed at the time.
        if !datagram.delivered && !self.allowed.takes(datagram.source, inner.vni) {
            counters.unselected_vnis.add(inner.vni);
            return self.unselected(1);
        }
        // A capture says the link type once, for all frames of its session.
        debug_assert_eq!(inner.link_type, inner.encapsulation.link_type());
        let session =
            Session { encapsulation: inner.encapsulation, source: datagram.source, scope: inner.scope, vni: inner.vni };
        let seen = self.sessions.see(&session, datagram.port, inner.arrived as usize, datagram.timestamp);
        if seen.plan != PlanNumber::PLAIN {
            return self.by_plan(seen, datagram, *inner);
        }
        count_session(counters, &mut self.sequences, seen.id, inner);
        let mut candidate = None;
        for outlet in &mut self.outlets {
            outlet.offer(seen.id, datagram, inner, &mut candidate);
        }
    }

    /// Does with a frame what the plan of its session says. It takes a copy of `inner`: one that is
    /// lent to a function has to be in memory, also for those that need no verdict.
    #[inline(never)]
    fn by_plan<'a>(&mut self, seen: Seen, datagram: &Datagram<'a>, inner: Decapsulated<'a>) {
        let inner = &inner;
        let counters = &*self.counters;
        if seen.plan == PlanNumber::DROP {
            counters.unselected_vnis.add(inner.vni);
            counters.unselected.add(1);
            return self.outlets.iter_mut().for_each(|outlet| outlet.filter(datagram, Filtered::Session));
        }
        count_session(counters, &mut self.sequences, seen.id, inner);
        let plan = self.sessions.policy().plan(seen.plan);
        let mut candidate = Candidate::new(inner);
        let (time, arrived) = (datagram.timestamp, inner.arrived);
        let (source, direction) = (datagram.source, inner.direction);
        let mut asked = Asked { source, direction, session: seen.id, time, arrived, candidate: &mut candidate };
        let verdict = verdict(plan, &mut asked, &mut self.flows, counters);
        if let Some((dedup, first)) = plan.dedup.as_ref().zip(verdict.copy_of) {
            let key = (first.index() as u64) << 32 | seen.id.index() as u64;
            counters.duplicates.add(dedup.group.name(), key, || self.sessions.pair(first, seen.id));
        }
        match verdict.kept {
            Ok(most) => {
                for outlet in &mut self.outlets {
                    outlet.offer_by((plan, most), seen.id, datagram, inner, &mut candidate);
                }
            }
            Err(reason) => self.outlets.iter_mut().for_each(|outlet| outlet.filter(datagram, reason)),
        }
    }

    /// Offers a captured frame that no mirror has wrapped to the outputs, as it is.
    pub(crate) fn pass(&mut self, timestamp: Timestamp, frame: &[u8], original: u32) {
        self.counters.passed.add(1);
        for outlet in &mut self.outlets {
            outlet.lane.offer_cut((SessionId::OVERFLOW, false), timestamp, frame, original, usize::MAX);
        }
    }

    /// Adds options of pcapng to the frame that was taken or passed last. It must have gone to all
    /// outputs.
    pub(crate) fn note(&mut self, options: &[u8]) {
        self.outlets.iter_mut().for_each(|outlet| outlet.lane.note(options));
    }

    /// Counts decapsulated frames of sessions that are not allowed.
    pub(super) fn unselected(&mut self, frames: u64) {
        self.counters.unselected.add(frames);
        for outlet in &mut self.outlets {
            outlet.lane.filter(Filtered::Session, frames);
        }
    }

    /// Hands over chunks that have lingered, and returns when the next one will have.
    pub(crate) fn tend(&mut self, now: Instant) -> Option<Instant> {
        self.outlets.iter_mut().filter_map(|outlet| outlet.lane.tend(now)).min()
    }
}

/// Counts what a session's frame is, where it is not as most are.
#[inline]
fn count_session(counters: &WorkerCounters, sequences: &mut Sequences, session: SessionId, inner: &Decapsulated<'_>) {
    if let Some(number) = inner.sequence {
        count_number(counters, sequences, session, number);
    }
    if inner.original > inner.arrived {
        counters.cut_by_mirror.add(1);
    }
    if session == SessionId::OVERFLOW {
        counters.overflow.frames.add(1);
        counters.overflow.bytes.add(u64::from(inner.arrived));
    }
}

/// Counts what the number of a session's frame tells.
#[inline(never)]
fn count_number(counters: &WorkerCounters, sequences: &mut Sequences, session: SessionId, number: u32) {
    let told = sequences.take(session, number);
    counters.upstream_missed.add(told.missed);
    counters.upstream_late.add(told.late);
    counters.upstream_restarts.add(told.restarts);
    counters.sessions.upstream(session.seat(), told.missed, told.late);
}

#[cfg(test)]
mod tests {
    use super::super::worker::tests::payload;
    use super::*;
    use crate::lane::{Inbox, LanePlan, lanes};
    use crate::ledger::{Ledger, Output, OutputCounters, Snapshot};
    use crate::record::pcap;
    use crate::route::cutoff::Cutoff;
    use crate::route::dedup::{Dedup, Group, Mode};
    use crate::route::policy::{Entry, Match, OutputNumber, SessionPlan};
    use crate::route::slice::{Layer, Slice};
    use crate::route::{Expression, Registry};
    use crate::wire::Vni;

    #[test]
    fn frames_go_where_the_plan_of_their_session_says() {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let registry = Arc::new(Registry::new(8));
        let (mut outlets, mut inboxes, mut sinks) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["ids", "evidence"] {
            let mut output = Output { name: name.into(), ends: Vec::new() };
            let (mut lanes, inbox) = lanes(LanePlan::default(), vec![output.end()]);
            sinks.push(output.end());
            ledger.outputs.push(output);
            outlets.push(Outlet::from(lanes.remove(0).into_output(&name.into())));
            inboxes.push(inbox);
        }
        let entry = |vni, plan| {
            let sessions = Match { vnis: Some(Vni::new(vni).into_iter().collect()), ..Match::default() };
            Entry { sessions, plan }
        };
        let only = |number| OutputNumber::new(number).into_iter().collect();
        let nothing = Expression::new("greater 101").unwrap();
        let entries = vec![
            entry(1, SessionPlan { drop: true, ..SessionPlan::default() }),
            entry(2, SessionPlan { outputs: only(0), ..SessionPlan::default() }),
            entry(3, SessionPlan { outputs: only(1), snaplen: Some(64), ..SessionPlan::default() }),
            entry(5, SessionPlan { expression: Some(Arc::new(nothing)), ..SessionPlan::default() }),
        ];
        let policy = Policy::new(entries, ["evidence", "ids"].map(Into::into).to_vec());
        let table = SessionTable::new(Arc::clone(&registry));
        let mut step = Step::new(ReservedBits::Accept, Arc::default(), table, outlets, counters);
        let send = |step: &mut Step, vni| {
            let payload = payload(vni, 100);
            let timestamp = Timestamp::from_ns(1);
            step.datagram(&Datagram { payload: &payload, length: payload.len(), timestamp, ..Datagram::empty() });
        };
        step.adopt(Arc::new(policy.unwrap()));
        for vni in [1, 2, 3, 4, 1, 2, 3, 4, 5] {
            send(&mut step, vni);
        }
        // From now on the frames of all go to all.
        step.adopt(Arc::default());
        for vni in 1..=4 {
            send(&mut step, vni);
        }
        drop(step);
        let mut lengths = Vec::new();
        for (inbox, sink) in inboxes.iter().zip(sinks) {
            let chunks: Vec<_> = inbox.full.try_iter().collect();
            let runs = chunks.iter().flat_map(|chunk| chunk.runs());
            let records = runs.flat_map(|(run, bytes)| {
                let vni = registry.session(run.session).unwrap().vni.get();
                pcap::records(bytes).map(move |record| (vni, record.frame.len(), record.orig_len))
            });
            let records: Vec<_> = records.collect();
            sink.written.add(records.len() as u64);
            lengths.push(records);
        }
        let after = [1, 2, 3, 4].map(|vni| (vni, 100, 100));
        let evidence = [(2, 100, 100), (4, 100, 100), (2, 100, 100), (4, 100, 100)];
        assert_eq!(lengths[1], [&evidence[..], &after].concat());
        let ids = [(3, 64, 100), (4, 100, 100), (3, 64, 100), (4, 100, 100)];
        assert_eq!(lengths[0], [&ids[..], &after].concat());
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        assert_eq!((snapshot.datagrams.received, snapshot.datagrams.unselected), (13, 2));
        for (name, filtered, snapped) in [("evidence", 4, 0), ("ids", 4, 2)] {
            let output = &snapshot.outputs[name];
            let by = ["session", "expression"].map(|reason| output.filtered_by[reason]);
            assert_eq!((output.filtered, by, output.snapped), (filtered + 1, [filtered, 1], snapped), "{name}");
        }
        let vnis: Vec<_> = snapshot.unselected_vnis.iter().map(|vni| (vni.vni, vni.frames)).collect();
        assert_eq!(vnis, [(1, 2)]);
        assert_eq!(registry.count(), 5);
    }

    /// What a step with one output counts in, and leads to.
    struct Rest {
        ledger: Ledger,
        registry: Arc<Registry>,
        inbox: Inbox,
        sink: Arc<OutputCounters>,
    }

    /// Makes a step to one output, which tells 8 sessions apart.
    fn with_an_output() -> (Step, Rest) {
        with_sessions(8)
    }

    fn with_sessions(limit: u32) -> (Step, Rest) {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let registry = Arc::new(Registry::new(limit));
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let (lanes, inbox) = lanes(LanePlan::default(), vec![output.end()]);
        let sink = output.end();
        ledger.outputs.push(output);
        let outlets = lanes.into_iter().map(Outlet::from).collect();
        let table = SessionTable::new(Arc::clone(&registry));
        let step = Step::new(ReservedBits::Accept, Arc::default(), table, outlets, counters);
        (step, Rest { ledger, registry, inbox, sink })
    }

    #[test]
    fn what_is_not_vxlan_has_its_session_and_an_ethernet_header() {
        let (mut step, Rest { ledger, registry, inbox, sink }) = with_an_output();
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let packet = [&[0x45, 0, 0, 40][..], &[7; 36]].concat();
        let mut send = |encapsulation, header: &[u8], rest: &[u8]| {
            let payload = [header, rest].concat();
            let length = payload.len();
            step.datagram(&Datagram { payload: &payload, length, source, encapsulation, ..Datagram::empty() });
        };
        send(Encapsulation::Geneve, &[1, 0, 8, 0, 0, 0, 7, 0, 0x12, 0x34, 5, 0], &packet);
        send(Encapsulation::Geneve, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &[1; 60]);
        // With the P flag, what comes to VXLAN's port is VXLAN-GPE.
        send(Encapsulation::Vxlan, &[0x0c, 0, 0, 1, 0, 0, 7, 0], &packet);
        send(Encapsulation::Vxlan, &[0x0c, 0, 0, 3, 0, 0, 7, 0], &[1; 60]);
        send(Encapsulation::Tzsp, &[1, 4, 0, 0], &[]);
        // The program that rejects reserved bits rejects critical options too, and the P flag.
        step.reserved_bits = ReservedBits::Reject;
        let mut send = |encapsulation, header: &[u8]| {
            let payload = [header, &[1; 60]].concat();
            let length = payload.len();
            step.datagram(&Datagram { payload: &payload, length, source, encapsulation, ..Datagram::empty() });
        };
        send(Encapsulation::Geneve, &[1, 0x40, 0x65, 0x58, 0, 0, 7, 0, 0x12, 0x34, 0x85, 0]);
        send(Encapsulation::Vxlan, &[0x0c, 0, 0, 1, 0, 0, 7, 0]);
        drop(step);
        let chunks: Vec<_> = inbox.full.try_iter().collect();
        let records = chunks.iter().flat_map(|chunk| chunk.runs()).flat_map(|(run, bytes)| {
            let session = registry.session(run.session).unwrap();
            pcap::records(bytes).map(move |record| (session.directory_name(), record.orig_len, record.frame[0]))
        });
        let mut found: Vec<_> = records.collect();
        found.sort();
        let wanted = [
            ("geneve_vni7_192.0.2.1", 54, 6),
            ("geneve_vni7_192.0.2.1", 60, 1),
            ("gpe_vni7_192.0.2.1", 54, 6),
            ("vni7_192.0.2.1", 60, 1),
        ];
        let wanted = wanted.map(|(name, length, first)| (name.to_owned(), length, first));
        let mut sorted = wanted.to_vec();
        sorted.sort();
        assert_eq!(found, sorted);
        sink.written.add(4);
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        let datagrams = &snapshot.datagrams;
        assert_eq!((datagrams.received, datagrams.unknown_options, datagrams.reserved_bits), (7, 1, 1));
        let dropped = ["keep_alive", "critical_option", "reserved_bits"].map(|reason| datagrams.dropped[reason]);
        assert_eq!(dropped, [1; 3]);
    }

    /// A plan for all sessions.
    fn policy(plan: SessionPlan) -> Arc<Policy> {
        Arc::new(Policy::new(vec![Entry { sessions: Match::default(), plan }], Vec::new()).unwrap())
    }

    /// Returns a payload with a packet of a flow, of 292 bytes.
    fn of_a_flow(number: u16, vni: Vni) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.udp(5004, 5004).write(&mut frame, &[&number.to_be_bytes()[..], &[7; 248]].concat()).unwrap();
        [vxlan::header(vni).as_slice(), &frame].concat()
    }

    #[test]
    fn flows_of_sessions_beyond_the_limit_are_kept_whole() {
        let (mut step, Rest { ledger, registry, inbox, sink }) = with_sessions(1);
        let cutoff = Some(Cutoff { flow_limit: Some(1_000), tls: None });
        step.adopt(policy(SessionPlan { cutoff, ..SessionPlan::default() }));
        for vni in 1..=3 {
            for number in 0..10 {
                let payload = of_a_flow(number, Vni::new(vni).unwrap());
                step.datagram(&Datagram { payload: &payload, length: payload.len(), ..Datagram::empty() });
            }
        }
        drop(step);
        let frames = inbox.full.try_iter().map(|chunk| u64::from(chunk.frames())).sum();
        sink.written.add(frames);
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        // The one session has its limit; two others with the same addresses would be one flow.
        assert_eq!((frames, snapshot.outputs["pcap"].filtered_by["cutoff"]), (4 + 20, 6));
        assert_eq!(snapshot.datagrams.cutoff_table_full, 20);
    }

    #[test]
    fn frames_are_compared_cut_off_and_sliced_and_the_ledger_closes() {
        let (mut step, Rest { ledger, registry, inbox, sink }) = with_an_output();
        let plan = SessionPlan {
            dedup: Some(Dedup { mode: Mode::Drop, group: Arc::new(Group::new("tenant")) }),
            cutoff: Some(Cutoff { flow_limit: Some(1_000), tls: None }),
            slice: Some(Slice { layer: Layer::L4, more: 4 }),
            ..SessionPlan::default()
        };
        step.adopt(policy(plan));
        let [one, two] = [1, 2].map(|host| std::net::Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped());
        for number in 0..10u16 {
            let payload = of_a_flow(number, Vni::MAX);
            for source in [one, two] {
                let timestamp = Timestamp::from_ns(1_000_000_000);
                let whole =
                    Datagram { payload: &payload, length: payload.len(), source, timestamp, ..Datagram::empty() };
                step.datagram(&whole);
            }
        }
        drop(step);
        let chunks: Vec<_> = inbox.full.try_iter().collect();
        let records = chunks.iter().flat_map(|chunk| chunk.runs()).flat_map(|(_, bytes)| pcap::records(bytes));
        let lengths: Vec<_> = records.map(|record| (record.frame.len(), record.orig_len)).collect();
        // 292 bytes each: four pass until 1,000 have.
        assert_eq!(lengths, [(14 + 20 + 8 + 4, 292); 4]);
        sink.written.add(4);
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        let output = &snapshot.outputs["pcap"];
        let by = ["duplicate", "cutoff"].map(|reason| output.filtered_by[reason]);
        assert_eq!((output.offered, output.filtered, by, output.snapped), (20, 16, [10, 6], 4));
        let all = &snapshot.datagrams;
        assert_eq!((all.duplicate_frames, all.beyond_cutoff.frames, all.beyond_cutoff.bytes), (10, 6, 6 * 292));
        let pairs: Vec<_> =
            snapshot.duplicates.iter().map(|p| (&*p.pair.group, p.pair.first.source, p.frames)).collect();
        assert_eq!(pairs, [("tenant", one, 10)]);
        assert_eq!(snapshot.duplicates[0].pair.second.source, two);
    }
}
