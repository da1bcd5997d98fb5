//! Each fault between a mirror and the sensor has its sentence of `vxtap check --watch`, and no
//! other; where there is none, all is said to be well.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use rustix::process::Signal;
use serde_json::Value;
use socket2::SockRef;

use crate::datagrams::{fragments, in_pieces, outer, send, send_frames, vxlan};
use crate::frames::numbered;
use crate::memory::status;
use crate::need;
use crate::netns::{Ip, Namespace, Pair, SENSOR, address};
use crate::process::{Process, run};
use crate::sensor::{Sensor, Setup, VXTAP};

/// The peer of the mirrored host, whose own address is the outer source's.
const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Segments of a conversation.
const SEGMENTS: u16 = 200;

/// What was said.
struct Said {
    code: Option<i32>,
    json: Value,
}

impl Said {
    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    /// Fails unless one sentence is said, of this level and name, and returns its reason and what
    /// mends it.
    #[track_caller]
    fn alone(&self, level: &str, name: &str) -> (String, String) {
        let said: Vec<&str> = self.findings().iter().map(|finding| finding["name"].as_str().unwrap()).collect();
        assert_eq!(said, [name], "{:#}", self.json);
        let finding = &self.findings()[0];
        assert_eq!(finding["level"], level);
        assert_eq!(self.json["level"], level);
        let codes = [("ok", 0), ("warning", 10), ("error", 11)];
        assert!(codes.contains(&(level, self.code.unwrap())), "{level}: {:?}", self.code);
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let (reason, remedy) = (text("reason"), text("remedy"));
        assert!(!format!("{reason}{remedy}").contains(['{', '}']), "{finding:#}");
        (reason, remedy)
    }
}

/// Watches in the sensor's namespace while `during` goes on.
#[track_caller]
fn watch(host: &Namespace, arguments: &str, during: impl FnOnce()) -> Said {
    watch_by(host, arguments, |_| during())
}

/// Watches by a process that is lent.
#[track_caller]
fn watch_by(host: &Namespace, arguments: &str, during: impl FnOnce(&Process)) -> Said {
    let process = begin(host, &format!("1h {arguments}"));
    during(&process);
    process.signal(Signal::INT);
    end(process)
}

/// Begins to watch for this time, with these arguments behind it.
#[track_caller]
fn begin(host: &Namespace, time: &str) -> Process {
    let mut command = host.command(VXTAP);
    let process = Process::start(command.args(["check", "--json", "--watch"]).args(time.split_whitespace()), None);
    process.stderr.find("watching", 0, |line| line.contains("watching").then_some(()));
    process
}

/// Waits for the end of a watch.
#[track_caller]
fn end(mut process: Process) -> Said {
    let code = process.wait().code();
    let out = process.stdout.all().join("\n");
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {:#?}", process.stderr.all()));
    Said { code, json }
}

/// Two hosts, and a sensor that runs on one.
struct Bench {
    pair: Pair,
    _sensor: Sensor,
}

impl Bench {
    fn new(mtu: u32) -> Option<Bench> {
        need::programs(&[]).then(|| {
            let pair = Pair::new(mtu);
            let sensor =
                Setup::new(&pair.sensor).with("--source udp --no-write --max-sessions 10 --tap mirror0").start();
            Bench { pair, _sensor: sensor }
        })
    }

    /// Watches while these frames are mirrored with VNI 7.
    #[track_caller]
    fn mirror(&self, arguments: &str, frames: &[Vec<u8>]) -> Said {
        self.send(arguments, self.pair.target(Ip::V4), &wrapped(frames))
    }

    #[track_caller]
    fn send(&self, arguments: &str, to: SocketAddr, datagrams: &[Vec<u8>]) -> Said {
        watch(&self.pair.sensor, arguments, || send(&self.pair.sender, to, datagrams))
    }
}

fn wrapped(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| vxlan(8, [0; 3], 7, 0, frame)).collect()
}

