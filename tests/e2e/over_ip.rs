//! GRE and ERSPAN come over IP itself, and out come the frames that were sent.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, Socket, Type};
use vxtap::record::Timestamp;
use vxtap::record::read::CaptureReader;
use vxtap::wire::captured::{Framing, Ports, unwrap};
use vxtap::wire::layers::protocol;

use crate::captures::{self, assert_open, assert_same};
use crate::datagrams::in_pieces;
use crate::encapsulations::what_leaves_by;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace, Pair};
use crate::replay::{all_has_come_through, replay_all};
use crate::sensor::Setup;

/// Returns the frames of the session whose directory has this name.
fn session(captures: &Path, directory: &str) -> Vec<Vec<u8>> {
    captures::of_directory(&captures.join(directory)).into_iter().map(|record| record.frame).collect()
}

/// Sends these payloads of GRE in packets of their own, in this order, and waits until they have
/// come through.
fn send(namespace: &Namespace, to: IpAddr, payloads: &[Vec<u8>]) {
    let to = SocketAddr::new(to, 0);
    let gre = Protocol::from(i32::from(protocol::GRE));
    let socket = namespace.enter(|| Socket::new(Domain::for_address(to), Type::RAW, Some(gre)).unwrap());
    in_pieces(payloads, |payload| assert_eq!(socket.send_to(payload, &to.into()).unwrap(), payload.len()));
}

/// Has replay wrap frames in each way, by packets of which some are larger than the cable lets
/// through, and compares what the sensor writes with what was sent.
fn frames_come_out_as_they_were_sent(ip: Ip, arguments: &str) {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(300);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1300);
    let sensor = Setup::new(&pair.sensor).with(arguments).start();
    let source = pair.source(ip).to_string().replace(':', "-");
    let over_ip = SocketAddr::new(pair.target(ip).ip(), 0);
    let wraps = [
        ("gre --vni 7 --over-ip", over_ip, format!("gre_vni0_{source}_0x7")),
        ("erspan --vni 9 --over-ip", over_ip, format!("erspan_vni0_{source}_0x9")),
        ("erspan3 --vni 11 --over-ip", over_ip, format!("erspan_vni0_{source}_0xb")),
        ("nvgre --vni 5000 --over-ip", over_ip, format!("nvgre_vni5000_{source}")),
        ("vxlan --vni 7", pair.target(ip), format!("vni7_{source}")),
    ];
    for (wrap, to, _) in &wraps {
        replay_all(&pair.sender, *to, &[&file], &format!("--as {wrap}"), frames.len());
    }
    // For nobody, and no GRE.
    send(&pair.sender, over_ip.ip(), &[vec![0x40, 0, 8, 0], vec![7]]);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_received_closes();
    ended.ledger.assert_output_closes("pcap");
    pair.assert_all_arrived(ended.ledger.received(), wraps.len() * frames.len() + 2);
    assert_eq!(ended.ledger.get("/dropped/unknown_tunnel_version"), 1);
    assert_eq!((ended.ledger.get("/dropped/short_tunnel_header"), ended.ledger.get("/kernel_dropped")), (1, 0));
    for (wrap, _, name) in &wraps {
        assert_same(wrap, &session(&ended.captures, name), &frames);
    }
    assert_open(&captures::files(&ended.captures));
    assert_eq!(ended.ledger.0["sessions"].as_array().unwrap().len(), wraps.len());
}

#[test]
fn gre_over_ipv4_comes_to_one_of_several_workers() {
    frames_come_out_as_they_were_sent(Ip::V4, "--source udp --listen gre --listen 4789 --workers 3");
}

#[test]
fn gre_over_ipv6_comes_beside_the_program() {
    let program = "--source bpf --interface eth0 --attach tc --workers 1";
    frames_come_out_as_they_were_sent(Ip::V6, &format!("{program} --listen erspan --listen 4789"));
}

#[test]
fn the_program_alone_cannot_take_gre() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let setup = Setup::new(&pair.sensor).with("--source bpf --interface eth0 --listen gre");
    let (code, said) = setup.fails();
    assert_ne!(code, Some(0));
    assert!(said.contains("the program, which takes VXLAN, VXLAN-GPE and GENEVE"), "{said}");
}

#[test]
fn without_the_privilege_it_says_which_one_is_missing() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1500);
    let setup = Setup::new(&pair.sensor).with("--listen gre:10.73.0.2").through("setpriv --bounding-set -net_raw");
    let (code, said) = setup.fails();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot listen on gre:10.73.0.2") && said.contains("CAP_NET_RAW"), "{said}");
}

