//! The mirror interface stays one that the host does not hear, whatever somebody does to it.

use std::thread;
use std::time::{Duration, Instant};

use crate::frames;
use crate::mirror::persistent;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::{self, replay_all};
use crate::sensor::{Ended, Setup};
use crate::tcpdump::Tcpdump;

/// Frames a second.
const RATE: u64 = 200;
/// By user space and by the program in the kernel.
const WAYS: [&str; 2] = ["--tap mirror0", "--source bpf --interface eth0 --tap mirror0 --tap-mode redirect"];

/// Returns a ping of the sensor's host from the sender's.
fn ping() -> Vec<u8> {
    let mut frame = [2, 0, 0, 0, 0x73, 2, 2, 0, 0, 0, 0x73, 1, 8, 0].to_vec();
    let ip = etherparse::PacketBuilder::ipv4([10, 73, 0, 1], [10, 73, 0, 2], 64);
    ip.icmpv4_echo_request(1, 1).write(&mut frame, b"mirrored").unwrap();
    frame.resize(60, 0);
    frame
}

/// Runs a command of the shell on the sensor's host.
fn sh(pair: &Pair, command: &str) {
    run(pair.sensor.command("sh").args(["-c", command]));
}

/// Packets that the interface counted as received.
fn entered(pair: &Pair) -> u64 {
    pair.sensor.link_counter("mirror0", "rx", "packets")
}

/// Fails unless every frame is written or dropped for the interface's sake.
#[track_caller]
fn assert_closes(ended: &Ended) -> (u64, u64) {
    ended.ledger.assert_closes(&ended.captures);
    ended.ledger.assert_output_closes("mirror0");
    let of = |what: &str| ended.ledger.get(&format!("/outputs/mirror0/{what}"));
    let (written, shut) = (of("written"), of("dropped/interface_not_deaf"));
    let moment = of("dropped/redirect_lost");
    assert_eq!(written + shut + moment, ended.ledger.received(), "{:#}", ended.ledger.0);
    (written, shut)
}

