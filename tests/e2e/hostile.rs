//! Datagrams come that no mirror sends: each costs one counter, the right one, and nothing else.

use std::collections::BTreeMap;

use crate::captures::{self, assert_holds};
use crate::datagrams::{self, vxlan};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::sensor::{Ended, Setup};

/// Sends payloads over both IP versions to a sensor with these arguments, and returns what it left.
fn receive(pair: &Pair, arguments: &str, payloads: &[Vec<u8>]) -> Ended {
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let count = 2 * payloads.len() as u64;
    let came = || pair.sensor.link_counter("eth0", "rx", "packets");
    let before = came();
    for ip in [Ip::V4, Ip::V6] {
        // Some at a time, so that no queue on the way is filled.
        for some in payloads.chunks(100) {
            datagrams::send(&pair.sender, pair.target(ip), some);
        }
    }
    // What has come is read before the sensor ends.
    eventually("all have come", || came() - before >= count);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    assert_eq!(ended.ledger.received(), count);
    assert_eq!(ended.ledger.get("/kernel_dropped"), 0);
    ended
}

/// Returns all counters of the ledger that say what was done with a datagram, where they are not
/// zero.
fn counted(ended: &Ended) -> BTreeMap<&'static str, u64> {
    let pointers = [
        "/dropped/truncated_datagram",
        "/dropped/short_vxlan_header",
        "/dropped/vni_flag_clear",
        "/dropped/reserved_bits",
        "/dropped/runt_inner_frame",
        "/reserved_bits",
        "/unselected",
        "/cut_by_mirror",
        "/overflow/frames",
        "/outputs/pcap/filtered",
        "/outputs/pcap/written",
    ];
    pointers.into_iter().map(|pointer| (pointer, ended.ledger.get(pointer))).filter(|(_, n)| *n > 0).collect()
}

/// Makes one of each kind, and says how many of them there are.
fn menagerie() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let good: Vec<_> = [7, 9].map(|n| frames::numbered(n, 60)).to_vec();
    let frame = |n: usize| good[n].as_slice();
    let mut payloads = Vec::new();
    payloads.extend((0..8).map(|length| vxlan(8, [0; 3], 7, 0, &[])[..length].to_vec()));
    payloads.extend([0x00, 0x01, 0x80, 0xf7].map(|flags| vxlan(flags, [0; 3], 7, 0, frame(0))));
    payloads.extend((0..14).map(|length| vxlan(8, [0; 3], 7, 0, &vec![0xff; length])));
    payloads.extend([0x88, 0x09, 0x0c, 0xff].map(|flags| vxlan(flags, [0; 3], 7, 0, frame(0))));
    payloads.extend([[1, 0, 0], [0, 0x80, 0], [0, 0, 3]].map(|reserved| vxlan(8, reserved, 7, 0, frame(0))));
    payloads.push(vxlan(8, [0; 3], 7, 1, frame(0)));
    payloads.extend([0, 1, 8, 10, 0xff_ffff].map(|vni| vxlan(8, [0; 3], vni, 0, frame(0))));
    payloads.push(vxlan(8, [0; 3], 7, 0, frame(0)));
    payloads.push(vxlan(8, [0; 3], 9, 0, frame(1)));
    (payloads, good)
}

#[test]
fn strict() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let (payloads, good) = menagerie();
    let ended = receive(&pair, "--workers 2 --reserved-bits reject --vni 7,9", &payloads);
    let expected = BTreeMap::from([
        ("/dropped/short_vxlan_header", 2 * 8),
        ("/dropped/vni_flag_clear", 2 * 4),
        ("/dropped/runt_inner_frame", 2 * 14),
        ("/dropped/reserved_bits", 2 * 8),
        ("/unselected", 2 * 5),
        ("/outputs/pcap/filtered", 2 * 5),
        ("/outputs/pcap/written", 2 * 2),
    ]);
    assert_eq!(counted(&ended), expected);
    assert_eq!(ended.ledger.sessions().len(), 4, "a VNI that nobody asked for is no session");
    for ip in [Ip::V4, Ip::V6] {
        for (vni, frame) in [(7, &good[0]), (9, &good[1])] {
            assert_holds("good", &captures::session(&ended.captures, pair.source(ip), vni), &[frame]);
        }
    }
}

#[test]
fn lenient() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let (payloads, good) = menagerie();
    let ended = receive(&pair, "", &payloads);
    let expected = BTreeMap::from([
        ("/dropped/short_vxlan_header", 2 * 8),
        ("/dropped/vni_flag_clear", 2 * 4),
        ("/dropped/runt_inner_frame", 2 * 14),
        ("/reserved_bits", 2 * 8),
        ("/outputs/pcap/written", 2 * (8 + 5 + 2)),
    ]);
    assert_eq!(counted(&ended), expected);
    for ip in [Ip::V4, Ip::V6] {
        let same = vec![&good[0]; 9];
        assert_holds("reserved bits", &captures::session(&ended.captures, pair.source(ip), 7), &same);
    }
}

/// Says which counter a payload is to go to, by RFC 7348 section 5.
fn kind(payload: &[u8]) -> &'static str {
    match payload {
        [] | [_, ..] if payload.len() < 8 => "/dropped/short_vxlan_header",
        [flags, ..] if flags & 0x08 == 0 => "/dropped/vni_flag_clear",
        _ if payload.len() < 8 + 14 => "/dropped/runt_inner_frame",
        _ => "/outputs/pcap/written",
    }
}

#[test]
fn noise() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    // xorshift64 (Marsaglia 2003): the same noise in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let payloads: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let length = if random() % 2 == 0 { random() % 40 } else { random() % 1500 };
            (0..length).map(|_| random() as u8).collect()
        })
        .collect();
    let ended = receive(&pair, "--max-sessions 50", &payloads);
    for counter in
        ["/dropped/short_vxlan_header", "/dropped/vni_flag_clear", "/dropped/runt_inner_frame", "/outputs/pcap/written"]
    {
        let expected = 2 * payloads.iter().filter(|payload| kind(payload) == counter).count() as u64;
        assert!(expected > 0);
        assert_eq!(ended.ledger.get(counter), expected, "{counter}");
    }
    assert_eq!(ended.ledger.sessions().len(), 50);
}
