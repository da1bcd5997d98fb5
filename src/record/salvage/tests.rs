use super::*;
use crate::record::contents::{Opening, Remarks, Statistics};
use crate::record::pcap::Record;
use crate::record::read::CaptureReader;
use crate::wire::Direction;
use proptest::prelude::*;

/// Time and frame of a record.
type Made = (u64, Vec<u8>);

/// A file, with where the opening and each record ends.
struct File {
    raw: Vec<u8>,
    opening: usize,
    ends: Vec<usize>,
}

fn file(format: Format, records: &[Made], closed: bool) -> File {
    let opening = Opening { snaplen: 262_144, interface: "vni7_192.0.2.1", os: "Linux", ..Opening::default() };
    let mut raw = format.opening(&opening);
    let opening = raw.len();
    let mut ends = Vec::new();
    for (i, (time, frame)) in records.iter().enumerate() {
        let record = Record { timestamp: Timestamp::from_ns(*time), orig_len: frame.len() as u32, frame };
        let direction = [None, Some(Direction::Inbound)][i % 2];
        let remarks = Remarks {
            direction,
            lost: (i % 3) as u64,
            packet_id: (i % 5 == 4).then_some(i as u64),
            ..Remarks::default()
        };
        format.push(&mut raw, &record, remarks);
        ends.push(raw.len());
    }
    if closed {
        raw.extend(format.closing(&Statistics::default()));
    }
    File { raw, opening, ends }
}

/// Returns what a scan of `file`, of which `present` bytes are there, must find in the records.
fn expected(format: Format, file: &File, records: &[Made], present: usize) -> Whole {
    let frames = file.ends.iter().take_while(|end| **end <= present).count();
    let closed = present == file.raw.len();
    let unit = if format == Format::PcapUs { 1_000 } else { 1 };
    let time = |record: &Made| Timestamp::from_ns(record.0 / unit * unit);
    let length = match frames {
        _ if closed => present,
        0 => file.opening,
        n => file.ends[n - 1],
    };
    Whole {
        format,
        compression: None,
        length: to_u64(length),
        total: to_u64(present),
        intact: length == present,
        damaged: false,
        mended: None,
        opening: to_u64(file.opening),
        longest: records[..frames].iter().map(|(_, frame)| frame.len() as u32).max().unwrap_or(0),
        frames: to_u64(frames),
        frame_bytes: records[..frames].iter().map(|(_, frame)| to_u64(frame.len())).sum(),
        first: records[..frames].iter().map(time).min(),
        last: records[..frames].iter().map(time).max(),
    }
}

/// Frames that the reader finds, which must find no damage.
fn readable(file: impl Read) -> u64 {
    let mut reader = CaptureReader::new(reader(file).unwrap(), "salvaged").unwrap();
    let mut frames = 0;
    while reader.next_frame().unwrap().is_some() {
        frames += 1;
    }
    frames
}

