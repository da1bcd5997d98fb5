//! The mirror interface is fed without user space: the program redirects, what it leaves is
//! injected, and the ledger has both.

use std::fs;
use std::path::Path;

use aya::programs::{SchedClassifier, TcAttachType};
use pnet::datalink::{Channel, Config, channel};
use rustix::process::Signal;
use vxtap::wire::inner::{MAX_VLAN_TAGS, original_length};

use crate::captures::{self, assert_holds, assert_same};
use crate::datagrams::{self, vxlan};
use crate::frames;
use crate::manifest;
use crate::mirror::{assert_deaf, assert_runts_are_counted, mirrored_and_ordinary, persistent};
use crate::need;
use crate::netns::{Ip, Namespace, Pair, SENSOR};
use crate::process::eventually;
use crate::replay::{replay, replay_all};
use crate::sensor::{Ended, Sensor, Setup};
use crate::tcpdump::Tcpdump;

/// A sensor that redirects.
pub(crate) const REDIRECT: &str = "--source bpf --interface eth0 --tap mirror0 --tap-mode redirect";
/// With files and without.
pub(crate) const WAYS: [&str; 2] = ["", "--no-write"];

pub(crate) fn sensor(pair: &Pair, arguments: &str) -> Sensor {
    Setup::new(&pair.sensor).with(REDIRECT).with(arguments).start()
}

/// Returns what the ledger says of the program.
#[track_caller]
pub(crate) fn fast_path(ended: &Ended, what: &str) -> u64 {
    ended.ledger.get(&format!("/fast_path/{what}"))
}

/// Fails unless all that was received is in the interface, and the files where there are some, and
/// the ledger says so.
#[track_caller]
pub(crate) fn assert_all_is_well(ended: &Ended, arguments: &str) {
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_output_closes("mirror0");
    assert_eq!(ended.ledger.get("/outputs/mirror0/written"), ended.ledger.received(), "{:#}", ended.ledger.0);
    let in_sessions: u64 = ended.ledger.sessions().iter().map(|(_, _, frames)| frames).sum();
    assert_eq!(in_sessions + ended.ledger.get("/overflow/frames"), ended.ledger.received(), "{:#}", ended.ledger.0);
    if !arguments.contains("--no-write") {
        ended.assert_all_is_well();
    }
}

/// Says whether the mirror sends this frame in one piece, over a cable for packets of `mtu` bytes.
fn is_whole(frame: &[u8], mtu: usize) -> bool {
    frame.len() + 8 + 8 + 40 <= mtu
}

/// Fails unless these frames were seen, unaltered, and in order as far as they are redirected: one
/// that comes in fragments takes its time.
#[track_caller]
fn assert_seen(what: &str, seen: &[Vec<u8>], sent: &[Vec<u8>], mtu: usize) {
    let whole = |frames: &[Vec<u8>]| frames.iter().filter(|frame| is_whole(frame, mtu)).cloned().collect::<Vec<_>>();
    assert_same(what, &whole(seen), &whole(sent));
    let sorted = |frames: &[Vec<u8>]| {
        let mut frames = frames.to_vec();
        frames.sort();
        frames
    };
    assert_same(&format!("{what}, with fragments"), &sorted(seen), &sorted(sent));
}

