//! What the header of ERSPAN says of a frame is what tshark reads in it, and `vxtap decap` writes
//! it beside the frame.

use std::{fs, path::Path, process::Command};

use vxtap::record::{Timestamp, pcap};
use vxtap::wire::LinkType;

use super::tshark;

/// A switch's packet with a frame of so many bytes that is no IP packet.
fn packet(protocol: [u8; 2], number: u8, header: &[u8], length: usize) -> Vec<u8> {
    let gre = [&[0x10, 0, protocol[0], protocol[1], 0, 0, 0, number], header].concat();
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5][..], &vec![number; length - 14]].concat();
    let total = (20 + gre.len() + frame.len()) as u16;
    let ip = [0x45, 0, total.to_be_bytes()[0], total.to_be_bytes()[1], 0, 0, 0x40, 0, 64, 47, 0, 0];
    let outer = [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4, 8, 0];
    [&outer[..], &ip, &[10, 0, 0, 1, 10, 0, 0, 2], &gre, &frame].concat()
}

/// Writes packets that came at these times.
fn write(path: &Path, packets: &[(u64, Vec<u8>)]) {
    let mut capture = pcap::file_header(LinkType::Ethernet, 262_144).to_vec();
    for (time, packet) in packets {
        pcap::push(&mut capture, Timestamp::from_ns(*time), packet, packet.len() as u32);
    }
    fs::write(path, capture).unwrap();
}

