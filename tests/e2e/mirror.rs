//! The mirror interface gives out what is sent, and the host leaves it alone.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::captures::{self, assert_same};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace, Pair};
use crate::process::eventually;
use crate::replay::{self, replay_all};
use crate::sensor::{Ended, Setup};
use crate::tcpdump::Tcpdump;

/// Makes a tap or tun that outlives the sensor, and with it its counters.
pub(crate) fn persistent(namespace: &Namespace, name: &str, kind: &str) {
    namespace.ip(&format!("tuntap add dev {name} mode {kind}"));
}

/// Fails unless the interface counted as many frames as the ledger says were written, and dropped
/// as many as it was down for.
#[track_caller]
fn assert_interface_agrees(namespace: &Namespace, name: &str, ended: &Ended) {
    ended.ledger.assert_output_closes(name);
    let of = |what: &str| ended.ledger.get(&format!("/outputs/{name}/{what}"));
    let counted = |what: &str| namespace.link_counter(name, "rx", what);
    assert_eq!(counted("packets"), of("written"), "{name}: {:#}", ended.ledger.0);
    assert_eq!(counted("dropped"), of("dropped/interface_down"), "{name}: {:#}", ended.ledger.0);
    assert_eq!(of("host_frames"), 0, "the host said something into {name}");
}

/// Returns all frames of the ordinary captures.
pub(crate) fn ordinary(corpus: &Path) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let files = captures::files(&corpus.join("inner"));
    let frames = files.iter().flat_map(|file| captures::frames(file)).collect();
    (files, frames)
}

/// Returns all frames of the ordinary captures behind what a mirror of AWS sent, of which a file is
/// written to `directory`.
pub(crate) fn mirrored_and_ordinary(corpus: &Path, directory: &Path) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let mut all = frames::inner(&corpus.join("vxlan/aws-traffic-mirror.pcap"));
    let mut files = vec![frames::write(directory, "aws.pcap", &all)];
    let (more_files, more) = ordinary(corpus);
    files.extend(more_files);
    all.extend(more);
    (files, all)
}

/// Sends frames in pieces that the ring of tcpdump holds, which shows some of them.
#[track_caller]
fn play(pair: &Pair, frames: &[Vec<u8>], tcpdump: &mut Tcpdump, is_shown: impl Fn(&&Vec<u8>) -> bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut shown = 0;
    for piece in frames.chunks(1000) {
        let file = frames::write(directory.path(), "piece.pcap", piece);
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 5000", piece.len());
        shown += piece.iter().filter(&is_shown).count();
        tcpdump.has_captured(shown);
    }
}

/// Returns the payload of a frame behind Ethernet and tags, where that is IP.
fn packet(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    while matches!(frame[at..at + 2], [0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]) {
        at += 4;
    }
    matches!(frame[at..at + 2], [0x08, 0x00] | [0x86, 0xdd]).then(|| &frame[at + 2..])
}

#[test]
fn a_tap_shows_the_frames_that_were_sent() {
    let (true, Some(corpus)) = (need::programs(&["tcpdump"]), need::corpus()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (_, all) = mirrored_and_ordinary(&corpus, directory.path());
    let pair = Pair::new(9001);
    persistent(&pair.sensor, "mirror0", "tap");
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0").start();
    let mut tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    play(&pair, &all, &mut tcpdump, |_| true);
    assert_same("tcpdump on the tap", &tcpdump.frames(), &all);
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_interface_agrees(&pair.sensor, "mirror0", &ended);
    assert_eq!(ended.ledger.get("/outputs/mirror0/written"), all.len() as u64);
}

#[test]
fn a_tun_shows_the_ip_packets() {
    let (true, Some(corpus)) = (need::programs(&["tcpdump"]), need::corpus()) else { return };
    let (_, mut all) = ordinary(&corpus);
    all.push([&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x08, 0x06], &[0; 46]].concat());
    let pair = Pair::new(9001);
    persistent(&pair.sensor, "mirror0", "tun");
    let sensor = Setup::new(&pair.sensor).with("--tun mirror0 --no-write").start();
    let mut tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    play(&pair, &all, &mut tcpdump, |frame| packet(frame).is_some());
    let packets: Vec<&[u8]> = all.iter().filter_map(|frame| packet(frame)).collect();
    assert_same("tcpdump on the tun", &tcpdump.frames(), &packets);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_interface_agrees(&pair.sensor, "mirror0", &ended);
    let not_ip = ended.ledger.get("/outputs/mirror0/dropped/not_ip");
    assert_eq!(not_ip as usize, all.len() - packets.len());
}

