use super::*;
use pcap_file::pcap::{PcapWriter, RawPcapPacket};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::pcapng::{Block, PcapNgBlock};
use proptest::prelude::*;
use std::io;
use std::time::Duration;

type Owned = (u64, Vec<u8>, u32);

/// Returns everything that a capture yields, and how it ended.
fn read(bytes: &[u8]) -> (Vec<Owned>, Option<ReadError>) {
    read_from(bytes)
}

fn read_from(source: impl Read) -> (Vec<Owned>, Option<ReadError>) {
    let mut frames = Vec::new();
    let mut reader = match CaptureReader::new(source, "x.pcap") {
        Ok(reader) => reader,
        Err(e) => return (frames, Some(e)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(f)) => frames.push((f.timestamp, f.data.to_vec(), f.orig_len)),
            Ok(None) => return (frames, None),
            Err(e) => {
                assert!(matches!(reader.next_frame(), Ok(None)), "an error is the end");
                return (frames, Some(e));
            }
        }
    }
}

fn error(bytes: &[u8]) -> String {
    read(bytes).1.map(|e| e.to_string()).unwrap_or_default()
}

/// Frames of different sizes, a second and a bit apart; the last one was cut by the capture.
fn frames() -> Vec<Owned> {
    [14usize, 60, 1514, 9014, 65_600, 262_144, 61]
        .iter()
        .enumerate()
        .map(|(n, &length)| {
            let data: Vec<u8> = (0..length).map(|i| (i + n) as u8).collect();
            (1_700_000_000_000_001_000 + n as u64 * 1_000_002_000, data, length as u32 + u32::from(length == 61))
        })
        .collect()
}

fn pcap_of(frames: &[Owned], endianness: Endianness, ts_resolution: PcapTsResolution) -> Vec<u8> {
    // The snapshot length is a lie for most of the frames, as it is in files that exist.
    let header = PcapHeader { endianness, ts_resolution, snaplen: 96, ..Default::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    let unit = if ts_resolution == PcapTsResolution::MicroSecond { 1000 } else { 1 };
    for (timestamp, data, orig_len) in frames {
        writer
            .write_raw_packet(&RawPcapPacket {
                ts_sec: (timestamp / 1_000_000_000) as u32,
                ts_frac: (timestamp % 1_000_000_000) as u32 / unit,
                incl_len: data.len() as u32,
                orig_len: *orig_len,
                data: data.into(),
            })
            .unwrap();
    }
    writer.into_inner()
}

fn pcap(frames: &[Owned]) -> Vec<u8> {
    pcap_of(frames, Endianness::Little, PcapTsResolution::MicroSecond)
}

fn interface(link: DataLink, options: Vec<InterfaceDescriptionOption<'static>>) -> Block<'static> {
    InterfaceDescriptionBlock { options, ..InterfaceDescriptionBlock::new(link, 0) }.into_block()
}

fn resolution(binary: bool, digits: u8) -> InterfaceDescriptionOption<'static> {
    InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::new(binary, digits).unwrap())
}

fn packet_on(interface_id: u32, frame: &Owned) -> Block<'_> {
    EnhancedPacketBlock {
        interface_id,
        timestamp: Duration::from_nanos(frame.0),
        original_len: frame.2,
        data: (&frame.1[..]).into(),
        options: vec![EnhancedPacketOption::Common(CommonOption::Comment("a comment".into()))],
    }
    .into_block()
}

fn pcapng_of(endianness: Endianness, blocks: &[Block<'_>]) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
    for block in blocks {
        writer.write_block(block).unwrap();
    }
    writer.into_inner()
}

fn pcapng(frames: &[Owned]) -> Vec<u8> {
    let mut blocks = vec![interface(DataLink::ETHERNET, vec![])];
    blocks.extend(frames.iter().map(|f| packet_on(0, f)));
    pcapng_of(Endianness::Little, &blocks)
}

/// Gives one byte a read, and an interruption before each.
struct Dribble<'a>(&'a [u8], bool);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = 1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    for endianness in [Endianness::Little, Endianness::Big] {
        for resolution in [PcapTsResolution::MicroSecond, PcapTsResolution::NanoSecond] {
            let (got, error) = read(&pcap_of(&frames(), endianness, resolution));
            assert!(error.is_none(), "{error:?}");
            assert!(got == frames());
        }
    }
}

