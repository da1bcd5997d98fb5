//! Packets that came without an Ethernet header are written as they came, where that is wanted.

use std::process::Command;

use rustix::process::Signal;

use crate::captures::{self, assert_open, assert_same, tshark};
use crate::configuration::configuration;
use crate::frames;
use crate::manifest::{assert_verified, events};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::replay_all;
use crate::sensor::Setup;

/// Number of frames that are sent in each way.
const FRAMES: usize = 60;
/// Bytes that a slice keeps of a frame: Ethernet, IPv4, UDP, and the number.
const KEPT: usize = 14 + 20 + 8 + 4;

#[test]
fn bare_packets_are_files_of_their_own_link_type() {
    if !need::programs(&["capinfos", "tshark", "tcpdump"]) {
        return;
    }
    let pair = Pair::new(2000);
    let sent = frames::assorted(FRAMES as u32);
    // Some are not of UDP, which is all that the output takes.
    let other = |number: usize| number.is_multiple_of(10);
    let mut all = sent.clone();
    for (_, frame) in all.iter_mut().enumerate().filter(|(number, _)| other(*number)) {
        frame[23] = 6;
    }
    let kept: Vec<&[u8]> =
        sent.iter().enumerate().filter(|(number, _)| !other(*number)).map(|(_, frame)| &frame[..KEPT]).collect();
    let target = std::net::SocketAddr::new(pair.target(Ip::V4).ip(), 6081);
    let source = pair.source(Ip::V4);
    for format in ["pcap", "pcapng"] {
        let directory = tempfile::tempdir().unwrap();
        let file = frames::write(directory.path(), "frames.pcap", &all);
        let output = format!("format = {format:?}\nbare_ip = \"raw\"\nfilter = \"udp\"");
        let tables = "workers = 1\n[delivery]\nflush = \"100ms\"\n[[session]]\nslice = \"l4+4\"";
        let configured = configuration(directory.path(), "listen = [\"geneve:0.0.0.0:6081\"]", tables, &output);
        let captures = directory.path().join("evidence");
        let sensor = || Setup::new(&pair.sensor).configured(&configured).writing(&captures).start();
        let send = || {
            replay_all(&pair.sender, target, &[&file], "--as gcp --vni 7", FRAMES);
            replay_all(&pair.sender, target, &[&file], "--as geneve --vni 7", FRAMES);
        };
        // The first life ends by a crash, and the second salvages what it left.
        let mut first = sensor();
        send();
        eventually("all is written", || {
            captures::files(&captures).iter().map(|path| captures::readable(path)).sum::<usize>() == 2 * kept.len()
        });
        first.process.signal(Signal::KILL);
        first.process.wait();
        let second = sensor();
        send();
        eventually("what was left is salvaged", || events(&captures, "recovered").len() == 2);
        let ended = second.stop();
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("evidence");
        assert_eq!(ended.ledger.get("/outputs/evidence/written"), 2 * kept.len() as u64);
        assert_eq!(ended.ledger.get("/outputs/evidence/filtered_by/expression"), 2 * (FRAMES - kept.len()) as u64);
        assert_verified(&captures);
        let files = captures::files(&captures);
        assert_eq!(files.len(), 4, "{files:#?}");
        assert_open(&files);
        let twice = [&kept[..], &kept].concat();
        for (session, link, left_out) in
            [(format!("geneve_vni0_{source}_0x7"), "RAW", 14), (format!("geneve_vni7_{source}"), "EN10MB", 0)]
        {
            let records = captures::of_directory(&captures.join(&session));
            let found: Vec<_> = records.iter().map(|record| &record.frame).collect();
            let wanted: Vec<_> = twice.iter().map(|frame| &frame[left_out..]).collect();
            assert_same(&format!("{format}, {session}"), &found, &wanted);
            let lengths = sent.iter().enumerate().filter(|(number, _)| !other(*number)).map(|(_, frame)| frame.len());
            let lengths: Vec<_> = lengths.map(|length| length - left_out).collect();
            let told: Vec<_> = records.iter().map(|record| record.orig_len as usize).collect();
            assert_eq!(told, lengths.repeat(2));
            for path in captures::files(&captures.join(&session)) {
                let flows = tshark(&path, &["ip.src", "udp.dstport"]);
                assert!(flows.iter().all(|flow| flow.starts_with("192.0.2.") && flow.ends_with("\t7")), "{flows:?}");
                let said = run(Command::new("tcpdump").args(["-n", "-c", "1", "-r"]).arg(&path));
                let said = String::from_utf8_lossy(&said.stderr);
                assert!(said.contains(&format!("link-type {link} ")), "{said}");
            }
        }
    }
}
