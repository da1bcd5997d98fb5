//! Frames in GENEVE are redirected where the header tells of nothing but the VNI. All else is
//! injected, and the ledger has both.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::captures::{self, assert_same};
use crate::datagrams;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::redirect::{REDIRECT, WAYS, assert_all_is_well, fast_path, sensor};
use crate::replay::replay_all;
use crate::tcpdump::Tcpdump;

/// The listeners of both encapsulations whose headers the program takes off.
const LISTEN: &str = "--listen 4789 --listen geneve:6081";

fn geneve_of(pair: &Pair, ip: Ip) -> SocketAddr {
    SocketAddr::new(pair.target(ip).ip(), 6081)
}

/// Frames, and a capture of them.
struct Assorted {
    directory: TempDir,
    frames: Vec<Vec<u8>>,
    file: PathBuf,
    n: u64,
}

/// Makes frames to replay, for a test that has tcpdump for a judge.
fn assorted(count: u32) -> Option<Assorted> {
    if !need::programs(&["tcpdump"]) {
        return None;
    }
    let (directory, frames) = (tempfile::tempdir().unwrap(), frames::assorted(count));
    let (file, n) = (frames::write(directory.path(), "frames.pcap", &frames), frames.len() as u64);
    Some(Assorted { directory, frames, file, n })
}

fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort();
    frames
}

#[test]
fn geneve_is_redirected_beside_vxlan_and_what_has_options_is_injected() {
    let Some(Assorted { directory: _directory, frames, file, n }) = assorted(200) else { return };
    for (ip, arguments) in [Ip::V4, Ip::V6].into_iter().flat_map(|ip| WAYS.map(|arguments| (ip, arguments))) {
        let pair = Pair::new(2000);
        let sensor = sensor(&pair, &format!("{LISTEN} --workers 2 {arguments}"));
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        // The same source and VNI in both, and in options.
        let (vxlan, geneve) = (pair.target(ip), geneve_of(&pair, ip));
        for (to, wrap) in [(vxlan, "vxlan"), (geneve, "geneve"), (geneve, "gwlb"), (geneve, "gcp")] {
            replay_all(&pair.sender, to, &[&file], &format!("--as {wrap} --vni 7 --rate 5000"), frames.len());
        }
        let seen = tcpdump.frames_of(4 * frames.len());
        // What comes bare has a header that is made up.
        let (bare, whole): (Vec<_>, Vec<_>) = seen.into_iter().partition(|frame| frame[..2] == [6, frame[7]]);
        let wanted = [frames.as_slice(); 3].concat();
        assert_same(&format!("with its header, {ip:?} {arguments}"), &sorted(whole), &sorted(wanted));
        let packets = |all: &[Vec<u8>]| sorted(all.iter().map(|frame| frame[12..].to_vec()).collect());
        assert_same("bare", &packets(&bare), &packets(&frames));
        let ended = sensor.stop();
        // That of the files is for VXLAN.
        assert_all_is_well(&ended, "--no-write");
        pair.assert_all_arrived(ended.ledger.received(), 4 * frames.len());
        assert_eq!(fast_path(&ended, "redirected"), 2 * n, "{:#}", ended.ledger.0);
        assert_eq!(fast_path(&ended, "not_redirected/odd"), 2 * n, "{:#}", ended.ledger.0);
        let sessions: Vec<_> = ended.ledger.sessions().iter().map(|(_, vni, frames)| (*vni, *frames)).collect();
        assert_eq!(sessions.len(), 4, "{sessions:?}");
        assert!(sessions.iter().all(|(_, frames)| *frames == n), "{sessions:?}");
        if arguments.is_empty() {
            ended.ledger.assert_output_closes("pcap");
            let source = pair.source(ip).to_string().replace(':', "-");
            for name in [format!("vni7_{source}"), format!("geneve_vni7_{source}")] {
                let records = captures::of_directory(&ended.captures.join(&name));
                let found: Vec<_> = records.iter().map(|record| &record.frame).collect();
                assert_same(&name, &found, &frames);
            }
        }
    }
}

/// A header of GENEVE without options, with these in place of its first, second and last byte, and
/// what follows.
fn geneve([first, flags, last]: [u8; 3], protocol: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = protocol.to_be_bytes();
    [&[first, flags, high, low, 0, 0, 9, last], rest].concat()
}