/// A segment of the conversation between the mirrored host and its peer, `number`th of its
/// direction, of 100 bytes.
fn segment(outgoing: bool, number: u16) -> Vec<u8> {
    let IpAddr::V4(mirrored) = address(Ip::V4, 1) else { panic!() };
    let (from, to, ports) = if outgoing { (mirrored, PEER, [40_000, 443]) } else { (PEER, mirrored, [443, 40_000]) };
    let sequence = 1000 + u32::from(number) * 100;
    let header = etherparse::Ipv4Header {
        identification: 100 + number,
        ..etherparse::Ipv4Header::new(120, 64, etherparse::IpNumber::TCP, from.octets(), to.octets()).unwrap()
    };
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2])
        .ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
        .tcp(ports[0], ports[1], sequence, 1000)
        .ack(1);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[number as u8; 100]).unwrap();
    frame
}

/// Both directions, in turns.
fn conversation() -> Vec<Vec<u8>> {
    (0..SEGMENTS).flat_map(|number| [segment(true, number), segment(false, number)]).collect()
}

/// Frames of larger packets, which the mirror has cut to this length.
fn cut(length: usize) -> Vec<Vec<u8>> {
    let whole = |number| numbered(number, 9400);
    (0..50).map(|number| whole(number)[..length].to_vec()).collect()
}

/// A frame on the cable to the sensor, from and to these addresses.
fn foreign(from: [u8; 4], to: IpAddr, frame: &[u8]) -> Vec<u8> {
    let payload = vxlan(8, [0; 3], 7, 0, frame);
    outer([2, 0, 0, 0, 0x73, SENSOR], &[], [from.into(), to], 65_408, &payload)
}

#[test]
fn all_is_well() {
    let Some(bench) = Bench::new(9001) else { return };
    let said = bench.mirror("", &conversation());
    let (reason, _) = said.alone("ok", "arriving");
    assert!(reason.starts_with("mirror traffic arrives") && reason.contains("400 frames of 1 session in "), "{reason}");
    let sessions = said.json["watch"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!((session["source"].as_str(), session["vni"].as_u64()), (Some("10.73.0.1"), Some(7)));
    assert_eq!((session["frames"].as_u64(), session["largest"].as_u64()), (Some(400), Some(154)));
    assert_eq!((session["interface"].as_str(), session["let_in"].as_bool()), (Some("eth0"), Some(true)));
}

#[test]
fn all_is_well_over_ipv6_and_in_words() {
    let Some(bench) = Bench::new(9001) else { return };
    let said = bench.send("", bench.pair.target(Ip::V6), &wrapped(&conversation()));
    said.alone("ok", "arriving");
    assert_eq!(said.json["watch"]["sessions"][0]["source"], "fd73::1");
    let mut command = bench.pair.sensor.command(VXTAP);
    let mut process = Process::start(command.args(["check", "--watch", "1h", "--listen", "0.0.0.0"]), None);
    process.stderr.find("watching", 0, |line| line.contains("watching").then_some(()));
    send(&bench.pair.sender, bench.pair.target(Ip::V4), &wrapped(&conversation()));
    process.signal(Signal::INT);
    assert_eq!(process.wait().code(), Some(0));
    let lines = process.stdout.all();
    assert!(lines[0].starts_with("source ") && lines[1].starts_with("10.73.0.1 "), "{lines:#?}");
    assert!(lines[2].starts_with("ok       arriving: mirror traffic arrives, whole and in order"), "{lines:#?}");
}

#[test]
fn nothing_comes() {
    let Some(bench) = Bench::new(1500) else { return };
    // It ends by itself.
    let said = end(begin(&bench.pair.sensor, "1s"));
    let (reason, remedy) = said.alone("error", "nothing_arrives");
    // One that is kept from its core watches for longer.
    let seconds = said.json["watch"]["seconds"].as_f64().unwrap();
    let nothing = format!("nothing came to UDP port 4789 in {seconds:.0} s");
    assert!(seconds >= 1.0 && reason.contains(&nothing) && remedy.contains("--port 4789"), "{reason}");
}

#[test]
fn a_program_at_xdp_takes_packets_first() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let _sensor = Setup::new(&pair.sensor).with("--source bpf --attach xdp").start();
    let said = watch(&pair.sensor, "", || send(&pair.sender, pair.target(Ip::V4), &wrapped(&conversation())));
    let (reason, _) = said.alone("warning", "taken_by_xdp");
    assert!(reason.contains("XDP on eth0"), "{reason}");
}

