use super::*;
use crate::route::dedup::{Dedup, Group, Mode};
use crate::wire::VniRange;
use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample};

fn sources(networks: &[&str]) -> Option<SourceSet> {
    Some(networks.iter().map(|network| network.parse::<IpNet>().unwrap()).collect())
}

fn vnis(vnis: &[u32]) -> Option<VniSet> {
    Some(vnis.iter().filter_map(|vni| Vni::new(*vni)).collect())
}

fn session(source: &str, vni: u32) -> Session {
    Session::vxlan(source.parse().unwrap(), Vni::new(vni).unwrap())
}

fn named(name: &str, sessions: Match) -> Entry {
    let label = crate::session::Label { name: Some(name.into()), ..Default::default() };
    Entry { sessions, plan: SessionPlan { label, ..SessionPlan::default() } }
}

fn of(entries: Vec<Entry>) -> Result<Policy, TooManyEntries> {
    Policy::new(entries, Vec::new())
}

fn name_of(policy: &Policy, session: &Session, port: u16) -> String {
    policy.plan_of(session, port).label.name.as_deref().unwrap_or("-").to_owned()
}

#[test]
fn a_group_goes_on_in_the_policy_that_has_one_of_its_name() {
    let with = |names: &[&str]| {
        let entry = |(vni, name): (u32, &&str)| {
            let group = Arc::new(Group::new(*name));
            let plan = SessionPlan { dedup: Some(Dedup { mode: Mode::Drop, group }), ..SessionPlan::default() };
            Entry { sessions: Match { vnis: vnis(&[vni]), ..Match::default() }, plan }
        };
        Arc::new(of((1..).zip(names).map(entry).collect()).unwrap())
    };
    let group = |policy: &Policy, place: usize| Arc::clone(&policy.entries()[place].plan.dedup.as_ref().unwrap().group);
    let before = with(&["a", "b"]);
    let after = with(&["c", "b"]).with_groups_of(&before);
    assert!(Arc::ptr_eq(&group(&before, 1), &group(&after, 1)));
    assert_eq!(group(&after, 0).name(), &Arc::from("c"));
    let again = with(&["b"]).with_groups_of(&Policy::default());
    assert!(!Arc::ptr_eq(&group(&before, 1), &group(&again, 0)), "nothing came before");
}

#[test]
fn without_entries_all_is_plain() {
    let policy = Policy::default();
    assert!(policy.is_empty());
    for vni in [0, 7, 0xff_ffff] {
        let session = session("::ffff:192.0.2.1", vni);
        assert_eq!(policy.number_of(&session, 4789), PlanNumber::PLAIN);
        assert!(policy.plan_of(&session, 4789).is_plain());
    }
    assert!(policy.plan(PlanNumber::PLAIN).is_plain());
}

#[test]
fn the_first_entry_that_matches_gives_the_plan() {
    let policy = of(vec![
        named("web-1", Match { sources: sources(&["192.0.2.0/28"]), vnis: vnis(&[7, 9]), ..Match::default() }),
        named("web", Match { sources: sources(&["192.0.2.0/24", "2001:db8::/32"]), ..Match::default() }),
        named("port", Match { port: Some(8472), ..Match::default() }),
        named("scope", Match { scope: Some(Scope(5)), ..Match::default() }),
        named("seven", Match { vnis: vnis(&[7]), ..Match::default() }),
        named("never", Match { vnis: vnis(&[7]), port: Some(1), ..Match::default() }),
    ])
    .unwrap();
    for (source, vni, port, wanted) in [
        ("::ffff:192.0.2.1", 7, 4789, "web-1"),
        ("::ffff:192.0.2.1", 8, 4789, "web"),
        ("::ffff:192.0.2.16", 9, 4789, "web"),
        ("2001:db8::1", 7, 8472, "web"),
        ("::ffff:192.0.3.1", 7, 8472, "port"),
        ("::ffff:192.0.3.1", 7, 4789, "seven"),
        ("::ffff:192.0.3.1", 7, 1, "seven"),
        ("::ffff:192.0.3.1", 6, 4789, "-"),
        ("::ffff:192.0.3.1", 6, 8472, "port"),
    ] {
        assert_eq!(name_of(&policy, &session(source, vni), port), wanted, "{source} {vni} {port}");
    }
    let scoped = Session { scope: Some(Scope(5)), ..session("::1", 7) };
    assert_eq!(name_of(&policy, &scoped, 4789), "scope");
    assert_eq!(name_of(&policy, &Session { scope: Some(Scope(6)), ..scoped }, 4789), "seven");
    assert_eq!(policy.port_mask(), u16::MAX);
}

#[test]
fn what_needs_no_verdict_is_plain_and_what_goes_nowhere_is_told_at_once() {
    let plan = |plan| Entry { sessions: Match::default(), plan };
    let number = |entry| of(vec![entry]).unwrap().number_of(&session("::1", 1), 0);
    assert_eq!(number(named("a", Match::default())), PlanNumber::PLAIN);
    assert_eq!(number(plan(SessionPlan { drop: true, ..SessionPlan::default() })), PlanNumber::DROP);
    for one in [
        SessionPlan { outputs: OutputSet::from_iter([]), ..SessionPlan::default() },
        SessionPlan { snaplen: Some(128), ..SessionPlan::default() },
    ] {
        let policy = of(vec![plan(SessionPlan::default()), plan(one.clone())]).unwrap();
        assert_eq!(policy.plan(PlanNumber(2)), &one);
        assert_eq!(number(plan(one)), PlanNumber(1));
    }
}

