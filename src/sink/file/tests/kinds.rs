//! Bare packets are written as they came, in files that have them alone or an interface for them.

use super::crash::{assert_hashed, copy, restart};
use super::*;
use crate::evidence::Algorithm;
use crate::record::bare_ip::BareIp;
use crate::record::read::CaptureReader;

/// Length of the packets in [`frame`].
const PACKET: usize = 24;
const ETHERNET: u16 = 1;
const RAW: u16 = 101;

/// Makes a frame that ends with a packet of its own.
fn frame(number: u8) -> Vec<u8> {
    let packet = [&[0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], &[number; 4]].concat();
    [&[6, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 8, 0][..], &packet].concat()
}

impl Rig {
    /// Sends frames (VNI, whether it came as a bare packet, number) in one chunk.
    fn send_kinds(&mut self, frames: &[(u32, bool, u8)]) {
        let mut chunk = Chunk::new(0);
        for (vni, is_bare, number) in frames {
            let (id, time) = (self.id(*vni), Timestamp::from_ns(u64::from(*number) * SECOND));
            chunk.push_kind((id, *is_bare), time, &frame(*number), (PACKET + 14) as u32 + 100);
        }
        self.sent += frames.len() as u64;
        self.sink.consume(&Arc::new(chunk.into()));
    }

    /// Returns the frames of a session, file by file: the link type and the number.
    fn kinds(&self, vni: u32) -> Vec<Vec<(u16, u8)>> {
        let of_file = |path: &PathBuf| {
            let mut reader = CaptureReader::of_any_link_type(fs::File::open(path).unwrap(), "x").unwrap();
            let mut found = Vec::new();
            while let Some(record) = reader.next_frame().unwrap() {
                let number = *record.data.last().unwrap();
                let whole = frame(number);
                let wanted = if record.link_type == RAW { &whole[14..] } else { &whole };
                assert_eq!((record.data, record.orig_len as usize), (wanted, wanted.len() + 100));
                found.push((record.link_type, number));
            }
            found
        };
        let mut paths: Vec<PathBuf> = fs::read_dir(self.dir.path().join(format!("vni{vni}_192.0.2.1")))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(of_file).collect()
    }
}

fn raw(format: Format) -> impl Fn(&mut FilePlan) {
    move |plan| (plan.bare_ip, plan.format) = (BareIp::Raw, format)
}

#[test]
fn the_kind_of_its_frames_is_the_link_type_of_a_file() {
    for format in Format::ALL {
        let mut rig = rig(raw(format));
        // Two sessions have one kind of frames each; in the third the second kind is the end of the
        // file.
        rig.send_kinds(&[(6, true, 1), (7, true, 1), (7, true, 2), (8, false, 1)]);
        rig.send_kinds(&[(6, true, 2), (7, false, 3), (7, true, 4), (8, false, 2), (7, true, 5), (7, false, 6)]);
        rig.sink.finish();
        assert_eq!(rig.kinds(6), [[(RAW, 1), (RAW, 2)]], "{format}");
        assert_eq!(rig.kinds(8), [[(ETHERNET, 1), (ETHERNET, 2)]], "{format}");
        // Classic pcap has one link type, and a packet can have a header where a frame cannot be
        // without.
        let bare = if format == Format::PcapNg { RAW } else { ETHERNET };
        let second = vec![(ETHERNET, 3), (bare, 4), (bare, 5), (ETHERNET, 6)];
        assert_eq!(rig.kinds(7), [vec![(RAW, 1), (RAW, 2)], second], "{format}");
        assert_hashed(rig.dir.path(), |_| true, Some(Algorithm::Sha256));
        assert_eq!(rig.written(), rig.sent);
        let without = if format == Format::PcapNg { 6 } else { 4 };
        let bytes = rig.output.totals().settled().value("written_bytes").unwrap();
        assert_eq!(bytes, rig.sent * (PACKET as u64 + 14) - 14 * without, "{format}");
    }
}