#[test]
fn an_interface_of_our_own_is_set_up_for_sniffing_and_goes_away() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0 --tap-mtu 9100 --no-write").start();
    let output = pair.sensor.command("ip").args(["address", "show", "mirror0"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["PROMISC", "NOARP", "UP", "mtu 9100"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("inet"), "no addresses: {text}");
    assert_eq!(sensor.stop().code, Some(0));
    let gone = pair.sensor.command("ip").args(["link", "show", "mirror0"]).output().unwrap();
    assert!(!gone.status.success());
}

#[test]
fn interfaces_take_the_vnis_they_are_for() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(400);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    persistent(&pair.sensor, "a", "tap");
    persistent(&pair.sensor, "b", "tap");
    let sensor = Setup::new(&pair.sensor).with("--tap a:vni=100,200 --tap b:vni=300").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 100-200 --rate 10000", frames.len());
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 300 --rate 10000", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    for name in ["a", "b"] {
        assert_interface_agrees(&pair.sensor, name, &ended);
    }
    // Of 101 VNIs in turn, the first came four times and the last three.
    assert_eq!(ended.ledger.get("/outputs/a/written"), 4 + 3);
    assert_eq!(ended.ledger.get("/outputs/b/written"), frames.len() as u64);
}

#[test]
fn the_host_does_not_react() {
    if need::programs(&["tcpdump"]) {
        assert_deaf("--tap mirror0 --no-write");
    }
}

/// Fails unless the host leaves frames alone that ask it for an answer, in the interface `mirror0`
/// of a sensor with these arguments.
pub(crate) fn assert_deaf(arguments: &str) -> Ended {
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    pair.sensor.sysctl("net.ipv4.ip_forward", "1");
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let address = pair.sensor.command("cat").arg("/sys/class/net/mirror0/address").output().unwrap();
    let tap_mac: Vec<u8> = String::from_utf8(address.stdout)
        .unwrap()
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let host_mac = [2, 0, 0, 0, 0x73, 2];
    let mut sent = Vec::new();
    for mac in [&tap_mac[..], &host_mac, &[0xff; 6]] {
        let frame = |kind: [u8; 2], body: &[u8]| {
            let mut frame = [mac, &[2, 0, 0, 0, 0x73, 1], &kind, body].concat();
            frame.resize(60.max(frame.len()), 0);
            frame
        };
        // Who has 10.73.0.2? Tell 10.73.0.1.
        let arp: [u8; 28] = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0x73, 1, 10, 73, 0, 1, 0, 0, 0, 0, 0, 0, 10, 73, 0, 2];
        sent.push(frame([0x08, 0x06], &arp));
        // Echo request, a SYN and a datagram to a closed port for the host itself; a datagram for
        // somebody else to be forwarded.
        for (protocol, to) in [(1, [10, 73, 0, 2]), (6, [10, 73, 0, 2]), (17, [10, 73, 0, 2]), (17, [10, 73, 0, 1])] {
            let builder = etherparse::PacketBuilder::ipv4([10, 73, 0, 1], to, 64);
            let mut packet = Vec::new();
            match protocol {
                1 => builder.icmpv4_echo_request(1, 1).write(&mut packet, b"echo").unwrap(),
                6 => builder.tcp(40_000, 81, 1, 1000).syn().write(&mut packet, &[]).unwrap(),
                _ => builder.udp(40_000, 81).write(&mut packet, b"hello").unwrap(),
            }
            sent.push(frame([0x08, 0x00], &packet));
        }
    }
    let file = frames::write(directory.path(), "provoking.pcap", &sent);
    let wire = Tcpdump::start(&pair.sender, "eth0", "not udp port 4789 and not ip6 dst ff02::16");
    let tap = Tcpdump::start(&pair.sensor, "mirror0", "");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 100", sent.len());
    assert_same("on the tap: what was sent, and no answer", &tap.frames(), &sent);
    let answers = wire.frames();
    assert!(answers.is_empty(), "on the wire: {answers:02x?}");
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.ledger.get("/outputs/mirror0/host_frames"), 0);
    ended
}

#[test]
fn tagged_frames_that_no_sniffer_sees_are_counted_as_such() {
    if need::programs(&["tcpdump"]) {
        assert_runts_are_counted("--tap mirror0");
    }
}

