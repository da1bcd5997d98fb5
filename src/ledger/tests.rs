//! What scripts and people read of a ledger stays as it is, byte for byte.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::catalogue::Sides;
use super::sessions::SessionTotals;
use super::*;
use crate::record::Timestamp;
use crate::session::{Label, Scope, Session};
use crate::wire::{DropReason, Vni};

/// A ledger in which every counter has a value of its own, and which closes.
fn filled() -> Snapshot {
    let mut ledger = Ledger::default();
    let (one, two) = (ledger.worker(), ledger.worker());
    // Those that VXLAN has. The others are there where they are not zero.
    for (n, reason) in (1..=6).zip(DropReason::ALL) {
        one.dropped(reason).add(n * 1001);
        one.received.add(n * 1001);
    }
    for (n, reason) in (1..).zip(NotRedirected::ALL) {
        two.not_redirected(reason).add(n * 17);
    }
    one.received.add(900_000);
    two.received.add(1_234_567);
    one.decapsulated.add(900_000);
    two.decapsulated.add(1_234_567);
    one.received_bytes.add(12_345_678_901);
    two.kernel_dropped.add(7204);
    one.refused_at_stop.add(31);
    one.broadcast_copies.add(32);
    one.fast_path.taken.add(33_333);
    one.fast_path.read.add(33_333);
    two.fast_path.ring_full.add(35);
    two.fast_path.unselected.add(36);
    two.fast_path.passed.add(37);
    two.fast_path.martian.add(38);
    two.fast_path.redirected.add(39);
    one.reserved_bits.add(40);
    one.cut_by_mirror.add(41);
    one.unselected.add(100_000);
    (0..9).for_each(|_| one.unselected_vnis.add(Vni::new(77).unwrap()));
    (0..4).for_each(|_| two.unselected_vnis.add(Vni::new(0xab_cdef).unwrap()));
    one.overflow.frames.add(4567);
    one.overflow.bytes.add(456_700);

    let mut pcap = Output { name: "pcap".into(), ends: Vec::new() };
    let (lane, sink) = (pcap.end(), pcap.end());
    lane.offered.add(2_134_567);
    lane.filtered.add(100_000);
    lane.filtered_by(Filtered::Session).add(100_000);
    lane.snapped.add(51);
    let (mut dropped, mut lost) = (0, 0);
    for (n, reason) in (1..).zip(OutputDrop::ALL) {
        sink.dropped(reason).add(n * 103);
        dropped += n * 103;
        lost += if matches!(reason, OutputDrop::NotIp | OutputDrop::RedirectLost) { 0 } else { n * 103 };
    }
    sink.written.add(2_034_567 - dropped);
    sink.written_bytes.add(9_876_543_210);
    for (n, counter) in (61..).zip([
        &sink.files,
        &sink.unpublished,
        &sink.recovered,
        &sink.set_aside,
        &sink.pruned,
        &sink.manifest_changed,
        &sink.hooks,
        &sink.hooks_failed,
        &sink.hooks_skipped,
        &sink.hooks_unfinished,
        &sink.host_frames,
    ]) {
        counter.add(n);
    }
    let mut tap = Output { name: "mirror0".into(), ends: Vec::new() };
    let end = tap.end();
    end.offered.add(2_134_567);
    end.written.add(2_134_567);
    end.files.add(1);
    ledger.outputs.push(pcap);
    ledger.outputs.push(tap);

    let session = |source: Ipv6Addr, vni, frames| SessionTotals {
        session: Session::vxlan(source, Vni::new(vni).unwrap()),
        label: Label::default(),
        frames,
        bytes: frames * 100,
        first: Timestamp::from_ns(1_700_000_000_123_456_789),
        last: Timestamp::from_ns(1_700_000_012_623_456_789),
        lost: 0,
        duplicates: 0,
        upstream: Upstream::default(),
    };
    let mut sessions: Vec<_> = (0..40)
        .map(|vni| session(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), vni, 1000 + 3 * u64::from(vni)))
        .collect();
    let rest = 2_134_567 - 100_000 - 4567 - sessions.iter().map(|session| session.frames).sum::<u64>();
    let last = session(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 5, rest);
    sessions.push(SessionTotals { lost, ..last });
    let started = Timestamp::from_ns(1_699_999_999_000_000_000);
    let ended = Timestamp::from_ns(1_700_000_013_000_000_000);
    Snapshot { version: "0", ended, ..Snapshot::of(&ledger, started, sessions) }
}

