//! The fast path is tested here: what the program takes, what it leaves, and that nothing is lost
//! or left behind.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use pnet::datalink::{Channel, Config, channel};
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use crate::captures::{self, assert_holds};
use crate::datagrams::vxlan;
use crate::frames;
use crate::need;
use crate::netns::{self, Ip, Pair, SENSOR};
use crate::process::{eventually, tasks};
use crate::replay::replay_all;
use crate::sensor::{Ended, Sensor, Setup};

/// Where the program can be attached.
const PLACES: [&str; 2] = ["xdp", "tc"];

/// Returns a sensor with the program on its `eth0`.
fn sensor(pair: &Pair, place: &str, arguments: &str) -> Sensor {
    Setup::new(&pair.sensor).with(&format!("--source bpf --attach {place} --interface eth0 {arguments}")).start()
}

/// Returns what the ledger says of the program.
#[track_caller]
fn fast_path(ended: &Ended, what: &str) -> u64 {
    ended.ledger.get(&format!("/fast_path/{what}"))
}

/// Returns what the sensor that starts says it receives by.
#[track_caller]
fn source(sensor: &Sensor) -> String {
    sensor.process.stderr.find("its source", 0, |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["fields"]["way"].as_str().filter(|_| line["fields"]["message"] == "receiving").map(String::from)
    })
}

#[test]
fn whole_datagrams_are_taken_and_fragments_come_through_the_socket_once() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..300).map(|n| frames::numbered(n, if n % 3 == 0 { 4000 } else { 100 })).collect();
    let file = frames::write(directory.path(), "mixed.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1500);
        let sensor = sensor(&pair, place, "--workers 2");
        for ip in [Ip::V4, Ip::V6] {
            replay_all(&pair.sender, pair.target(ip), &[&file], "--rate 2000", frames.len());
        }
        let ended = sensor.stop();
        ended.assert_all_is_well();
        pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len());
        assert_eq!(fast_path(&ended, "taken"), 2 * 200, "{place}: those that are whole");
        assert!(fast_path(&ended, "passed") >= 2 * 100 * 3, "{place}: three fragments each: {:#}", ended.ledger.0);
        for ip in [Ip::V4, Ip::V6] {
            let mut got: Vec<_> =
                captures::session(&ended.captures, pair.source(ip), 1).into_iter().map(|r| r.frame).collect();
            got.sort_by_key(|frame| frame[42..46].to_vec());
            captures::assert_same(&format!("{place} {ip:?}"), &got, &frames);
        }
    }
}

#[test]
fn jumbo_frames() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Each size of record from one byte below its limit to one byte above, and the largest that the
    // cable takes.
    let around = [128, 256, 640, 1152, 1600, 4160].map(|room| [room - 9, room - 8, room - 7]).concat();
    let sizes: Vec<usize> = around.into_iter().chain([3500, 8900, 8931]).collect();
    let frames: Vec<_> = (0..10 * sizes.len()).map(|n| frames::numbered(n as u32, sizes[n % sizes.len()])).collect();
    let file = frames::write(directory.path(), "jumbo.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(9001);
        let sensor = sensor(&pair, place, "--workers 1");
        for ip in [Ip::V4, Ip::V6] {
            replay_all(&pair.sender, pair.target(ip), &[&file], "--rate 5000", frames.len());
        }
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert_eq!(fast_path(&ended, "taken"), 2 * frames.len() as u64, "{place}: {:#}", ended.ledger.0);
        for ip in [Ip::V4, Ip::V6] {
            assert_holds(&format!("{place} {ip:?}"), &captures::session(&ended.captures, pair.source(ip), 1), &frames);
        }
    }
}

