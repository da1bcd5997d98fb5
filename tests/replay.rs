//! Replay runs over loopback, as an ordinary user, and what leaves is what the captures hold.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pcap_file::DataLink;
use pcap_file::pcap::{PcapWriter, RawPcapPacket};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use tempfile::TempDir;
use vxtap::console::Console;
use vxtap::record::read::ReadError;
use vxtap::replay::{Input, Pace, ReplayError, ReplayPlan, Report, Wrap, run};
use vxtap::wire::{Carrier, Vni, VniRange};

/// Source address of the tests. Not the unspecified one, so that the test that takes a port away
/// disturbs no other.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Returns an Ethernet frame with IPv4 and UDP, of `length` bytes in all, numbered in its payload.
fn frame(number: u32, from: (u8, u16), to: (u8, u16), length: usize) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, to.0, 2, 0, 0, 0, 0, from.0, 0x08, 0x00];
    let total = (length - 14) as u16;
    f.extend([0x45, 0]);
    f.extend(total.to_be_bytes());
    f.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, from.0, 10, 0, 0, to.0]);
    f.extend(from.1.to_be_bytes());
    f.extend(to.1.to_be_bytes());
    f.extend((total - 20).to_be_bytes());
    f.extend([0, 0]);
    f.extend(number.to_be_bytes());
    f.resize(length, 0xa5);
    f
}

/// Requests and answers of several conversations, of several sizes. A hundred of them fit in a
/// socket's default receive buffer, so that none is lost however slow the receiver is.
fn conversations(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            let (client, server) = ((1, 40_000 + (n / 4) as u16), (2, 53));
            let (from, to) = if n % 2 == 0 { (client, server) } else { (server, client) };
            frame(n, from, to, 60 + (n as usize * 37) % 300)
        })
        .collect()
}

/// Returns a pcap with frames `gap` microseconds apart.
fn pcap(frames: &[Vec<u8>], gap: u32) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    for (n, frame) in frames.iter().enumerate() {
        let time = n as u32 * gap;
        writer
            .write_raw_packet(&RawPcapPacket {
                ts_sec: 1_700_000_000 + time / 1_000_000,
                ts_frac: time % 1_000_000,
                incl_len: frame.len() as u32,
                orig_len: frame.len() as u32,
                data: frame.into(),
            })
            .unwrap();
    }
    writer.into_inner()
}

fn pcapng(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    writer.write_pcapng_block(InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0)).unwrap();
    for frame in frames {
        writer
            .write_pcapng_block(EnhancedPacketBlock {
                original_len: frame.len() as u32,
                data: frame.into(),
                ..Default::default()
            })
            .unwrap();
    }
    writer.into_inner()
}

struct Captures(TempDir);