#[test]
fn a_tap_shows_the_frames_that_were_sent() {
    let (true, Some(corpus)) = (need::programs(&["tcpdump"]), need::corpus()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (files, all) = mirrored_and_ordinary(&corpus, directory.path());
    let sent: Vec<(&Path, usize)> = files.iter().map(|file| (file.as_path(), captures::frames(file).len())).collect();
    let bytes: usize = all.iter().map(Vec::len).sum();
    let longest = all.iter().map(Vec::len).max().unwrap();
    // Short frames over IPv6 are redirected from Linux 6.3 on.
    let ips = [Ip::V4, Ip::V6].into_iter().filter(|ip| *ip == Ip::V4 || need::is_at_least(6, 3));
    for (ip, arguments) in ips.flat_map(|ip| WAYS.map(|arguments| (ip, arguments))) {
        let pair = Pair::new(9001);
        let sensor = sensor(&pair, arguments);
        let mut tcpdump = Tcpdump::cutting(&pair.sensor, "mirror0", "", longest as u32);
        // One by one: its ring holds those of the largest.
        let mut came = 0;
        for (file, frames) in &sent {
            replay_all(&pair.sender, pair.target(ip), &[file], "--rate 5000", *frames);
            came += frames;
            tcpdump.has_captured(came);
        }
        assert_seen(&format!("tcpdump on the tap, {ip:?} {arguments}"), &tcpdump.frames_of(all.len()), &all, 9001);
        let ended = sensor.stop();
        assert_all_is_well(&ended, arguments);
        pair.assert_all_arrived(ended.ledger.received(), all.len());
        let whole = all.iter().filter(|frame| is_whole(frame, 9001)).count() as u64;
        assert_eq!(fast_path(&ended, "redirected"), whole, "{:#}", ended.ledger.0);
        assert_eq!(ended.ledger.get("/outputs/mirror0/written_bytes"), bytes as u64);
        assert_eq!(ended.ledger.sessions(), [(pair.source(ip), 1, all.len() as u64)]);
        // With files each has a copy; without, the first of the session, by which it is known at
        // once.
        let copies = if arguments.is_empty() { whole } else { 1 };
        assert_eq!(fast_path(&ended, "taken"), copies, "{:#}", ended.ledger.0);
        if arguments.is_empty() {
            assert_holds("files", &captures::session(&ended.captures, pair.source(ip), 1), &all);
        }
    }
}

#[test]
fn the_host_does_not_react() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let ended = assert_deaf(&format!("{REDIRECT} --no-write"));
    assert_all_is_well(&ended, "--no-write");
    assert_eq!(fast_path(&ended, "redirected"), ended.ledger.received());
}

#[test]
fn tagged_frames_that_no_sniffer_sees_are_counted_as_such() {
    if need::programs(&["tcpdump"]) {
        assert_runts_are_counted(REDIRECT);
    }
}

#[test]
fn fragments_come_through_the_socket_and_are_injected() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..300).map(|n| frames::numbered(n, if n % 3 == 0 { 4000 } else { 100 })).collect();
    let file = frames::write(directory.path(), "mixed.pcap", &frames);
    // The checksum is left to a network card that is never reached, as inside one host.
    for (ip, arguments) in [(Ip::V4, ""), (Ip::V6, "--no-write --workers 2 --steer flow")] {
        let pair = Pair::new(1500);
        let sensor = sensor(&pair, arguments);
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        replay_all(&pair.sender, pair.target(ip), &[&file], "--rate 2000 --checksum", frames.len());
        assert_seen(arguments, &tcpdump.frames_of(frames.len()), &frames, 1500);
        let ended = sensor.stop();
        assert_all_is_well(&ended, arguments);
        pair.assert_all_arrived(ended.ledger.received(), frames.len());
        assert_eq!(fast_path(&ended, "redirected"), 200, "{:#}", ended.ledger.0);
        assert!(fast_path(&ended, "passed") >= 100 * 3, "three fragments each: {:#}", ended.ledger.0);
        assert_eq!(ended.ledger.sessions(), [(pair.source(ip), 1, 300)]);
    }
}

/// Sends an IPv4 packet for UDP port 4789 of the sensor with this payload, in an Ethernet frame
/// with these tags, and bytes behind it.
fn send_tagged(pair: &Pair, tags: &[u8], payload: &[u8], behind: &[u8]) {
    let builder = etherparse::PacketBuilder::ipv4([10, 73, 0, 1], [10, 73, 0, 2], 64).udp(65_408, 4789);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    // No checksum.
    packet[26..28].fill(0);
    // Host numbers are the last byte of the cable's addresses.
    let addresses = [2, 0, 0, 0, 0x73, SENSOR, 2, 0, 0, 0, 0x73, 1];
    let frame = [&addresses, tags, &[8, 0], &packet, behind].concat();
    pair.sender.enter(|| {
        let all = pnet::datalink::interfaces();
        let eth0 = all.iter().find(|interface| interface.name == "eth0").unwrap();
        let Ok(Channel::Ethernet(mut sender, _)) = channel(eth0, Config::default()) else { panic!("no socket") };
        sender.send_to(&frame, None).unwrap().unwrap();
    });
}