#[test]
fn beside_a_program_at_tc_all_is_well() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let sensor = Setup::new(&pair.sensor).with("--source bpf --attach tc").start();
    watch(&pair.sensor, "", || send(&pair.sender, pair.target(Ip::V4), &wrapped(&conversation())))
        .alone("ok", "arriving");
    assert_eq!(sensor.stop().ledger.received(), 400);
}

#[test]
fn it_comes_for_another_host() {
    let Some(bench) = Bench::new(1500) else { return };
    let frames: Vec<Vec<u8>> =
        conversation().iter().map(|frame| foreign([10, 73, 0, 1], address(Ip::V4, 99), frame)).collect();
    let said = watch(&bench.pair.sensor, "", || send_frames(&bench.pair.sender, &frames));
    let (reason, remedy) = said.alone("error", "other_host");
    assert!(reason.contains("400 datagrams from 10.73.0.1 are for 10.73.0.99"), "{reason}");
    assert_eq!(remedy, "ip addr add 10.73.0.99/32 dev eth0");
}

#[test]
fn it_comes_to_a_port_where_nobody_listens() {
    let Some(bench) = Bench::new(1500) else { return };
    let to = SocketAddr::new(address(Ip::V4, SENSOR), 8472);
    let said = bench.send("", to, &wrapped(&conversation()));
    let (reason, remedy) = said.alone("error", "wrong_port");
    assert!(reason.contains("400 datagrams of VXLAN from 10.73.0.1, first of VNI 7"), "{reason}");
    assert_eq!(remedy, "vxtap run --listen 8472");
    assert!(said.json["watch"]["port_unreachable"].as_u64() > Some(0), "{:#}", said.json);
    // Where it is meant to come there, and where somebody listens there, it is right.
    let _other = bench.pair.sensor.enter(|| UdpSocket::bind("0.0.0.0:8472").unwrap());
    let both = conversation();
    let said = watch(&bench.pair.sensor, "", || {
        send(&bench.pair.sender, to, &wrapped(&both));
        send(&bench.pair.sender, bench.pair.target(Ip::V4), &wrapped(&both));
    });
    said.alone("ok", "arriving");
}

#[test]
fn it_comes_to_an_address_that_the_sensor_does_not_listen_on() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let _sensor = Setup::new(&pair.sensor).with("--source udp --listen 127.0.0.1 --no-write --tap mirror0").start();
    let (_, remedy) = watch(&pair.sensor, "--listen 127.0.0.1 --interface eth0", || {
        send(&pair.sender, pair.target(Ip::V4), &wrapped(&conversation()));
    })
    .alone("error", "wrong_port");
    assert_eq!(remedy, "vxtap run --listen 10.73.0.2:4789");
}

#[test]
fn it_comes_in_geneve() {
    let Some(bench) = Bench::new(1500) else { return };
    let wrap = |frame: &Vec<u8>| [&[0, 0, 0x08, 0x00, 0, 0, 0, 0][..], &frame[14..]].concat();
    let datagrams: Vec<Vec<u8>> = conversation().iter().map(wrap).collect();
    let said = bench.send("", SocketAddr::new(address(Ip::V4, SENSOR), 6081), &datagrams);
    let (reason, _) = said.alone("error", "geneve");
    assert!(reason.contains("400 datagrams of GENEVE come from 10.73.0.1"), "{reason}");
}