#[test]
fn what_is_odd_about_geneve_is_decided_by_user_space() {
    const ETHERNET: u16 = 0x6558;
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let frame = |number| frames::numbered(number, 60);
    let with = |options: &[u8], frame: Vec<u8>| [options, &frame].concat();
    let packet = frame(20)[14..].to_vec();
    // Each payload with the frame that it carries, if it carries one.
    let all: Vec<(Vec<u8>, Option<Vec<u8>>)> = vec![
        (geneve([0; 3], ETHERNET, &frame(1)), Some(frame(1))),
        // An option that nobody knows, one that is known and names nothing, one that is critical
        // though the header says that none is.
        (geneve([1, 0, 0], ETHERNET, &with(&[0x12, 0x34, 5, 0], frame(2))), Some(frame(2))),
        (geneve([2, 0, 0], ETHERNET, &with(&[1, 8, 2, 1, 9, 9, 9, 9], frame(3))), Some(frame(3))),
        (geneve([1, 0, 0], ETHERNET, &with(&[0x12, 0x34, 0x85, 0], frame(4))), Some(frame(4))),
        // The C bit without and with an option; a reserved bit; the reserved byte.
        (geneve([0, 0x40, 0], ETHERNET, &frame(5)), Some(frame(5))),
        (geneve([1, 0x40, 0], ETHERNET, &with(&[0x12, 0x34, 0x85, 0], frame(6))), Some(frame(6))),
        (geneve([0, 0x01, 0], ETHERNET, &frame(7)), Some(frame(7))),
        (geneve([0, 0, 1], ETHERNET, &frame(8)), Some(frame(8))),
        // An endpoint and a network: sessions of their own.
        (geneve([3, 0, 0], ETHERNET, &with(&[1, 8, 1, 2, 0, 0, 0, 0, 0, 0, 0, 6], frame(9))), Some(frame(9))),
        (geneve([2, 0, 0], ETHERNET, &with(&[1, 0x32, 1, 1, 0, 0, 0, 0x51], frame(10))), Some(frame(10))),
        // A message; another version; a header, and options, that end too soon; an option that is
        // too long; another protocol, also with the first word of a header of VXLAN; half a frame.
        (geneve([0, 0x80, 0], ETHERNET, &frame(11)), None),
        (geneve([0x40, 0, 0], ETHERNET, &frame(12)), None),
        (geneve([0; 3], ETHERNET, &[])[..3].to_vec(), None),
        (geneve([0; 3], ETHERNET, &[])[..7].to_vec(), None),
        (geneve([63, 0, 0], ETHERNET, &frame(13)), None),
        (geneve([1, 0, 0], ETHERNET, &with(&[0x12, 0x34, 5, 1], frame(14))), None),
        (geneve([0; 3], 0x894f, &frame(15)), None),
        (geneve([8, 0, 0], 0, &with(&[0; 32], frame(16))), None),
        (geneve([0; 3], ETHERNET, &frame(17)[..13]), None),
        // As short as a frame can be, which the kernel takes no header off of.
        (geneve([0; 3], ETHERNET, &frame(18)[..14]), Some(frame(18)[..14].to_vec())),
        (geneve([0; 3], ETHERNET, &frame(19)), Some(frame(19))),
        // Bare, which gets a header.
        (geneve([0; 3], 0x0800, &packet), None),
    ];
    let payloads: Vec<_> = all.iter().map(|(payload, _)| payload.clone()).collect();
    let wanted: Vec<_> = all.iter().filter_map(|(_, frame)| frame.clone()).collect();
    for (ip, arguments) in [Ip::V4, Ip::V6].into_iter().flat_map(|ip| WAYS.map(|arguments| (ip, arguments))) {
        let pair = Pair::new(1600);
        let sensor = sensor(&pair, &format!("{LISTEN} {arguments}"));
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        datagrams::send(&pair.sender, geneve_of(&pair, ip), &payloads);
        // A header of GENEVE where VXLAN comes.
        datagrams::send(&pair.sender, pair.target(ip), &payloads[..1]);
        let seen = tcpdump.frames_of(wanted.len() + 1);
        let (bare, whole): (Vec<_>, Vec<_>) = seen.into_iter().partition(|frame| frame[14..] == packet[..]);
        assert_same(&format!("{ip:?} {arguments}"), &sorted(whole), &sorted(wanted.clone()));
        assert_eq!(bare.len(), 1);
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let get = |what: &str| ended.ledger.get(what);
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("mirror0");
        let frames = wanted.len() as u64 + 1;
        let received = all.len() as u64 + 1;
        assert_eq!((get("/received"), get("/decapsulated")), (received, frames), "{:#}", ended.ledger.0);
        assert_eq!(get("/outputs/mirror0/written"), frames);
        let dropped = [
            ("control_message", 1),
            ("unknown_tunnel_version", 1),
            ("short_tunnel_header", 3),
            ("bad_geneve_options", 1),
            ("unknown_inner_protocol", 2),
            ("runt_inner_frame", 1),
            ("vni_flag_clear", 1),
        ];
        for (reason, n) in dropped {
            assert_eq!(get(&format!("/dropped/{reason}")), n, "{reason}: {:#}", ended.ledger.0);
        }
        assert_eq!((get("/unknown_options"), get("/reserved_bits")), (3, 2), "{:#}", ended.ledger.0);
        assert_eq!((fast_path(&ended, "redirected"), fast_path(&ended, "not_redirected/odd")), (2, received - 2));
        assert_eq!(ended.ledger.sessions().len(), 3, "that without a scope, and two that have one");
        if arguments.is_empty() {
            ended.ledger.assert_output_closes("pcap");
        }
    }
}