#[test]
fn sources_are_let_in_by_a_list() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(50);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(2000);
    pair.sender.ip("addr add 10.73.0.9/24 dev eth0");
    let sensor = Setup::new(&pair.sensor).with("--source udp --listen erspan:10.73.0.2 --from 10.73.0.9").start();
    let to = SocketAddr::new(pair.target(Ip::V4).ip(), 0);
    for from in ["10.73.0.1", "10.73.0.9"] {
        replay_all(&pair.sender, to, &[&file], &format!("--as erspan --over-ip --from {from}"), frames.len());
    }
    let ended = sensor.stop();
    ended.ledger.assert_received_closes();
    assert_eq!((ended.ledger.get("/decapsulated"), ended.ledger.get("/unselected")), (100, 50));
    assert_same("10.73.0.9", &session(&ended.captures, "erspan_vni0_10.73.0.9_0x1"), &frames);
}

/// Frames that never came are known by the numbers that the sender gave them.
#[test]
fn what_was_lost_on_the_way_is_counted() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(2000);
    let sensor = Setup::new(&pair.sensor).with("--source udp --listen erspan --workers 2").start();
    let erspan = |number: u32| {
        let header = [0x10, 0x00, 0x00, 0x07, 0, 0, 0, 0];
        [&[0x10, 0, 0x88, 0xbe], &number.to_be_bytes()[..], &header, &frames::numbered(number, 100)].concat()
    };
    let mut numbers: Vec<u32> = (u32::MAX - 99..=u32::MAX).chain(0..2000).filter(|number| number % 10 != 3).collect();
    let lost = 2100 - numbers.len() as u64;
    // One is overtaken by many, some come twice, and in the end the sender begins anew.
    let overtaken = numbers.remove(500);
    numbers.insert(900, overtaken);
    numbers.extend_from_within(1850..);
    numbers.extend(0..100);
    send(&pair.sender, pair.target(Ip::V4).ip(), &numbers.iter().map(|number| erspan(*number)).collect::<Vec<_>>());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "a loss on the way is none of the sensor: {:#?}", ended.log);
    ended.ledger.assert_received_closes();
    ended.ledger.assert_lossless();
    pair.assert_all_arrived(ended.ledger.received(), numbers.len());
    let [missed, late] = ["/upstream_missed", "/upstream_late"].map(|what| ended.ledger.counted(what));
    assert_eq!((missed - late, ended.ledger.counted("/upstream_restarts")), (lost, 1));
    assert!(late > 0, "the cable may have others overtaken");
    let session = &ended.ledger.0["sessions"][0];
    assert_eq!((session["upstream_missed"].as_u64(), session["upstream_late"].as_u64()), (Some(missed), Some(late)));
}

/// Frames have the time at which the switch mirrored them, where it tells one near their arrival.
#[test]
fn times_are_those_of_the_switch() {
    if !need::programs(&["tshark"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(300);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(2000);
    let options = "--source udp --listen erspan --timestamps switch --format pcapng";
    let sensor = Setup::new(&pair.sensor).with(options).start();
    let to = SocketAddr::new(pair.target(Ip::V4).ip(), 0);
    let before = Timestamp::now();
    replay_all(&pair.sender, to, &[&file], "--as erspan3 --vni 7 --over-ip", frames.len());
    // These count since the switch began, which is half of all counts away from the time, or in a
    // unit of its own, and it has cut them.
    let counts = |number: u32, unit: u8| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let nanoseconds = if unit == 0 { 100_000 } else { 100 };
        let [a, b, c, d] = ((now.as_nanos() / nanoseconds) as u32).wrapping_add(1 << 31).to_be_bytes();
        let header = [0x20, 0, 4, 8, a, b, c, d, 0, 0, 0x80, 1 | unit << 1, 3 << 2, 0, 0, 0, 0, 0, 0, 0];
        [&[0x10, 0, 0x22, 0xeb], &number.to_be_bytes()[..], &header, &frames::numbered(number, 100)].concat()
    };
    send(&pair.sender, to.ip(), &(0..20).map(|number| counts(number, number as u8 & 3)).collect::<Vec<_>>());
    // Type II has none.
    replay_all(&pair.sender, to, &[&file], "--as erspan --vni 9 --over-ip", frames.len());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_received_closes();
    ended.ledger.assert_output_closes("pcap");
    ended.ledger.assert_lossless();
    pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len() + 20);
    let records = |scope| captures::of_directory(&ended.captures.join(format!("erspan_vni0_10.73.0.1_{scope}")));
    let (near, far) = (records("0x7"), records("0x8"));
    assert_eq!((near.len(), far.len(), records("0x9").len()), (300, 20, 300));
    // The sender tells time in units of 100 us. What was held up for a second has that of arrival.
    let told = near.iter().filter(|record| record.time % 100_000 == 0).count() as u64;
    let unknown = ended.ledger.counted("/switch_time_unknown");
    assert!(unknown >= 20 && told > 0 && told + unknown >= 320, "{told} of 300, and {unknown} unknown");
    assert!(far.iter().all(|record| Timestamp::from_ns(record.time) >= before), "the time of arrival");
    assert_eq!(ended.ledger.get("/cut_by_mirror"), far.len() as u64);
    // All came into the switch.
    let files = captures::files(&ended.captures);
    let of_near = files.iter().filter(|path| path.to_string_lossy().contains("_0x7"));
    let ways: Vec<_> = of_near.flat_map(|path| captures::tshark(path, &["frame.packet_flags_direction"])).collect();
    assert!(ways.len() == 300 && ways.iter().all(|way| way == "0x00000001"), "{ways:?}");
}