#[test]
fn tagged_outer_frames() {
    if !need::programs(&[]) {
        return;
    }
    const TAG: [u8; 4] = [0x81, 0x00, 0x00, 0x05];
    const OUTER_TAG: [u8; 4] = [0x88, 0xa8, 0x00, 0x06];
    let good = frames::numbered(7, 60);
    // Of VLANs that this host is not in, unless all is to be taken.
    for (place, any) in PLACES.into_iter().flat_map(|place| [(place, ""), (place, "--any-address")]) {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, place, any);
        let came = || pair.sensor.link_counter("eth0", "rx", "packets");
        let before = came();
        for (vni, tags) in [vec![], TAG.to_vec(), [OUTER_TAG, TAG].concat()].iter().enumerate() {
            let payload = vxlan(8, [0; 3], vni as u32, 0, &good);
            let mut packet = packet(&pair, 0, &payload, payload.len() + 8, 0);
            let sum = packet[..20].chunks(2).fold(0, |sum, two| sum + (u32::from(two[0]) << 8 | u32::from(two[1])));
            packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
            // Host numbers are the last byte of the cable's addresses.
            let addresses = [2, 0, 0, 0, 0x73, SENSOR, 2, 0, 0, 0, 0x73, 1];
            let frame = [addresses.as_slice(), tags, &[8, 0], &packet].concat();
            pair.sender.enter(|| {
                let all = pnet::datalink::interfaces();
                let eth0 = all.iter().find(|interface| interface.name == "eth0").unwrap();
                let Ok(Channel::Ethernet(mut sender, _)) = channel(eth0, Config::default()) else {
                    panic!("no socket")
                };
                sender.send_to(&frame, None).unwrap().unwrap();
            });
        }
        eventually("all have come", || came() - before >= 3);
        let ended = sensor.stop();
        ended.assert_all_is_well();
        let wanted = if any.is_empty() { 1 } else { 3 };
        assert_eq!(fast_path(&ended, "taken"), u64::from(wanted), "{place} {any}: {:#}", ended.ledger.0);
        assert_eq!(ended.ledger.received(), u64::from(wanted), "{place} {any}: {:#}", ended.ledger.0);
        for tags in 0..wanted {
            let records = captures::session(&ended.captures, pair.source(Ip::V4), tags);
            assert_holds(&format!("{place}, {tags} tags"), &records, &[&good]);
        }
    }
}

/// Returns an IPv4 packet with a UDP datagram from the sender to the sensor, with a UDP length and
/// a checksum that may be wrong.
fn packet(pair: &Pair, options: usize, payload: &[u8], udp_length: usize, checksum: u16) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (pair.source(Ip::V4), pair.target(Ip::V4).ip()) else { unreachable!() };
    let head = 20 + 4 * options;
    let mut packet = vec![0x40 | (head / 4) as u8, 0];
    packet.extend(((head + 8 + payload.len()) as u16).to_be_bytes());
    // The kernel computes the header's checksum.
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    // "No operation".
    packet.resize(head, 1);
    packet.extend([0xff, 0x80, 0x12, 0xb5]);
    packet.extend((udp_length as u16).to_be_bytes());
    packet.extend(checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The packet has its IP header.
const IPPROTO_RAW: i32 = 255;

fn send_raw(pair: &Pair, packet: &[u8]) {
    pair.sender.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
        let to = SocketAddr::new(pair.target(Ip::V4).ip(), 0);
        assert_eq!(socket.send_to(packet, &to.into()).unwrap(), packet.len());
    });
}