#[test]
fn what_is_odd_is_decided_by_user_space() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    const TAG: [u8; 4] = [0x81, 0x00, 0x00, 0x05];
    const OUTER_TAG: [u8; 4] = [0x88, 0xa8, 0x00, 0x06];
    let good = frames::numbered(7, 60);
    // Without a payload that the program would have to move, and tagged inside.
    let short = good[..20].to_vec();
    let tagged = [&good[..12], &TAG, &good[12..]].concat();
    for arguments in WAYS {
        let pair = Pair::new(1600);
        // Also of VLANs that this host is not in.
        let sensor = sensor(&pair, &format!("--any-address {arguments}"));
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        let seen = |n: u64| {
            eventually("all have come", || pair.sensor.link_counter("eth0", "rx", "packets") >= n);
        };
        let before = pair.sensor.link_counter("eth0", "rx", "packets");
        let plain = |frame: &[u8]| vxlan(8, [0; 3], 9, 0, frame);
        // One by one, so that what is injected keeps its place.
        let mut n = before;
        let mut wanted = Vec::new();
        let mut send = |tags: &[u8], payload: &[u8], behind: &[u8], shows: Option<&[u8]>| {
            send_tagged(&pair, tags, payload, behind);
            n += 1;
            seen(n);
            wanted.extend(shows.map(<[u8]>::to_vec));
        };
        // Redirected.
        send(&[], &plain(&good), &[], Some(&good));
        send(&TAG, &plain(&good), &[], Some(&good));
        send(&[], &plain(&tagged), &[], Some(&tagged));
        // Odd, but good.
        send(&[OUTER_TAG, TAG].concat(), &plain(&good), &[], Some(&good));
        send(&[], &plain(&good), &[0xee; 10], Some(&good));
        send(&[], &plain(&short), &[], Some(&short));
        send(&[], &vxlan(0x88, [0, 1, 2], 9, 3, &good), &[], Some(&good));
        // Odd, and no frame.
        send(&[], &vxlan(0, [0; 3], 9, 0, &good), &[], None);
        send(&[], &plain(&good[..13]), &[], None);
        send(&[], &plain(&good)[..7], &[], None);
        send(&[], &[], &[], None);
        let sorted = |mut frames: Vec<Vec<u8>>| {
            frames.sort();
            frames
        };
        assert_same(arguments, &sorted(tcpdump.frames_of(wanted.len())), &sorted(wanted));
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let get = |what: &str| ended.ledger.get(what);
        ended.ledger.assert_output_closes("mirror0");
        assert_eq!((get("/received"), get("/decapsulated"), get("/outputs/mirror0/written")), (11, 7, 7));
        let reasons =
            ["vni_flag_clear", "runt_inner_frame", "short_vxlan_header"].map(|r| get(&format!("/dropped/{r}")));
        assert_eq!((reasons, get("/reserved_bits")), ([1, 1, 2], 1), "{:#}", ended.ledger.0);
        assert_eq!((fast_path(&ended, "redirected"), fast_path(&ended, "not_redirected/odd")), (3, 8));
        if arguments.is_empty() {
            ended.ledger.assert_closes(&ended.captures);
        }
    }
}

