//! `vxtap decap` yields what the mirror wrapped, whatever the capture is: its form, its
//! compression, its link types, its damage.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::{Block, PcapNgBlock, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness};
use serde_json::Value;
use vxtap::record::read::CaptureReader;
use vxtap::wire::{Vni, vxlan};

#[path = "decap/bare.rs"]
mod bare;
#[path = "decap/closes.rs"]
mod closes;
#[path = "decap/ends.rs"]
mod ends;
#[path = "shared/host.rs"]
mod host;
#[path = "decap/large.rs"]
mod large;
#[path = "shared/memory.rs"]
mod memory;
#[path = "decap/sensor.rs"]
mod sensor;
#[path = "decap/summary.rs"]
mod summary;
#[path = "shared/terminal.rs"]
mod terminal;

/// Time in nanoseconds, bytes, and the length on the wire.
type Owned = (u64, Vec<u8>, u32);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Runs the program, with this on standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    run_until(arguments, input, |_| ())
}

/// Starts the program, with this standard output.
fn begin(arguments: &[&str], stdout: impl Into<Stdio>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
    command.arg("decap").args(arguments).stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs the program where no file may be longer than this, which fails as a disk that is full does.
fn on_a_full_disk(arguments: &[&str]) -> Output {
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_vxtap"), "decap"]).args(arguments).output().unwrap()
}

/// Runs the program, with this on standard input, and does something meanwhile.
fn run_until(arguments: &[&str], input: &[u8], meanwhile: impl FnOnce(&mut Child)) -> Output {
    let mut child = begin(arguments, Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    meanwhile(&mut child);
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs the program on a file, and returns its exit code, the summary, and what came out.
fn strip(input: &Path, more: &[&str]) -> (i32, Value, Vec<Owned>) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcap");
    let arguments = [&[input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json"], more].concat();
    let output = run(&arguments, &[]);
    let summary = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), summary, frames(&fs::read(&out).unwrap()))
}

/// Returns the frames of a whole capture.
fn frames(bytes: &[u8]) -> Vec<Owned> {
    let mut reader = CaptureReader::new(bytes, "what came out").unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push((frame.timestamp, frame.data.to_vec(), frame.orig_len));
    }
    frames
}

fn inner(name: &str) -> Vec<Owned> {
    frames(&fs::read(fixture("inner").join(name)).unwrap())
}

/// Checks the equation in front of the ledger.
fn assert_closes(summary: &Value) {
    let frames = &summary["frames"];
    let number = |value: &Value| value.as_u64().unwrap();
    let sum = |value: &Value| value.as_object().unwrap().values().map(number).sum::<u64>();
    let of_mirrors = number(&frames["received"]) + number(&frames["joined"]) + sum(&frames["outer"]);
    let right = of_mirrors + sum(&frames["others"]) + number(&frames["unknown"]);
    assert_eq!(number(&frames["read"]), right, "{frames}");
}

#[test]
fn what_the_generator_wrapped_comes_out_byte_for_byte() {
    let mut compared = 0;
    for entry in fs::read_dir(fixture("outer")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (code, summary, found) = strip(&path, &[]);
        assert_eq!(code, 0, "{name}");
        assert_closes(&summary);
        match name {
            // Datagrams to the old port are of a mirror here, and fragments are put together.
            "bystanders.pcap" | "fragments.pcap" => {}
            _ => {
                assert!(found == inner(name), "{name}");
                compared += found.len();
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

/// A frame in ERSPAN, type II, with this number.
fn erspan(number: u32) -> Vec<u8> {
    erspan_of(1, number, &[number as u8; 60])
}

/// Wraps a frame in ERSPAN, type II, from this switch with this number.
fn erspan_of(switch: u8, number: u32, frame: &[u8]) -> Vec<u8> {
    let header = [&[0x10, 0, 0x88, 0xbe], &number.to_be_bytes()[..], &[0x10, 0, 0, 7, 0, 0, 0, 0]].concat();
    let total = (20 + header.len() + frame.len()) as u8;
    let ip = [0x45, 0, 0, total, 0, 0, 0x40, 0, 64, 47, 0, 0, 10, 0, 0, switch, 10, 0, 0, 2];
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], &ip[..], &header, frame].concat()
}

#[test]
fn what_was_lost_before_the_capture_is_known_by_the_numbers_of_the_sender() {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(&pcap(&[5, 6, 9, 10, 8, 8, 11, 14].map(erspan))).unwrap();
    let (code, summary, found) = strip(path.path(), &[]);
    assert_eq!((code, found.len()), (0, 8), "no loss of this program");
    assert_closes(&summary);
    for counted in [&summary["ledger"], &summary["ledger"]["sessions"][0]] {
        assert_eq!((&counted["upstream_missed"], &counted["upstream_late"]), (&4.into(), &1.into()));
    }
}

#[test]
fn the_numbers_of_a_wrap_are_those_of_its_own_tunnel() {
    let plain = [3; 60];
    let [seven, eight] = [7, 8].map(|vni| wrapped(&plain, vni));
    // Switch 1 mirrors what hosts wrap, beside other frames: 4 and 8 are missing. What switch 2
    // mirrors is all wrapped: 2 is missing. Within it are the numbers of switch 3, without 51.
    let of_one = [(1, &plain[..]), (2, &seven), (3, &eight), (5, &plain), (6, &seven), (7, &plain), (9, &eight)];
    let of_two = [(1, 50), (3, 52), (4, 53)].map(|(number, within)| (number, erspan_of(3, within, &plain)));
    let of_two = of_two.iter().map(|(number, frame)| erspan_of(2, *number, frame));
    let of_one = of_one.iter().map(|(number, frame)| erspan_of(1, *number, frame));
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(&pcap(&of_one.chain(of_two).collect::<Vec<_>>())).unwrap();
    for (depth, missed, of_sessions) in [
        ("1", 2 + 1, &[("10.0.0.1", 7, 2), ("10.0.0.2", 3, 1)][..]),
        // That of switch 2 has no frame of its own, and the sum has what is missing there.
        ("2", 2 + 1 + 1, &[("10.0.0.1", 3, 2), ("10.0.0.3", 3, 1), ("192.0.2.7", 2, 0), ("192.0.2.8", 2, 0)]),
    ] {
        let (code, summary, found) = strip(path.path(), &["--depth", depth]);
        assert_eq!((code, found.len(), &summary["ledger"]["upstream_missed"]), (0, 10, &missed.into()), "{depth}");
        assert_closes(&summary);
        let sessions = summary["ledger"]["sessions"].as_array().unwrap();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let told = |of: &Value| (of["source"].as_str().unwrap().to_owned(), number(&of["frames"]), of.clone());
        let mut told: Vec<_> = sessions.iter().map(told).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let told: Vec<_> = told
            .iter()
            .map(|(source, frames, of)| (source.as_str(), *frames, number(&of["upstream_missed"])))
            .collect();
        assert_eq!(told, of_sessions, "{depth}");
    }
}

#[test]
fn fragments_are_put_together() {
    let (code, summary, found) = strip(&fixture("outer/fragments.pcap"), &[]);
    assert_eq!((code, found.len()), (0, 8));
    assert_eq!(
        (&summary["frames"]["joined"], &summary["frames"]["outer"]),
        (&6.into(), &Value::Object(<_>::default()))
    );
    let bytes = |frames: &[Owned]| frames.iter().map(|frame| frame.1.clone()).collect::<BTreeSet<_>>();
    assert!(bytes(&found) == bytes(&inner("fragments.pcap")));
    // A datagram has the place and the time of its last piece.
    assert!(found.is_sorted());

    let whole = fs::read(fixture("outer/fragments.pcap")).unwrap();
    let pieces = records(&whole);
    // In the other order, and without the first piece.
    for (order, received, lost) in [
        (pieces.iter().rev().collect::<Vec<_>>(), 8, 0),
        (pieces.iter().filter(|piece| piece.len() < 16 + 1000).collect(), 0, 10),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pcap");
        let chosen: Vec<u8> = order.into_iter().flatten().copied().collect();
        fs::write(&path, [&whole[..24], &chosen].concat()).unwrap();
        let (_, summary, found) = strip(&path, &[]);
        assert_closes(&summary);
        if received > 0 {
            assert_eq!(found.len(), received);
            assert!(bytes(&found) == bytes(&inner("fragments.pcap")));
        } else {
            assert!(summary["frames"]["outer"]["outer_fragment"].as_u64().unwrap() <= lost);
        }
    }
}

/// Returns the records of a little-endian pcap, headers included.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[24..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let length = 16 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        records.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    records
}

#[test]
fn frames_of_no_mirror_are_left_out_kept_or_the_end() {
    let path = fixture("outer/bystanders.pcap");
    let outer = frames(&fs::read(&path).unwrap());
    let (code, summary, dropped) = strip(&path, &[]);
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    // Some go to a port of a mirror, and carry no frame.
    let (received, stripped) = (number(&summary["frames"]["received"]), number(&summary["ledger"]["decapsulated"]));
    assert_eq!((code, dropped.len()), (0, stripped));
    assert!(stripped > 0 && stripped <= received && received < outer.len());
    assert_eq!(summary["frames"]["others"]["not_ip"], 3);

    let (code, summary, passed) = strip(&path, &["--others", "pass"]);
    assert_eq!((code, passed.len()), (0, outer.len() - (received - stripped)));
    assert_closes(&summary);
    assert_eq!(number(&summary["frames"]["passed"]), outer.len() - received);
    assert_eq!(summary["ledger"]["passed"], summary["frames"]["passed"]);
    let kept: Vec<_> = passed.iter().filter(|passed| outer.contains(passed)).collect();
    assert_eq!(kept.len(), outer.len() - received, "as they are");
    assert!(passed.is_sorted_by_key(|frame| frame.0), "in their places");

    let output = run(&[path.to_str().unwrap(), "-o", "/dev/null", "--others", "stop"], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(error.contains("bystanders.pcap: frame 1 is not of a mirror (no_tunnel)"), "{error}");
}

#[test]
fn compressed_captures_and_streams_are_read_as_any_other() {
    let plain = fs::read(fixture("outer/ipv4.pcap")).unwrap();
    let expected = inner("ipv4.pcap");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    for (what, bytes) in
        [("plain", plain), ("gzip", gzip.finish().unwrap()), ("lz4", lz4.finish().unwrap()), ("zstd", zstd)]
    {
        let output = run(&["-", "-o", "-"], &bytes);
        assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(frames(&output.stdout) == expected, "{what}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(what);
        fs::write(&path, bytes).unwrap();
        assert!(strip(&path, &[]).2 == expected, "{what}");
    }
}

#[test]
fn what_is_written_can_be_compressed_and_of_any_format() {
    let input = fixture("outer/ipv4.pcap");
    let directory = tempfile::tempdir().unwrap();
    for name in ["x.pcap", "x.pcapng", "x.pcapng.zst", "x.pcap.lz4"] {
        let out = directory.path().join(name);
        let output = run(&[input.to_str().unwrap(), "-o", out.to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(0));
        let file = File::open(&out).unwrap();
        let mut reader = CaptureReader::new(vxtap::record::compress::reader(file).unwrap(), name).unwrap();
        let mut found = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            found.push((frame.timestamp, frame.data.to_vec(), frame.orig_len));
        }
        assert!(found == inner("ipv4.pcap"), "{name}");
    }
}

fn resolution(binary: bool, digits: u8) -> InterfaceDescriptionOption<'static> {
    InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::new(binary, digits).unwrap())
}

/// Makes a capture of two sections in both byte orders. Each has an interface of Ethernet with
/// microseconds and one of bare IP with nanoseconds, and a third that is not read here. Comments
/// are on some of the frames.
fn sections() -> (Vec<u8>, Vec<Owned>, Vec<Vec<String>>) {
    let outer = frames(&fs::read(fixture("outer/ipv4.pcap")).unwrap());
    let mut expected = inner("ipv4.pcap");
    let mut bytes = Vec::new();
    let mut comments = Vec::new();
    for (endianness, frames) in [(Endianness::Little, &outer[..4]), (Endianness::Big, &outer[4..8])] {
        let mut writer = PcapNgWriter::with_endianness(bytes, endianness).unwrap();
        for (link, digits) in [(DataLink::ETHERNET, 6), (DataLink::RAW, 9), (DataLink::IEEE802_11, 6)] {
            let options = vec![resolution(false, digits)];
            let block: Block<'_> =
                InterfaceDescriptionBlock { options, ..InterfaceDescriptionBlock::new(link, 0) }.into_block();
            writer.write_block(&block).unwrap();
        }
        for (number, (time, frame, original)) in frames.iter().enumerate() {
            let interface_id = number as u32 % 2;
            let cut = interface_id as usize * 14;
            let of_frame: Vec<String> = (0..number).map(|n| format!("remark {n} on {number}")).collect();
            let options = of_frame
                .iter()
                .map(|comment| EnhancedPacketOption::Common(CommonOption::Comment(comment.clone().into())));
            let block: Block<'_> = EnhancedPacketBlock {
                interface_id,
                timestamp: std::time::Duration::from_nanos(*time),
                original_len: original - cut as u32,
                data: frame[cut..].into(),
                options: options.collect(),
            }
            .into_block();
            writer.write_block(&block).unwrap();
            let strange = EnhancedPacketBlock {
                interface_id: 2,
                original_len: 30,
                data: (&[8u8; 30][..]).into(),
                ..Default::default()
            };
            writer.write_block(&strange.into_block()).unwrap();
            comments.push(of_frame);
        }
        bytes = writer.into_inner();
    }
    expected.truncate(8);
    // That is how fine the time of the first interface is.
    expected.iter_mut().step_by(2).for_each(|frame| frame.0 -= frame.0 % 1000);
    (bytes, expected, comments)
}

#[test]
fn sections_and_interfaces_come_out_as_one_with_their_comments() {
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (directory.path().join("in.pcapng"), directory.path().join("out.pcapng"));
    let (bytes, expected, comments) = sections();
    fs::write(&input, bytes).unwrap();
    let (code, summary, found) = strip(&input, &[]);
    assert!(code == 0 && found == expected);
    assert_eq!(summary["frames"]["others"]["link_type"], 8);
    assert_closes(&summary);

    let output = run(&[input.to_str().unwrap(), "-o", out.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0));
    let mut reader = PcapNgReader::new(File::open(&out).unwrap()).unwrap();
    let (mut found, mut kept) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.unwrap() {
            found.push((packet.timestamp.as_nanos() as u64, packet.data.to_vec(), packet.original_len));
            let of_frame = packet.options.iter().map(|option| match option {
                EnhancedPacketOption::Common(CommonOption::Comment(comment)) => comment.to_string(),
                other => panic!("{other:?}"),
            });
            kept.push(of_frame.collect::<Vec<_>>());
        }
    }
    assert!(found == expected);
    assert_eq!(kept, comments);
}

