//! The kernel delivers broadcast and multicast datagrams to every worker, and one receives them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::datagrams::{outer, send_frames, vxlan};
use crate::frames;
use crate::need;
use crate::netns::{Pair, SENSOR};
use crate::process::eventually;
use crate::sensor::Setup;

const HERE: [u8; 6] = [2, 0, 0, 0, 0x73, SENSOR];
const ALL: [u8; 6] = [0xff; 6];
const ALL_HOSTS: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const WORKERS: u64 = 8;

/// Ethernet address, source and destination of what comes to one worker, and then of what the
/// kernel delivers to all, to sockets for both IP versions or for IPv4.
fn ways(both: bool) -> [Vec<([u8; 6], [IpAddr; 2])>; 2] {
    let way = |ethernet, from: &str, to: &str| (ethernet, [from.parse().unwrap(), to.parse().unwrap()]);
    let mut one = vec![way(HERE, "10.73.0.1", "10.73.0.2")];
    let mut all = vec![
        way(ALL, "10.73.0.1", "10.73.0.255"),
        way(ALL, "10.73.0.1", "255.255.255.255"),
        // What counts is the IP address.
        way(HERE, "10.73.0.1", "10.73.0.255"),
    ];
    if both {
        one.push(way(HERE, "fd73::1", "fd73::2"));
        all.extend(["fd73::1", "::ffff:10.73.0.1"].map(|from| way(ALL_NODES, from, "ff02::1")));
    } else {
        // A socket for both receives none of IPv4's groups.
        all.push(way(ALL_HOSTS, "10.73.0.1", "224.0.0.1"));
    }
    [one, all]
}

/// Returns the frame with four bytes of options in its IPv4 header, if it has one.
fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[12..14] == [8, 0] {
        frame[14] = 0x46;
        let total = u16::from_be_bytes([frame[16], frame[17]]) + 4;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        // "No operation".
        frame.splice(34..34, [1; 4]);
        frame[24..26].fill(0);
        let sum = frame[14..38].chunks(2).fold(0, |sum, two| sum + (u32::from(two[0]) << 8 | u32::from(two[1])));
        frame[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    }
    frame
}

#[test]
fn broadcast_and_multicast_datagrams_are_received_once() {
    if !need::programs(&[]) {
        return;
    }
    const EACH: u32 = 100;
    for (source, steer) in [
        "--source udp",
        "--source udp --listen 0.0.0.0:4789",
        "--source bpf --interface eth0 --attach xdp",
        "--source bpf --interface eth0 --attach tc",
        "--source bpf --interface eth0 --attach xdp --any-address",
    ]
    .into_iter()
    .flat_map(|source| [(source, "session"), (source, "flow")])
    {
        let pair = Pair::new(1600);
        let arguments = format!("{source} --workers {WORKERS} --steer {steer}");
        let sensor = Setup::new(&pair.sensor).with(&arguments).start();
        let came = || pair.sensor.link_counter("eth0", "rx", "packets");
        let before = came();
        let [to_one, to_all] = ways(!source.contains("0.0.0.0"));
        let ways: Vec<_> = to_one.iter().chain(&to_all).collect();
        // Many sessions and flows, good and hostile: no header at all, half of one, and a good one.
        let frame = frames::numbered(1, 60);
        let payload = |n: u32| match n % 10 {
            0 => Vec::new(),
            1 => vxlan(8, [0; 3], n, 0, &[])[..7].to_vec(),
            _ => vxlan(8, [0; 3], n, 0, &frame),
        };
        for (ethernet, addresses) in &ways {
            let plain = (0..EACH).map(|n| outer(*ethernet, &[], *addresses, 65_408 + n as u16, &payload(n)));
            let frames: Vec<_> =
                plain.zip(0..).map(|(frame, n)| if n % 2 == 0 { frame } else { with_options(frame) }).collect();
            send_frames(&pair.sender, &frames);
        }
        let sent = u64::from(EACH) * ways.len() as u64;
        eventually("all have come", || came() - before >= sent);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{arguments}: {:#?}", ended.log);
        let ledger = &ended.ledger;
        ledger.assert_closes(&ended.captures);
        assert_eq!(ledger.received(), sent, "{arguments}: {:#}", ledger.0);
        assert_eq!(ledger.get("/dropped/short_vxlan_header"), sent / 5, "{arguments}");
        assert_eq!((ledger.get("/kernel_dropped"), ledger.get("/refused_at_stop")), (0, 0), "{arguments}");
        // Each good one is of the session that it seems to be of.
        let sessions = ledger.sessions();
        let sources: BTreeSet<_> = ways.iter().map(|(_, [from, _])| from).collect();
        assert_eq!(sessions.len(), sources.len() * EACH as usize * 8 / 10, "{arguments}");
        let copies = ledger.get("/broadcast_copies");
        if source.contains("udp") && steer == "session" {
            assert_eq!(copies, (WORKERS - 1) * u64::from(EACH) * to_all.len() as u64, "{arguments}");
        }
    }
}

/// A sensor that is stopped for a while, and whose receive buffers overflow meanwhile: every socket
/// loses some of what is given to all, and some of what is its own.
#[test]
fn copies_that_are_lost_are_no_datagrams_that_are_lost() {
    if !need::programs(&[]) {
        return;
    }
    const EACH: u32 = 1000;
    for (source, steer) in [
        "--source udp",
        "--source udp --listen 0.0.0.0:4789",
        "--source bpf --interface eth0 --attach xdp",
        "--source bpf --interface eth0 --attach tc",
    ]
    .into_iter()
    .flat_map(|source| [(source, "session"), (source, "flow")])
    {
        let pair = Pair::new(1600);
        let arguments = format!("{source} --workers {WORKERS} --steer {steer} --receive-buffer 64KiB");
        let sensor = Setup::new(&pair.sensor).with(&arguments).start();
        let came = || pair.sensor.link_counter("eth0", "rx", "packets");
        let before = came();
        let frame = frames::numbered(1, 60);
        let [to_one, to_all] = ways(!source.contains("0.0.0.0"));
        let ways: Vec<_> = to_one.iter().chain(&to_all).collect();
        let send = |numbers: std::ops::Range<u32>| {
            let frames: Vec<_> = numbers
                .flat_map(|n| ways.iter().map(move |way| (n, way)))
                .map(|(n, (ethernet, addresses))| {
                    let payload = vxlan(8, [0; 3], n % 50, 0, &frame);
                    outer(*ethernet, &[], *addresses, 65_408 + (n % 100) as u16, &payload)
                })
                .collect();
            send_frames(&pair.sender, &frames);
            frames.len() as u64
        };
        let mut sent = send(0..50);
        let all_came = |sent| eventually("all have come", || came() - before >= sent);
        all_came(sent);
        sensor.paused(|| {
            sent += send(50..EACH);
            all_came(sent);
        });
        sent += send(0..50);
        all_came(sent);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{arguments}: {:#?}", ended.log);
        let ledger = &ended.ledger;
        ledger.assert_closes(&ended.captures);
        let (received, dropped) = (ledger.received(), ledger.get("/kernel_dropped"));
        assert!(dropped > 1000, "{arguments}: {:#}", ledger.0);
        assert_eq!(received + dropped, sent, "{arguments}: {:#}", ledger.0);
        assert_eq!(ledger.get("/refused_at_stop"), 0, "{arguments}");
    }
}
