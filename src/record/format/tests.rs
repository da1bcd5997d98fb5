use super::*;
use crate::record::Timestamp;
use crate::record::read::CaptureReader;
use crate::wire::{Direction, LinkType};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_parser::{PcapBlockOwned, PcapError};
use proptest::prelude::*;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

const DIRECTIONS: [Option<Direction>; 3] = [None, Some(Direction::Inbound), Some(Direction::Outbound)];

const OPENING: Opening<'static> = Opening {
    link_types: &[LinkType::Ethernet],
    snaplen: 262_144,
    interface: "vni7_192.0.2.1",
    description: "VXLAN 7 from 192.0.2.1 to port 4789",
    hardware: "sensor-1",
    os: "Linux 6.1.0",
    application: "vxtap 0.1.0",
};

fn statistics() -> Statistics {
    Statistics {
        interface: 0,
        start: Timestamp::from_ns(1_795_490_000_000_000_001),
        end: Timestamp::from_ns(1_795_490_309_999_999_999),
        received: 1 << 40,
        dropped: 7,
        accepted: 6,
        kernel_dropped: 5,
        delivered: 4,
    }
}

/// Time, frame, original length and remarks of a record.
type Made = (u64, Vec<u8>, u32, Remarks<'static>);

fn made() -> impl Strategy<Value = Vec<Made>> {
    let time = 0u64..(1 << 32) * 1_000_000_000;
    let lost = prop_oneof![2 => Just(0), 1 => any::<u64>()];
    let remarks = (prop::sample::select(&DIRECTIONS[..]), lost, prop::option::of(any::<u64>()))
        .prop_map(|(direction, lost, packet_id)| Remarks { direction, lost, packet_id, ..Remarks::default() });
    let one = (time, prop::collection::vec(any::<u8>(), 0..200), 0u32..9_000, remarks);
    let one = one.prop_map(|(time, frame, more, remarks)| {
        let orig_len = frame.len() as u32 + more;
        (time, frame, orig_len, remarks)
    });
    prop::collection::vec(one, 0..20)
}

fn file(format: Format, records: &[Made]) -> Vec<u8> {
    let mut file = format.opening(&OPENING);
    for (time, frame, orig_len, remarks) in records {
        let record = Record { timestamp: Timestamp::from_ns(*time), orig_len: *orig_len, frame };
        let before = file.len();
        format.push(&mut file, &record, *remarks);
        assert_eq!(file.len() - before, format.record_len(frame.len(), *remarks));
    }
    let closing = format.closing(&statistics());
    assert_eq!(closing.len(), format.closing_len());
    file.extend(closing);
    file
}

/// Returns time as the format has it, frame, and original length of each record.
fn wanted(format: Format, records: &[Made]) -> Vec<(u64, Vec<u8>, u32)> {
    let unit = if format == Format::PcapUs { 1_000 } else { 1 };
    records.iter().map(|(time, frame, length, ..)| (time / unit * unit, frame.clone(), *length)).collect()
}

fn by_us(file: &[u8]) -> Vec<(u64, Vec<u8>, u32)> {
    let mut reader = CaptureReader::new(file, "test").unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push((frame.timestamp, frame.data.to_vec(), frame.orig_len));
    }
    frames
}