fn records() -> impl Strategy<Value = Vec<Made>> {
    let time = 1u64..(1 << 32) * 1_000_000_000;
    // A record without a time or a frame would be zeros, as it would in microseconds.
    let time = time.prop_map(|time| time.max(1_000));
    prop::collection::vec((time, prop::collection::vec(any::<u8>(), 0..3_000)), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Wherever a file is cut, exactly the records before are found, also if the rest of a block
    /// became zeros.
    #[test]
    fn a_cut_file_has_the_records_before_the_cut(
        records in records(), format in prop::sample::select(&Format::ALL[..]), closed in any::<bool>(),
        cut in any::<prop::sample::Index>(), zeros in 16usize..10_000,
    ) {
        let file = file(format, &records, closed);
        let cut = cut.index(file.raw.len() + 1);
        let found = scan(&file.raw[..cut]);
        if cut < file.opening {
            prop_assert!(matches!(found, Err(Unsalvageable::Empty | Unsalvageable::NotACapture | Unsalvageable::CutHeader)));
            return Ok(());
        }
        let wanted = expected(format, &file, &records, cut);
        prop_assert_eq!(found.unwrap(), wanted);
        prop_assert_eq!(readable(&file.raw[..wanted.length as usize]), wanted.frames);

        // The cut is at a record's end, where the next is all zeros. Elsewhere the zeros may
        // complete a record.
        let end = wanted.length as usize;
        let found = scan([&file.raw[..end], &vec![0; zeros]].concat().as_slice()).unwrap();
        prop_assert_eq!(found, Whole { total: to_u64(end + zeros), intact: false, ..wanted });
    }

    /// Of a compressed file, all that was fed before the cut is found, and can be written anew.
    #[test]
    fn a_cut_compressed_file_has_every_feed_before_the_cut(
        records in records(), format in prop::sample::select(&Format::ALL[..]), zstd in any::<bool>(),
        closed in any::<bool>(), piece in 500usize..80_000, cut in any::<prop::sample::Index>(),
    ) {
        let compression = if zstd { Compression::Zstd(3) } else { Compression::Lz4 };
        let file = file(format, &records, closed);
        let mut compressor = Compressor::new(compression).unwrap();
        let (mut out, mut feeds, mut fed) = (Vec::new(), Vec::new(), 0);
        for piece in file.raw.chunks(piece) {
            compressor.feed(piece, &mut out).unwrap();
            fed += piece.len();
            feeds.push((out.len(), fed));
        }
        compressor.finish(&mut out).unwrap();
        let cut = cut.index(out.len() + 1);
        let fed = feeds.iter().take_while(|(end, _)| *end <= cut).last().map_or(0, |(_, fed)| *fed);
        let found = scan(&out[..cut]);
        if fed < file.opening {
            let Ok(found) = found else { return Ok(()) };
            prop_assert!(found.length >= to_u64(file.opening));
            return Ok(());
        }
        let found = found.unwrap();
        // More than was flushed may be there, as a first part of what came next.
        prop_assert!(found.total >= to_u64(fed));
        let wanted = expected(format, &file, &records, found.total as usize);
        let intact = cut == out.len() && wanted.intact;
        prop_assert_eq!(found, Whole { compression: Some(compression), intact, ..wanted });
        for again in [Compression::Lz4, Compression::Zstd(1)] {
            let mut anew = Vec::new();
            rewrite(&out[..cut], found.length, again, &mut anew).unwrap();
            prop_assert_eq!(readable(anew.as_slice()), found.frames);
            let whole = scan(anew.as_slice()).unwrap();
            prop_assert!(whole.intact && whole.length == found.length && whole.frames == found.frames);
        }
    }

    #[test]
    fn anything_can_be_scanned(mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), format in prop::sample::select(&Format::ALL[..])) {
        let _ = scan(bytes.as_slice());
        // And in the middle of a file.
        let good = file(format, &[(1_000, vec![1; 60]), (2_000, vec![2; 60])], true);
        let at = at.index(good.raw.len());
        bytes.splice(..0, good.raw[..at].iter().copied());
        if let Ok(whole) = scan(bytes.as_slice()) {
            prop_assert!(whole.length <= whole.total && whole.total == to_u64(bytes.len()));
        }
    }
}

#[test]
fn lengths_that_no_record_has_are_damage() {
    let frame = vec![1; 60];
    let records = [(1_000, frame.clone()), (2_000, frame.clone()), (3_000, frame)];
    for (format, at, value) in [
        (Format::Pcap, 8, MAX_FRAME + 1),
        (Format::Pcap, 8, u32::MAX),
        (Format::Pcap, 4, 1_000_000_000),
        (Format::PcapUs, 4, 1_000_000),
        // Type, both lengths against each other, interface, captured length.
        (Format::PcapNg, 0, 7),
        (Format::PcapNg, 4, 4),
        (Format::PcapNg, 4, 101),
        (Format::PcapNg, 4, 104),
        (Format::PcapNg, 8, 1),
        (Format::PcapNg, 20, 85),
        (Format::PcapNg, 20, u32::MAX),
    ] {
        let mut file = file(format, &records, true);
        let second = file.ends[0];
        file.raw[second + at..second + at + 4].copy_from_slice(&value.to_le_bytes());
        let whole = scan(file.raw.as_slice()).unwrap();
        assert_eq!((whole.frames, whole.length), (1, to_u64(second)), "{format} {at} {value}");
    }
}

