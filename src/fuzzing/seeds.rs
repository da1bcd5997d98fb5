//! Seeds are made of the fixtures, of the examples, and of the corpus of captures where it is.

use std::env;
use std::fs;
use std::path::PathBuf;

use super::kept::package;
use super::packets::FRAMINGS;
use crate::evidence::{Algorithm, Capture, Digest, Event, FileHash, Line, PruneReason};
use crate::record::Timestamp;
use crate::record::compress::{Compression, Compressor};
use crate::record::contents::{Opening, Remarks, Statistics};
use crate::record::format::Format;
use crate::record::pcap::Record;
use crate::record::read::CaptureReader;
use crate::session::Session;
use crate::sys::pcap;
use crate::wire::captured::{Framing, Ports, unwrap};
use crate::wire::{Encapsulation, LinkType, outer};

/// Bytes of the longest seed: a fuzzer does more with short ones.
const LONGEST: usize = 2_000;
/// Frames that are taken of a capture.
const FRAMES: usize = 40;

/// Returns the files of these folders, in their order.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    let corpus = env::var_os("VXTAP_CORPUS").map_or_else(|| package().join("../shared/corpus"), PathBuf::from);
    let mut found: Vec<PathBuf> = folders
        .iter()
        .map(|folder| match folder.strip_prefix("corpus/") {
            Some(folder) => corpus.join(folder),
            None => package().join(folder),
        })
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .filter(|path| path.extension().is_some_and(|end| extensions.iter().any(|one| end == *one)))
        .collect();
    found.sort();
    found
}

/// Returns frames of captures of tunnels and of other traffic, with their link types.
fn all_frames() -> Vec<(u16, Vec<u8>)> {
    let folders = [
        "fixtures/outer",
        "fixtures/inner",
        "fixtures/tunnels",
        "corpus/vxlan",
        "corpus/geneve",
        "corpus/gpe",
        "corpus/gre",
        "corpus/erspan",
        "corpus/mixed",
        "corpus/hostile",
    ];
    let mut found = Vec::new();
    for path in files(&folders, &["pcap", "pcapng"]) {
        let Ok(bytes) = fs::read(path) else { continue };
        let Ok(mut capture) = CaptureReader::of_any_link_type(bytes.as_slice(), "seed") else { continue };
        for _ in 0..FRAMES {
            let Ok(Some(frame)) = capture.next_frame() else { break };
            if frame.data.len() < LONGEST {
                found.push((frame.link_type, frame.data.to_vec()));
            }
        }
    }
    found
}

/// Captured outer frames.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let seed = |(link_type, frame): (u16, Vec<u8>)| {
        let of = Framing::of(link_type)?;
        let kind = FRAMINGS.iter().position(|one| *one == of)?;
        Some([&[u8::try_from(kind).ok()?][..], &frame].concat())
    };
    all_frames().into_iter().filter_map(seed).collect()
}

/// Payloads of tunnels.
pub(super) fn tunnels() -> Vec<Vec<u8>> {
    let seed = |(_, frame): (u16, Vec<u8>)| {
        let udp = outer::udp(&frame).ok()?;
        let of = Encapsulation::of_port(udp.destination_port)?;
        let kind = Encapsulation::ALL.iter().position(|one| *one == of)?;
        Some([&[u8::try_from(kind).ok()?, 0, 0][..], udp.payload].concat())
    };
    all_frames().into_iter().filter_map(seed).collect()
}

/// Inner frames.
pub(super) fn layers() -> Vec<Vec<u8>> {
    let inner = |frame: &[u8]| Some(unwrap(Framing::Ethernet, frame, &Ports::default()).ok()?.inner.frame.to_vec());
    let frames = all_frames();
    frames.iter().filter_map(|(_, frame)| inner(frame)).chain(frames.iter().map(|(_, frame)| frame.clone())).collect()
}

/// Whole captures, in each format and compression.
pub(super) fn captures() -> Vec<Vec<u8>> {
    let folders = ["fixtures/outer", "fixtures/tunnels", "corpus/hostile", "corpus/erspan", "corpus/geneve"];
    let read = files(&folders, &["pcap", "pcapng"]).into_iter().filter_map(|path| fs::read(path).ok());
    read.filter(|bytes| bytes.len() < 2 * LONGEST).chain(salvage()).collect()
}