/// What switches have sent comes out as what `captured` finds in the same packets.
#[test]
fn what_switches_send() {
    let (true, Some(corpus)) = (need::programs(&[]), need::corpus()) else { return };
    let pair = Pair::new(2000);
    let sensor = Setup::new(&pair.sensor).with("--source udp --listen erspan --workers 2").start();
    let (mut sent, mut inside) = (0, Vec::new());
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(corpus.join("erspan")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        // One is of bare IP.
        let opened = CaptureReader::new(File::open(&path).unwrap(), path.display().to_string());
        let Ok(mut reader) = opened else { continue };
        while let Ok(Some(frame)) = reader.next_frame() {
            let Ok(unwrapped) = unwrap(Framing::Ethernet, frame.data, &Ports::default()) else { continue };
            let end = unwrapped.inner.frame.as_ptr() as usize + unwrapped.inner.frame.len();
            let end = end - frame.data.as_ptr() as usize;
            let begin = end - unwrapped.length;
            if unwrapped.port != 0 || unwrapped.inner.bare.is_some() || unwrapped.length > frame.data.len() {
                continue;
            }
            inside.push(unwrapped.inner.frame.to_vec());
            send(&pair.sender, pair.target(Ip::V4).ip(), &[frame.data[begin..end].to_vec()]);
            sent += 1;
        }
    }
    assert!(sent > 100, "{sent}");
    let ended = sensor.stop();
    ended.ledger.assert_received_closes();
    assert_eq!(ended.ledger.get("/decapsulated"), sent);
    let files = captures::files(&ended.captures);
    let mut found: Vec<_> = files.iter().flat_map(|path| captures::read(path)).map(|record| record.frame).collect();
    found.sort();
    inside.sort();
    assert_same("what switches have mirrored", &found, &inside);
}

/// The kernel's own devices send what they are given, and the sensor writes what left by them.
#[test]
fn the_kernels_devices() {
    if !need::programs(&["tcpdump", "ping"]) {
        return;
    }
    let pair = Pair::new(2000);
    let (local, remote) = (pair.source(Ip::V4), pair.target(Ip::V4).ip());
    for (number, (kind, options, name)) in [
        ("gretap", "key 7", "gre_vni0_10.73.0.1_0x7"),
        ("erspan", "seq key 8 erspan_ver 1 erspan 5", "erspan_vni0_10.73.0.1_0x8"),
        ("erspan", "seq key 9 erspan_ver 2 erspan_dir ingress erspan_hwid 3", "erspan_vni0_10.73.0.1_0x9"),
    ]
    .into_iter()
    .enumerate()
    {
        if !pair.sender.can_make(kind) {
            need::part_is_left_out(&format!("this kernel has no device of type {kind}"));
            continue;
        }
        let sensor = Setup::new(&pair.sensor).with("--source udp --listen erspan").start();
        let device = format!("g{number}");
        pair.sender.ip(&format!(
            "link add {device} address 02:00:00:00:77:01 mtu 1500 type {kind} {options} local {local} remote {remote}"
        ));
        let seen = what_leaves_by(&pair, &device, &format!("10.99.{number}"));
        all_has_come_through();
        let ended = sensor.stop();
        ended.ledger.assert_received_closes();
        ended.ledger.assert_lossless();
        assert!(seen.len() >= 20, "{}", seen.len());
        assert_same(kind, &session(&ended.captures, name), &seen);
    }
}