#[test]
fn by_default_all_have_an_ethernet_header() {
    let mut rig = rig(|plan| plan.format = Format::PcapNg);
    rig.send_kinds(&[(7, true, 1), (7, false, 2), (7, true, 3)]);
    rig.sink.finish();
    assert_eq!(rig.kinds(7), [[(ETHERNET, 1), (ETHERNET, 2), (ETHERNET, 3)]]);
}

#[test]
fn each_interface_has_its_statistics() {
    let mut rig = rig(raw(Format::PcapNg));
    rig.send_kinds(&[(7, true, 1), (7, false, 2), (7, true, 3), (7, true, 4)]);
    rig.sink.finish();
    let mut paths: Vec<_> =
        fs::read_dir(rig.dir.path().join("vni7_192.0.2.1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let told: Vec<_> = paths
        .iter()
        .map(|path| {
            let bytes = fs::read(path).unwrap();
            let capture = pcap_parser::PcapNGCapture::from_file(&bytes).unwrap();
            let statistics = capture.sections[0].blocks.iter().filter_map(|block| match block {
                pcap_parser::Block::InterfaceStatistics(block) => {
                    let received = block.options.iter().find(|option| option.code.0 == 4).unwrap();
                    Some((block.if_id, u64::from_le_bytes(received.value[..8].try_into().unwrap())))
                }
                _ => None,
            });
            statistics.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told, [vec![(0, 1)], vec![(0, 1), (1, 2)]]);
}

#[test]
fn files_are_cut_by_the_bytes_that_are_in_them() {
    // Three records, as they are without a header.
    let three = (pcap::FILE_HEADER_LEN + 3 * (pcap::RECORD_HEADER_LEN + PACKET)) as u64;
    for (size, files) in [(three, vec![3, 3, 1]), (three - 1, vec![2, 2, 2, 1])] {
        let mut rig = rig(|plan| {
            raw(Format::Pcap)(plan);
            plan.rotate_size = size;
        });
        rig.send_kinds(&(1..=7).map(|number| (7, true, number)).collect::<Vec<_>>());
        rig.sink.finish();
        assert_eq!(rig.kinds(7).iter().map(Vec::len).collect::<Vec<_>>(), files);
    }
}

#[test]
fn what_a_crash_left_is_salvaged_as_it_is() {
    for format in Format::ALL {
        let mut rig = rig(raw(format));
        rig.send_kinds(&[(6, true, 1), (7, false, 1), (8, true, 1)]);
        rig.send_kinds(&[(6, true, 2), (7, true, 2), (7, false, 3), (8, true, 2)]);
        rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
        // In pcapng the file is complete that has Ethernet alone.
        rig.published(u64::from(format == Format::PcapNg));
        let again = restart(copy(rig.dir.path()), |_| {});
        assert_eq!(again.count(|end| &end.recovered), 3, "{format}");
        for vni in [6, 7, 8] {
            assert_eq!(again.kinds(vni), rig.kinds(vni), "{format}, {vni}");
        }
        assert_eq!(again.kinds(6), [[(RAW, 1), (RAW, 2)]], "{format}");
        assert_hashed(again.dir.path(), |line| line.contains("recovered"), Some(Algorithm::Sha256));
    }
}

#[test]
fn another_plan_is_that_of_the_next_files() {
    let mut rig = rig(|plan| plan.format = Format::Pcap);
    rig.send_kinds(&[(7, true, 1), (8, false, 1)]);
    let mut plan = rig.sink.shared.plan.clone();
    plan.bare_ip = BareIp::Raw;
    rig.sink.replan(plan.clone());
    rig.send_kinds(&[(7, true, 2), (8, false, 2)]);
    plan.bare_ip = BareIp::Ethernet;
    rig.sink.replan(plan);
    rig.send_kinds(&[(7, true, 3), (8, false, 3)]);
    rig.sink.finish();
    assert_eq!(rig.kinds(7), [[(ETHERNET, 1)], [(RAW, 2)], [(ETHERNET, 3)]]);
    assert_eq!(rig.kinds(8), [[(ETHERNET, 1)], [(ETHERNET, 2)], [(ETHERNET, 3)]]);
}
