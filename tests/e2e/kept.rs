//! Of what sessions deliver, entries keep the beginning of frames and of flows, and one of copies.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, TcpHeader};

use crate::captures::{self, Record};
use crate::configuration::{WAYS, configuration};
use crate::datagrams::vxlan;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair, SENSOR, Switched, address};
use crate::process::on_one_core;
use crate::replay::{all_has_come_through, replay_all};
use crate::sensor::{Ended, Setup};

fn get(ended: &Ended, what: &str) -> usize {
    ended.ledger.get(what) as usize
}

/// Says how many are like each of these frames.
fn copies(frames: &[Vec<u8>]) -> BTreeMap<&[u8], usize> {
    let mut copies = BTreeMap::new();
    frames.iter().for_each(|frame| *copies.entry(frame.as_slice()).or_default() += 1);
    copies
}

#[test]
fn of_two_mirrored_ends_each_packet_is_kept_once() {
    if !need::programs(&[]) {
        return;
    }
    // Some are alike, as keep-alives are: in one piece, for a worker that is behind finds of those
    // that came long ago only the last.
    let number = |n| if (2..5).contains(&(n % 10)) { n - n % 10 + 2 } else { n };
    let frames: Vec<_> = (0..1000).map(|n| frames::numbered(number(n), 200)).collect();
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let receive = if way.contains("udp") { "source = \"udp\"\nworkers = 2" } else { way };
        let group = "dedup = \"drop\"\ndedup_group = \"tenant\"\n";
        let sessions = format!("[[session]]\nvni = 1\n{group}[[session]]\nvni = 2\n{group}");
        let config = configuration(directory.path(), receive, &sessions, "");
        let switched = Switched::new(1600);
        let sensor = Setup::new(&switched.hosts[1]).configured(&config).start();
        let target = std::net::SocketAddr::new(address(Ip::V4, SENSOR), 4789);
        let sockets = [0, 2].map(|host: usize| switched.hosts[host].enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()));
        // A busy host may let so much time pass between two copies that they count as two packets.
        let slow: usize = on_one_core(|| {
            let is_slow = |batch: &&[Vec<u8>]| {
                let began = Instant::now();
                for (socket, vni) in sockets.iter().zip([1, 2]) {
                    for frame in *batch {
                        let payload = vxlan(8, [0; 3], vni, 0, frame);
                        assert_eq!(socket.send_to(&payload, target).unwrap(), payload.len());
                    }
                }
                all_has_come_through();
                began.elapsed() > Duration::from_millis(40)
            };
            frames.chunks(5).filter(is_slow).map(<[_]>::len).sum()
        });
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{way}: {:#?}", ended.log);
        ended.ledger.assert_output_closes("evidence");
        assert_eq!((get(&ended, "/received"), switched.lost_on_the_way()), (2 * frames.len(), 0), "{way}");
        let duplicates = get(&ended, "/duplicate_frames");
        // A worker that lost its core while it looked one up has the other keep its frame.
        let kept = slow + ended.ledger.counted("/dedup_busy") as usize;
        assert!(kept <= frames.len() / 2, "{way}: {slow} frames were late, {kept} may be kept: that shows nothing");
        assert!(
            (frames.len() - kept..=frames.len()).contains(&duplicates),
            "{way}: {duplicates} duplicates, {kept} of them may be kept"
        );
        assert_eq!(get(&ended, "/outputs/evidence/filtered_by/duplicate"), duplicates, "{way}");
        // Which sessions delivered them.
        let pairs = ended.ledger.0["duplicates"].as_array().unwrap();
        let mut sum = 0;
        for pair in pairs {
            assert_eq!(pair["group"], "tenant");
            let vni = |end: &str| pair[end]["vni"].as_u64().unwrap();
            assert_eq!(vni("first") + vni("second"), 3, "{pair}");
            sum += pair["frames"].as_u64().unwrap() as usize;
        }
        assert_eq!(sum, duplicates, "{way}");
        // Each packet is there, and no other; what was kept is there twice.
        let of = |(host, vni)| captures::session(&directory.path().join("evidence"), address(Ip::V4, host), vni);
        let got: Vec<_> = [(1, 1), (3, 2)].into_iter().flat_map(of).map(|record| record.frame).collect();
        assert_eq!(got.len(), 2 * frames.len() - duplicates, "{way}");
        let (got, wanted) = (copies(&got), copies(&frames));
        assert!(got.keys().eq(wanted.keys()), "{way}: {} packets of {}", got.len(), wanted.len());
        for (frame, n) in wanted {
            assert!((n..=2 * n).contains(&got[frame]), "{way}: {} copies of {n} like {frame:02x?}", got[frame]);
        }
    }
}

