use super::kind::ZSTD_MAX_LEVEL;
use super::kind::{LZ4_MAGIC, ZSTD_MAGIC};
use super::*;
use flate2::FlushCompress;
use proptest::prelude::*;
use std::io::{Read, Write};

fn every() -> impl Iterator<Item = Compression> {
    std::iter::once(Compression::Lz4).chain((1..=ZSTD_MAX_LEVEL).map(Compression::Zstd))
}

/// Bytes that repeat now and then, and now and then do not, by a generator with the state `seed`.
fn bytes(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let words = seed.rotate_left(17).to_le_bytes();
        bytes.extend_from_slice(&words);
        bytes.extend_from_slice(&[words[0] & 3; 20]);
    }
    bytes.truncate(length);
    bytes
}

/// Returns the file, and where it and what was fed ends after each feed.
fn compressed(compression: Compression, pieces: &[Vec<u8>]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut compressor = Compressor::new(compression).unwrap();
    let (mut file, mut raw, mut ends) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        compressor.feed(piece, &mut file).unwrap();
        raw += piece.len();
        ends.push((file.len(), raw));
    }
    compressor.finish(&mut file).unwrap();
    (file, ends)
}

/// Returns what can be decoded, and the error behind it.
fn decoded(file: &[u8]) -> (Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = reader(file).and_then(|mut reader| reader.read_to_end(&mut bytes));
    (bytes, end)
}

#[test]
fn frames_of_lz4_with_blocks_of_any_size_follow_each_other() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let blocks = [
        (BlockSize::Max4MB, BlockMode::Independent),
        (BlockSize::Max64KB, BlockMode::Linked),
        (BlockSize::Max1MB, BlockMode::Linked),
        (BlockSize::Max64KB, BlockMode::Independent),
        (BlockSize::Max256KB, BlockMode::Linked),
    ];
    let (mut file, mut raw) = (Vec::new(), Vec::new());
    for (size, mode) in blocks.into_iter().chain(blocks.into_iter().rev()) {
        // More than the buffers of the frame with the largest have room for.
        let part = bytes(10_000_000, raw.len() as u64);
        let info = FrameInfo::new().block_size(size).block_mode(mode).content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info, &mut file);
        encoder.write_all(&part).unwrap();
        encoder.finish().unwrap();
        raw.extend(part);
    }
    let (found, end) = decoded(&file);
    assert!(found == raw, "{end:?} behind {} of {} bytes", found.len(), raw.len());
    assert!(end.is_ok(), "{end:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A file decodes to what was fed, and its beginning to what was fed up to there, and that is
    /// told from a whole one.
    #[test]
    fn a_cut_file_has_every_feed_before_the_cut(
        pieces in prop::collection::vec((0usize..200_000, any::<u64>()).prop_map(|(length, seed)| bytes(length, seed)), 0..6),
        zstd in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let compression = if zstd { Compression::Zstd(1) } else { Compression::Lz4 };
        let raw = pieces.concat();
        let (file, ends) = compressed(compression, &pieces);
        prop_assert_eq!(reader(file.as_slice()).unwrap().compression().map(Compression::extension), Some(compression.extension()));
        let (found, end) = decoded(&file);
        prop_assert!(found == raw && end.is_ok());

        let cut = cut.index(file.len());
        let (found, end) = decoded(&file[..cut]);
        let fed = ends.iter().take_while(|(end, _)| *end <= cut).last().map_or(0, |(_, raw)| *raw);
        if cut >= 4 {
            prop_assert!(found.len() >= fed, "{} of {fed} bytes", found.len());
            prop_assert!(raw.starts_with(&found));
            prop_assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        // Blocks that a crash left zero.
        let (found, end) = decoded(&[&file[..cut], &[0; 5_000]].concat());
        if cut >= 16 {
            prop_assert!(found.len() >= fed && raw.starts_with(&found) && end.is_err());
        }
    }

    #[test]
    fn anything_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0..3) {
        let magic: &[u8] = [&[][..], &LZ4_MAGIC, &ZSTD_MAGIC][magic as usize];
        bytes.splice(..0, magic.iter().copied());
        let _ = decoded(&bytes);
    }
}