#[test]
fn lengths_options_and_checksums() {
    if !need::programs(&["ethtool"]) {
        return;
    }
    let good = frames::numbered(7, 60);
    let payload = vxlan(8, [0; 3], 7, 0, &good);
    let whole = payload.len() + 8;
    for (place, verify) in PLACES.into_iter().flat_map(|place| [(place, ""), (place, "--verify-checksum")]) {
        let pair = Pair::new(1600);
        pair.sender.no_offloads("eth0");
        let sensor = sensor(&pair, place, verify);
        let came = || pair.sensor.link_counter("eth0", "rx", "packets");
        let before = came();
        // Taken: plain; with 10 bytes behind the datagram; a wrong checksum. Left to the stack:
        // with IP options, which it delivers, and a UDP length that is more than there is, which it
        // drops.
        let trailed = [payload.as_slice(), &[0xee; 10]].concat();
        for packet in [
            packet(&pair, 0, &payload, whole, 0),
            packet(&pair, 3, &payload, whole, 0),
            packet(&pair, 0, &trailed, whole, 0),
            packet(&pair, 0, &payload, whole, 0x1234),
            packet(&pair, 0, &payload, whole + 1, 0),
        ] {
            send_raw(&pair, &packet);
        }
        eventually("all have come", || came() - before >= 5);
        let ended = sensor.stop();
        ended.ledger.assert_closes(&ended.captures);
        let wrong = u64::from(!verify.is_empty());
        assert_eq!(ended.ledger.get("/dropped/wrong_checksum"), wrong, "{place} {verify}: {:#}", ended.ledger.0);
        assert_eq!((ended.ledger.received(), fast_path(&ended, "taken")), (4, 3), "{place}: {:#}", ended.ledger.0);
        assert!(fast_path(&ended, "passed") >= 2);
        let want = vec![&good; 4 - wrong as usize];
        assert_holds(place, &captures::session(&ended.captures, pair.source(Ip::V4), 7), &want);
    }
}

#[test]
fn right_checksums_are_right() {
    if !need::programs(&["ethtool"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1600);
        pair.sender.no_offloads("eth0");
        let sensor = sensor(&pair, place, "--verify-checksum");
        for ip in [Ip::V4, Ip::V6] {
            replay_all(&pair.sender, pair.target(ip), &[&file], "--checksum --rate 2000", frames.len());
        }
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert_eq!(fast_path(&ended, "taken"), 2 * frames.len() as u64);
    }
}

#[test]
fn a_ring_that_overflows_while_the_sensor_stands_still_is_counted_exactly() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for (place, steer) in PLACES.into_iter().flat_map(|place| [(place, "session"), (place, "flow")]) {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, place, &format!("--ring 128KiB --workers 2 --steer {steer}"));
        sensor.process.signal(Signal::STOP);
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
        sensor.process.signal(Signal::CONT);
        let ended = sensor.stop();
        let ledger = &ended.ledger;
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ledger.assert_closes(&ended.captures);
        let full = fast_path(&ended, "ring_full");
        assert!(full > 100, "{place}: {:#}", ledger.0);
        assert_eq!(ledger.get("/kernel_dropped"), full, "{place}: {:#}", ledger.0);
        pair.assert_all_arrived(ledger.received() + full, frames.len());
        assert_eq!(ledger.get("/refused_at_stop"), 0);
    }
}

#[test]
fn a_sensor_that_is_killed_leaves_no_program() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1600);
        let mut first = sensor(&pair, place, "");
        first.process.signal(Signal::KILL);
        first.process.wait();
        if place == "tc" && !need::is_at_least(6, 6) {
            need::part_is_left_out("before Linux 6.6 a filter at tc stays until the next start");
            continue;
        }
        // Nobody takes these: the kernel finds nobody to give them to. It answers, which replay
        // hears of.
        eventually("all come to the stack", || {
            let before = pair.sensor.udp_counters().no_port;
            crate::replay::replay(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000");
            pair.sensor.udp_counters().no_port - before >= frames.len() as u64
        });
        let second = sensor(&pair, place, "");
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", frames.len());
        let ended = second.stop();
        ended.assert_all_is_well();
        assert_eq!(fast_path(&ended, "taken"), frames.len() as u64, "{place}");
    }
}