/// Reads by pcap-parser, with what it says the unit of the time is.
fn by_pcap_parser(file: &[u8]) -> Vec<(u64, Vec<u8>, u32)> {
    let mut reader = pcap_parser::create_reader(65_536, file).unwrap();
    let (mut frames, mut unit) = (Vec::new(), 1_000);
    loop {
        match reader.next() {
            Ok((used, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) if header.is_nanosecond_precision() => unit = 1,
                    PcapBlockOwned::Legacy(b) => {
                        let time = u64::from(b.ts_sec) * 1_000_000_000 + u64::from(b.ts_usec) * unit;
                        frames.push((time, b.data.to_vec(), b.origlen));
                    }
                    PcapBlockOwned::NG(pcap_parser::Block::EnhancedPacket(b)) => {
                        let time = u64::from(b.ts_high) << 32 | u64::from(b.ts_low);
                        frames.push((time, b.data[..b.caplen as usize].to_vec(), b.origlen));
                    }
                    _ => {}
                }
                reader.consume(used);
            }
            Err(PcapError::Eof) => return frames,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
}

proptest! {
    /// Our reader and pcap-parser read every format as it was written.
    #[test]
    fn readers_agree(records in made()) {
        for format in Format::ALL {
            let file = file(format, &records);
            prop_assert_eq!(by_us(&file), wanted(format, &records));
            prop_assert_eq!(by_pcap_parser(&file), wanted(format, &records));
        }
    }

    /// A file has the bytes that the chunk has.
    #[test]
    fn pcap_is_the_chunk_as_it_is(records in made()) {
        let mut chunk = Vec::new();
        for (time, frame, orig_len, ..) in &records {
            pcap::push(&mut chunk, Timestamp::from_ns(*time), frame, *orig_len);
        }
        let file = file(Format::Pcap, &records);
        prop_assert_eq!(&file[pcap::FILE_HEADER_LEN..], &chunk);
    }

    /// pcap-file reads microseconds, and of pcapng every field and option.
    #[test]
    fn pcap_file_agrees(records in made()) {
        let us = file(Format::PcapUs, &records);
        let mut reader = pcap_file::pcap::PcapReader::new(us.as_slice()).unwrap();
        let mut found = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            found.push((packet.timestamp().as_nanos() as u64, packet.data().to_vec(), packet.orig_len()));
        }
        prop_assert_eq!(found, wanted(Format::PcapUs, &records));

        let ng = file(Format::PcapNg, &records);
        let mut reader = PcapNgReader::new(ng.as_slice()).unwrap();
        let (mut found, mut ended) = (Vec::new(), false);
        while let Some(block) = reader.next_block() {
            match block.unwrap().0 {
                Block::EnhancedPacket(packet) => {
                    let mut remarks = Remarks::default();
                    for option in &packet.options {
                        match option {
                            EnhancedPacketOption::Flags(1) => remarks.direction = Some(Direction::Inbound),
                            EnhancedPacketOption::Flags(2) => remarks.direction = Some(Direction::Outbound),
                            EnhancedPacketOption::DropCount(count) => remarks.lost = *count,
                            EnhancedPacketOption::Common(CommonOption::Unknown(other)) if other.code == 5 => {
                                remarks.packet_id = Some(u64::from_le_bytes(other.value.as_ref().try_into().unwrap()));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    let time = packet.timestamp.as_nanos() as u64;
                    found.push((time, packet.data.to_vec(), packet.original_len, remarks));
                }
                Block::InterfaceStatistics(block) => {
                    let wanted = statistics();
                    let time = |time: Timestamp| Duration::from_nanos(time.ns());
                    assert_eq!(block.timestamp, time(wanted.end));
                    assert_eq!(block.options, [
                        InterfaceStatisticsOption::IsbStartTime(time(wanted.start)),
                        InterfaceStatisticsOption::IsbEndTime(time(wanted.end)),
                        InterfaceStatisticsOption::IsbIfRecv(wanted.received),
                        InterfaceStatisticsOption::IsbIfDrop(wanted.dropped),
                        InterfaceStatisticsOption::IsbFilterAccept(wanted.accepted),
                        InterfaceStatisticsOption::IsbOsDrop(wanted.kernel_dropped),
                        InterfaceStatisticsOption::IsbUsrDeliv(wanted.delivered),
                    ]);
                    ended = true;
                }
                Block::InterfaceDescription(block) => assert_eq!(block.snaplen, OPENING.snaplen),
                other => panic!("{other:?}"),
            }
        }
        prop_assert!(ended);
        prop_assert_eq!(found, records);
    }
}

#[test]
fn empty_and_overlong_names() {
    let bare = Format::PcapNg.opening(&Opening { snaplen: 1, ..Opening::default() });
    assert_eq!(by_us(&bare), []);
    assert_eq!(bare.len(), 32 + 32);
    let long = "ä".repeat(40_000);
    let file = Format::PcapNg.opening(&Opening { interface: &long, application: &long, ..OPENING });
    assert_eq!(by_us(&file), []);
}

#[test]
fn names() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        assert_eq!(serde_json::from_str::<Format>(&format!("\"{format}\"")).unwrap(), format);
    }
    let error = "erf".parse::<Format>().unwrap_err();
    assert_eq!(error.to_string(), "unknown format \"erf\": one of pcap, pcap-us, pcapng");
}

/// Standard output of a tool of Wireshark, which must not complain; `None` if it is not installed.
#[allow(clippy::print_stderr, reason = "a test says that it is skipped")]
fn wireshark(tool: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(tool).args(arguments).output() else {
        eprintln!("SKIPPED: no {tool}");
        return None;
    };
    // The one thing it says of itself, not of the file.
    let complaints: Vec<_> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let complaints: Vec<_> = complaints.iter().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn wireshark_shows_what_was_written() {
    // An ARP request, so that there is nothing to complain of in the frame.
    let mut frame = vec![0; 42];
    frame[..14].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    let records: Vec<Made> = DIRECTIONS
        .into_iter()
        .zip([0, 3, 0])
        .map(|(direction, lost)| Remarks { direction, lost, ..Remarks::default() })
        .map(|remarks| (1_795_490_309_123_456_789, frame.clone(), 60, remarks))
        .collect();
    for format in Format::ALL {
        let mut on_disk = tempfile::NamedTempFile::new().unwrap();
        on_disk.write_all(&file(format, &records)).unwrap();
        let path = on_disk.path().to_str().unwrap();
        let fields = [
            "frame.time_epoch",
            "frame.len",
            "frame.cap_len",
            "frame.interface_name",
            "frame.interface_description",
            "frame.packet_flags_direction",
        ];
        let mut arguments = vec!["-n", "-r", path, "-T", "fields"];
        arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
        let Some(shown) = wireshark("tshark", &arguments) else { return };
        let time = if format == Format::PcapUs { "123456000" } else { "123456789" };
        for (line, direction) in shown.lines().zip(["", "0x00000001", "0x00000002"]) {
            let names = match format {
                Format::PcapNg => format!("{}\t{}\t{direction}", OPENING.interface, OPENING.description),
                _ => "\t\t".to_owned(),
            };
            assert_eq!(line, format!("1795490309.{time}\t60\t42\t{names}"));
        }
        assert_eq!(shown.lines().count(), 3);
        let Some(details) = wireshark("tshark", &["-n", "-r", path, "-V"]) else { return };
        assert_eq!(details.matches("Drop Count: 3").count(), usize::from(format == Format::PcapNg));
        let Some(summary) = wireshark("capinfos", &[path]) else { return };
        if format == Format::PcapNg {
            for wanted in [
                "Capture hardware:    sensor-1",
                "Capture oper-sys:    Linux 6.1.0",
                "Capture application: vxtap 0.1.0",
                "Time precision = nanoseconds (9)",
                "Number of stat entries = 1",
                "Number of packets = 3",
            ] {
                assert!(summary.contains(wanted), "no {wanted:?} in {summary}");
            }
        }
    }
}