impl Captures {
    fn new() -> Captures {
        Captures(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn vnis(first: u32, last: u32) -> VniRange {
    VniRange { first: Vni::new(first).unwrap(), last: Vni::new(last).unwrap() }
}

fn plan(to: SocketAddr, files: &[&Path]) -> ReplayPlan {
    ReplayPlan {
        wrap: Wrap::Vxlan,
        carrier: Carrier::Udp,
        inputs: files.iter().map(|p| Input::File(p.to_path_buf())).collect(),
        to,
        vni: vnis(1, 1),
        pace: Pace::AsFast,
        loops: 1,
        from: Some(FROM),
        checksum: false,
        progress: false,
    }
}

fn play(plan: &ReplayPlan) -> Report {
    run(plan, &AtomicBool::new(false), &Console::default()).unwrap()
}

/// One received datagram.
#[derive(Debug, PartialEq, Eq)]
struct Datagram {
    source: SocketAddr,
    vni: u32,
    frame: Vec<u8>,
}

struct Receiver(UdpSocket);

impl Receiver {
    fn on(ip: IpAddr) -> Receiver {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Receiver(socket)
    }

    fn new() -> Receiver {
        Receiver::on(FROM)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn next(&self) -> Datagram {
        let mut buffer = vec![0; 65_536];
        let (length, source) = self.0.recv_from(&mut buffer).unwrap();
        buffer.truncate(length);
        assert_eq!(buffer[..4], [0x08, 0, 0, 0], "flags and reserved bits");
        assert_eq!(buffer[7], 0, "reserved byte");
        let vni = u32::from_be_bytes([0, buffer[4], buffer[5], buffer[6]]);
        Datagram { source, vni, frame: buffer.split_off(8) }
    }

    /// Plays while receiving as many datagrams as are expected; there must be no more.
    fn receive(&self, plan: &ReplayPlan, count: usize) -> (Report, Vec<Datagram>) {
        thread::scope(|scope| {
            let report = scope.spawn(|| play(plan));
            let got = (0..count).map(|_| self.next()).collect();
            let report = report.join().unwrap();
            self.0.set_nonblocking(true).unwrap();
            assert!(self.0.recv(&mut [0; 1]).is_err(), "more datagrams than expected");
            self.0.set_nonblocking(false).unwrap();
            (report, got)
        })
    }
}

fn frames_of(datagrams: &[Datagram]) -> Vec<&[u8]> {
    datagrams.iter().map(|d| &d.frame[..]).collect()
}

#[test]
fn frames_arrive_as_in_the_files_and_in_order() {
    let captures = Captures::new();
    let frames = conversations(80);
    let one = captures.add("one.pcap", &pcap(&frames[..30], 10));
    let two = captures.add("two.pcapng", &pcapng(&frames[30..]));
    let receiver = Receiver::new();
    let (report, got) = receiver.receive(&plan(receiver.address(), &[&one, &two]), 80);
    assert!(frames_of(&got) == frames);

    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!((report.frames, report.frame_bytes), (80, bytes as u64));
    assert_eq!(report.datagram_bytes, (bytes + 80 * 8) as u64);
    assert!(report.all_sent() && report.damaged.is_empty(), "{report}");
    assert!(report.to_string().starts_with("sent 80 frames, "), "{report}");
}

#[test]
fn both_directions_leave_from_one_port_of_the_range() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(80), 0));
    let receiver = Receiver::new();
    let (_, got) = receiver.receive(&plan(receiver.address(), &[&file]), 80);
    assert!(got.iter().all(|d| d.source.ip() == FROM && d.source.port() >= 65_408));
    // Four frames of each conversation follow one another, two in each direction.
    for talk in got.chunks(4) {
        assert!(talk.iter().all(|d| d.source == talk[0].source));
    }
    let ports: BTreeSet<u16> = got.iter().map(|d| d.source.port()).collect();
    assert!(ports.len() > 10, "20 conversations use {} ports", ports.len());
}

#[test]
fn over_ipv6_the_checksum_is_zero_unless_asked_for() {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if UdpSocket::bind((loopback, 0)).is_err() {
        // The test harness shows it with --nocapture.
        eprintln!("skipped: this host has no IPv6 loopback address");
        return;
    }
    let captures = Captures::new();
    let frames = conversations(30);
    let file = captures.add("x.pcap", &pcap(&frames, 0));
    let receiver = Receiver::on(loopback);
    let zero = ReplayPlan { from: Some(loopback), ..plan(receiver.address(), &[&file]) };
    // A plain IPv6 socket drops datagrams with a zero checksum.
    assert_eq!(play(&zero).frames, 30);
    let (report, got) = receiver.receive(&ReplayPlan { checksum: true, ..zero }, 30);
    assert!(frames_of(&got) == frames);
    assert!(got.iter().all(|d| d.source.ip() == loopback && d.source.port() >= 65_408));
    assert!(report.all_sent(), "{report}");
}

#[test]
fn with_a_checksum_frames_arrive_too() {
    let captures = Captures::new();
    let frames = conversations(10);
    let file = captures.add("x.pcap", &pcap(&frames, 0));
    let receiver = Receiver::new();
    let (_, got) = receiver.receive(&ReplayPlan { checksum: true, ..plan(receiver.address(), &[&file]) }, 10);
    assert!(frames_of(&got) == frames);
}

#[test]
fn frames_take_turns_in_the_vnis_through_files_and_loops() {
    let captures = Captures::new();
    let frames = conversations(4);
    let one = captures.add("one.pcap", &pcap(&frames[..3], 0));
    let two = captures.add("two.pcap", &pcap(&frames[3..], 0));
    let receiver = Receiver::new();
    let plan = ReplayPlan { vni: vnis(0xff_fffd, 0xff_ffff), loops: 3, ..plan(receiver.address(), &[&one, &two]) };
    let (report, got) = receiver.receive(&plan, 12);
    assert_eq!(report.frames, 12);
    for (n, datagram) in got.iter().enumerate() {
        assert_eq!(datagram.frame, frames[n % 4]);
        assert_eq!(datagram.vni, 0xff_fffd + n as u32 % 3);
    }
}

#[test]
fn a_rate_is_kept() {
    let captures = Captures::new();
    let frames = conversations(100);
    let file = captures.add("x.pcap", &pcap(&frames, 0));
    let receiver = Receiver::new();
    let plan = ReplayPlan { pace: Pace::Rate(1000), ..plan(receiver.address(), &[&file]) };
    let (report, got) = receiver.receive(&plan, 100);
    assert!(frames_of(&got) == frames);
    // The first frame is due at once, the last 99 ms later.
    assert!(report.elapsed >= Duration::from_millis(99), "{report}");
}

#[test]
fn real_time_is_that_of_each_capture() {
    let captures = Captures::new();
    let frames = conversations(6);
    let file = captures.add("x.pcap", &pcap(&frames, 10_000));
    let receiver = Receiver::new();
    let plan = ReplayPlan { pace: Pace::Realtime, loops: 2, ..plan(receiver.address(), &[&file]) };
    let (report, _) = receiver.receive(&plan, 12);
    assert!(report.elapsed >= Duration::from_millis(100), "{report}");
}

#[test]
fn a_frame_that_fits_no_datagram_is_counted() {
    let captures = Captures::new();
    // 65,507 bytes of UDP payload over IPv4, less the VXLAN header.
    let frames: Vec<_> =
        [100, 65_499, 65_500, 100, 200_000, 100].iter().map(|&length| vec![length as u8; length]).collect();
    let file = captures.add("x.pcap", &pcap(&frames, 0));
    let receiver = Receiver::new();
    let (report, got) = receiver.receive(&plan(receiver.address(), &[&file]), 4);
    assert!(frames_of(&got) == [&frames[0][..], &frames[1], &frames[3], &frames[5]]);
    assert_eq!((report.frames, report.too_large, report.unsent), (4, 2, 0));
    assert!(!report.all_sent());
    assert!(report.to_string().contains("2 frames not sent: too large"), "{report}");
}

#[test]
fn a_frame_that_the_capture_cut_is_sent_and_counted() {
    let captures = Captures::new();
    let frames = conversations(3);
    let mut bytes = pcap(&frames, 0);
    // The original length of the first record.
    bytes[24 + 12..24 + 16].copy_from_slice(&9000u32.to_le_bytes());
    let file = captures.add("x.pcap", &bytes);
    let receiver = Receiver::new();
    let (report, got) = receiver.receive(&plan(receiver.address(), &[&file]), 3);
    assert!(frames_of(&got) == frames);
    assert_eq!(report.cut, 1);
    assert!(report.all_sent());
}

#[test]
fn a_damaged_file_is_sent_up_to_the_damage_and_the_others_whole() {
    let captures = Captures::new();
    let frames = conversations(5);
    let whole = pcap(&frames, 0);
    let last = whole.len() - frames[4].len() - 16;
    let damaged = captures.add("damaged.pcap", &whole[..whole.len() - 1]);
    let garbage = captures.add("garbage.pcap", b"garbage");
    let good = captures.add("good.pcap", &pcap(&frames[..1], 0));
    let receiver = Receiver::new();
    let plan = ReplayPlan { loops: 2, ..plan(receiver.address(), &[&damaged, &garbage, &good]) };
    let (report, got) = receiver.receive(&plan, 10);
    let expected = [&frames[0], &frames[1], &frames[2], &frames[3], &frames[0]];
    assert!(frames_of(&got).chunks(5).all(|turn| turn == expected));

    // Once each, though they were played twice.
    assert_eq!(report.damaged.len(), 2);
    assert!(matches!(&report.damaged[0], ReadError::Damaged { offset, frames: 4, .. } if *offset == last as u64));
    let texts: Vec<String> = report.damaged.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains(&format!("{}: damaged at byte {last}: ", damaged.display())), "{texts:?}");
    let summary = report.to_string();
    assert!(summary.contains(" 2 errors in captures: not played to their end"), "{summary}");
    assert!(texts[1].contains(&format!("{}: not a pcap or pcapng file", garbage.display())), "{texts:?}");
}