#[test]
fn of_a_damaged_capture_what_is_whole_is_written() {
    let plain = fs::read(fixture("outer/ipv4.pcap")).unwrap();
    let expected = inner("ipv4.pcap");
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let last = records(&plain).last().unwrap().len();
    let mut torn = plain.clone();
    let at = plain.len() - last;
    torn[at + 8..at + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut gzip = gzip.finish().unwrap();
    gzip.truncate(gzip.len() - 9);
    for (bytes, least, said) in [
        (plain[..plain.len() - 1].to_vec(), expected.len() - 1, format!("damaged at byte {at}")),
        (torn, expected.len() - 1, format!("damaged at byte {at}")),
        (gzip, 0, "at byte ".to_owned()),
    ] {
        fs::write(&input, bytes).unwrap();
        let (code, summary, found) = strip(&input, &[]);
        assert_eq!(code, 4);
        assert!(found.len() >= least && found[..] == expected[..found.len()]);
        let text = summary["captures"][0]["unread"].as_str().unwrap();
        assert!(text.contains("in.pcap") && text.contains(&said), "{text}");
    }
    // Another capture is read all the same.
    let good = fixture("outer/ipv4.pcap");
    let out = directory.path().join("out.pcap");
    let both = [input.to_str().unwrap(), good.to_str().unwrap(), "-o", out.to_str().unwrap()];
    assert_eq!(run(&both, &[]).status.code(), Some(4));
    assert!(frames(&fs::read(&out).unwrap()).ends_with(&expected));
}

#[test]
fn a_directory_for_each_session_is_as_the_sensor_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("captures");
    let input = fixture("outer/sessions.pcap");
    let output = run(&[input.to_str().unwrap(), "--into", into.to_str().unwrap(), "--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sessions = summary["ledger"]["sessions"].as_array().unwrap();
    assert!(sessions.len() > 1);
    let mut found = Vec::new();
    for session in sessions {
        let name = format!("vni{}_{}", session["vni"], session["source"].as_str().unwrap().replace(':', "-"));
        let mut of_session = Vec::new();
        for file in fs::read_dir(into.join(&name)).unwrap() {
            of_session.extend(frames(&fs::read(file.unwrap().path()).unwrap()));
        }
        assert_eq!(of_session.len() as u64, session["frames"].as_u64().unwrap(), "{name}");
        assert!(of_session.is_sorted_by_key(|frame| frame.0), "{name}");
        found.extend(of_session);
    }
    let (mut expected, vnis) = (inner("sessions.pcap"), &summary["encapsulations"][0]["vnis"]);
    found.sort();
    expected.sort();
    assert!(found == expected);
    assert!(vnis.as_array().unwrap().len() > 1);
    let verified = Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("verify").arg(&into).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// Wraps a frame in an outer frame of VXLAN.
fn wrapped(frame: &[u8], vni: u32) -> Vec<u8> {
    let payload = [&vxlan::header(Vni::new(vni).unwrap())[..], frame].concat();
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, vni as u8], [192, 0, 2, 100], 64)
        .udp(50_000, 4789);
    let mut outer = Vec::new();
    builder.write(&mut outer, &payload).unwrap();
    outer
}

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vxtap::record::pcap::file_header(vxtap::wire::LinkType::Ethernet, 262_144).to_vec();
    for (time, frame) in (1..).zip(frames) {
        let length = frame.len() as u32;
        vxtap::record::pcap::push(&mut file, vxtap::record::Timestamp::from_ns(time), frame, length);
    }
    file
}