/// Fails unless tagged frames without what is tagged are not shown by the interface `mirror0` of a
/// sensor with these arguments, and are counted as such, while the files have all.
pub(crate) fn assert_runts_are_counted(arguments: &str) {
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let with_type = |kind: [u8; 2], length: usize| {
        let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &kind[..]].concat();
        frame.resize(length, 0);
        frame
    };
    let types = [[0x81, 0], [0x88, 0xa8], [0x91, 0], [8, 0]];
    let sent: Vec<_> = (14..22).flat_map(|length| types.map(|kind| with_type(kind, length))).collect();
    let is_shown = |frame: &&Vec<u8>| frame.len() > 19 || !matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]);
    let shown: Vec<_> = sent.iter().filter(is_shown).collect();
    let file = frames::write(directory.path(), "short.pcap", &sent);
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 1000", sent.len());
    assert_same(arguments, &tcpdump.frames(), &shown);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_output_closes("mirror0");
    ended.ledger.assert_closes(&ended.captures);
    let of = |what: &str| ended.ledger.get(&format!("/outputs/mirror0/{what}"));
    assert_eq!((of("written"), of("dropped/runt_tagged_frame")), (shown.len() as u64, 12), "{:#}", ended.ledger.0);
    assert_eq!(ended.ledger.written(), sent.len() as u64, "the files have all");
}

#[test]
fn an_interface_that_is_down_or_gone_costs_its_own_frames_only() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(200);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let play = || replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
    persistent(&pair.sensor, "theirs", "tap");
    let sensor = Setup::new(&pair.sensor).with("--tap theirs --tap ours --flush 100ms").start();
    let seen = |name: &str, what: &str| pair.sensor.link_counter(name, "rx", what);
    let n = frames.len() as u64;
    play();
    eventually("all enter", || seen("theirs", "packets") == n && seen("ours", "packets") == n);
    pair.sensor.ip("link set theirs down");
    play();
    eventually("those are refused", || seen("theirs", "dropped") == n && seen("ours", "packets") == 2 * n);
    pair.sensor.ip("link set theirs up");
    pair.sensor.ip("link delete ours");
    play();
    eventually("they enter again", || seen("theirs", "packets") == 2 * n);
    // The one that the sensor made, it makes again.
    let exists = || pair.sensor.command("ip").args(["link", "show", "ours"]).output().unwrap().status.success();
    eventually("it is there again", exists);
    play();
    eventually("all enter the new one", || seen("ours", "packets") >= n);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "frames were lost by a failing output: {:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
    assert_eq!(ended.ledger.written(), 4 * n, "the files have all");
    assert_interface_agrees(&pair.sensor, "theirs", &ended);
    ended.ledger.assert_output_closes("ours");
    let lost = ended.ledger.get("/outputs/ours/dropped/interface_down");
    assert!(lost <= n && ended.ledger.get("/outputs/ours/written") == 4 * n - lost, "{:#}", ended.ledger.0);
}

#[test]
fn a_reader_that_is_killed_disturbs_nothing() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let (frames, loops) = (frames::assorted(2000), 10);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    persistent(&pair.sensor, "mirror0", "tap");
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0").start();
    let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
    let playing = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--loop {loops} --rate 20000"));
    eventually("frames enter", || pair.sensor.link_counter("mirror0", "rx", "packets") > 1000);
    tcpdump.process().signal(Signal::KILL);
    let sent = playing.ended();
    assert_eq!((sent.code, sent.frames), (Some(0), (loops * frames.len()) as u64), "{}", sent.text);
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_interface_agrees(&pair.sensor, "mirror0", &ended);
    assert_eq!(ended.ledger.get("/outputs/mirror0/written"), sent.frames);
}

#[test]
fn errors_say_what_to_do() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1600);
    let fails = |arguments: &str, through: &str, wanted: i32, words: &[&str]| {
        let open = tempfile::tempdir().unwrap();
        let setup = Setup::new(&pair.sensor).with(arguments).with("--no-write").writing(open.path());
        let setup = if through.is_empty() { setup } else { setup.through(through) };
        let (code, text) = setup.fails();
        assert_eq!(code, Some(wanted), "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    fails("--tap a-name-of-too-many-bytes", "", 1, &["a-name-of-too-many-bytes", "15"]);
    fails("--tap eth0", "", 1, &["eth0 exists and is", "not a tap interface"]);
    let bound = "setpriv --bounding-set=-net_admin";
    fails(
        "--tap mirror0",
        bound,
        // Somebody else may be about to make it.
        75,
        &["CAP_NET_ADMIN", "setcap cap_net_admin+ep", "ip tuntap add dev mirror0 mode tap user"],
    );
}