#[test]
fn a_file_that_vanishes_between_turns_is_reported_once() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(1), 0));
    let receiver = Receiver::new();
    let plan = ReplayPlan { pace: Pace::Rate(10), loops: 20, ..plan(receiver.address(), &[&file]) };
    let report = thread::scope(|scope| {
        let report = scope.spawn(|| play(&plan));
        receiver.next();
        fs::remove_file(&file).unwrap();
        report.join().unwrap()
    });
    assert!(report.frames < 20, "{report}");
    assert!(matches!(&report.damaged[..], [ReadError::Io { source, .. }] if source.kind() == ErrorKind::NotFound));
}

#[test]
fn damage_is_reported_for_each_input_also_if_they_are_one_file() {
    let captures = Captures::new();
    let file = captures.add("garbage.pcap", b"garbage");
    let receiver = Receiver::new();
    let report = play(&ReplayPlan { loops: 3, ..plan(receiver.address(), &[&file, &file]) });
    assert_eq!(report.damaged.len(), 2, "{report}");
}

#[test]
fn a_capture_in_memory_is_played() {
    let frames = conversations(3);
    let bytes: &'static [u8] = Box::leak(pcap(&frames, 0).into_boxed_slice());
    let receiver = Receiver::new();
    let plan = ReplayPlan { inputs: vec![Input::Memory { name: "sample", bytes }], ..plan(receiver.address(), &[]) };
    assert!(frames_of(&receiver.receive(&plan, 3).1) == frames);
}