#[test]
fn another_xdp_program_is_named_and_auto_goes_beside_it() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let first = sensor(&pair, "auto", "");
    assert_eq!(source(&first), "bpf eth0:xdp");
    let other = "--source bpf --listen [::]:8472 --interface eth0";
    let (code, text) = Setup::new(&pair.sensor).with(&format!("{other} --attach xdp")).fails();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("eth0") && text.contains("vxtap_xdp (id ") && text.contains("--attach tc"), "{text}");
    let second = Setup::new(&pair.sensor).with(other).start();
    assert_eq!(source(&second), "bpf eth0:tc");
    let ended = second.stop();
    assert_eq!(ended.messages("not at XDP but at tc: interface eth0 has an XDP program already").len(), 1);
    assert_eq!(first.stop().code, Some(0));
}

#[test]
fn sensors_at_tc_share_an_interface() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    let ports = [4789, 8472];
    let start = |port: u16| {
        let arguments = format!("--source bpf --attach tc --interface eth0 --listen [::]:{port}");
        Setup::new(&pair.sensor).with(&arguments).start()
    };
    let sensors = ports.map(start);
    for port in ports {
        let to = SocketAddr::new(pair.target(Ip::V4).ip(), port);
        replay_all(&pair.sender, to, &[&file], "--rate 2000", frames.len());
    }
    for sensor in sensors {
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert_eq!(fast_path(&ended, "taken"), frames.len() as u64, "{:#}", ended.ledger.0);
    }
}

#[test]
fn any_address_is_taken_where_asked_for() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for (place, any) in PLACES.into_iter().flat_map(|place| [(place, ""), (place, "--any-address")]) {
        let pair = Pair::new(1600);
        // Addresses of another host, whose frames come by here.
        let others = [(Ip::V4, 99), (Ip::V6, 99)].map(|(ip, host)| netns::address(ip, host));
        for other in others {
            pair.sender.ip(&format!("neigh replace {other} lladdr {} nud permanent dev eth0", netns::mac(SENSOR)));
        }
        let sensor = sensor(&pair, place, any);
        let came = || pair.sensor.link_counter("eth0", "rx", "packets");
        let before = came();
        for other in others {
            replay_all(&pair.sender, SocketAddr::new(other, 4789), &[&file], "--rate 2000", frames.len());
        }
        eventually("all have come", || came() - before >= 2 * frames.len() as u64);
        let ended = sensor.stop();
        ended.assert_all_is_well();
        let wanted = if any.is_empty() { 0 } else { 2 * frames.len() as u64 };
        assert_eq!(fast_path(&ended, "taken"), wanted, "{place} {any}: {:#}", ended.ledger.0);
    }
}

#[test]
fn no_more_of_a_datagram_is_copied_than_is_kept() {
    if !need::programs(&[]) {
        return;
    }
    const SNAPLEN: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..300).map(|n| frames::numbered(n, 1400)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1600);
        // The ring has room for what is kept of all frames, and for not even a third of them whole.
        let sensor = sensor(&pair, place, &format!("--workers 1 --ring 128KiB --snaplen {SNAPLEN}"));
        sensor.process.signal(Signal::STOP);
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
        sensor.process.signal(Signal::CONT);
        let ended = sensor.stop();
        ended.assert_all_is_well();
        let whole: usize = frames.iter().map(|frame| frame.len() + 8).sum();
        assert_eq!(ended.ledger.get("/received_bytes"), whole as u64, "{place}");
        assert_eq!(ended.ledger.get("/outputs/pcap/snapped"), frames.len() as u64, "{place}");
        let records = captures::session(&ended.captures, pair.source(Ip::V4), 1);
        assert!(records.iter().all(|record| record.orig_len == 1400), "{place}: the length is kept");
        let kept: Vec<&[u8]> = frames.iter().map(|frame| &frame[..SNAPLEN]).collect();
        assert_holds(place, &records, &kept);
    }
}