#[test]
fn json_and_table_are_as_they_were() {
    let snapshot = filled();
    snapshot.check().unwrap();
    assert_eq!(serde_json::to_string_pretty(&snapshot).unwrap() + "\n", include_str!("golden/ledger.json"));
    assert_eq!(snapshot.to_string(), include_str!("golden/ledger.txt"));
}

fn sample() -> (Ledger, Vec<SessionTotals>) {
    let mut ledger = Ledger::default();
    let worker = ledger.worker();
    worker.received.add(12);
    worker.decapsulated.add(10);
    worker.dropped(DropReason::VniFlagClear).add(2);
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let (lane, sink) = (output.end(), output.end());
    lane.offered.add(10);
    lane.dropped(OutputDrop::LaneFull).add(3);
    sink.written.add(7);
    ledger.outputs.push(output);
    let session = SessionTotals {
        session: Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(7).unwrap()),
        label: Label::default(),
        frames: 10,
        bytes: 640,
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(2),
        lost: 3,
        duplicates: 0,
        upstream: Upstream::default(),
    };
    (ledger, vec![session])
}

#[test]
fn a_ledger_that_closes_and_one_that_does_not() {
    let (ledger, sessions) = sample();
    let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions.clone());
    assert_eq!(snapshot.check(), Ok(()));
    assert_eq!(snapshot.failed(), 0);
    for worker in &ledger.workers {
        worker.received.add(1);
    }
    let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions);
    let imbalance = snapshot.check().unwrap_err();
    assert_eq!((imbalance.left, imbalance.right), (13, 12));
    let text = snapshot.to_string();
    assert!(text.contains("does not close"));
    // What is on its way is no fault of a sensor that runs.
    let (_, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(text.strip_prefix(&SoFar(&snapshot).to_string()), Some(&*format!("{last}\n")));
}

#[test]
fn what_was_lost_comes_first_and_with_the_last_line() {
    let (ledger, sessions) = sample();
    let text = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions).to_string();
    let lines: Vec<&str> = text.lines().collect();
    let lost = "LOST 41 %: 3 frames of output pcap (lane_full); 2 datagrams without a frame (vni_flag_clear)";
    assert_eq!(lines.first(), Some(&lost));
    let last = "LOST 41 %, and the ledger closes: every datagram received is accounted for";
    assert_eq!(lines.last(), Some(&last));
}

#[test]
fn every_equation_is_checked() {
    let break_it: [fn(&mut Snapshot); 7] = [
        |s| s.datagrams.fast_path.taken += 1,
        |s| s.datagrams.decapsulated += 1,
        |s| s.sessions.clear(),
        |s| s.datagrams.unselected += 1,
        |s| s.outputs.values_mut().for_each(|o| o.written += 1),
        |s| s.outputs.values_mut().for_each(|o| (o.offered, o.filtered) = (o.offered + 1, o.filtered + 1)),
        |s| s.outputs.values_mut().for_each(|o| *o.filtered_by.entry("rule").or_default() += 1),
    ];
    for change in break_it {
        let (ledger, sessions) = sample();
        let mut snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions);
        change(&mut snapshot);
        assert!(snapshot.check().is_err());
    }
}

#[test]
fn json_has_what_scripts_read() {
    let (ledger, sessions) = sample();
    let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions);
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["received"], 12);
    assert_eq!(json["dropped"]["vni_flag_clear"], 2);
    assert_eq!(json["unselected_vnis"], serde_json::json!([]));
    assert_eq!(json["outputs"]["pcap"]["dropped"]["lane_full"], 3);
    assert_eq!(json["sessions"][0]["source"], "192.0.2.1");
    assert_eq!(json["sessions"][0]["first"], "1970-01-01T00:00:00.000000001Z");
}