#[test]
fn the_filter_that_somebody_removes_is_there_again_at_once() {
    if !need::programs(&["tcpdump", "tc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = frames::write(directory.path(), "ping.pcap", &[ping()]);
    for way in WAYS {
        let pair = Pair::new(1600);
        // The answers to mirrored pings would go to the sender.
        pair.sensor.sysctl("net.ipv4.conf.all.rp_filter", "0");
        pair.sensor.sysctl("net.ipv4.conf.default.rp_filter", "0");
        persistent(&pair.sensor, "mirror0", "tap");
        let sensor = Setup::new(&pair.sensor).with(way).with("--flush 100ms").start();
        let answers = Tcpdump::start(&pair.sender, "eth0", "icmp");
        let playing =
            replay::start(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--loop {} --rate {RATE}", RATE * 6));
        sensor.is_writing();
        for _ in 0..2 {
            let from = sensor.lines();
            let removed = Instant::now();
            sh(&pair, "tc qdisc del dev mirror0 clsact");
            sensor.says(from, "somebody has changed the interface");
            assert!(removed.elapsed() < Duration::from_secs(1), "{way}: noticed after {:?}", removed.elapsed());
            thread::sleep(Duration::from_millis(1200));
        }
        let sent = playing.ended();
        assert_eq!((sent.code, sent.frames), (Some(0), RATE * 6), "{}", sent.text);
        let answered = answers.frames().len() as u64;
        assert!(answered < 2 * RATE, "{way}: {answered} answers");
        let ended = sensor.stop();
        let (written, shut) = assert_closes(&ended);
        assert!(written >= RATE * 4 && shut <= 2 * RATE, "{way}: {:#}", ended.ledger.0);
        assert_eq!(ended.code, Some(if shut > 0 { 3 } else { 0 }), "{:#?}", ended.log);
        let redirects = ended.ledger.get("/fast_path/redirected") > 0;
        assert_eq!(redirects, way.contains("redirect"), "{:#}", ended.ledger.0);
    }
}

#[test]
fn other_settings_are_kept_as_well() {
    if !need::programs(&["tc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    persistent(&pair.sensor, "mirror0", "tap");
    let sensor = Setup::new(&pair.sensor).with("--tap mirror0").start();
    for (change, said) in [
        ("ip address add 10.8.0.1/24 dev mirror0", "it has addresses (10.8.0.1/24)"),
        ("ip link set mirror0 arp on", "it speaks ARP"),
        ("ip link set mirror0 promisc off", "it is not promiscuous"),
        ("sysctl -qw net.ipv6.conf.mirror0.disable_ipv6=0 net.ipv6.conf.mirror0.addr_gen_mode=0", "IPv6 is on"),
        (
            "tc filter add dev mirror0 ingress pref 1 bpf direct-action bytecode '1,6 0 0 0'",
            "answers and forwards frames in it",
        ),
    ] {
        let from = sensor.lines();
        sh(&pair, change);
        sensor.says(from, said);
        let before = entered(&pair);
        eventually("all enter again", || {
            let now = entered(&pair);
            replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 20000", frames.len());
            // What comes while the interface is still closed does not enter: then more is sent.
            let end = Instant::now() + Duration::from_secs(1);
            while entered(&pair) == now && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            entered(&pair) - before >= frames.len() as u64
        });
        // A second later the next line can be written.
        thread::sleep(Duration::from_millis(1000));
    }
    let output = run(pair.sensor.command("ip").args(["address", "show", "mirror0"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("PROMISC") && text.contains("NOARP") && !text.contains("inet"), "{text}");
    let ended = sensor.stop();
    assert_closes(&ended);
    assert_eq!(ended.ledger.written(), ended.ledger.received(), "the files have all");
}

/// A sensor that may not change the interface, which root has made.
#[test]
fn without_privilege_no_frame_enters_until_root_has_mended_it() {
    if !need::programs(&["tcpdump", "tc", "setpriv"]) {
        return;
    }
    const DEAF: &str = "tc qdisc replace dev mirror0 clsact && tc filter add dev mirror0 ingress bpf direct-action bytecode '1,6 0 0 2'";
    let directory = tempfile::tempdir().unwrap();
    let frames = vec![ping(); 50];
    let file = frames::write(directory.path(), "ping.pcap", &frames);
    let n = frames.len() as u64;
    let pair = Pair::new(1600);
    pair.sensor.sysctl("net.ipv4.conf.all.rp_filter", "0");
    pair.sensor.sysctl("net.ipv4.conf.default.rp_filter", "0");
    persistent(&pair.sensor, "mirror0", "tap");
    sh(
        &pair,
        "sysctl -qw net.ipv6.conf.mirror0.disable_ipv6=1; ip link set dev mirror0 mtu 9001 up promisc on arp off",
    );
    let powerless = "setpriv --bounding-set=-net_admin";
    let sensor = Setup::new(&pair.sensor).through(powerless).with("--tap mirror0 --source udp").start();
    let answers = Tcpdump::start(&pair.sender, "eth0", "icmp");
    let play = || replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 1000", frames.len());
    // From the start.
    sensor.says(0, &format!("as root: {DEAF}"));
    play();
    sensor.says(0, "frames are dropped: this host would hear them");
    let from = sensor.lines();
    sh(&pair, DEAF);
    sensor.says(from, "frames enter");
    play();
    eventually("these enter", || entered(&pair) == n);
    // And when it is taken away.
    let from = sensor.lines();
    sh(&pair, "tc filter del dev mirror0 ingress");
    sensor.says(from, &format!("as root: {DEAF}"));
    play();
    sensor.says(from, "frames are dropped: this host would hear them");
    let from = sensor.lines();
    sh(&pair, DEAF);
    sensor.says(from, "frames enter");
    play();
    eventually("these enter", || entered(&pair) == 2 * n);
    assert_eq!(answers.frames(), Vec::<Vec<u8>>::new());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(assert_closes(&ended), (2 * n, 2 * n));
}