/// Asks tshark for fields of all frames.
fn fields(path: &Path, names: &[&str]) -> Vec<String> {
    let names = names.iter().flat_map(|name| ["-e", name]);
    let output = Command::new("tshark").args(["-n", "-T", "fields", "-r"]).arg(path).args(names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Strips a capture, and returns the summary.
fn decap(input: &Path, more: &[&str]) -> serde_json::Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("decap").arg(input).arg("--json").args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn direction_and_cut_are_written_as_tshark_reads_them() {
    if !tshark() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let [input, out, files] = ["in.pcap", "out.pcapng", "files"].map(path);
    let mut packets = Vec::new();
    for number in 0..8 {
        // Cut, and which way.
        let (cut, way) = (number & 1, number >> 1 & 1);
        let three = [0x20, 0x64, cut << 2, 7, 0, 0, 0, 0, 0, 0, 0x80, way << 3];
        packets.push((1, packet([0x22, 0xeb], number, &three, 60 + usize::from(number))));
        packets.push((1, packet([0x88, 0xbe], number, &[0x10, 0x64, cut << 2, 8, 0, 0, 0, 0], 80)));
    }
    write(&input, &packets);
    let said = fields(&input, &["erspan.direction", "erspan.truncated", "erspan.spanid"]);
    assert_eq!(said.len(), packets.len());
    let wanted = |said: &String| {
        let [way, cut, _] = said.split('\t').collect::<Vec<_>>()[..] else { panic!("{said}") };
        let way = match way {
            "0" => "0x00000001",
            "1" => "0x00000002",
            _ => "",
        };
        (way.to_owned(), cut == "1")
    };
    let written = |path: &Path| -> Vec<(String, bool)> {
        let lines = fields(path, &["frame.packet_flags_direction", "frame.len", "frame.cap_len"]);
        let read = |line: &String| {
            let [way, length, kept] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let cut = length.parse::<u32>().unwrap() - kept.parse::<u32>().unwrap();
            assert!(cut < 2, "nobody says by how much");
            (way.to_owned(), cut == 1)
        };
        lines.iter().map(read).collect()
    };
    let summary = decap(&input, &["-o", out.to_str().unwrap()]);
    assert_eq!(summary["ledger"]["cut_by_mirror"], 8);
    assert_eq!(written(&out), said.iter().map(wanted).collect::<Vec<_>>());

    decap(&input, &["--into", files.to_str().unwrap(), "--format", "pcapng"]);
    for session in ["7", "8"] {
        let directory = files.join(format!("erspan_vni0_10.0.0.1_0x{session}"));
        let captures = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let [capture] =
            &captures.filter(|path| path.extension().is_some_and(|it| it == "pcapng")).collect::<Vec<_>>()[..]
        else {
            panic!("one capture in {}", directory.display())
        };
        let of_session = said.iter().filter(|said| said.ends_with(&format!("\t{session}")));
        assert_eq!(written(capture), of_session.map(wanted).collect::<Vec<_>>());
    }
}

/// The time that the fields of tshark tell of a frame: its arrival, unit, count, and what a
/// subheader has of upper bits or of seconds.
fn told(fields: &str) -> u64 {
    let [arrival, unit, count, upper, more, seconds] = fields.split('\t').collect::<Vec<_>>()[..] else {
        panic!("{fields}")
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let (whole, part) = arrival.split_once('.').unwrap();
    let arrival = number(whole).unwrap() * 1_000_000_000 + number(part).unwrap();
    let (Some(unit), Some(count)) = (["100000", "100", "1"].get(number(unit).unwrap() as usize), number(count)) else {
        return arrival;
    };
    let unit = number(unit).unwrap();
    let time = match (number(upper).or(number(more)), number(seconds)) {
        (Some(upper), _) => (upper << 32 | count) * unit,
        (_, Some(seconds)) => seconds * 1_000_000_000 + count * unit,
        // All bits above those of the count are the arrival's.
        _ if unit > 1 => ((arrival / unit) >> 32 << 32 | count) * unit,
        _ => arrival,
    };
    if time.abs_diff(arrival) <= 1_000_000_000 { time } else { arrival }
}

#[test]
fn times_are_those_that_tshark_reads_in_the_header() {
    if !tshark() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let [input, out] = ["in.pcap", "out.pcap"].map(path);
    let (mut packets, mut near) = (Vec::new(), 0);
    for (number, (unit, gra)) in (0u8..).zip([(100_000, 0u8), (100, 1), (1, 2), (1, 3)]) {
        for (kind, late) in [None, Some(3u8), Some(7), Some(0), Some(5), Some(6), Some(1)]
            .into_iter()
            .flat_map(|kind| [0, 700_000, 999_000_000, 1_100_000_000].map(|late| (kind, late)))
        {
            let time = 1_795_490_309_123_456_700_u64;
            let count = match kind {
                Some(5 | 6) => time % 1_000_000_000 / unit,
                _ => time / unit,
            };
            let upper = match kind {
                Some(5 | 6) => time / 1_000_000_000,
                _ => count >> 32,
            };
            let [.., a, b, c, d] = count.to_be_bytes();
            let options = gra << 1 | u8::from(kind.is_some());
            let mut header = vec![0x20, 0, 0, 7, a, b, c, d, 0, 0, 0x80, options];
            if let Some(kind) = kind {
                let [.., e, f, g, h] = upper.to_be_bytes();
                header.extend([kind << 2, 0, 0, 0, e, f, g, h]);
            }
            let tells = gra < 2 || (gra == 2 && !matches!(kind, None | Some(1)));
            near += u64::from(tells && late < 1_000_000_000);
            packets.push((time + late, packet([0x22, 0xeb], number, &header, 60)));
        }
    }
    write(&input, &packets);
    let names = ["frame.time_epoch", "erspan.gra", "erspan.timestamp", "erspan.pid3.timestamp"];
    let said = fields(&input, &[&names[..], &["erspan.pid7.timestamp", "erspan.pid5.timestamp"]].concat());
    let wanted: Vec<u64> = said.iter().map(|said| told(said)).collect();
    let (input, output) = (input.as_path(), ["-o", out.to_str().unwrap()]);
    let summary = decap(input, &[&output[..], &["--timestamps", "switch"]].concat());
    let found: Vec<u64> = super::records(&out).iter().map(|record| record.time).collect();
    for ((found, wanted), said) in found.iter().zip(&wanted).zip(&said) {
        assert_eq!(found, wanted, "{said}");
    }
    assert_eq!(found.len(), packets.len());
    assert_eq!(summary["ledger"]["switch_time_unknown"], packets.len() as u64 - near);
    // Nobody asked for it.
    let summary = decap(input, &output);
    let found: Vec<u64> = super::records(&out).iter().map(|record| record.time).collect();
    assert_eq!(found, packets.iter().map(|(time, _)| *time).collect::<Vec<_>>());
    assert!(summary["ledger"]["switch_time_unknown"].is_null());
}
