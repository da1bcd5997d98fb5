//! What came out: the published files, read by other programs' code, and compared with what was sent.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pcap_parser::{Block, PcapNGCapture, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header};

use crate::process::run;

/// A frame of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    /// Bytes on the wire.
    pub(crate) orig_len: u32,
    pub(crate) frame: Vec<u8>,
}

/// All records of a pcap file, which must be whole to its last byte.
#[track_caller]
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let file = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut rest, header) =
        parse_pcap_header(&file).unwrap_or_else(|error| panic!("{}: bad header: {error:?}", path.display()));
    let parse = if header.is_bigendian() { parse_pcap_frame_be } else { parse_pcap_frame };
    let unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
    let mut records = Vec::new();
    while let Ok((next, record)) = parse(rest) {
        records.push(Record {
            time: u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * unit,
            orig_len: record.origlen,
            frame: record.data.to_vec(),
        });
        rest = next;
    }
    assert!(rest.is_empty(), "{}: ends in {} bytes of half a record", path.display(), rest.len());
    records
}

/// The frames of a pcap file, or of a pcapng file with enhanced packet blocks.
#[track_caller]
pub(crate) fn frames(path: &Path) -> Vec<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "pcapng") {
        let file = fs::read(path).unwrap();
        let capture = PcapNGCapture::from_file(&file).unwrap();
        let blocks = capture.sections.iter().flat_map(|section| &section.blocks);
        return blocks
            .filter_map(|block| match block {
                Block::EnhancedPacket(packet) => Some(packet.data[..packet.caplen as usize].to_vec()),
                _ => None,
            })
            .collect();
    }
    read(path).into_iter().map(|record| record.frame).collect()
}

/// The directory of a session.
pub(crate) fn session_directory(captures: &Path, source: IpAddr, vni: u32) -> PathBuf {
    captures.join(format!("vni{vni}_{}", source.to_string().replace(':', "-")))
}

/// All captures below a directory, by name, which is the order in which a session's were written.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name != "manifest.jsonl") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All records of a session, file by file.
#[track_caller]
pub(crate) fn session(captures: &Path, source: IpAddr, vni: u32) -> Vec<Record> {
    files(&session_directory(captures, source, vni)).iter().flat_map(|path| read(path)).collect()
}

/// Fails unless these are the same frames in the same order; shows where they begin to differ.
#[track_caller]
pub(crate) fn assert_same<T: AsRef<[u8]>, U: AsRef<[u8]>>(what: &str, got: &[T], want: &[U]) {
    let differ = got.iter().zip(want).position(|(got, want)| got.as_ref() != want.as_ref());
    if let Some(n) = differ {
        let (got_one, want_one) = (got[n].as_ref(), want[n].as_ref());
        let byte = got_one.iter().zip(want_one).position(|(a, b)| a != b);
        let later = want.iter().position(|frame| frame.as_ref() == got_one);
        panic!(
            "{what}: frame {n} differs, of {} and {}: got {} bytes, wanted {}; first at byte {byte:?}; \
             that frame is wanted as number {later:?}\n got {}\nwant {}",
            got.len(),
            want.len(),
            got_one.len(),
            want_one.len(),
            hex(got_one),
            hex(want_one),
        );
    }
    assert_eq!(got.len(), want.len(), "{what}: number of frames; those that are there are right");
}

fn hex(frame: &[u8]) -> String {
    frame.iter().take(80).map(|byte| format!("{byte:02x}")).collect()
}

/// Fails unless these records are of these frames, in order, uncut, their times not going back.
#[track_caller]
pub(crate) fn assert_holds<U: AsRef<[u8]>>(what: &str, records: &[Record], frames: &[U]) {
    let got: Vec<&[u8]> = records.iter().map(|record| record.frame.as_slice()).collect();
    assert_same(what, &got, frames);
    assert!(records.is_sorted_by_key(|record| record.time), "{what}: times go back");
}

/// Fails unless other programs open these files without complaint and find as many frames as we do.
#[track_caller]
pub(crate) fn assert_open(paths: &[PathBuf]) {
    assert!(!paths.is_empty(), "no file was published");
    let output = run(Command::new("capinfos").args(["-T", "-r", "-M", "-c"]).args(paths));
    let (table, complaints) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(complaints.is_empty(), "capinfos: {complaints}");
    let counted: Vec<usize> = table.lines().map(|line| line.rsplit('\t').next().unwrap().parse().unwrap()).collect();
    let ours: Vec<usize> = paths.iter().map(|path| read(path).len()).collect();
    assert_eq!(counted, ours, "frames that capinfos counts");
    // The same code reads all files, and it starts slowly: the first and the last one will do.
    for path in [&paths[0], &paths[paths.len() - 1]] {
        let output =
            run(Command::new("tshark").args(["-n", "-r"]).arg(path).args(["-T", "fields", "-e", "frame.number"]));
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> = complaints.lines().filter(|line| !line.contains("Running as user")).collect();
        assert!(complaints.is_empty(), "tshark: {}: {complaints:?}", path.display());
        let count = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(count, read(path).len(), "frames that tshark shows of {}", path.display());
    }
}