#[test]
fn the_size_of_a_compressor_is_bounded() {
    let raw = bytes(600_000, 1);
    for compression in every() {
        let mut compressor = Compressor::new(compression).unwrap();
        let mut out = Vec::new();
        for piece in raw.chunks(100_000) {
            compressor.feed(piece, &mut out).unwrap();
        }
        if let Encoder::Zstd(context) = &compressor.0 {
            let size = context.sizeof();
            assert!(size <= memory(compression), "{compression}: {size}");
        }
    }
}

#[test]
fn a_compressor_that_has_finished_a_file_makes_the_next_as_a_new_one_would() {
    for compression in every() {
        let mut compressors = Compressors::new(compression);
        for seed in 0..3 {
            let pieces = [bytes(70_000, seed), bytes(10, seed), bytes(5_000, seed + 1)];
            let mut compressor = compressors.take().unwrap();
            let mut file = Vec::new();
            pieces.iter().for_each(|piece| compressor.feed(piece, &mut file).unwrap());
            compressor.finish(&mut file).unwrap();
            compressors.give_back(compressor);
            assert!(file == compressed(compression, &pieces).0, "{compression}");
            assert_eq!(compressors.idle.len(), 1, "it is taken again");
        }
        assert!(!compressors.have_freed());
        (0..100).for_each(|_| compressors.give_back(Compressor::new(compression).unwrap()));
        assert_eq!(compressors.idle.len(), Compressors::KEPT);
        assert_eq!((compressors.have_freed(), compressors.have_freed()), (true, false));
    }
}

#[test]
fn names_and_levels() {
    for compression in every() {
        assert_eq!(compression.to_string().parse(), Ok(compression));
        let json = serde_json::to_string(&compression).unwrap();
        assert_eq!(serde_json::from_str::<Compression>(&json).unwrap(), compression);
    }
    assert_eq!("zstd".parse(), Ok(Compression::Zstd(3)));
    assert_eq!(Compression::Zstd(9).to_string(), "zstd:9");
    for (text, message) in [
        ("gzip", "unknown compression \"gzip\": one of lz4, zstd, zstd:LEVEL"),
        ("zstd:20", "zstd has no level \"20\" here: it is a number from 1 (fast) to 19 (small)"),
        ("zstd:", "zstd has no level \"\" here: it is a number from 1 (fast) to 19 (small)"),
        ("zstd:0", "zstd has no level \"0\" here: it is a number from 1 (fast) to 19 (small)"),
        ("lz4:9", "lz4 has no levels: write lz4, or zstd:LEVEL"),
    ] {
        assert_eq!(text.parse::<Compression>().unwrap_err().to_string(), message);
    }
}

#[test]
fn a_file_without_content_is_whole() {
    for compression in every() {
        let (file, _) = compressed(compression, &[]);
        let (found, end) = decoded(&file);
        assert!(found.is_empty() && end.is_ok(), "{compression}");
    }
}

#[test]
fn streams_that_are_not_compressed_pass() {
    for bytes in [&b""[..], b"\x04", b"plain text"] {
        let reader = reader(bytes).unwrap();
        assert_eq!(reader.compression(), None);
        assert_eq!(decoded(bytes).0, bytes);
    }
}

#[test]
fn frames_behind_each_other_are_one_stream() {
    for compression in [Compression::Lz4, Compression::Zstd(3)] {
        let (first, _) = compressed(compression, &[b"first ".to_vec()]);
        let (second, _) = compressed(compression, &[b"second".to_vec()]);
        let both = [first, second].concat();
        let (found, end) = decoded(&both);
        assert_eq!((found.as_slice(), end.unwrap()), (&b"first second"[..], 12));
        assert!(decoded(&both[..both.len() - 1]).1.is_err());
    }
}