#[test]
fn no_sensor_runs() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let said = watch(&pair.sensor, "", || send(&pair.sender, pair.target(Ip::V4), &wrapped(&conversation())));
    let (reason, _) = said.alone("warning", "no_sensor");
    assert!(reason.starts_with("400 datagrams come to port 4789, and no program"), "{reason}");
}

#[test]
fn others_reach_the_port() {
    let Some(bench) = Bench::new(1500) else { return };
    let mut datagrams = wrapped(&conversation());
    datagrams.extend(vec![b"GET / HTTP/1.1\r\n\r\n".to_vec(); 100]);
    let (reason, remedy) = bench.send("", bench.pair.target(Ip::V4), &datagrams).alone("warning", "not_vxlan");
    assert!(reason.starts_with("20 % of the datagrams to port 4789 are no VXLAN (vni_flag_clear)"), "{reason}");
    assert_eq!(remedy, "vxtap run --from 10.73.0.1");
}

#[test]
fn it_comes_in_fragments() {
    let Some(bench) = Bench::new(1500) else { return };
    let frames: Vec<Vec<u8>> = (0..50).map(|number| numbered(number, 4000)).collect();
    for ip in [Ip::V4, Ip::V6] {
        let said = bench.send("", bench.pair.target(ip), &wrapped(&frames));
        let (reason, remedy) = said.alone("warning", "fragments");
        // Fragments are of a multiple of 8 bytes.
        let (mtu, length) = if ip == Ip::V4 { (1500, 1464) } else { (1496, 1440) };
        assert!(
            reason.starts_with(&format!("100 % of the datagrams come in fragments of at most {mtu} bytes")),
            "{reason}"
        );
        assert!(remedy.ends_with(&format!("--packet-length {length}")), "{remedy}");
        assert_eq!(said.json["watch"]["sessions"][0]["fragmented"], 50);
    }
}

#[test]
fn what_passes_a_bridge_and_its_port_counts_once() {
    let Some(bench) = Bench::new(1500) else { return };
    let host = &bench.pair.sensor;
    host.ip("link add br0 type bridge");
    host.ip("link set eth0 master br0");
    host.ip("link set br0 up");
    host.ip("addr flush dev eth0");
    host.ip("addr add 10.73.0.2/24 dev br0");
    let frames: Vec<Vec<u8>> = (0..50).map(|number| numbered(number, 4000)).collect();
    let said = bench.mirror("", &frames);
    let (reason, _) = said.alone("warning", "fragments");
    assert!(reason.starts_with("100 % of the datagrams"), "{reason}");
    assert_eq!((&said.json["watch"]["reassembled"], &said.json["watch"]["incomplete"]), (&50.into(), &0.into()));
    let mut datagrams = wrapped(&conversation());
    datagrams.extend(vec![b"GET / HTTP/1.1\r\n\r\n".to_vec(); 100]);
    let (reason, _) = bench.send("", bench.pair.target(Ip::V4), &datagrams).alone("warning", "not_vxlan");
    assert!(reason.starts_with("20 % of the datagrams"), "{reason}");
}

#[test]
fn fragments_are_lost() {
    let Some(bench) = Bench::new(1500) else { return };
    let sensor = address(Ip::V4, SENSOR);
    let parts: Vec<Vec<u8>> = (0..50)
        .flat_map(|number: u16| {
            let frame = foreign([10, 73, 0, 1], sensor, &numbered(number.into(), 2000));
            let [first, second] = fragments(&frame, 1000 + number);
            if number.is_multiple_of(5) { vec![first] } else { vec![first, second] }
        })
        .collect();
    let said = watch(&bench.pair.sensor, "", || send_frames(&bench.pair.sender, &parts));
    let (reason, remedy) = said.alone("error", "fragments_lost");
    assert!(reason.starts_with("10 of 50 datagrams that came in fragments of at most 1500 bytes"), "{reason}");
    assert!(remedy.ends_with("--packet-length 1464"), "{remedy}");
    assert_eq!(said.json["watch"]["reassembled"], 40);
}