#[test]
fn pcapng_in_both_byte_orders() {
    for endianness in [Endianness::Little, Endianness::Big] {
        let frames = frames();
        let mut blocks = vec![interface(DataLink::ETHERNET, vec![])];
        blocks.extend(frames.iter().map(|f| packet_on(0, f)));
        let (got, error) = read(&pcapng_of(endianness, &blocks));
        assert!(error.is_none(), "{error:?}");
        assert!(got == frames);
    }
}

#[test]
fn a_slow_source_gives_the_same_frames() {
    let small = &frames()[..3];
    for file in [pcap(small), pcapng(small)] {
        let (got, error) = read_from(Dribble(&file, false));
        assert!(error.is_none(), "{error:?}");
        assert!(got == small);
    }
}

#[test]
fn pcapng_timestamps_follow_the_interface() {
    let frame = (1_700_000_001_500_000_000, vec![7; 60], 60);
    let blocks = [
        interface(DataLink::ETHERNET, vec![resolution(false, 9)]),
        interface(DataLink::ETHERNET, vec![resolution(false, 3)]),
        interface(DataLink::ETHERNET, vec![resolution(true, 10)]),
        interface(DataLink::ETHERNET, vec![resolution(false, 0), InterfaceDescriptionOption::IfTsOffset(-7)]),
        packet_on(0, &frame),
        packet_on(1, &frame),
        packet_on(2, &frame),
        packet_on(3, &frame),
    ];
    let times: Vec<u64> = read(&pcapng_of(Endianness::Little, &blocks)).0.iter().map(|f| f.0).collect();
    assert_eq!(
        times,
        [1_700_000_001_500_000_000, 1_700_000_001_500_000_000, 1_700_000_001_500_000_000, 1_700_000_001_000_000_000]
    );
}

/// The blocks of a file in this byte order, field by field.
struct Fields(Endianness);

impl Fields {
    fn number(&self, value: u64, length: usize) -> Vec<u8> {
        match self.0 {
            Endianness::Big => value.to_be_bytes()[8 - length..].to_vec(),
            Endianness::Little => value.to_le_bytes()[..length].to_vec(),
        }
    }

    fn block(&self, kind: u32, body: &[Vec<u8>]) -> Vec<u8> {
        let body = body.concat();
        let length = self.number(body.len() as u64 + 12, 4);
        [&self.number(kind.into(), 4)[..], &length, &body, &length].concat()
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.number(code.into(), 2), self.number(value.len() as u64, 2), value.to_vec()].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn interface(&self, options: &[Vec<u8>]) -> Vec<u8> {
        self.block(INTERFACE_DESCRIPTION_BLOCK, &[self.number(1, 2), vec![0; 6], options.concat()])
    }

    /// Makes an empty packet.
    fn packet(&self, interface: usize, time: u64) -> Vec<u8> {
        let [high, low] = [time >> 32, time & 0xffff_ffff].map(|half| self.number(half, 4));
        self.block(ENHANCED_PACKET_BLOCK, &[self.number(interface as u64, 4), high, low, vec![0; 8]])
    }
}