#[test]
fn a_session_always_goes_to_an_output_where_it_does_by_every_port() {
    let entry = |vni, port, outputs: &[usize]| {
        let outputs = outputs.iter().filter_map(|place| OutputNumber::new(*place)).collect();
        let sessions = Match { vnis: vnis(&[vni]), port, ..Match::default() };
        Entry { sessions, plan: SessionPlan { outputs, ..SessionPlan::default() } }
    };
    let by_ports = vec![
        entry(1, Some(8472), &[0]),
        entry(2, Some(8472), &[0]),
        entry(2, None, &[0, 1]),
        entry(3, Some(8472), &[1]),
        entry(3, None, &[1]),
        entry(3, Some(4790), &[0]),
        entry(4, Some(4790), &[1]),
    ];
    let policy = Policy::new(by_ports, vec!["pcap".into(), "ids".into()]).unwrap();
    let to_ids = |vni| policy.always_goes_to(&session("::1", vni), policy.number_of_output("ids"));
    assert_eq!([1, 2, 3, 4, 5].map(to_ids), [false, false, true, true, true]);
}

#[test]
fn a_policy_has_a_limit() {
    let entries = |n: u32| (0..n).map(|n| named("x", Match { vnis: vnis(&[n]), ..Match::default() })).collect();
    let policy = of(entries(Policy::MOST as u32)).unwrap();
    assert_eq!(policy.number_of(&session("::1", 1), 0), PlanNumber::PLAIN);
    assert_eq!(of(entries(Policy::MOST as u32 + 1)), Err(TooManyEntries(Policy::MOST + 1)));
}

/// Addresses and VNIs of which entries and sessions meet often.
fn address() -> impl Strategy<Value = std::net::IpAddr> {
    sample::select(&["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "::1", "2001:db8::1", "2001:db8:1::1"][..])
        .prop_map(|address| address.parse().unwrap())
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length % (most + 1)).unwrap().trunc()
    })
}

fn range() -> impl Strategy<Value = VniRange> {
    let vni = || prop_oneof![0..8_u32, 0xff_fff8..=0xff_ffff_u32].prop_map(|vni| Vni::new(vni).unwrap());
    (vni(), vni()).prop_map(|(a, b)| VniRange { first: a.min(b), last: a.max(b) })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one = (
        option::of(vec(network(), 0..4).prop_map(|all| all.into_iter().collect())),
        option::of(vec(range(), 0..4).prop_map(|all| all.into_iter().collect())),
        option::weighted(0.2, (0..2_u64).prop_map(Scope)),
        option::weighted(0.2, 1..3_u16),
    );
    vec(one.prop_map(|(sources, vnis, scope, port)| Match { sources, vnis, scope, port }), 0..140)
        .prop_map(|all| all.into_iter().enumerate().map(|(n, sessions)| named(&format!("{n}"), sessions)).collect())
}

proptest! {
    #[test]
    fn what_is_looked_up_is_what_trying_all_in_their_order_finds(
        entries in entries(),
        sessions in vec((address(), range(), option::of((0..2_u64).prop_map(Scope)), 1..3_u16), 1..20),
    ) {
        let policy = of(entries.clone()).unwrap();
        for (address, VniRange { first: vni, .. }, scope, port) in sessions {
            let session = Session { scope, ..Session::vxlan(crate::wire::address::of(address), vni) };
            let matches = |entry: &&Entry| {
                let Match { sources, vnis, scope, port: wanted } = &entry.sessions;
                sources.as_ref().is_none_or(|set| set.contains(session.source))
                    && vnis.as_ref().is_none_or(|set| set.contains(vni))
                    && (scope.is_none() || *scope == session.scope)
                    && wanted.is_none_or(|wanted| wanted == port)
            };
            let wanted = entries.iter().find(matches).map_or("-", |entry| entry.plan.label.name.as_deref().unwrap());
            prop_assert_eq!(name_of(&policy, &session, port), wanted);
        }
    }
    #[test]
    fn what_no_session_comes_to_is_what_trying_all_before_it_finds(entries in entries()) {
        fn within<T: Ord + Copy>(before: Option<Vec<(T, T)>>, entry: Option<Vec<(T, T)>>) -> bool {
            let is_in = |(first, last): (T, T)| move |(from, to): &(T, T)| *from <= first && last <= *to;
            match (&before, &entry) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(before), Some(entry)) => entry.iter().all(|range| before.iter().any(is_in(*range))),
            }
        }
        let vnis = |of: &Match| Some(of.vnis.as_ref()?.ranges().iter().map(|range| (range.first, range.last)).collect());
        let sources = |of: &Match| Some(of.sources.as_ref()?.ranges().to_vec());
        let is_some = |of: &Match| vnis(of) != Some(vec![]) && sources(of) != Some(vec![]);
        let covers = |before: &Match, entry: &Match| {
            let (scope, port) = (before.scope.is_none_or(|scope| entry.scope == Some(scope)), before.port.is_none_or(|port| entry.port == Some(port)));
            scope && port && within(vnis(before), vnis(entry)) && within(sources(before), sources(entry))
        };
        let sessions: Vec<&Match> = entries.iter().map(|entry| &entry.sessions).collect();
        let before = |place: usize| (0..place).find(|before| covers(sessions[*before], sessions[place]));
        let some = (0..sessions.len()).filter(|place| is_some(sessions[*place]));
        let wanted: Vec<(usize, usize)> = some.filter_map(|place| Some((place, before(place)?))).collect();
        prop_assert_eq!(of(entries.clone()).unwrap().unreachable().collect::<Vec<_>>(), wanted);
    }
}