#[test]
fn bits_of_the_vni_that_are_not_the_network_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let core = [&[2u8; 12][..], &[8, 6], &[7; 28]].concat();
    // The low byte of the VNI is that of the source, too.
    let mirrored = [0x10_0007, 0x20_0007, 0x00_0007, 0x20_0008].map(|vni| wrapped(&core, vni));
    fs::write(&input, pcap(&mirrored)).unwrap();
    for (mask, wanted) in
        [("0x0fffff", &[(7, 3), (8, 1)][..]), ("0xffffff", &[(7, 1), (0x10_0007, 1), (0x20_0007, 1), (0x20_0008, 1)])]
    {
        let (code, summary, _) = strip(&input, &["--vni-mask", mask]);
        let sessions = summary["ledger"]["sessions"].as_array().unwrap();
        let mut found: Vec<_> = sessions
            .iter()
            .map(|session| (session["vni"].as_u64().unwrap(), session["frames"].as_u64().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!((code, found.as_slice()), (0, wanted), "{mask}: {summary:#}");
        assert_closes(&summary);
    }
}

#[test]
fn wraps_within_wraps_come_off_as_far_as_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let core = [&[2u8; 12][..], &[8, 6], &[7; 28]].concat();
    let two = wrapped(&core, 2);
    let three = wrapped(&two, 3);
    let four = wrapped(&three, 4);
    fs::write(&input, pcap(&[four.clone(), two.clone()])).unwrap();
    // Nothing says that what is within was wrapped by a mirror and not by a mirrored host.
    for (more, first, sources) in [
        (&[][..], &three, ["192.0.2.2", "192.0.2.4"]),
        (&["--depth", "1"], &three, ["192.0.2.2", "192.0.2.4"]),
        (&["--depth", "2"], &two, ["192.0.2.2", "192.0.2.3"]),
        (&["--depth", "64"], &core, ["192.0.2.2", "192.0.2.2"]),
    ] {
        let (code, summary, found) = strip(&input, more);
        assert_eq!((code, &found[0].1, &found[1].1), (0, first, &core), "{more:?}");
        let sessions = summary["ledger"]["sessions"].as_array().unwrap();
        let named: Vec<_> = sessions.iter().map(|session| session["source"].as_str().unwrap()).collect();
        assert_eq!(BTreeSet::from_iter(named), BTreeSet::from(sources), "{more:?}");
    }
    let (_, summary, _) = strip(&input, &["--depth", "64"]);
    assert_eq!(summary["frames"]["wraps"], serde_json::json!({"1": 1, "3": 1}));
}