#[test]
fn one_direction_comes() {
    let Some(bench) = Bench::new(1500) else { return };
    for (outgoing, seen, missing) in [(true, "sends", "ingress"), (false, "receives", "egress")] {
        let frames: Vec<Vec<u8>> = (0..SEGMENTS).map(|number| segment(outgoing, number)).collect();
        let (reason, remedy) = bench.mirror("", &frames).alone("warning", "one_direction");
        assert!(
            reason.contains(&format!("of 10.73.0.1 VNI 7 only one direction comes (what the mirrored host {seen})")),
            "{reason}"
        );
        assert!(remedy.contains(&format!("--traffic-direction {missing} ")), "{remedy}");
    }
}

#[test]
fn frames_are_cut() {
    let Some(bench) = Bench::new(9001) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vxtap.toml");
    fs::write(
        &file,
        "[output.files]\nkind = \"pcap\"\n[[session]]\nname = \"web\"\nvni = [7]\n\
         description = \"tms-1; PacketLength 1000: longer frames come cut\"\n",
    )
    .unwrap();
    let file = format!("-c {}", file.display());
    for (length, arguments, name, at) in [
        (14 + 8947, "", "cut_at_8947", "10.73.0.1 VNI 7 are cut at 8947 bytes"),
        (8947, "", "cut_at_8947", "are cut at 8947 bytes"),
        (8500, "", "cut_at_8500", "are cut at 8500 bytes"),
        (14 + 1450, "", "cut_at_1450", "are cut at 1450 bytes"),
        (1000, &file, "cut_at_packet_length", "web (10.73.0.1 VNI 7) are cut at 1000 bytes"),
        (1000, "", "cut", "are cut at 1000 bytes"),
        (128, "", "cut_at_packet_length", "are cut at 128 bytes"),
    ] {
        let (reason, _) = bench.mirror(arguments, &cut(length)).alone("warning", name);
        assert!(reason.starts_with("50 frames of ") && reason.contains(at), "{reason}");
    }
}

/// Fails unless so many frames are said to have come twice, but for those whose copy was sent late:
/// a packet that comes again after 50 ms is no copy. Returns what is said.
#[track_caller]
fn come_twice(bench: &Bench, datagrams: &[Vec<u8>], name: &str) -> String {
    let socket = bench.pair.sender.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let (mut times, to) = (Vec::new(), bench.pair.target(Ip::V4));
    let said = watch(&bench.pair.sensor, "", || {
        in_pieces(datagrams, |payload| {
            let began = Instant::now();
            assert_eq!(socket.send_to(payload, to).unwrap(), payload.len());
            times.push((began, Instant::now()));
        });
    });
    let late = times.chunks(2).filter(|pair| pair[1].1 - pair[0].0 > Duration::from_millis(45)).count() as u64;
    let sessions = said.json["watch"]["sessions"].as_array().unwrap().iter();
    let twice: u64 = sessions.map(|session| session["duplicates"].as_u64().unwrap()).sum();
    let all = datagrams.len() as u64;
    assert!((all / 2 - late..=all / 2).contains(&twice), "{twice}, where {late} were late: {:#}", said.json);
    let (reason, _) = said.alone("warning", name);
    let share = (twice * 1000 / all) as f64 / 10.0;
    assert!(reason.starts_with(&format!("{share} % of the frames come twice")), "{reason}");
    reason
}

