//! The sensor and replay are held against the kernel's own `vxlan` device.

use std::path::PathBuf;

use crate::captures::{self, assert_holds, assert_open, assert_same};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace, Pair, SENSOR, Switched, address};
use crate::process::{Process, on_one_core, run};
use crate::replay::replay_all;
use crate::sensor::Setup;
use crate::tcpdump::Tcpdump;

const VNI: u32 = 77;

/// Gives host `host` a device `vx0` that sends each of its frames to all of `to`.
fn add_device(namespace: &Namespace, ip: Ip, vni: u32, host: u8, to: &[u8], options: &str) {
    let (mac, local) = (inner_mac(host), address(ip, host));
    namespace.ip(&format!(
        "link add vx0 address {mac} mtu 1500 type vxlan id {vni} dstport 4789 local {local} nolearning {options}"
    ));
    namespace.sysctl("net.ipv6.conf.vx0.disable_ipv6", "1");
    // An address that does not answer is given up after one question.
    namespace.sysctl("net.ipv4.neigh.vx0.mcast_solicit", "1");
    namespace.no_offloads("vx0");
    for other in to {
        namespace.bridge(&format!("fdb append 00:00:00:00:00:00 dev vx0 dst {}", address(ip, *other)));
    }
    namespace.ip("link set vx0 up");
}

fn inner_address(host: u8) -> String {
    format!("10.99.0.{host}")
}

fn inner_mac(host: u8) -> String {
    format!("02:00:00:00:99:{host:02x}")
}

/// Records what goes over the device. Its frames are short, and so the ring has room for all that
/// comes while the witness waits for a core.
fn witness(namespace: &Namespace, filter: &str) -> Tcpdump {
    Tcpdump::cutting(namespace, "vx0", filter, 1600)
}

/// Hosts 1 and 3 talk to each other over their devices, which copy all they send to the sensor.
/// What it writes must be what tcpdump sees leave by each device.
fn device_and_sensor_agree(ip: Ip, options: &str) {
    if !need::programs(&["bridge", "ethtool", "tcpdump", "ping", "iperf3", "capinfos", "tshark"]) {
        return;
    }
    // Where the cables lose packets, as they may while other tests have the cores, the sensor
    // cannot see what the witness saw.
    assert!((0..5).any(|_| cables_lose_nothing(ip, options)), "the cables lose packets time and again");
}

/// Has one conversation. Returns false where the cables lost some of it; fails where the sensor
/// did.
fn cables_lose_nothing(ip: Ip, options: &str) -> bool {
    // Room for an inner MTU of 1500 and all headers around it.
    let net = Switched::new(1600);
    net.keeps_order();
    let [one, between, three] = &net.hosts;
    for (namespace, host, peer) in [(one, 1, 3), (three, 3, 1)] {
        namespace.no_offloads("eth0");
        add_device(namespace, ip, VNI, host, &[peer, SENSOR], options);
        namespace.ip(&format!("addr add {}/24 dev vx0", inner_address(host)));
        // The peer by heart, so that nothing is asked later, between the end of one witness and the
        // other's.
        let (to, mac) = (inner_address(peer), inner_mac(peer));
        namespace.ip(&format!("neigh replace {to} lladdr {mac} nud permanent dev vx0"));
    }
    let sensor = Setup::new(between).with("--workers 2").start();
    let seen = [(one, 1), (three, 3)]
        .map(|(namespace, host)| (host, witness(namespace, &format!("ether src {}", inner_mac(host)))));
    on_one_core(|| talk(one, three));
    let seen = seen.map(|(host, tcpdump)| (host, tcpdump.frames()));
    if net.lost_on_the_way() > 0 {
        return false;
    }
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_eq!(ended.ledger.sessions().len(), 2);
    for (host, frames) in seen {
        assert!(frames.len() > 1000, "{} frames are little traffic", frames.len());
        let records = captures::session(&ended.captures, address(ip, host), VNI);
        assert_holds(&format!("frames of host {host}"), &records, &frames);
        assert!(records.iter().all(|record| record.orig_len as usize == record.frame.len()));
    }
    assert_open(&captures::files(&ended.captures));
    true
}

/// Sends ICMP of two sizes, a question that nobody answers, TCP both ways, UDP.
fn talk(one: &Namespace, three: &Namespace) {
    let to = inner_address(3);
    for size in ["56", "1400"] {
        run(one.command("ping").args(["-q", "-c", "20", "-i", "0.01", "-s", size, &to]));
    }
    // Fails, after a broadcast.
    let nobody = one.command("ping").args(["-q", "-c", "1", "-W", "3", &inner_address(44)]).output().unwrap();
    assert!(!nobody.status.success());
    // With a window of what the queues between the hosts hold.
    for words in ["-w 128K -n 3M", "-w 128K -n 3M -R", "-u -b 40M -n 2M -l 1200"] {
        let server = Process::start(three.command("iperf3").args(["-s", "-1", "--forceflush"]), None);
        server.stdout.find("listening", 0, |line| line.contains("listening").then_some(()));
        run(one.command("iperf3").args(["-c", &to]).args(words.split_whitespace()));
    }
}

#[test]
fn agrees_with_tcpdump_on_the_device_over_ipv4() {
    device_and_sensor_agree(Ip::V4, "");
}

#[test]
fn agrees_with_tcpdump_on_the_device_over_ipv6() {
    device_and_sensor_agree(Ip::V6, "noudp6zerocsumtx noudp6zerocsumrx");
}

#[test]
fn agrees_with_tcpdump_on_the_device_over_ipv6_without_checksums() {
    device_and_sensor_agree(Ip::V6, "udp6zerocsumtx udp6zerocsumrx");
}

#[test]
fn the_device_takes_what_replay_sends() {
    if !need::programs(&["bridge", "ethtool", "tcpdump"]) {
        return;
    }
    let pair = Pair::new(1500);
    let directory = tempfile::tempdir().unwrap();
    let demo = ["web", "dns", "office"]
        .map(|name| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo").join(name).with_extension("pcap"));
    let ours = frames::write(directory.path(), "ours.pcap", &frames::assorted(500));
    let files: Vec<_> = demo.iter().chain([&ours]).map(PathBuf::as_path).collect();
    let frames: Vec<_> = files.iter().flat_map(|file| captures::frames(file)).collect();
    for (ip, vni, options, arguments) in [
        (Ip::V4, 5_569_041, "", ""),
        (Ip::V4, 0xff_ffff, "", "--checksum"),
        (Ip::V6, 0, "udp6zerocsumrx", ""),
        (Ip::V6, 1, "", "--checksum"),
    ] {
        add_device(&pair.sensor, ip, vni, SENSOR, &[], options);
        let tcpdump = witness(&pair.sensor, "");
        replay_all(
            &pair.sender,
            pair.target(ip),
            &files,
            &format!("--vni {vni} --rate 20000 {arguments}"),
            frames.len(),
        );
        assert_same(&format!("on the device, {ip:?} {arguments}"), &tcpdump.frames(), &frames);
        pair.sensor.ip("link del vx0");
    }
}