#[test]
fn geneve_that_is_not_allowed_is_not_redirected() {
    let Some(Assorted { directory: _directory, frames, file, n }) = assorted(100) else { return };
    let places = ["--source bpf --interface eth0 --tap mirror0 --attach xdp", REDIRECT];
    for (place, arguments) in places.into_iter().flat_map(|place| WAYS.map(|arguments| (place, arguments))) {
        let pair = Pair::new(2000);
        let listen = format!("{LISTEN} --vni 7 --vni-mask 0x0fffff {arguments}");
        let sensor = crate::sensor::Setup::new(&pair.sensor).with(place).with(&listen).start();
        let tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        for vni in [7, 8, 0x10_0007] {
            let arguments = format!("--as geneve --vni {vni} --rate 5000");
            replay_all(&pair.sender, geneve_of(&pair, Ip::V4), &[&file], &arguments, frames.len());
        }
        assert_same(place, &tcpdump.frames_of(2 * frames.len()), &[frames.as_slice(); 2].concat());
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("mirror0");
        pair.assert_all_arrived(ended.ledger.received(), 3 * frames.len());
        assert_eq!((fast_path(&ended, "unselected"), ended.ledger.get("/unselected")), (n, n));
        let redirected = if place == REDIRECT { 2 * n } else { 0 };
        assert_eq!(fast_path(&ended, "redirected"), redirected, "{place}");
        let sessions: Vec<_> = ended.ledger.sessions().iter().map(|(_, vni, frames)| (*vni, *frames)).collect();
        assert_eq!(sessions, [(7, 2 * n)]);
    }
}

/// Sessions of the same source and VNI that differ in their wrap have a tag each. One that has a
/// scope as well is not known to the program, and is injected.
#[test]
fn sessions_of_geneve_and_vxlan_that_are_redirected_have_their_own_tags() {
    let Some(Assorted { directory, frames, file, n }) = assorted(100) else { return };
    let tagged = |frame: &Vec<u8>, vlan: u8| [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat();
    for arguments in WAYS {
        let pair = Pair::new(2000);
        let map = directory.path().join("tags.json");
        let _ = fs::remove_file(&map);
        let options = format!("--tap-tag session --tag-map {} {arguments}", map.display());
        let sensor = sensor(&pair, &format!("{LISTEN} {options}"));
        let mut tcpdump = Tcpdump::start(&pair.sensor, "mirror0", "");
        let (vxlan, geneve) = (pair.target(Ip::V4), geneve_of(&pair, Ip::V4));
        let mut wanted = Vec::new();
        let steps = [(geneve, "geneve", 1), (vxlan, "vxlan", 2), (geneve, "gwlb", 3)];
        // A session is marked behind its first frames, and redirected from the second round on.
        for (to, wrap, vlan) in [steps, steps].concat() {
            replay_all(&pair.sender, to, &[&file], &format!("--as {wrap} --vni 7 --rate 5000"), frames.len());
            wanted.extend(frames.iter().map(|frame| tagged(frame, vlan)));
            tcpdump.has_captured(wanted.len());
        }
        assert_same(arguments, &sorted(tcpdump.frames()), &sorted(wanted));
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("mirror0");
        let redirected = fast_path(&ended, "redirected");
        let by_user_space = ["session", "odd"].map(|why| fast_path(&ended, &format!("not_redirected/{why}")));
        assert!(redirected >= 2 * n, "{:#}", ended.ledger.0);
        assert_eq!((redirected + by_user_space[0], by_user_space[1]), (4 * n, 2 * n), "{:#}", ended.ledger.0);
    }
}