#[test]
fn frames_come_twice() {
    let Some(bench) = Bench::new(1500) else { return };
    let mut twice = Vec::new();
    for frame in conversation() {
        twice.extend([vxlan(8, [0; 3], 7, 0, &frame), vxlan(8, [0; 3], 8, 0, &frame)]);
    }
    let reason = come_twice(&bench, &twice, "duplicates");
    assert!(reason.contains("VNI 8"), "{reason}");
}

#[test]
fn frames_come_twice_in_one_session() {
    let Some(bench) = Bench::new(1500) else { return };
    let twice: Vec<_> = conversation().iter().flat_map(|frame| vec![vxlan(8, [0; 3], 7, 0, frame); 2]).collect();
    let reason = come_twice(&bench, &twice, "duplicates_within");
    assert!(reason.contains("% of the frames come twice within their session"), "{reason}");
}

#[test]
fn a_watch_that_is_late_goes_by_the_time_of_packets() {
    let Some(bench) = Bench::new(1500) else { return };
    let frames: Vec<Vec<u8>> = (0..400).map(|number| numbered(number, 100)).collect();
    let said = watch_by(&bench.pair.sensor, "", |process| {
        process.signal(Signal::STOP);
        for _ in 0..2 {
            send(&bench.pair.sender, bench.pair.target(Ip::V4), &wrapped(&frames));
            // What is sent again after so long is no copy, also where both are read at once.
            thread::sleep(Duration::from_millis(100));
        }
        process.signal(Signal::CONT);
    });
    said.alone("ok", "arriving");
    let session = &said.json["watch"]["sessions"][0];
    assert_eq!((session["frames"].as_u64(), session["duplicates"].as_u64()), (Some(800), Some(0)));
}

#[test]
fn a_watch_that_is_late_looks_at_all_that_came() {
    let Some(bench) = Bench::new(1500) else { return };
    let process = begin(&bench.pair.sensor, "2s");
    let begun = Instant::now();
    // It watches by then, or shows nothing.
    thread::sleep(Duration::from_millis(500));
    process.signal(Signal::STOP);
    // More than are read from a socket at a time, and the time is over when they are.
    let frames: Vec<Vec<u8>> = (0..3000).map(|number| numbered(number, 100)).collect();
    send(&bench.pair.sender, bench.pair.target(Ip::V4), &wrapped(&frames));
    thread::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
    process.signal(Signal::CONT);
    let said = end(process);
    said.alone("ok", "arriving");
    assert_eq!(said.json["watch"]["sessions"][0]["frames"], 3000);
}

#[test]
fn segments_come_out_of_order() {
    let Some(bench) = Bench::new(1500) else { return };
    let mut frames = conversation();
    frames.chunks_mut(20).for_each(|chunk| chunk.swap(0, 2));
    let (reason, _) = bench.mirror("", &frames).alone("warning", "disorder");
    assert!(reason.starts_with("5 % of the segments of TCP come behind later ones"), "{reason}");
}

#[test]
fn sessions_are_not_let_in() {
    let Some(bench) = Bench::new(1500) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vxtap.toml");
    fs::write(&file, "[output.files]\nkind = \"pcap\"\n[sessions]\nfrom = [\"10.99.0.0/16\"]\n").unwrap();
    let said = bench.mirror(&format!("-c {}", file.display()), &conversation());
    let (reason, remedy) = said.alone("warning", "not_let_in");
    assert!(reason.starts_with("400 frames of 1 session that come are not let in"), "{reason}");
    assert_eq!(remedy, "vxtap run --from 10.73.0.1 --vni 7");
    assert_eq!(said.json["watch"]["sessions"][0]["let_in"], false);
}