#[test]
fn what_is_read_is_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    fs::copy(fixture("outer/ipv4.pcap"), &input).unwrap();
    let other = directory.path().join("link.pcap");
    fs::hard_link(&input, &other).unwrap();
    for out in [&input, &other] {
        let output = run(&[input.to_str().unwrap(), "-o", out.to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("give -o another name"));
    }
    assert_eq!(fs::read(&input).unwrap(), fs::read(fixture("outer/ipv4.pcap")).unwrap());
}

/// Runs the program as a part of a pipe, of which the reader goes when it has read so many bytes.
fn reader_goes(arguments: &[&str], input: &[u8], read: usize) -> Output {
    run_until(&[&["-", "-o", "-"], arguments].concat(), input, |child| {
        child.stdout.take().unwrap().read_exact(&mut vec![0; read]).unwrap();
    })
}

#[test]
fn a_reader_that_goes_ends_it_and_a_full_disk_is_counted() {
    let frames: Vec<Vec<u8>> = (0..20_000).map(|n| wrapped(&[n as u8; 1400], 7)).collect();
    let bytes = pcap(&frames);
    let output = run(&["-", "-o", "/dev/full", "--json"], &bytes);
    assert_eq!(output.status.code(), Some(1), "not even the header can be written");
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (directory.path().join("in.pcap"), directory.path().join("out.pcap"));
    fs::write(&input, &bytes).unwrap();
    let output = on_a_full_disk(&[input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_closes(&summary);
    let ended = &summary["ledger"]["outputs"]["frames"];
    let number = |value: &Value| value.as_u64().unwrap();
    let lost = number(&ended["dropped"]["write_error"]);
    assert!(lost > 0 && number(&ended["written"]) > 0, "{ended}");
    assert_eq!(number(&ended["offered"]), number(&ended["written"]) + lost, "{ended}");

    let output = reader_goes(&["--json"], &bytes, 24);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_a_reader_that_goes_has_not_read_is_lost_of_its_sessions() {
    let frames: Vec<Vec<u8>> = (0..20_000).map(|n| wrapped(&[n as u8; 1400], 7 + n % 2)).collect();
    let bytes = pcap(&frames);
    for format in ["pcap", "pcapng"] {
        let output = reader_goes(&["--format", format, "--json"], &bytes, 10_000);
        assert_eq!(output.status.code(), Some(3));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("please report this"), "{told}");
        let summary = told.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap();
        let ledger = &summary["ledger"];
        let lost: Vec<_> = ledger["sessions"].as_array().unwrap().iter().map(|of| of["lost"].as_u64()).collect();
        assert!(lost.len() == 2 && lost.iter().all(|lost| *lost > Some(0)), "{lost:?}");
        let dropped = ledger["outputs"]["frames"]["dropped"]["write_error"].as_u64();
        assert_eq!(lost.into_iter().sum::<Option<u64>>(), dropped, "{ledger:#}");
    }
}