/// Files that this program wrote, whole and torn.
pub(super) fn salvage() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let [ethernet, packets, both] = [&[LinkType::Ethernet][..], &[LinkType::Raw], &[LinkType::Ethernet, LinkType::Raw]];
    let bare = [(Format::Pcap, packets), (Format::PcapNg, packets), (Format::PcapNg, both)];
    for (format, link_types) in Format::ALL.map(|format| (format, ethernet)).into_iter().chain(bare) {
        let (snaplen, interface, os) = (262_144, "vni7_192.0.2.1", "Linux");
        let opening = Opening { link_types, snaplen, interface, os, ..Opening::default() };
        let mut raw = format.opening(&opening);
        for number in 1..6u8 {
            let mut frame = vec![number; 20 * usize::from(number)];
            if link_types == packets {
                frame[0] = 0x45;
            }
            let timestamp = Timestamp::from_ns(u64::from(number) << 60 | 1_000_000);
            let interface = u32::from(number) % u32::try_from(link_types.len()).unwrap_or(1);
            let remarks = Remarks { interface, lost: u64::from(number % 3), packet_id: Some(7), ..Remarks::default() };
            format.push(&mut raw, &Record { timestamp, orig_len: 2_000, frame: &frame }, remarks);
        }
        raw.extend(format.closing(&Statistics::default()));
        for compression in [Compression::Lz4, Compression::Zstd(3)] {
            let mut packed = Vec::new();
            if let Ok(mut compressor) = Compressor::new(compression)
                && raw.chunks(200).all(|piece| compressor.feed(piece, &mut packed).is_ok())
                && compressor.finish(&mut packed).is_ok()
            {
                seeds.push(packed[..packed.len() / 2].to_vec());
                seeds.push(packed);
            }
        }
        seeds.push(raw[..raw.len() / 2].to_vec());
        seeds.push(raw);
    }
    seeds
}

/// A manifest with a line of each kind.
pub(super) fn manifest() -> Vec<Vec<u8>> {
    let hash = FileHash::of(Algorithm::Sha256, b"abc");
    let capture = |name: &str| Capture {
        path: format!("vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_{name}.pcap"),
        session: Session::from_directory_name("vni7_192.0.2.1"),
        name: None,
        tag: None,
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(1_795_490_309_999_999_999),
        frames: 2,
        frame_bytes: 200,
        bytes: 300,
        dropped: [("lane_full".to_owned(), 4)].into(),
        kernel_dropped: 5,
        format: "pcap".into(),
        compression: Some("zstd:3".into()),
        hash: Some(hash),
    };
    let path = |name: &str| capture(name).path;
    let events = [
        Event::Published(capture("000001")),
        Event::Recovered(Capture { hash: Some(FileHash::of(Algorithm::Blake3, b"x")), ..capture("000002.recovered") }),
        Event::Pruned {
            path: path("000001"),
            hash: Some(hash),
            reason: PruneReason::KeepAge,
            undelivered: vec!["hook".into()],
        },
        Event::SetAside { path: path("000003"), bytes: 3, hash, why: "no header".into() },
        Event::Lost { session: None, dropped: [("disk_full".to_owned(), 1)].into() },
    ];
    let (mut whole, mut previous) = (Vec::new(), Digest::ZERO);
    let mut seeds = Vec::new();
    for event in events {
        let line = Line { time: Timestamp::from_ns(1_795_490_309_000_000_001), event, previous };
        let Ok(text) = serde_json::to_vec(&line) else { continue };
        previous = Digest::of(&text);
        whole.extend_from_slice(&text);
        whole.push(b'\n');
        seeds.push([&text[..], b"\n"].concat());
    }
    seeds.push(whole);
    seeds
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Names of directories and paths of captures.
pub(super) fn names() -> Vec<Vec<u8>> {
    texts(&[
        "overflow",
        "vni7_192.0.2.1",
        "web-1_vni16777215_2001-db8--1",
        "geneve_0x76bc493b822cd32_vni7_192.0.2.1",
        "web_erspan_0x3ff_vni0_192.0.2.1",
        "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap",
        "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.recovered-2.pcapng.zst",
        "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001-2.pcap.lz4",
        "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap.part",
    ])
}

/// Values as people type them.
pub(super) fn values() -> Vec<Vec<u8>> {
    texts(&[
        "zstd:3",
        "lz4",
        "erspan",
        "10%",
        "2.5%",
        "1GiB",
        "64k",
        "65536",
        "10.0.0.0/8",
        "2001:db8::/32",
        "all",
        "7",
        "9-11",
        "geneve:0.0.0.0:6081",
        "auto:4789",
        "[fe80::1%eth0]:4789",
        "*:8472",
        "web-1",
        "127.0.0.1:9479",
        "1024-65535",
        "tcp",
        "0x76bc493b822cd32",
        "l4+64",
        "l2",
        "5m",
        "1h 30min",
        "250ms",
        "2s",
        "never",
        "handshake+64KiB",
        "2026-11-24T03:18:29.000000001Z",
        "2026-11-24T05:18:29+02:00",
    ])
}

/// Configuration files: the examples, and those of the documents.
pub(super) fn configuration() -> Vec<Vec<u8>> {
    let examples = files(&["examples", "examples/sessions.d", "systemd"], &["toml"]);
    let mut seeds: Vec<String> = examples.into_iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    for page in files(&["docs"], &["md"]) {
        let text = fs::read_to_string(page).unwrap_or_default();
        seeds.extend(text.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())));
    }
    let without = |text: String| {
        text.lines().filter(|line| !line.contains("include")).fold(String::new(), |all, line| all + line + "\n")
    };
    seeds.into_iter().map(|text| without(text).into_bytes()).collect()
}