#[test]
fn a_refusing_target_is_reported() {
    let captures = Captures::new();
    let many = captures.add("many.pcap", &pcap(&conversations(100), 0));
    let one = captures.add("one.pcap", &pcap(&conversations(1), 0));
    let closed = Receiver::new().address();
    for (file, count) in [(&many, 100), (&one, 1)] {
        let report = play(&plan(closed, &[file]));
        assert_eq!((report.frames, report.unsent), (count, 0), "each is sent, if in vain");
        assert!(report.refused > 0 && !report.all_sent(), "{report}");
        assert!(report.to_string().contains("nothing listens"), "{report}");
    }
}

#[test]
fn it_stops_when_told_to() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(100), 0));
    let receiver = Receiver::new();
    let plan = ReplayPlan { pace: Pace::Rate(1), ..plan(receiver.address(), &[&file]) };
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let report = thread::scope(|scope| {
        let report = scope.spawn(|| run(&plan, &stop, &Console::default()));
        receiver.next();
        stop.store(true, Ordering::Relaxed);
        report.join().unwrap().unwrap()
    });
    assert!(started.elapsed() < Duration::from_secs(20), "100 frames at 1/s would take 99 s");
    assert!(report.interrupted && !report.all_sent() && report.frames < 100, "{report}");
}

