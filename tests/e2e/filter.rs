//! Filters say which inner frames are kept, whatever receives them.

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