#[test]
fn cut_frames_are_counted_as_user_space_does() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let whole = frames::numbered(1, 1000);
    let mut v6 = [&whole[..12], &[0x86, 0xdd, 0x60, 0, 0, 0, 3, 0xc0], &[0; 100]].concat();
    v6.resize(14 + 40 + 960, 0);
    let mut all = Vec::new();
    for frame in [whole, v6] {
        // As many tags as user space looks through, and one more; the program itself looks through
        // two.
        let tag = |n: usize| [[0x81, 0, 0, 5], [0x88, 0xa8, 0, 6], [0x91, 0, 0, 5]][n % 3];
        for count in 0..=MAX_VLAN_TAGS + 1 {
            let tags = (0..count).flat_map(tag).collect::<Vec<_>>();
            let tagged = [&frame[..12], &tags, &frame[12..]].concat();
            all.extend([60, tagged.len() - 1, tagged.len()].map(|length| tagged[..length].to_vec()));
            all.push([tagged.as_slice(), &[0xee; 8]].concat());
        }
    }
    // Not IP, or not as its header says; with impossible lengths.
    for (at, bytes) in [(12, &[8, 6][..]), (14, &[0x65]), (14, &[0x44]), (16, &[0, 19]), (16, &[0, 0])] {
        let mut frame = frames::numbered(2, 100);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        all.push(frame);
    }
    let cut = all.iter().filter(|frame| original_length(frame) as usize > frame.len()).count();
    assert_eq!(cut, 2 * 2 * (MAX_VLAN_TAGS + 1));
    let file = frames::write(directory.path(), "cut.pcap", &all);
    for arguments in WAYS {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, arguments);
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", all.len());
        let ended = sensor.stop();
        assert_all_is_well(&ended, arguments);
        // The first is counted by the worker in any case.
        assert_eq!(ended.ledger.get("/cut_by_mirror"), cut as u64, "{arguments}");
        // Only user space can tell of those with more than two tags.
        let odd = 2 * 4 * (MAX_VLAN_TAGS - 1);
        assert_eq!(fast_path(&ended, "redirected"), (all.len() - odd) as u64);
        assert_eq!(fast_path(&ended, "not_redirected/odd"), odd as u64);
    }
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).with("--source udp").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", all.len());
    assert_eq!(sensor.stop().ledger.get("/cut_by_mirror"), cut as u64, "--source udp");
}

#[test]
fn what_is_not_allowed_does_not_enter_also_when_that_changes() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..400).map(|n| frames::numbered(n, 60)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let list = directory.path().join("allowed");
    for arguments in WAYS {
        let pair = Pair::new(1600);
        fs::write(&list, format!("vni 1, 2\nfrom {}\n", pair.source(Ip::V4))).unwrap();
        let sensor = sensor(&pair, &format!("--allow {} {arguments}", list.display()));
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        let send = || {
            for ip in [Ip::V4, Ip::V6] {
                replay_all(&pair.sender, pair.target(ip), &[&file], "--vni 1-4 --rate 20000", frames.len());
            }
        };
        let of_vni = |vni: usize| frames.iter().skip(vni - 1).step_by(4).cloned();
        send();
        let seen = sensor.lines();
        // All that was sent has been decided by now: the program runs on the sender's core.
        fs::write(&list, "vni 3\n").unwrap();
        sensor.process.signal(Signal::USR2);
        sensor.says(seen, "allowed VNIs: 3");
        send();
        let first = (0..400).filter(|n| n % 4 < 2).map(|n| frames[n].clone());
        let wanted: Vec<_> = first.chain(of_vni(3)).chain(of_vni(3)).collect();
        assert_same(arguments, &tcpdump.frames(), &wanted);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        pair.assert_all_arrived(ended.ledger.received(), 4 * frames.len());
        ended.ledger.assert_output_closes("mirror0");
        assert_eq!(ended.ledger.get("/outputs/mirror0/filtered"), 1600 - 400);
        assert_eq!((fast_path(&ended, "unselected"), fast_path(&ended, "redirected")), (1600 - 400, 400));
        let (v4, v6) = (pair.source(Ip::V4), pair.source(Ip::V6));
        let mut sessions = ended.ledger.sessions();
        sessions.sort();
        assert_eq!(sessions, [(v4, 1, 100), (v4, 2, 100), (v4, 3, 100), (v6, 3, 100)]);
        if arguments.is_empty() {
            ended.ledger.assert_closes(&ended.captures);
        }
    }
}