#[test]
fn copies_that_are_kept_have_one_number() {
    if !need::programs(&["tshark"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..100).map(|n| frames::numbered(n, 200)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &all);
    let sessions = "[[session]]\nvni = [1, 2]\ndedup = \"tag\"\n[[session]]\nvni = 3\n";
    let config = configuration(directory.path(), WAYS[0], sessions, "format = \"pcapng\"");
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).configured(&config).start();
    for vni in 1..=3 {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--vni {vni}"), all.len());
    }
    let ended = sensor.stop();
    assert_eq!((ended.code, get(&ended, "/outputs/evidence/written")), (Some(0), 3 * all.len()), "{:#?}", ended.log);
    let numbers = |vni| -> Vec<String> {
        let folder = captures::session_directory(&directory.path().join("evidence"), pair.source(Ip::V4), vni);
        let [capture] = captures::files(&folder).try_into().unwrap();
        captures::tshark(&capture, &["frame.packet_id"])
    };
    let [one, two, plain] = [1, 2, 3].map(numbers);
    assert_eq!(one, two);
    assert_eq!(plain, vec![""; all.len()]);
    let mut different = one.clone();
    different.sort();
    different.dedup();
    assert_eq!((different.len(), different.contains(&String::new())), (all.len(), false));
}

/// Returns a segment of a TCP connection with options.
fn segment(back: bool, flags: &str, payload: &[u8]) -> Vec<u8> {
    let mac = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (from, to, ports) = if back { (2, 1, [443, 40_000]) } else { (1, 2, [40_000, 443]) };
    let mut header = TcpHeader::new(ports[0], ports[1], 7, 1000);
    header.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
    header.syn = flags.contains('S');
    header.ack = flags.contains('A');
    header.fin = flags.contains('F');
    let mut frame = Vec::new();
    let ip = mac.ipv4([10, 0, 0, from], [10, 0, 0, to], 64);
    ip.tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

fn tls(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// A connection of TLS: 3 segments until it stands, 3 of handshake, 40 of data, 1 that ends it.
fn connection() -> Vec<Vec<u8>> {
    let mut frames = vec![segment(false, "S", &[]), segment(true, "SA", &[]), segment(false, "A", &[])];
    frames.push(segment(false, "A", &tls(22, &[&[1, 0, 0, 196][..], &[0x5a; 196]].concat())));
    frames.push(segment(true, "A", &tls(22, &[&[2, 0, 4, 0][..], &[0x33; 1024]].concat())));
    frames.push(segment(false, "A", &[tls(20, &[1]), tls(22, &[7; 40])].concat()));
    frames.extend((0..40u8).map(|n| segment(n % 2 == 0, "A", &tls(23, &[n; 995]))));
    frames.push(segment(true, "FA", &[]));
    frames
}

#[test]
fn the_start_of_flows_and_of_frames_is_kept() {
    if !need::programs(&[]) {
        return;
    }
    let all = connection();
    let sessions = "[[session]]\nvni = 1\ntls = \"handshake+4000\"\n[[session]]\nvni = 2\nflow_limit = \"10kB\"\n\
                    [[session]]\nvni = 3\nslice = \"l4+16\"\n";
    // What is kept of each: of the data 4 segments of 1,000 bytes; what begins within 10,000 bytes
    // of frames; all.
    let mut passed = 0;
    let begins = all.iter().map(|frame| {
        passed += frame.len();
        passed - frame.len() < 10_000
    });
    let begins: Vec<bool> = begins.collect();
    let last = all.len() - 1;
    let kept = |vni: usize, n: usize| match vni {
        1 => n < 6 + 4 || n == last,
        2 => begins[n] || n == last,
        _ => true,
    };
    let length = |vni: usize, frame: &[u8]| if vni == 3 { frame.len().min(14 + 20 + 32 + 16) } else { frame.len() };
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let file = frames::write(directory.path(), "frames.pcap", &all);
        let config = configuration(directory.path(), way, sessions, "");
        let pair = Pair::new(1600);
        let sensor = Setup::new(&pair.sensor).configured(&config).start();
        for vni in 1..=3 {
            replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--vni {vni} --rate 5000"), all.len());
        }
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{way}: {:#?}", ended.log);
        ended.ledger.assert_output_closes("evidence");
        let mut beyond = (0, 0);
        for vni in 1..=3 {
            let records = captures::session(&directory.path().join("evidence"), pair.source(Ip::V4), vni as u32);
            let got: Vec<_> = records.into_iter().map(|Record { frame, orig_len, .. }| (frame, orig_len)).collect();
            let wanted = all.iter().enumerate().filter(|(n, _)| kept(vni, *n));
            let wanted: Vec<_> = wanted.map(|(_, f)| (f[..length(vni, f)].to_vec(), f.len() as u32)).collect();
            assert!(got == wanted, "{way}, VNI {vni}: {} records, wanted {}", got.len(), wanted.len());
            let shed = all.iter().enumerate().filter(|(n, _)| !kept(vni, *n));
            shed.for_each(|(_, frame)| beyond = (beyond.0 + 1, beyond.1 + frame.len()));
        }
        let counted = ["/beyond_cutoff/frames", "/beyond_cutoff/bytes", "/outputs/evidence/filtered_by/cutoff"];
        assert_eq!(counted.map(|what| get(&ended, what)), [beyond.0, beyond.1, beyond.0], "{way}");
        let snapped = all.iter().filter(|frame| length(3, frame) < frame.len()).count();
        assert_eq!(get(&ended, "/outputs/evidence/snapped"), snapped, "{way}");
    }
}
