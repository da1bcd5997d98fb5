//! What scripts and people read of a ledger stays as it is, byte for byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::record::Timestamp;
use crate::session::{Scope, Session};
use crate::wire::{DropReason, Vni};

/// A ledger in which every counter has a value of its own, and which closes.
fn filled() -> Snapshot {
    let mut ledger = Ledger::default();
    let (one, two) = (ledger.worker(), ledger.worker());
    for (n, reason) in (1..).zip(DropReason::ALL) {
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
    lane.snapped.add(51);
    let mut dropped = 0;
    for (n, reason) in (1..).zip(OutputDrop::ALL) {
        sink.dropped(reason).add(n * 103);
        dropped += n * 103;
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
    ledger.outputs.extend([pcap, tap]);

    let session = |source: Ipv6Addr, vni, frames| SessionTotals {
        session: Session::vxlan(source, Vni::new(vni).unwrap()),
        frames,
        bytes: frames * 100,
        first: Timestamp::from_ns(1_700_000_000_123_456_789),
        last: Timestamp::from_ns(1_700_000_012_623_456_789),
    };
    let mut sessions: Vec<_> = (0..40)
        .map(|vni| session(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), vni, 1000 + 3 * u64::from(vni)))
        .collect();
    let rest = 2_134_567 - 100_000 - 4567 - sessions.iter().map(|session| session.frames).sum::<u64>();
    sessions.push(session(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 5, rest));
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
        frames: 10,
        bytes: 640,
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(2),
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
    assert!(snapshot.to_string().contains("does not close"));
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
    let break_it: [fn(&mut Snapshot); 6] = [
        |s| s.datagrams.fast_path.taken += 1,
        |s| s.datagrams.decapsulated += 1,
        |s| s.sessions.clear(),
        |s| s.datagrams.unselected += 1,
        |s| s.outputs.values_mut().for_each(|o| o.written += 1),
        |s| s.outputs.values_mut().for_each(|o| (o.offered, o.filtered) = (o.offered + 1, o.filtered + 1)),
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
    let plain = sessions[0].clone();
    let scoped = SessionTotals { session: Session { scope: Some(Scope(100)), ..plain.session }, ..plain.clone() };
    let rest = r#""vni":7,"frames":10,"bytes":640,"first":"1970-01-01T00:00:00.000000001Z","last":"1970-01-01T00:00:00.000000002Z"}"#;
    for (totals, source) in [(plain, r#""192.0.2.1""#), (scoped, r#""192.0.2.1","scope":"0x64""#)] {
        let wanted = format!(r#"{{"source":{source},{rest}"#);
        assert_eq!(serde_json::to_string(&totals).unwrap(), wanted);
    }
}