#[test]
fn a_session_has_a_scope_in_json_where_it_has_one() {
    let (_, sessions) = sample();
    let plain = SessionTotals { lost: 0, ..sessions[0].clone() };
    let scoped = SessionTotals { session: Session { scope: Some(Scope(100)), ..plain.session }, ..plain.clone() };
    let rest = r#""vni":7,"frames":10,"bytes":640,"first":"1970-01-01T00:00:00.000000001Z","last":"1970-01-01T00:00:00.000000002Z"}"#;
    for (totals, source) in [(plain, r#""192.0.2.1""#), (scoped, r#""192.0.2.1","scope":"0x64""#)] {
        let wanted = format!(r#"{{"source":{source},{rest}"#);
        assert_eq!(serde_json::to_string(&totals).unwrap(), wanted);
    }
}

/// Gives every datagram of `worker` to the ledger as a sensor does, until `stop`; frames that are
/// neither filtered nor dropped go to the sink.
fn receive(worker: &WorkerCounters, lane: &OutputCounters, to_sink: &Sender<u64>, stop: &AtomicBool) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        worker.received.add(1);
        if n % 7 == 0 {
            worker.dropped(DropReason::VniFlagClear).add(1);
            continue;
        }
        worker.decapsulated.add(1);
        match n % 5 {
            0 => worker.unselected.add(1),
            1 => worker.overflow.frames.add(1),
            session => worker.sessions.add(Seat::of(session), 1, 64, [Timestamp::from_ns(n as u64); 2]),
        }
        if n % 11 == 0 {
            worker.duplicate_frames.add(1);
            match n % 5 {
                0 | 1 => worker.overflow.duplicates.add(1),
                session => worker.sessions.duplicate(Seat::of(session)),
            }
        }
        lane.offered.add(1);
        match n % 3 {
            0 => {
                lane.filtered.add(1);
                lane.filtered_by(Filtered::Share).add(1);
            }
            1 => lane.lose(OutputDrop::LaneFull, Seat::of(if n % 5 < 2 { 0 } else { n % 5 }), 1),
            _ => to_sink.send(1).unwrap(),
        }
    }
}

/// Writes what comes; of some it is heard later that it is gone.
fn write(sink: &OutputCounters, from_lanes: &Receiver<u64>) {
    for (n, frames) in (0_u64..).zip(from_lanes) {
        match n % 4 {
            0 => sink.lose(OutputDrop::DiskFull, Seat::of(2), frames),
            _ => sink.written.add(frames),
        }
        if n % 8 == 7 {
            sink.gone.add(frames);
            sink.lost.add(Seat::of(3), frames);
        }
    }
}

/// All numbers of a snapshot as its JSON has them, by their place, but what is no counter: what is
/// on its way, the ranking of VNIs, and times.
fn all(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    fn add(place: &str, value: &serde_json::Value, to: &mut BTreeMap<String, u64>) {
        match value {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, value)| add(&format!("{place}.{key}"), value, to));
            }
            serde_json::Value::Number(n) if !place.ends_with(".in_flight") => {
                to.insert(place.to_owned(), n.as_u64().unwrap());
            }
            _ => {}
        }
    }
    let mut all = BTreeMap::new();
    add("", &serde_json::to_value(snapshot).unwrap(), &mut all);
    all
}

