//! The mirror interface stays one that the host does not hear, whatever somebody does to it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::frames;
use crate::mirror::persistent;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::{self, replay_all};
use crate::sensor::{Ended, Setup};
use crate::site::Site;
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

/// Answers to pings that have come to the sender.
fn answers(pair: &Pair) -> u64 {
    let told = run(pair.sender.command("cat").arg("/proc/net/snmp")).stdout;
    let told = String::from_utf8(told).unwrap();
    let mut rows = told.lines().filter_map(|line| line.strip_prefix("Icmp: ")).map(str::split_whitespace);
    let (names, mut numbers) = (rows.next().unwrap(), rows.next().unwrap());
    let place = names.into_iter().position(|name| name == "InEchoReps").unwrap();
    numbers.nth(place).unwrap().parse().unwrap()
}

/// Frames that have entered so far, also those that the program in the kernel put there.
fn written(site: &Site) -> u64 {
    site.json("ledger")["outputs"]["mirror0"]["written"].as_u64().unwrap()
}

/// Frames that were dropped so far because the host would hear them.
fn shut(site: &Site) -> u64 {
    site.json("ledger")["outputs"]["mirror0"]["dropped"]["interface_not_deaf"].as_u64().unwrap_or(0)
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
    if !need::programs(&["tc"]) {
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
        let directory = tempfile::tempdir().unwrap();
        let site = Site { pair, directory };
        let pair = &site.pair;
        let control = format!("{way} --flush 100ms --control {}", site.socket().display());
        let sensor = Setup::new(&pair.sensor).with(&control).start();
        let load = format!("--loop 1000000 --rate {RATE}");
        let playing = replay::start(&pair.sender, pair.target(Ip::V4), &[&file], &load);
        sensor.is_writing();
        // What it costs each time: the seconds until it is noticed, those until frames enter again,
        // answers, and frames that are dropped. A machine with much else to do may make it dear now
        // and then.
        let mut costs = Vec::new();
        for _ in 0..3 {
            let (answered, dropped) = (answers(pair), shut(&site));
            let from = sensor.lines();
            let removed = Instant::now();
            sh(pair, "tc qdisc del dev mirror0 clsact");
            sensor.says(from, "somebody has changed the interface");
            let noticed = removed.elapsed();
            let so_far = written(&site);
            eventually("frames enter again", || written(&site) > so_far);
            let over = removed.elapsed();
            // The next line can be written a second later.
            thread::sleep(Duration::from_millis(1200));
            costs.push((noticed, over, answers(pair) - answered, shut(&site) - dropped));
        }
        let second = Duration::from_secs(1);
        assert!(costs.iter().any(|(noticed, ..)| *noticed < second), "{way}: {costs:?}");
        assert!(costs.iter().any(|(_, over, ..)| *over < 2 * second), "{way}: {costs:?}");
        assert!(costs.iter().any(|(.., answered, _)| *answered < RATE), "{way}: {costs:?}");
        assert!(costs.iter().any(|(.., dropped)| *dropped < RATE), "{way}: {costs:?}");
        playing.0.signal(Signal::INT);
        playing.ended();
        let ended = sensor.stop();
        let (_, shut) = assert_closes(&ended);
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
    let site = Site::new();
    let pair = &site.pair;
    pair.sensor.sysctl("net.ipv4.conf.all.rp_filter", "0");
    pair.sensor.sysctl("net.ipv4.conf.default.rp_filter", "0");
    persistent(&pair.sensor, "mirror0", "tap");
    sh(pair, "sysctl -qw net.ipv6.conf.mirror0.disable_ipv6=1; ip link set dev mirror0 mtu 9001 up promisc on arp off");
    let powerless = "setpriv --bounding-set=-net_admin";
    let arguments = format!("--tap mirror0 --source udp --control {}", site.socket().display());
    let sensor = Setup::new(&pair.sensor).through(powerless).with(&arguments).start();
    let answers = Tcpdump::start(&pair.sender, "eth0", "icmp");
    let play = || replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 1000", frames.len());
    // From the start.
    sensor.says(0, &format!("as root: {DEAF}"));
    play();
    sensor.says(0, "frames are dropped: this host would hear them");
    eventually("these are dropped", || shut(&site) == n);
    let from = sensor.lines();
    sh(pair, DEAF);
    sensor.says(from, "frames enter");
    play();
    eventually("these enter", || entered(pair) == n);
    // And when it is taken away.
    let from = sensor.lines();
    sh(pair, "tc filter del dev mirror0 ingress");
    sensor.says(from, &format!("as root: {DEAF}"));
    play();
    sensor.says(from, "frames are dropped: this host would hear them");
    eventually("these are dropped", || shut(&site) == 2 * n);
    let from = sensor.lines();
    sh(pair, DEAF);
    sensor.says(from, "frames enter");
    play();
    eventually("these enter", || entered(pair) == 2 * n);
    assert_eq!(answers.frames(), Vec::<Vec<u8>>::new());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(assert_closes(&ended), (2 * n, 2 * n));
}