#[test]
fn mistakes_are_explained_before_anything_is_sent() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(1), 0));
    let receiver = Receiver::new();
    let good = plan(receiver.address(), &[&file]);
    let error = |plan: ReplayPlan| run(&plan, &AtomicBool::new(false), &Console::default()).unwrap_err().to_string();

    let missing = captures.0.path().join("missing.pcap");
    let text = error(plan(receiver.address(), &[&file, &missing]));
    assert!(text.starts_with(&format!("{}: No such file", missing.display())), "{text}");
    let text = error(plan(receiver.address(), &[captures.0.path()]));
    assert!(text.contains("is a directory"), "{text}");
    let text = error(ReplayPlan { from: Some("192.0.2.7".parse().unwrap()), ..good.clone() });
    assert!(text.starts_with("192.0.2.7 is not an address of this host"), "{text}");
    let text = error(ReplayPlan { from: Some("::1".parse().unwrap()), ..good.clone() });
    assert!(text.contains("not both IPv4 or both IPv6"), "{text}");
    let text = error(ReplayPlan { to: "255.255.255.255:4789".parse().unwrap(), ..good.clone() });
    assert!(text.contains("cannot send to 255.255.255.255:4789: "), "{text}");
    // As a pipe, but one that a test cannot hang on.
    let text = error(ReplayPlan { loops: 2, ..plan(receiver.address(), &[&file, Path::new("/dev/null")]) });
    assert!(text.starts_with("/dev/null is not a regular file"), "{text}");

    receiver.0.set_nonblocking(true).unwrap();
    assert!(receiver.0.recv(&mut [0; 1]).is_err(), "nothing was sent");
}

#[test]
fn the_program_names_a_cause_once() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(1), 0));
    let missing = captures.0.path().join("missing.pcap");
    // No such file, and permission denied.
    for (file, to, cause) in [(&missing, "127.0.0.1:9", "(os error 2)"), (&file, "255.255.255.255:9", "(os error 13)")]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("replay").arg(file).args(["--to", to]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.matches(cause).count()), (Some(1), 1), "{text}");
    }
}

#[test]
fn a_port_in_use_is_named_and_replays_share_ports() {
    let captures = Captures::new();
    let file = captures.add("x.pcap", &pcap(&conversations(1), 0));
    let receiver = Receiver::new();
    // Another loopback address than the other tests use.
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    let plan = ReplayPlan { from: Some(from), ..plan(receiver.address(), &[&file]) };
    let (_, got) = receiver.receive(&plan, 1);
    assert_eq!(got[0].source.ip(), from);

    let port = got[0].source.port();
    let taken = UdpSocket::bind((from, port)).unwrap();
    match run(&plan, &AtomicBool::new(false), &Console::default()) {
        Err(e @ ReplayError::Bind { .. }) => {
            let text = e.to_string();
            assert!(text.contains(&format!("UDP port {port} of 127.0.0.77")) && text.contains("in use"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    drop(taken);

    // Each of the two keeps the port to the end of its replay, which the rate makes long enough to
    // overlap.
    let slow = ReplayPlan { pace: Pace::Rate(20), loops: 3, ..plan };
    thread::scope(|scope| {
        let replays = [scope.spawn(|| play(&slow)), scope.spawn(|| play(&slow))];
        for _ in 0..6 {
            assert_eq!(receiver.next().source.port(), port);
        }
        for replay in replays {
            assert!(replay.join().unwrap().all_sent());
        }
    });
}

#[test]
fn a_port_that_is_not_free_later_costs_its_frames_only() {
    let captures = Captures::new();
    let frames = conversations(80);
    let file = captures.add("x.pcap", &pcap(&frames, 0));
    let receiver = Receiver::new();
    // Another loopback address than the other tests use.
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78));
    let plan = ReplayPlan { from: Some(from), ..plan(receiver.address(), &[&file]) };
    let (_, got) = receiver.receive(&plan, 80);

    let first = got[0].source.port();
    let taken = got.iter().map(|datagram| datagram.source.port()).find(|port| *port != first).unwrap();
    let rest: Vec<_> = got.iter().filter(|datagram| datagram.source.port() != taken).collect();
    let socket = UdpSocket::bind((from, taken)).unwrap();
    let (report, got) = receiver.receive(&plan, rest.len());
    assert!(got.iter().eq(rest));
    assert_eq!((report.frames, report.unsent), (got.len() as u64, (80 - got.len()) as u64));
    assert!(!report.all_sent());
    let last = report.last_error.unwrap();
    assert!(last.contains(&format!("UDP port {taken} of 127.0.0.78")) && last.contains("in use"), "{last}");
    drop(socket);
}