#[test]
fn sessions_beyond_the_limit_are_redirected_and_counted_together() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..800).map(|n| frames::numbered(n, 60)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for arguments in WAYS {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, &format!("--max-sessions 3 {arguments}"));
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-8 --rate 20000", frames.len());
        let ended = sensor.stop();
        assert_all_is_well(&ended, arguments);
        assert_eq!(fast_path(&ended, "redirected"), 800, "{:#}", ended.ledger.0);
        assert_eq!(ended.ledger.sessions().iter().map(|s| s.2).collect::<Vec<_>>(), [100; 3], "{arguments}");
        assert_eq!(ended.ledger.get("/overflow/frames"), 500);
        assert_eq!(ended.ledger.get("/overflow/bytes"), 500 * 60);
    }
}

#[test]
fn a_stalled_sensor_costs_files_their_copies_and_the_interface_nothing() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for steer in ["session", "flow"] {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, &format!("--ring 128KiB --workers 2 --steer {steer} --snaplen 200 --format pcapng"));
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        sensor.process.signal(Signal::STOP);
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-2 --rate 20000", frames.len());
        assert_same("on the tap, while nobody reads the ring", &tcpdump.frames(), &frames);
        sensor.process.signal(Signal::CONT);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let get = |what: &str| ended.ledger.get(what);
        ended.ledger.assert_closes(&ended.captures);
        ended.ledger.assert_output_closes("mirror0");
        assert_eq!((get("/outputs/mirror0/written"), get("/received")), (1000, 1000), "{:#}", ended.ledger.0);
        let missing = get("/outputs/pcap/dropped/lane_full");
        assert!(missing > 100 && ended.ledger.written() == 1000 - missing, "{:#}", ended.ledger.0);
        assert_eq!((get("/kernel_dropped"), fast_path(&ended, "ring_full")), (0, 0));
        assert_eq!(ended.ledger.sessions().iter().map(|s| s.2).collect::<Vec<_>>(), [500; 2]);
        // The evidence says whose they were.
        let dropped = |line: serde_json::Value| line["dropped"]["lane_full"].as_u64().unwrap_or(0);
        assert_eq!(manifest::lines(&ended.captures).into_iter().map(dropped).sum::<u64>(), missing);
        manifest::assert_verified(&ended.captures);
        for path in captures::files(&ended.captures) {
            for record in captures::read(&path) {
                assert!(record.frame.len() == 200.min(record.orig_len as usize), "cut for the file");
            }
        }
    }
}

/// Says whether programs are attached at tc ingress of this interface, by tcx.
fn has_program(namespace: &Namespace, interface: &str) -> bool {
    namespace
        .enter(|| SchedClassifier::query_tcx(interface, TcAttachType::Ingress).is_ok_and(|(_, all)| !all.is_empty()))
}