#[test]
fn times_finer_than_nanoseconds_are_rounded_down() {
    let times = [
        (9, 1_500_000_001, 1_500_000_001),
        (10, 15_000_000_019, 1_500_000_001),
        (12, 1_500_000_000_999, 1_500_000_000),
        (18, 1_999_999_999_999_999_999, 1_999_999_999),
        (19, 15_000_000_000_000_000_000, 1_500_000_000),
        (39, u64::MAX, 0),
        (0x7f, u64::MAX, 0),
        (0x80 | 30, 3 << 29, 1_500_000_000),
        (0x80 | 63, 3 << 62, 1_500_000_000),
        (0x80 | 64, u64::MAX, 999_999_999),
        (0xff, u64::MAX, 0),
    ];
    for endianness in [Endianness::Little, Endianness::Big] {
        let fields = Fields(endianness);
        let offset = fields.option(14, &fields.number(1_700_000_000, 8));
        let described =
            times.map(|(resolution, ..)| fields.interface(&[fields.option(9, &[resolution]), offset.clone()]));
        let packets = times.iter().enumerate().map(|(interface, (_, units, _))| fields.packet(interface, *units));
        let file = [pcapng_of(endianness, &[]), described.concat(), packets.collect::<Vec<_>>().concat()].concat();
        let (got, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        let seconds = 1_700_000_000_000_000_000;
        let got: Vec<u64> = got.iter().map(|frame| frame.0 - seconds).collect();
        assert_eq!(got, times.map(|(.., nanoseconds)| nanoseconds));
    }
}

#[test]
fn options_of_an_interface_do_harm_only_where_times_would_be_wrong() {
    let fields = Fields(Endianness::Little);
    let read = |options: &[Vec<u8>]| {
        read(&[pcapng(&[])[..28].to_vec(), fields.interface(options), fields.packet(0, 7)].concat())
    };
    let latin_1 = fields.option(2, b"Ger\xe4t");
    assert_eq!(read(&[latin_1, fields.option(6, b"short"), fields.option(0, b"")]).0, [(7_000, vec![], 0)]);
    let mut cut = fields.option(2, b"name");
    cut[2] = 5;
    for (option, code) in [(fields.option(9, b""), 9), (fields.option(14, &[0; 7]), 14), (cut, 2)] {
        let text = read(&[option]).1.unwrap().to_string();
        let wanted = format!("damaged at byte 28: option {code} of an interface has a wrong length");
        assert!(text.contains(&wanted), "{text}");
    }
}

#[test]
fn blocks_without_room_for_their_fields_are_damaged() {
    let fields = Fields(Endianness::Big);
    for (kind, what, needed) in [
        (SECTION_HEADER_BLOCK, "section header", 16),
        (INTERFACE_DESCRIPTION_BLOCK, "interface description", 8),
        (ENHANCED_PACKET_BLOCK, "packet block", 20),
    ] {
        let file = [pcapng_of(Endianness::Big, &[]), fields.interface(&[])];
        let short = fields.block(kind, &[0x1a2b_3c4d_u32.to_be_bytes().to_vec()]);
        let text = error(&[file.concat(), short].concat());
        let wanted = format!("damaged at byte 48: the fields of a {what} take {needed} bytes but it has 4;");
        assert!(text.contains(&wanted), "{text}");
    }
}

#[test]
fn simple_packets_take_the_time_before_them_and_the_snapshot_length() {
    let frame = (5_000, vec![1; 60], 60);
    let cut = |data: Vec<u8>| SimplePacketBlock { original_len: 90, data: data.into() }.into_block();
    let blocks =
        [InterfaceDescriptionBlock::new(DataLink::ETHERNET, 61).into_block(), packet_on(0, &frame), cut(vec![2; 61])];
    let (got, error) = read(&pcapng_of(Endianness::Big, &blocks));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(got, [(5_000, vec![1; 60], 60), (5_000, vec![2; 61], 90)]);
}

#[test]
fn the_obsolete_packet_block_is_read() {
    let frame = (5_000_000, vec![3; 60], 60);
    let mut file = pcapng(std::slice::from_ref(&frame));
    let block = file.len() - block_length(&file);
    // The same layout, but the interface number has 16 bits and a drop counter follows.
    file[block] = 2;
    file[block + 10] = 99;
    assert_eq!(read(&file).0, [frame]);
}

/// Returns the length of the last block of a file, from its trailer.
fn block_length(file: &[u8]) -> usize {
    to_usize(u32_at(file, file.len() - 4, Endianness::Little))
}

#[test]
fn blocks_without_packets_are_passed_over_at_any_size() {
    let frame = (5_000, vec![1; 60], 60);
    let large = vec![0xaa; 3_000_000];
    let blocks = [
        interface(DataLink::ETHERNET, vec![]),
        Block::Unknown(UnknownBlock::new(0x0a, 0, &large)),
        packet_on(0, &frame),
        Block::Unknown(UnknownBlock::new(0x4000_0001, 0, &[])),
        packet_on(0, &frame),
    ];
    let file = pcapng_of(Endianness::Little, &blocks);
    let (got, error) = read(&file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(got, [frame.clone(), frame]);

    let text = self::error(&file[..1_000_000]);
    assert_eq!(
        text,
        "x.pcap: damaged at byte 48: record claims 3000012 bytes but the file ends after 999952; \
         no frame comes before it"
    );
}

#[test]
fn a_second_section_begins_anew() {
    let frame = (5_000, vec![1; 60], 60);
    let little = pcapng(std::slice::from_ref(&frame));
    let blocks = [interface(DataLink::ETHERNET, vec![]), packet_on(0, &frame)];
    let big = pcapng_of(Endianness::Big, &blocks);
    assert_eq!(read(&[&little[..], &big].concat()).0, [frame.clone(), frame.clone()]);

    // The interfaces of the first section are not those of the second.
    let empty = pcapng_of(Endianness::Big, &[]);
    let (got, error) = read(&[&little[..], &empty, &big[big.len() - 4 - 100..]].concat());
    assert_eq!(got.len(), 1);
    assert!(error.is_some());
}

#[test]
fn what_is_no_capture_says_so() {
    assert_eq!(error(&[]), "x.pcap: the file is empty");
    assert_eq!(error(b"x"), "x.pcap: not a pcap or pcapng file");
    assert_eq!(error(b"not a capture at all, but longer than a header"), "x.pcap: not a pcap or pcapng file");
    assert_eq!(
        error(&[0x1f, 0x8b, 8, 0, 0, 0]),
        "x.pcap: not a pcap or pcapng file (it is compressed with gzip; decompress it first)"
    );
    assert_eq!(
        error(&pcap(&[])[..20]),
        "x.pcap: damaged at byte 0: a pcap file header takes 24 bytes but the file ends after 20; \
         no frame comes before it"
    );
    assert_eq!(
        error(&pcapng(&[])[..10]),
        "x.pcap: damaged at byte 0: a block header takes 12 bytes but the file ends after 10; \
         no frame comes before it"
    );
    let missing = CaptureReader::open(Path::new("/nonexistent/y.pcap")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/y.pcap: No such file"), "{missing}");
}

#[test]
fn other_link_types_are_named() {
    let header = PcapHeader { datalink: DataLink::LINUX_SLL, ..Default::default() };
    let file = PcapWriter::with_header(Vec::new(), header).unwrap().into_inner();
    assert_eq!(error(&file), "x.pcap: link type LINUX_SLL (113) is not supported, only Ethernet is");

    // In pcapng the interface decides, and one without packets does no harm.
    let frame = (5_000, vec![1; 60], 60);
    let blocks = [
        interface(DataLink::RAW, vec![]),
        interface(DataLink::ETHERNET, vec![]),
        packet_on(1, &frame),
        packet_on(0, &frame),
    ];
    let (got, error) = read(&pcapng_of(Endianness::Little, &blocks));
    assert_eq!(got, [frame]);
    assert_eq!(error.unwrap().to_string(), "x.pcap: link type RAW (101) is not supported, only Ethernet is");
}

#[test]
fn a_frame_check_sequence_length_does_not_hide_ethernet() {
    let mut file = pcap(&[]);
    file[23] = 0x44;
    assert!(read(&file).1.is_none());
}

#[test]
fn damage_in_pcap_is_placed() {
    let small = &frames()[..3];
    let whole = pcap(small);
    let (second, third) = (24 + 16 + 14, 24 + 16 + 14 + 16 + 60);

    let (got, error) = read(&whole[..third + 16 + 112]);
    assert!(got == small[..2]);
    assert_eq!(
        error.unwrap().to_string(),
        "x.pcap: damaged at byte 130: record claims 1514 bytes but the file ends after 112; \
         the 2 frames before it are whole"
    );
    assert_eq!(
        self::error(&whole[..third + 5]),
        "x.pcap: damaged at byte 130: a record header takes 16 bytes but the file ends after 5; \
         the 2 frames before it are whole"
    );

    let mut wrong = whole.clone();
    wrong[second + 8..second + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let (got, error) = read(&wrong);
    assert!(got == small[..1]);
    assert_eq!(
        error.unwrap().to_string(),
        "x.pcap: damaged at byte 54: record claims 2147483647 bytes, more than the 262144 that a record can have; \
         the 1 frame before it is whole"
    );
}

#[test]
fn every_cut_delivers_the_whole_frames_before_it() {
    let small = &frames()[..3];
    for (file, first) in [(pcap(small), 24), (pcapng(small), pcapng(&[]).len())] {
        let mut ends = vec![first];
        let mut reader = CaptureReader::new(&file[..], "x").unwrap();
        while reader.next_frame().unwrap().is_some() {
            ends.push(to_usize(u32::try_from(reader.offset()).unwrap()));
        }
        assert_eq!(*ends.last().unwrap(), file.len());
        for cut in first..file.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let (got, error) = read(&file[..cut]);
            assert!(got == small[..whole]);
            match error {
                None => assert!(ends.contains(&cut), "cut at {cut} went unnoticed"),
                Some(ReadError::Damaged { offset, frames, .. }) => {
                    assert_eq!((offset, frames), (ends[whole] as u64, whole as u64));
                }
                Some(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn damage_in_pcapng_is_placed() {
    let frame = (5_000, vec![1; 60], 60);
    let whole = pcapng(&[frame.clone(), frame.clone()]);
    let block = block_length(&whole);
    let last = whole.len() - block;
    let damaged = |at: usize, value: u32| {
        let mut file = whole.clone();
        file[last + at..last + at + 4].copy_from_slice(&value.to_le_bytes());
        let (got, error) = read(&file);
        assert_eq!(got, std::slice::from_ref(&frame));
        let text = error.unwrap().to_string();
        let (head, tail) = (format!("x.pcap: damaged at byte {last}: "), "; the 1 frame before it is whole");
        text.strip_prefix(&head).and_then(|t| t.strip_suffix(tail)).unwrap_or(&text).to_string()
    };
    assert_eq!(damaged(4, 7), "block length 7 is not a multiple of 4 above 8");
    assert_eq!(damaged(4, 1 << 30), "record claims 1073741824 bytes, more than the 524288 that a record can have");
    assert_eq!(damaged(4, 4096), format!("record claims 4096 bytes but the file ends after {}", whole.len() - last));
    assert_eq!(damaged(8, 5), "packet block is of interface 5, which the file does not describe");
    assert_eq!(damaged(20, 5000), format!("packet block claims 5000 bytes of frame but has {}", block - 32));
    assert_eq!(damaged(20, 1 << 20), "record claims 1048576 bytes, more than the 262144 that a record can have");
    let trailer = damaged(block - 4, 7777);
    assert!(trailer.contains(&block.to_string()) && trailer.contains("7777"), "{trailer}");
}

#[test]
fn reading_errors_are_the_systems() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
    let file = pcap(&frames()[..1]);
    let (got, error) = read_from(file.as_slice().chain(Broken));
    assert_eq!(got.len(), 1);
    assert!(matches!(error, Some(ReadError::Io { .. })));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_header_end(ng: bool, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let header = if ng { pcapng(&[]) } else { pcap(&[]) };
        read(&[header, bytes].concat());
    }

    /// Any bytes are changed in a good file: what comes before the first of them is delivered as it
    /// was.
    #[test]
    fn damage_does_not_reach_back(ng: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let small = &frames()[..3];
        let mut file = if ng { pcapng(small) } else { pcap(small) };
        let length = file.len();
        let mut first = length;
        for (index, value) in changes {
            let at = index.index(length);
            file[at] = value;
            first = first.min(at);
        }
        let (got, _) = read(&file);
        let header = if ng { pcapng(&[]).len() } else { 24 };
        let record = |n: usize| small[n].1.len().next_multiple_of(if ng { 4 } else { 1 }) + if ng { 52 } else { 16 };
        let mut end = header;
        for (n, frame) in small.iter().enumerate() {
            end += record(n);
            if end <= first {
                prop_assert_eq!(got.get(n), Some(frame));
            }
        }
    }
}