#[test]
fn what_stands_before_damage_is_read() {
    let pieces: Vec<Vec<u8>> = (0..20).map(|seed| bytes(3_000, seed)).collect();
    for compression in every() {
        let (mut file, ends) = compressed(compression, &pieces);
        let (end, raw) = ends[9];
        // lz4 has a checksum for each block. zstd finds damage of a block's content at the end
        // only, but that of its header.
        let damaged = if compression == Compression::Lz4 { end + 100 } else { end };
        file[damaged..damaged + 40].fill(0xff);
        let (found, error) = decoded(&file);
        assert_eq!(found.len(), raw, "{compression}");
        assert!(error.is_err());
    }
}

/// Compresses these bytes with gzip, as one member up to there.
fn gzip(raw: &[u8], end: FlushCompress) -> Vec<u8> {
    let mut file = Vec::with_capacity(2 * raw.len());
    let mut compress = flate2::Compress::new_gzip(flate2::Compression::fast(), 15);
    compress.compress_vec(raw, &mut file, end).unwrap();
    assert_eq!(compress.total_in(), raw.len() as u64);
    file
}

#[test]
fn of_gzip_what_stands_before_damage_is_read_however_much_is_read_at_once() {
    let raw = bytes(300_000, 7);
    let [whole, open] = [FlushCompress::Finish, FlushCompress::Sync].map(|end| gzip(&raw, end));
    // A last block of a kind that there is not; the end in the middle; another sum; something else
    // where a member could begin.
    let mut wrong_sum = whole.clone();
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    for (file, kind) in [
        ([&open[..], &[7]].concat(), io::ErrorKind::InvalidData),
        (open, io::ErrorKind::UnexpectedEof),
        (wrong_sum, io::ErrorKind::InvalidData),
        ([&whole[..], b"no member"].concat(), io::ErrorKind::InvalidData),
    ] {
        for step in [1 << 20, 1000, 1] {
            let mut source = reader(file.as_slice()).unwrap();
            let (mut found, mut room) = (Vec::new(), vec![0; step]);
            let error = loop {
                match source.read(&mut room) {
                    Ok(0) => panic!("the end"),
                    Ok(read) => found.extend_from_slice(&room[..read]),
                    Err(error) => break error,
                }
            };
            assert!(found == raw && error.kind() == kind, "{step}: {} {error}", found.len());
        }
    }
    // Members behind each other are one stream, and zeros behind them pad it.
    for padding in [0, 1, 512, 200_000] {
        let (found, end) = decoded(&[&whole[..], &whole, &vec![0; padding]].concat());
        assert!(found == [&raw[..], &raw].concat() && end.is_ok(), "{padding}: {end:?}");
    }
    assert!(decoded(&[&whole[..], &[0; 512], b"no member"].concat()).1.is_err());
}

#[test]
fn damage_is_told_in_words() {
    let [lz4, zstd] = [Compression::Lz4, Compression::Zstd(3)]
        .map(|compression| compressed(compression, &[bytes(50_000, 1), bytes(50_000, 2)]).0);
    let unfinished = "the compressed stream ends before its end mark";
    let corrupt = |place: usize| [&lz4[..place], &[lz4[place] ^ 1], &lz4[place + 1..]].concat();
    // A frame without content that looks back 2 GiB.
    let far = [&ZSTD_MAGIC[..], &[0, 21 << 3, 1, 0, 0]].concat();
    for (file, words) in [
        (lz4[..lz4.len() / 2].to_vec(), unfinished),
        (lz4[..lz4.len() - 1].to_vec(), unfinished),
        (zstd[..zstd.len() / 2].to_vec(), unfinished),
        (corrupt(1_000), "lz4: corrupt frame"),
        (corrupt(lz4.len() - 1), "lz4: corrupt frame"),
        ([&lz4[..], b"no frame"].concat(), "lz4: something else than a frame stands behind the last one"),
        (far, "zstd: decoding takes more than 128 MiB of memory; decompress it first, by `zstd -d --long=31`"),
    ] {
        assert_eq!(decoded(&file).1.unwrap_err().to_string(), words);
    }
}