#[test]
fn what_cannot_work_says_why() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1600);
    // A device of software alone, as a bond or a VLAN device is.
    pair.sensor.ip("link add soft0 type bridge");
    pair.sensor.ip("link set soft0 up");
    pair.sensor.ip("tuntap add dev bare0 mode tun");
    for (arguments, wanted, words) in [
        ("--interface nosuch0", 75, ["nosuch0", "eth0"]),
        ("--interface bare0", 1, ["bare0", "Ethernet"]),
        ("--interface soft0 --attach xdp", 1, ["soft0", "--attach tc"]),
        ("--listen 127.0.0.1:4789 --interface lo --attach xdp", 1, ["lo", "--attach tc"]),
    ] {
        let (code, text) = Setup::new(&pair.sensor).with("--source bpf").with(arguments).fails();
        assert_eq!(code, Some(wanted), "{arguments}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{arguments}: {text}");
    }
    let powerless = "setpriv --bounding-set -all --inh-caps -all";
    let (code, text) = Setup::new(&pair.sensor).through(powerless).with("--source bpf --interface eth0").fails();
    assert!(code == Some(1) && text.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{text}");
    // No more than what that asks for.
    let three = "-all,+bpf,+net_admin,+perfmon";
    let enough =
        format!("setpriv --securebits +noroot --bounding-set {three} --inh-caps {three} --ambient-caps {three}");
    for place in PLACES {
        let few = Setup::new(&pair.sensor).through(&enough).with("--source bpf --interface eth0 --attach").with(place);
        assert_eq!(few.start().stop().code, Some(0));
    }

    // Automatically, what works is used, and the log has the reason.
    let auto = |setup: Setup<'_>, interface: &str, by: &str, because: &str| {
        let sensor = setup.with(&format!("--source auto --interface {interface}")).start();
        assert_eq!(source(&sensor), by);
        let ended = sensor.stop();
        assert_eq!(ended.messages(because).len(), 1, "{:#?}", ended.log);
    };
    auto(Setup::new(&pair.sensor), "soft0", "bpf soft0:tc", "has no native XDP");
    auto(Setup::new(&pair.sensor).through(powerless), "eth0", "udp", "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
    auto(Setup::new(&pair.sensor), "bare0", "udp", "no Ethernet header");
    // The interface is found by itself where there is one that it could be.
    let sensor = Setup::new(&pair.sensor).with("--source auto --listen 10.73.0.2:4789").start();
    assert_eq!(source(&sensor), "bpf eth0:xdp");
}

/// Devices of software over `eth0`, `DEV`, by the words that make them.
const STACKED: [(&str, &[&str]); 3] = [
    ("bridge", &["link add DEV type bridge stp_state 0 mcast_snooping 0", "link set eth0 master DEV"]),
    ("vlan", &["link add link eth0 name DEV type vlan id 5"]),
    ("bond", &["link add DEV type bond mode active-backup", "link set eth0 down", "link set eth0 master DEV"]),
];

#[test]
fn devices_of_software_are_served_at_tc() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for (kind, words) in STACKED {
        let pair = Pair::new(1600);
        // Every kernel that can run these tests has bridges; the others are a matter of its
        // configuration.
        if kind != "bridge" && !pair.sensor.can_make(kind) {
            need::part_is_left_out(&format!("this kernel has no {kind} devices"));
            continue;
        }
        for (host, address) in [(&pair.sender, "10.74.0.1/24"), (&pair.sensor, "10.74.0.2/24")] {
            for words in words {
                host.ip(&words.replace("DEV", "soft0"));
            }
            host.ip(&format!("address add {address} dev soft0"));
            host.ip("link set soft0 up");
            host.ip("link set eth0 up");
        }
        pair.carries();
        [&pair.sender, &pair.sensor].into_iter().for_each(|host| host.carries("soft0"));
        let sensor = Setup::new(&pair.sensor).with("--source bpf --attach tc --listen 10.74.0.2:4789").start();
        assert_eq!(source(&sensor), "bpf soft0:tc");
        replay_all(&pair.sender, "10.74.0.2:4789".parse().unwrap(), &[&file], "--rate 2000", frames.len());
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert_eq!(fast_path(&ended, "taken"), frames.len() as u64, "{kind}: {:#}", ended.ledger.0);
        assert_holds(kind, &captures::session(&ended.captures, "10.74.0.1".parse().unwrap(), 1), &frames);
    }
}