/// Documents of AWS.
pub(super) fn documents() -> Vec<Vec<u8>> {
    let read = |name: &str| fs::read(package().join("fixtures/aws").join(name)).unwrap_or_default();
    let [sessions, interfaces, filters] = ["sessions.json", "interfaces.json", "filters.json"].map(read);
    vec![[&sessions[..], &interfaces].join(&0), [&sessions[..], &interfaces, &filters].join(&0)]
}

/// Expressions in tcpdump's language.
const EXPRESSIONS: [&str; 17] = [
    "geneve 7 and ip or dst not 2",
    "ip",
    "tcp port 443 or udp port 53",
    "host 10.0.0.1 and not port 22",
    "src net 10.0.0.0/8 and dst host 2001:db8::1",
    "ip6 proto 17 and portrange 1-1023",
    "vlan 7 and ip",
    "vlan and vlan 100 and tcp",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[6:2] & 0x1fff != 0 and ip[0] & 0xf != 5",
    "ether host 02:00:00:00:00:01 or ether broadcast",
    "len > 500 or less 64 and greater 20",
    "icmp[icmptype] = icmp-echo or icmp6",
    "host 10.0.0.1 or host 10.0.0.2 or host 10.0.0.3 or host 10.0.0.4",
    "geneve 7 and ip or mpls 5",
    "arp or rarp or ether proto 0x88cc",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
];

/// Programs that libpcap compiles, with a frame each.
pub(super) fn programs() -> Vec<Vec<u8>> {
    let frames = layers();
    let mut seeds = Vec::new();
    for (number, text) in EXPRESSIONS.iter().enumerate() {
        let Ok(instructions) = pcap::compile(text, LinkType::Ethernet.number().into()) else { continue };
        let Ok(count) = u8::try_from(instructions.len()) else { continue };
        let mut seed = vec![count];
        for instruction in instructions {
            seed.extend([instruction.code.to_le_bytes()[0], instruction.jt, instruction.jf]);
            seed.extend(instruction.k.to_le_bytes());
        }
        seed.extend(frames.iter().skip(number * 7).take(1).flatten());
        seeds.push(seed);
    }
    seeds
}

/// Expressions with a frame each.
pub(super) fn expressions() -> Vec<Vec<u8>> {
    let frames = layers();
    let frame = |number: usize| frames.get(number * 7).map(Vec::as_slice).unwrap_or_default();
    EXPRESSIONS.iter().enumerate().map(|(number, text)| [text.as_bytes(), &[0], frame(number)].concat()).collect()
}