#[test]
fn what_cannot_be_saved_says_why() {
    let lz4 = |raw: &[u8]| {
        let mut out = Vec::new();
        rewrite(raw, to_u64(raw.len()), Compression::Lz4, &mut out).unwrap();
        out
    };
    let cut = lz4(b"something that is long enough")[..9].to_vec();
    for (bytes, message) in [
        (Vec::new(), "the file is empty"),
        (vec![0; 5_000], "not a pcap or pcapng file of vxtap"),
        (b"#!/bin/sh".to_vec(), "not a pcap or pcapng file of vxtap"),
        (lz4(b"#!/bin/sh"), "not a pcap or pcapng file of vxtap"),
        (lz4(b""), "the file is empty"),
        (pcap::file_header(crate::wire::LinkType::Ethernet, 1)[..20].to_vec(), "the file ends within its header"),
        (cut, "the compressed stream cannot be decoded: the compressed stream ends before its end mark"),
    ] {
        assert_eq!(scan(bytes.as_slice()).unwrap_err().to_string(), message);
    }
}

#[test]
fn an_error_of_the_system_is_not_damage() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let file = file(Format::Pcap, &[(1_000, vec![1; 60])], true);
    for compression in [None, Some(Compression::Lz4), Some(Compression::Zstd(3))] {
        let mut bytes = file.raw.clone();
        if let Some(compression) = compression {
            bytes.clear();
            rewrite(file.raw.as_slice(), 30, compression, &mut bytes).unwrap();
            bytes.truncate(bytes.len() - 9);
        }
        assert!(matches!(scan(bytes.as_slice().chain(Broken)), Err(Unsalvageable::Io(_))), "{compression:?}");
    }
}

#[test]
fn a_rewrite_of_more_than_there_is_fails() {
    let error = rewrite(&[1, 2, 3][..], 4, Compression::Lz4, io::sink()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Damage is told from what a crash tears: the beginning of a record or block, and zeros.
#[test]
fn damage_with_something_behind_is_no_torn_end() {
    let noise = |n: usize| (0..1_400).map(|i| ((n * 7_919 + i * i * 31) % 251) as u8).collect::<Vec<_>>();
    let records: Vec<Made> = (1..400).map(|n| (n * 1_000_000, noise(n as usize))).collect();
    for format in Format::ALL {
        for compression in [None, Some(Compression::Lz4), Some(Compression::Zstd(3))] {
            let mut bytes = file(format, &records, true).raw;
            if let Some(compression) = compression {
                let raw = std::mem::take(&mut bytes);
                let mut compressor = Compressor::new(compression).unwrap();
                raw.chunks(20_000).for_each(|piece| compressor.feed(piece, &mut bytes).unwrap());
                compressor.finish(&mut bytes).unwrap();
            }
            let damaged = |bytes: &[u8]| scan(bytes).unwrap().damaged;
            let (half, zeros) = (bytes.len() / 2, [0; 300_000]);
            let what = format!("{format} {compression:?}");
            assert!(!damaged(&bytes), "{what}");
            assert!(!damaged(&bytes[..half]), "{what}, torn");
            assert!(!damaged(&[&bytes[..half], &zeros].concat()), "{what}, torn, and zeros");
            for fill in [0, 0xff] {
                let mut bytes = bytes.clone();
                // More than a record, so that one begins there.
                bytes[half..half + 4_096].fill(fill);
                assert!(damaged(&bytes), "{what}, {fill:#x}");
                assert!(damaged(&[&bytes[..], &zeros].concat()), "{what}, {fill:#x}, and zeros");
            }
        }
    }
    // However little stands behind.
    let mut few = file(Format::Pcap, &records[..3], true);
    few.raw[few.ends[0]..few.ends[1]].fill(0);
    assert!(scan(few.raw.as_slice()).unwrap().damaged);
}