#[test]
fn a_snapshot_of_a_running_sensor_has_nothing_twice_and_no_counter_falls() {
    let mut ledger = Ledger::default();
    let workers = [ledger.worker(), ledger.worker()];
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let lanes = [output.end(), output.end()];
    let sink = output.end();
    ledger.outputs.push(output);
    let named = || {
        (1..=4)
            .map(|vni| (vni, Session::vxlan(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), Vni::new(vni).unwrap())))
            .map(|(vni, session)| (vni as usize, session, Label::default()))
    };
    let look = || Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(named()));
    let stop = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let (to_sink, from_lanes) = crossbeam_channel::bounded(64);
        for (worker, lane) in workers.iter().zip(&lanes) {
            let (to_sink, stop) = (to_sink.clone(), &stop);
            scope.spawn(move || receive(worker, lane, &to_sink, stop));
        }
        drop(to_sink);
        let sink = &sink;
        scope.spawn(move || write(sink, &from_lanes));
        let (end, mut before, mut looks) = (Instant::now() + Duration::from_secs(1), look(), 0);
        while Instant::now() < end {
            let now = look();
            assert!(now.datagrams.in_flight() >= 0, "{}: {now:?}", now.datagrams.in_flight());
            assert!(now.outputs["pcap"].in_flight() >= 0, "{}: {now:?}", now.outputs["pcap"].in_flight());
            let (terms, offered) = (now.terms(), now.outputs["pcap"].offered);
            for equation in [Equation::Sessions, Equation::Duplicates, Equation::Lost] {
                assert!(Sides::of(equation, &terms).difference() >= 0, "{equation:?}: {now:?}");
            }
            assert!(offered <= now.datagrams.decapsulated, "{now:?}");
            let values = all(&now);
            for (name, before) in all(&before) {
                assert!(before <= values[&name], "{name} fell from {before} to {}", values[&name]);
            }
            (before, looks) = (now, looks + 1);
        }
        stop.store(true, Ordering::Relaxed);
        looks
    });
    assert!(looks > 100, "{looks} snapshots");
    let end = look();
    end.check().unwrap();
    assert_eq!((end.datagrams.in_flight(), end.outputs["pcap"].in_flight()), (0, 0));
    assert!(!serde_json::to_string(&end).unwrap().contains("in_flight"));
    let pcap = &end.outputs["pcap"];
    assert!(pcap.gone > 0 && end.sessions.len() == 3);
    assert_eq!(pcap.value("written"), Some(pcap.written));
    let settled = pcap.clone().settled();
    assert_eq!(settled.value("written"), Some(pcap.written - pcap.gone));
    assert_eq!(settled.value("dropped.write_error"), Some(pcap.gone));
}

#[test]
fn what_is_on_its_way_has_a_key() {
    let (ledger, sessions) = sample();
    ledger.outputs.at(0).ends[0].offered.add(5);
    let json = serde_json::to_value(Snapshot::of(&ledger, Timestamp::from_ns(0), sessions)).unwrap();
    assert_eq!((&json["in_flight"], &json["outputs"]["pcap"]["in_flight"]), (&serde_json::Value::Null, &5.into()));
}

#[test]
fn counters_only_rise() {
    let counter = Counter::default();
    counter.add(5);
    counter.raise(3);
    assert_eq!(counter.get(), 5);
    counter.raise(8);
    assert_eq!(counter.get(), 8);
}

#[test]
fn labels_and_ranks_are_told_apart() {
    let of = |readings: Vec<Reading>| {
        let names: Vec<_> = readings.iter().map(|reading| (reading.group, reading.name())).collect();
        let different: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        let rows = readings.iter().filter_map(|reading| Some((reading.facts.row?.rank, reading.group, reading.label)));
        let rows: std::collections::BTreeSet<_> = rows.collect();
        let ranks: std::collections::HashSet<_> = rows.iter().map(|(rank, ..)| rank).collect();
        assert_eq!(ranks.len(), rows.len(), "two counters have one rank: {rows:?}");
        assert!(readings.iter().all(|reading| reading.help.ends_with(['.', ')'])), "{readings:?}");
        for (from, to) in readings.iter().filter_map(|reading| reading.facts.moves) {
            let names: Vec<_> = readings.iter().map(Reading::name).collect();
            assert!(names.iter().any(|name| name == from) && to.is_none_or(|to| names.iter().any(|name| name == to)));
        }
    };
    let empty = Snapshot::of(&Ledger::default(), Timestamp::from_ns(0), Vec::new());
    of(empty.terms().into_iter().filter(|reading| !reading.help.is_empty()).collect());
    of(Output { name: String::new(), ends: Vec::new() }.totals().readings());
}

