//! The published files are read here by other programs' code, and compared with what was sent.

use std::fs;
use std::io::Read;
use std::iter;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pcap_parser::{Block, PcapNGCapture, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header};
use vxtap::record::compress::reader;
use vxtap::record::read::CaptureReader;

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

/// Returns the bytes of a capture, decompressed. A compressed file must be whole to its end mark.
#[track_caller]
pub(crate) fn content(path: &Path) -> Vec<u8> {
    let fail = |error| panic!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap_or_else(fail);
    reader(file).and_then(|mut reader| reader.read_to_end(&mut bytes)).map_err(fail).unwrap();
    bytes
}

/// Returns all records of a capture, pcap or pcapng, compressed or not, which must be whole to its
/// last byte.
#[track_caller]
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let file = content(path);
    if file.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        return packets(path, &file);
    }
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

/// Returns the enhanced packet blocks of a pcapng file. The time is right for files that count
/// nanoseconds, as ours do.
#[track_caller]
fn packets(path: &Path, file: &[u8]) -> Vec<Record> {
    let capture = PcapNGCapture::from_file(file).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    let blocks = capture.sections.iter().flat_map(|section| &section.blocks);
    let record = |block: &Block| match block {
        Block::EnhancedPacket(packet) => Some(Record {
            time: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
            orig_len: packet.origlen,
            frame: packet.data[..packet.caplen as usize].to_vec(),
        }),
        _ => None,
    };
    blocks.filter_map(record).collect()
}

/// Returns the frames of a capture.
#[track_caller]
pub(crate) fn frames(path: &Path) -> Vec<Vec<u8>> {
    read(path).into_iter().map(|record| record.frame).collect()
}

/// Says how many frames can be read from a file that is still written to, and may end in half a
/// record.
pub(crate) fn readable(path: &Path) -> usize {
    // It may be published meanwhile.
    let Ok(file) = fs::File::open(path) else { return 0 };
    let mut bytes = Vec::new();
    // Of a compressed one the end is missing.
    let _ = reader(file).and_then(|mut reader| reader.read_to_end(&mut bytes));
    let Ok(mut capture) = CaptureReader::of_any_link_type(bytes.as_slice(), "a part") else { return 0 };
    iter::from_fn(|| capture.next_frame().ok().flatten().map(drop)).count()
}

/// Returns the name of a session's directory, where people call the session so, or nothing.
pub(crate) fn session_name(called: &str, source: IpAddr, vni: u32) -> String {
    let separator = if called.is_empty() { "" } else { "_" };
    format!("{called}{separator}vni{vni}_{}", source.to_string().replace(':', "-"))
}

/// Returns the directory of a session without a name.
pub(crate) fn session_directory(captures: &Path, source: IpAddr, vni: u32) -> PathBuf {
    captures.join(session_name("", source, vni))
}

/// Returns all captures below a directory, by name, which is the order in which a session's were
/// written.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending != "jsonl") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns all records of a session, file by file.
#[track_caller]
pub(crate) fn session(captures: &Path, source: IpAddr, vni: u32) -> Vec<Record> {
    of_directory(&session_directory(captures, source, vni))
}

/// Returns the records of all captures below a directory.
pub(crate) fn of_directory(directory: &Path) -> Vec<Record> {
    files(directory).iter().flat_map(|path| read(path)).collect()
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
    assert_counted(paths);
    // The same code reads all files, and it starts slowly: the first and the last one will do.
    assert_shown(&paths[0]);
    assert_shown(&paths[paths.len() - 1]);
}

/// Fails unless capinfos reads these files to their ends without complaint and counts as many
/// frames as we do.
#[track_caller]
pub(crate) fn assert_counted(paths: &[PathBuf]) {
    assert!(!paths.is_empty(), "no file was published");
    let output = run(Command::new("capinfos").args(["-T", "-r", "-M", "-c"]).args(paths));
    let (table, complaints) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(complaints.is_empty(), "capinfos: {complaints}");
    let counted: Vec<usize> = table.lines().map(|line| line.rsplit('\t').next().unwrap().parse().unwrap()).collect();
    let ours: Vec<usize> = paths.iter().map(|path| read(path).len()).collect();
    assert_eq!(counted, ours, "frames that capinfos counts");
}

/// Fails unless tshark dissects this file to its end without complaint and shows as many frames as
/// we find.
#[track_caller]
pub(crate) fn assert_shown(path: &Path) {
    let shown = tshark(path, &["frame.number"]).len();
    assert_eq!(shown, read(path).len(), "frames that tshark shows of {}", path.display());
}

/// Returns a line of these fields for each frame that tshark finds in a file, which it must read
/// without complaint.
#[track_caller]
pub(crate) fn tshark(path: &Path, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(path).args(["-T", "fields"]).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = run(&mut command);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = complaints.lines().filter(|line| !line.contains("Running as user")).collect();
    assert!(complaints.is_empty(), "tshark: {}: {complaints:?}", path.display());
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}