#[test]
fn a_sensor_that_is_killed_leaves_no_program() {
    if !need::programs(&[]) {
        return;
    }
    if !need::is_at_least(6, 6) {
        return need::cannot("before Linux 6.6 filters stay until the next start");
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    persistent(&pair.sensor, "mirror0", "tap");
    let mut first = sensor(&pair, "--no-write");
    assert!(["eth0", "mirror0"].iter().all(|interface| has_program(&pair.sensor, interface)));
    first.process.signal(Signal::KILL);
    first.process.wait();
    eventually("the kernel takes both away", || {
        ["eth0", "mirror0"].iter().all(|interface| !has_program(&pair.sensor, interface))
    });
    let before = pair.sensor.udp_counters().no_port;
    replay(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000");
    eventually("all come to the stack", || pair.sensor.udp_counters().no_port - before >= frames.len() as u64);
    let second = sensor(&pair, "--no-write");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", frames.len());
    let ended = second.stop();
    assert_all_is_well(&ended, "--no-write");
    assert_eq!(fast_path(&ended, "redirected"), frames.len() as u64);
    eventually("the kernel takes its program away", || !has_program(&pair.sensor, "mirror0"));
    assert!(pair.sensor.has_link("mirror0"), "the interface stays");
}

#[test]
fn an_interface_that_goes_down_or_away_costs_its_own_frames_only() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(200);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let n = frames.len() as u64;
    let pair = Pair::new(1600);
    let play = || replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 2000", frames.len());
    let sensor = sensor(&pair, "");
    play();
    // The first of these are on their way before the sensor has seen it.
    pair.sensor.ip("link set mirror0 down");
    play();
    sensor.says(0, "no more redirecting");
    let refused = || pair.sensor.link_counter("mirror0", "rx", "dropped");
    let before = refused();
    play();
    eventually("as many are refused", || refused() >= before + n);
    let from = sensor.lines();
    pair.sensor.ip("link set mirror0 up");
    sensor.says(from, "redirecting into the interface again");
    play();
    let from = sensor.lines();
    pair.sensor.ip("link delete mirror0");
    play();
    sensor.says(from, "redirecting into the interface again");
    play();
    // What it is attached to goes away and comes back.
    let from = sensor.lines();
    pair.sensor.ip("link del eth0");
    sensor.says(from, "the interface is gone");
    pair.plug_in(1600);
    sensor.says(from, "the interface is back");
    let redirects = || {
        let before = pair.sensor.udp_counters().delivered;
        play();
        eventually("what came to a socket is read, and counted", || pair.sensor.udp_queued(4789) == 0);
        pair.sensor.udp_counters().delivered == before
    };
    let mut times = 6;
    eventually("the program takes datagrams again", || {
        times += 1;
        redirects()
    });
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "frames were lost by a failing output: {:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    ended.ledger.assert_output_closes("mirror0");
    assert_eq!((ended.ledger.received(), ended.ledger.written()), (times * n, times * n), "the files have all");
    let get = |what: &str| ended.ledger.get(&format!("/outputs/mirror0/{what}"));
    let (lost, down) = (get("dropped/redirect_lost"), get("dropped/interface_down"));
    // None where the sensor saw it before the first of them came.
    assert!(down >= n && lost + down <= 3 * n, "{:#}", ended.ledger.0);
    assert!(fast_path(&ended, "not_redirected/no_interface") >= n);
    let said = !ended.messages("redirected frames did not enter the interface").is_empty();
    assert_eq!(said, lost > 0, "{:#?}", ended.log);
}

#[test]
fn what_only_user_space_can_do_is_refused_with_the_reason() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let bpf = "--source bpf --interface eth0";
    for (arguments, words) in [
        ("--tap mirror0", ["--source udp", "use --source bpf"]),
        ("--tap mirror0 --source bpf --attach xdp", ["--attach xdp", "use --attach tc"]),
        ("--tap mirror0:vni=5 --source bpf", ["--tap NAME:vni=N", "use --vni"]),
        ("--tap mirror0 --tap-count 2 --source bpf", ["--tap-count", "--tap-mode inject"]),
        ("--source bpf", ["--tap", "required"]),
    ] {
        let setup = Setup::new(&pair.sensor).with("--tap-mode redirect").with(arguments);
        let setup = if arguments.contains("--source") { setup } else { setup.with("--source udp") };
        let (code, text) = setup.fails();
        assert_eq!(code, Some(2), "{arguments}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{arguments}: {text}");
    }
    // What another has is refused as without redirection, and nothing stays behind.
    let (code, text) = Setup::new(&pair.sensor).with(bpf).with("--tap eth0 --tap-mode redirect --no-write").fails();
    assert!(code == Some(1) && text.contains("eth0 exists and is"), "{text}");
    assert!(!has_program(&pair.sensor, "eth0"));
}

#[test]
fn without_redirection_nothing_is_redirected() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).with("--source bpf --attach tc --interface eth0 --tap mirror0").start();
    datagrams::send(&pair.sender, pair.target(Ip::V4), &[vxlan(8, [0; 3], 1, 0, &frames::numbered(1, 60))]);
    assert!(!has_program(&pair.sensor, "mirror0"));
    let ended = sensor.stop();
    assert_all_is_well(&ended, "");
    assert_eq!((fast_path(&ended, "redirected"), fast_path(&ended, "not_redirected/no_interface")), (0, 0));
}