#[test]
fn moves_have_keys_while_the_sensor_runs_and_are_made_at_its_end() {
    let (ledger, sessions) = sample();
    let output = ledger.outputs.at(0);
    let sink = &output.ends[1];
    sink.written_bytes.add(420);
    sink.gone.add(3);
    sink.gone_bytes.add(180);
    let sessions: Vec<_> = sessions.into_iter().map(|totals| SessionTotals { lost: 6, ..totals }).collect();
    let live = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions);
    let json = serde_json::to_value(&live).unwrap()["outputs"]["pcap"].clone();
    let of =
        |json: &serde_json::Value| ["written", "written_bytes", "gone", "gone_bytes"].map(|key| json[key].as_u64());
    assert_eq!(of(&json), [Some(7), Some(420), Some(3), Some(180)]);
    assert_eq!(json["dropped"]["write_error"], 0);
    let shown = live.outputs["pcap"].shown();
    let ended = live.settled();
    let json = serde_json::to_value(&ended).unwrap()["outputs"]["pcap"].clone();
    assert_eq!(of(&json), [Some(4), Some(240), None, None]);
    assert_eq!((&json["dropped"]["write_error"], json.get("redirect_late")), (&3.into(), None));
    ended.check().unwrap();
    assert_eq!(ended.outputs["pcap"].shown(), shown, "as it was shown before");

    // The moves are those of the catalogue.
    let mut totals = Output { name: String::new(), ends: Vec::new() }.totals();
    (totals.written, totals.written_bytes, totals.gone, totals.gone_bytes, totals.redirect_late) = (50, 60, 7, 8, 9);
    totals.dropped.values_mut().for_each(|dropped| *dropped = 20);
    let settled = totals.clone().settled();
    assert_eq!(settled.shown(), totals.shown());
    assert!(settled.readings().iter().all(|reading| reading.facts.moves.is_none() || reading.value == 0));
}

#[test]
fn what_was_lost_of_a_session_goes_with_its_number() {
    let mut ledger = Ledger::default();
    let worker = ledger.worker();
    let session = |vni| Session::vxlan(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), Vni::new(vni).unwrap());
    let come = |name: &str| {
        let mut output = Output { name: name.into(), ends: Vec::new() };
        let ends = [output.end(), output.end()];
        ledger.outputs.come(output);
        ends
    };
    let lost = || {
        let named = (1..=2).map(|number| (number, session(number as u32), Label::default()));
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions(named));
        let sides = Sides::of(Equation::Lost, &snapshot.terms());
        assert_eq!((sides.left, sides.difference()), (snapshot.lost_of_sessions(), 0), "{snapshot:?}");
        let of = |at: usize| snapshot.sessions.get(at).map_or(0, |totals| totals.lost);
        ([of(0), of(1)], snapshot.overflow.lost, snapshot.expired.lost)
    };
    for number in [1, 2] {
        worker.sessions.add(Seat::of(number), 50, 5000, [Timestamp::from_ns(1); 2]);
    }
    let [lane, sink] = come("pcap");
    lane.lose(OutputDrop::LaneFull, Seat::of(1), 2);
    sink.lose(OutputDrop::DiskFull, Seat::of(1), 1);
    sink.lose(OutputDrop::DiskFull, Seat::of(2), 5);
    sink.lose(OutputDrop::OutputGone, Seat::of(0), 4);
    // These are no loss, or nobody knows whose.
    sink.lose(OutputDrop::NotIp, Seat::of(1), 9);
    sink.lose(OutputDrop::RedirectLost, Seat::of(1), 9);
    assert_eq!(lost(), ([3, 5], 4, 0));
    // One that has ended keeps what it counted.
    drop((lane, sink));
    ledger.outputs.go("pcap");
    let [_, other] = come("pcap");
    other.lose(OutputDrop::WriteError, Seat::of(1), 10);
    assert_eq!(lost(), ([13, 5], 4, 0));
    ledger.outputs.forgetting(|forget| forget(Seat::of(1)));
    assert_eq!(lost(), ([0, 5], 4, 13));
    // Another has the number now.
    other.lose(OutputDrop::WriteError, Seat::of(1), 1);
    other.gone.add(7);
    other.lost.add_late(7);
    assert_eq!(lost(), ([1, 5], 4, 20));
    let written = serde_json::to_value(Snapshot::of(&ledger, Timestamp::from_ns(0), ledger.sessions([]))).unwrap();
    assert_eq!((&written["overflow"]["lost"], &written["expired"]["lost"]), (&4.into(), &20.into()));
}