#[test]
fn an_interface_that_goes_down_or_away_comes_back() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, place, "");
        let send = || replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", frames.len());
        pair.sensor.ip("link set eth0 down");
        pair.sensor.ip("link set eth0 up");
        pair.carries();
        send();
        pair.sensor.ip("link del eth0");
        let told = |what: &'static str| {
            sensor.process.stderr.find(what, 0, |line| line.contains(what).then_some(()));
        };
        told("the interface is gone");
        pair.plug_in(1600);
        told("the interface is back");
        // Its addresses are new to the program too.
        eventually("the program takes datagrams again", || {
            let before = pair.sensor.udp_counters().delivered;
            send();
            eventually("what came to a socket is read", || pair.sensor.udp_queued(4789) == 0);
            pair.sensor.udp_counters().delivered == before
        });
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert!(fast_path(&ended, "taken") >= 2 * frames.len() as u64, "{place}: {:#}", ended.ledger.0);
    }
}

#[test]
fn vnis_not_asked_for_stay_in_the_kernel_and_in_the_ledger() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(800);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for place in PLACES {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, place, "--vni 2,5 --workers 2");
        for ip in [Ip::V4, Ip::V6] {
            replay_all(&pair.sender, pair.target(ip), &[&file], "--vni 1-8 --rate 20000", frames.len());
        }
        // Odd ones are counted by what is wrong with them, whatever their VNI.
        let odd =
            [vxlan(0, [0; 3], 9, 0, &frames[0]), vxlan(8, [0; 3], 9, 0, &[0; 13]), vxlan(8, [0; 3], 9, 1, &frames[0])];
        crate::datagrams::send(&pair.sender, pair.target(Ip::V4), &odd);
        let ended = sensor.stop();
        let ledger = &ended.ledger;
        ledger.assert_closes(&ended.captures);
        pair.assert_all_arrived(ledger.received(), 2 * frames.len() + odd.len());
        let bytes: usize = frames.iter().map(|frame| frame.len() + 8).sum::<usize>() * 2;
        let odd_bytes: usize = odd.iter().map(Vec::len).sum();
        assert_eq!(ledger.get("/received_bytes"), (bytes + odd_bytes) as u64);
        assert_eq!(ledger.get("/unselected"), 2 * 600 + 1, "{place}: {:#}", ledger.0);
        assert_eq!(fast_path(&ended, "unselected"), 2 * 600, "{place}: {:#}", ledger.0);
        assert_eq!(ledger.get("/outputs/pcap/filtered"), 2 * 600 + 1);
        assert_eq!((ledger.get("/dropped/vni_flag_clear"), ledger.get("/dropped/runt_inner_frame")), (1, 1));
        assert_eq!((ledger.get("/reserved_bits"), ledger.written()), (1, 2 * 200));
    }
}

#[test]
fn an_idle_sensor_waits() {
    if !need::programs(&[]) {
        return;
    }
    for place in PLACES {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, place, "--workers 1");
        // No measurement, which a loaded machine and a build without optimisation would spoil:
        // whoever turns in a circle while there is nothing to do uses all that there is, in each
        // period.
        let period = Duration::from_secs(1);
        let on_a_core = || tasks(sensor.process.pid()).iter().map(|task| task.times()[0]).sum::<Duration>();
        let used = || {
            let before = on_a_core();
            thread::sleep(period);
            // A thread of the start that ends meanwhile takes its time along.
            on_a_core().saturating_sub(before)
        };
        let least = (0..3).map(|_| used()).min().unwrap();
        assert!(least * 20 < period, "{place}: {least:?} on a core in {period:?}");
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0));
    }
}
