//! Filters say which inner frames are kept, whatever receives them.

use std::fs;
use std::path::Path;

use crate::captures::{self, assert_holds, assert_same};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::replay::replay_all;
use crate::sensor::Setup;
use crate::tcpdump::Tcpdump;

/// Frames that are sent, in conversations that take turns.
const FRAMES: usize = 400;

#[test]
fn an_expression_keeps_the_frames_that_satisfy_it() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..FRAMES as u32).map(|n| frames::numbered(n, 200)).collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    // The number is behind the UDP header, and the last byte of a frame is the lowest of it.
    for (way, expression, keeps) in [
        ("--source udp", "udp&&udp[157]&1=1", (|n| n % 2 == 1) as fn(usize) -> bool),
        ("--source bpf --interface eth0 --attach xdp", "udp[157]=7||udp[157]=8", |n| [7, 8].contains(&(n % 256))),
        ("--source bpf --interface eth0 --attach tc", "len=200&&udp[157]<16", |n| n % 256 < 16),
    ] {
        let pair = Pair::new(1600);
        let sensor =
            Setup::new(&pair.sensor).with(way).with("--tap mirror0 --snaplen 60 --filter").with(expression).start();
        let seen = Tcpdump::start(&pair.sensor, "mirror0", "");
        replay_all(&pair.sender, pair.target(Ip::V4), &[Path::new(&file)], "--vni 5 --rate 20000", FRAMES);
        let seen = seen.frames();
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        let wanted: Vec<_> = (0..FRAMES).filter(|n| keeps(*n)).map(|n| &frames[n]).collect();
        assert_same(way, &seen, &wanted);
        let heads: Vec<_> = wanted.iter().map(|frame| &frame[..60]).collect();
        let records = captures::session(&ended.captures, pair.source(Ip::V4), 5);
        assert_holds(way, &records, &heads);
        for output in ["pcap", "mirror0"] {
            let filtered = ended.ledger.get(&format!("/outputs/{output}/filtered"));
            ended.ledger.assert_output_closes(output);
            assert_eq!(filtered as usize, FRAMES - wanted.len(), "{way}");
        }
    }
}

/// Returns a UDP frame from one host to another with its number, of which the lowest bit is that of
/// the destination port.
fn between(number: u32, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut frame = frames::between(number, source, destination);
    frame[36..38].copy_from_slice(&(1000 + number as u16 % 2).to_be_bytes());
    frame
}

#[test]
fn rules_keep_what_they_accept_by_direction() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mirrored, other) = ([10, 73, 0, 1], [10, 0, 0, 9]);
    let frames: Vec<_> = (0..FRAMES as u32)
        .map(|n| if n % 4 < 2 { between(n, mirrored, other) } else { between(n, other, mirrored) })
        .collect();
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let configuration = directory.path().join("vxtap.toml");
    for source in ["udp", "bpf"] {
        let pair = Pair::new(1600);
        assert_eq!(pair.source(Ip::V4), std::net::IpAddr::from(mirrored));
        let captures = directory.path().join(source);
        let interface = if source == "bpf" { "interface = \"eth0\"\n" } else { "" };
        let text = format!(
            "[receive]\nsource = \"{source}\"\n{interface}\
             [[session]]\nname = \"web\"\nvni = 5\nrules = [\n\
             {{ number = 100, action = \"accept\", direction = \"egress\", protocol = \"udp\", ports = 1001 }},\n\
             {{ number = 100, action = \"reject\", direction = \"ingress\", ports = \"1001\" }},\n\
             {{ number = 200, action = \"accept\", direction = \"ingress\", source = \"10.0.0.0/24\" }},\n]\n\
             [[session]]\nvni = 6\nfilter = \"udp dst port 1000\"\n\
             [output.evidence]\nkind = \"pcap\"\ndirectory = \"{}\"\n",
            captures.display()
        );
        fs::write(&configuration, text).unwrap();
        let sensor = Setup::new(&pair.sensor).configured(&configuration).start();
        for vni in [5, 6, 7] {
            let arguments = format!("--vni {vni} --rate 20000");
            replay_all(&pair.sender, pair.target(Ip::V4), &[Path::new(&file)], &arguments, FRAMES);
        }
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_output_closes("evidence");
        for (vni, name, reason, keeps) in [
            (5, "web", "rule", (|n| n % 4 == 1 || n % 4 == 2) as fn(usize) -> bool),
            (6, "", "expression", |n| n % 2 == 0),
            (7, "", "", |_| true),
        ] {
            let wanted: Vec<_> = (0..FRAMES).filter(|n| keeps(*n)).map(|n| &frames[n]).collect();
            let session = captures.join(captures::session_name(name, pair.source(Ip::V4), vni));
            let records: Vec<_> = captures::files(&session).iter().flat_map(|file| captures::read(file)).collect();
            assert_holds(source, &records, &wanted);
            if !reason.is_empty() {
                let filtered = ended.ledger.get(&format!("/outputs/evidence/filtered_by/{reason}"));
                assert_eq!(filtered as usize, FRAMES - wanted.len(), "{source}");
            }
        }
    }
}