#[test]
fn a_firewall_drops_it() {
    if !need::programs(&["nft"]) {
        return;
    }
    let Some(bench) = Bench::new(1500) else { return };
    for rule in [
        "add table inet f",
        "add chain inet f input { type filter hook input priority 0; }",
        "add rule inet f input udp dport 4789 drop",
    ] {
        run(bench.pair.sensor.command("nft").arg(rule));
    }
    let (reason, remedy) = bench.mirror("", &conversation()).alone("error", "firewall");
    assert!(reason.starts_with("400 of 400 datagrams that come over eth0 to port 4789 reach no socket"), "{reason}");
    // What mends it mends it.
    run(bench.pair.sensor.command("nft").arg(
        remedy.split('#').next().unwrap().trim().strip_prefix("nft ").unwrap().replace("filter input", "f input"),
    ));
    bench.mirror("", &conversation()).alone("ok", "arriving");
}

#[test]
fn the_way_back_is_another() {
    let Some(bench) = Bench::new(1500) else { return };
    for of in ["all", "eth0"] {
        bench.pair.sensor.sysctl(&format!("net.ipv4.conf.{of}.rp_filter"), "1");
    }
    bench.pair.sensor.ip("link add other0 type bridge");
    bench.pair.sensor.ip("link set other0 up");
    bench.pair.sensor.ip("route add 192.0.2.0/24 dev other0");
    let sensor = address(Ip::V4, SENSOR);
    let frames: Vec<Vec<u8>> = conversation().iter().map(|frame| foreign([192, 0, 2, 9], sensor, frame)).collect();
    let mirror = || watch(&bench.pair.sensor, "", || send_frames(&bench.pair.sender, &frames));
    let (reason, remedy) = mirror().alone("error", "rp_filter");
    assert!(reason.contains("no route to 192.0.2.9 leads back over it"), "{reason}");
    // What mends it mends it.
    let mut words = remedy.split_whitespace();
    run(bench.pair.sensor.command(words.next().unwrap()).args(words));
    mirror().alone("ok", "arriving");
}

#[test]
fn the_receive_buffer_overflows() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let deaf = pair.sensor.enter(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    SockRef::from(&deaf).set_recv_buffer_size(64 << 10).unwrap();
    let frames: Vec<Vec<u8>> = (0..600).map(|number| numbered(number, 1400)).collect();
    let said = watch(&pair.sensor, "", || send(&pair.sender, pair.target(Ip::V4), &wrapped(&frames)));
    let (reason, _) = said.alone("error", "receive_buffer");
    assert!(reason.contains("datagrams to port 4789 were dropped at the socket"), "{reason}");
}

#[test]
fn a_flood_of_sources_and_vnis_costs_no_more_than_the_tables() {
    let Some(bench) = Bench::new(1500) else { return };
    let sensor = address(Ip::V4, SENSOR);
    let frame = numbered(1, 60);
    let flood: Vec<Vec<u8>> = (0..20_000_u16)
        .map(|number| {
            let [a, b] = number.to_be_bytes();
            let payload = vxlan(8, [0; 3], number.into(), 0, &frame);
            outer([2, 0, 0, 0, 0x73, SENSOR], &[], [[10, 74, a, b].into(), sensor], 65_408, &payload)
        })
        .collect();
    let memory = |process: &Process| status(process.pid(), "VmHWM:");
    let mut grown = 0;
    let said = watch_by(&bench.pair.sensor, "", |process| {
        let before = memory(process);
        send_frames(&bench.pair.sender, &flood);
        send_frames(&bench.pair.sender, &flood);
        grown = memory(process) - before;
    });
    let watched = &said.json["watch"];
    assert_eq!(watched["sessions"].as_array().unwrap().len(), 4096);
    assert!(
        watched["beyond"].as_u64() > Some(0) && watched["seconds"].as_f64() < Some(3600.0),
        "{:#}",
        said.json["findings"]
    );
    assert!(grown < 16 << 20, "{grown} bytes more");
}

#[test]
fn who_may_not_watch_is_told() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let words = ["--reuid=65534", "--clear-groups", VXTAP, "check", "--watch", "1s"];
    let output = Command::new("setpriv").args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("it needs CAP_NET_RAW"), "{text}");
}
