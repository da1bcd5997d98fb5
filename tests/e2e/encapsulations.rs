//! What other mirrors send than VXLAN comes out as the frames that were sent, by their sessions.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::captures::{self, assert_open, assert_same};
use crate::configuration::{WAYS, configuration};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::on_one_core;
use crate::replay::replay_all;
use crate::sensor::Setup;
use crate::tcpdump::Tcpdump;

/// All listeners that there are beside that of VXLAN.
const LISTEN: &str =
    "--listen geneve:6081 --listen gpe:4790 --listen gre-udp --listen auto:37008 --listen vxlan:8472 --workers 2";

/// Returns the records of the session whose directory has this name.
fn session(captures: &Path, directory: &str) -> Vec<captures::Record> {
    captures::of_directory(&captures.join(directory))
}

/// Has replay wrap frames in each way, and compares what the sensor writes with what was sent.
fn frames_come_out_as_they_were_sent(ip: Ip, more: &str) {
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(300);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(2000);
    let sensor = Setup::new(&pair.sensor).with(LISTEN).with(more).start();
    let source = pair.source(ip).to_string().replace(':', "-");
    let wraps = [
        ("vxlan --vni 7", 8472, format!("vni7_{source}")),
        ("geneve --vni 7", 6081, format!("geneve_vni7_{source}")),
        ("gpe --vni 7", 4790, format!("gpe_vni7_{source}")),
        ("gre --vni 7", 4754, format!("gre_vni0_{source}_0x7")),
        ("erspan --vni 7", 4754, format!("erspan_vni0_{source}_0x7")),
        ("erspan3 --vni 8", 4754, format!("erspan_vni0_{source}_0x8")),
        ("tzsp --vni 7", 37008, format!("tzsp_vni0_{source}_0x20000000007")),
        ("gwlb --vni 7", 6081, "geneve_vni7_192.0.2.1_0x76bc493b822cd32".to_owned()),
        ("gcp --vni 7", 6081, format!("geneve_vni0_{source}_0x7")),
    ];
    for (wrap, port, _) in &wraps {
        let to = SocketAddr::new(pair.target(ip).ip(), *port);
        replay_all(&pair.sender, to, &[&file], &format!("--as {wrap}"), frames.len());
    }
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_received_closes();
    ended.ledger.assert_output_closes("pcap");
    ended.ledger.assert_lossless();
    pair.assert_all_arrived(ended.ledger.received(), wraps.len() * frames.len());
    for (wrap, _, name) in &wraps {
        let records = session(&ended.captures, name);
        assert!(records.iter().all(|record| record.orig_len as usize == record.frame.len()), "{wrap}");
        if !wrap.starts_with("gcp") {
            let found: Vec<_> = records.iter().map(|record| &record.frame).collect();
            assert_same(wrap, &found, &frames);
            continue;
        }
        // The packet is as it was, behind a header that is made up and the same for all.
        let packets: Vec<_> = records.iter().map(|record| &record.frame[12..]).collect();
        assert_same(wrap, &packets, &frames.iter().map(|frame| &frame[12..]).collect::<Vec<_>>());
        let made_up = &records[0].frame[..12];
        assert_eq!((made_up[0], made_up[6], &made_up[1..6]), (6, 2, &made_up[7..]), "from the machine");
        assert!(records.iter().all(|record| &record.frame[..12] == made_up));
    }
    assert_open(&captures::files(&ended.captures));
    let sessions = ended.ledger.0["sessions"].as_array().unwrap();
    let told = |encapsulation: &str, scope: &str| {
        let is = |session: &&Value| session["encapsulation"] == encapsulation && session["scope"] == scope;
        sessions.iter().find(is).map(|session| (session["source"].clone(), session["vni"].clone()))
    };
    assert_eq!(told("geneve", "0x76bc493b822cd32"), Some((json!("192.0.2.1"), json!(7))));
    assert_eq!(told("gre", "0x7"), Some((json!(pair.source(ip).to_string()), json!(0))));
    assert_eq!(sessions.len(), wraps.len());
}

#[test]
fn every_encapsulation_over_ipv4() {
    frames_come_out_as_they_were_sent(Ip::V4, "");
}

#[test]
fn every_encapsulation_over_ipv6() {
    frames_come_out_as_they_were_sent(Ip::V6, "--source udp");
}

#[test]
fn sessions_are_selected_by_the_mirrored_source() {
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(50);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(2000);
    let sensor = Setup::new(&pair.sensor).with("--listen auto:6081 --from 192.0.2.0/24 --tap m").start();
    let to = SocketAddr::new(pair.target(Ip::V4).ip(), 6081);
    for wrap in ["--as gwlb --vni 9", "--as geneve --vni 9"] {
        replay_all(&pair.sender, to, &[&file], wrap, frames.len());
    }
    let ended = sensor.stop();
    ended.ledger.assert_received_closes();
    assert_eq!((ended.ledger.get("/decapsulated"), ended.ledger.get("/unselected")), (100, 50));
    assert_eq!(ended.ledger.get("/outputs/m/written"), 50);
    assert_eq!(session(&ended.captures, "geneve_vni9_192.0.2.1_0x76bc493b822cd32").len(), 50);
}

/// Some senders say by high bits of the VNI which way a frame went. Both ways are one session then,
/// wherever VNIs are looked at: on the way to a worker, in the program, in lists, in the captures.
#[test]
fn of_a_vni_with_other_bits_those_that_name_the_network_count() {
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let redirect = "--source bpf --interface eth0 --tap m --tap-mode redirect";
    for way in ["", "--source bpf --interface eth0 --attach xdp", "--source bpf --interface eth0 --attach tc", redirect]
    {
        let pair = Pair::new(2000);
        let arguments = "--listen 4789 --vni 7 --workers 4 --vni-mask 0x0fffff";
        let sensor = Setup::new(&pair.sensor).with(arguments).with(way).start();
        for vni in [0x10_0007, 0x20_0007, 7, 0x10_0008] {
            replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--vni {vni}"), frames.len());
        }
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{way}: {:#?}", ended.log);
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("pcap");
        pair.assert_all_arrived(ended.ledger.received(), 4 * frames.len());
        assert_eq!(ended.ledger.get("/unselected"), frames.len() as u64, "{way}");
        let sessions: Vec<_> = ended.ledger.sessions().iter().map(|(_, vni, frames)| (*vni, *frames)).collect();
        assert_eq!(sessions, [(7, 3 * frames.len() as u64)], "{way}");
        let records = session(&ended.captures, &format!("vni7_{}", pair.source(Ip::V4)));
        let found: Vec<_> = records.iter().map(|record| &record.frame).collect();
        assert_same(way, &found, &[&frames[..], &frames, &frames].concat());
    }
}

/// Azure's balancer has a tunnel for each way. The files have the direction, and rules go by it.
#[test]
fn the_tunnels_of_azure_are_the_ways_of_one_session() {
    if !need::programs(&["tshark"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    for (way, rules, kept) in [
        (WAYS[0], "", &["0x00000001", "0x00000002"][..]),
        (WAYS[1], "", &["0x00000001", "0x00000002"]),
        (
            WAYS[0],
            "[[session]]\n[[session.rules]]\nnumber = 1\ndirection = \"ingress\"\naction = \"accept\"\n",
            &["0x00000001"],
        ),
    ] {
        let pair = Pair::new(2000);
        let at = tempfile::tempdir().unwrap();
        let receive = format!("listen = [\"10800\", \"10801\"]\nvni_mask = \"0xfffffe\"\nworkers = 2\n{way}");
        let config = configuration(at.path(), &receive, rules, "format = \"pcapng\"");
        let sensor = Setup::new(&pair.sensor).configured(&config).start();
        for (port, vni) in [(10_801, 801), (10_800, 800)] {
            let to = SocketAddr::new(pair.target(Ip::V4).ip(), port);
            replay_all(&pair.sender, to, &[&file], &format!("--vni {vni}"), frames.len());
        }
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        ended.ledger.assert_received_closes();
        ended.ledger.assert_output_closes("evidence");
        pair.assert_all_arrived(ended.ledger.received(), 2 * frames.len());
        let sessions: Vec<_> = ended.ledger.sessions().iter().map(|(_, vni, frames)| (*vni, *frames)).collect();
        assert_eq!(sessions, [(800, 2 * frames.len() as u64)]);
        let files = captures::files(&at.path().join("evidence"));
        let ways: Vec<_> =
            files.iter().flat_map(|path| captures::tshark(path, &["frame.packet_flags_direction"])).collect();
        let wanted: Vec<_> = kept.iter().flat_map(|way| vec![*way; frames.len()]).collect();
        assert_eq!(ways, wanted);
    }
}

/// Sends through a device of the sender, which is 1 of this network (three numbers of an IPv4
/// address), and returns the frames that left by it.
#[track_caller]
pub(crate) fn what_leaves_by(pair: &Pair, device: &str, network: &str) -> Vec<Vec<u8>> {
    let sender = &pair.sender;
    sender.sysctl(&format!("net.ipv6.conf.{device}.disable_ipv6"), "1");
    sender.no_offloads(device);
    sender.ip(&format!("link set {device} up"));
    sender.ip(&format!("addr add {network}.1/24 dev {device}"));
    sender.ip(&format!("neigh replace {network}.3 lladdr 02:00:00:00:77:03 nud permanent dev {device}"));
    let witness = Tcpdump::start(sender, device, "ether src 02:00:00:00:77:01");
    on_one_core(|| {
        let mut ping = sender.command("ping");
        // Nobody answers.
        ping.args(["-q", "-c", "20", "-i", "0.01", "-W", "0.1", "-s", "1000", &format!("{network}.3")]);
        assert_eq!(ping.output().unwrap().status.code(), Some(1));
    });
    witness.frames()
}

/// The kernel's own device sends what it is given, and the sensor writes what left by it.
#[test]
fn the_kernels_geneve_device() {
    if !need::programs(&["tcpdump", "ping"]) {
        return;
    }
    let pair = Pair::new(2000);
    if !pair.sender.can_make("geneve") {
        return need::part_is_left_out("this kernel has no device of type geneve");
    }
    let sensor = Setup::new(&pair.sensor).with("--listen geneve:6081").start();
    let target = pair.target(Ip::V4).ip();
    pair.sender.ip(&format!("link add g0 address 02:00:00:00:77:01 mtu 1500 type geneve id 77 remote {target}"));
    let seen = what_leaves_by(&pair, "g0", "10.99.0");
    let ended = sensor.stop();
    ended.ledger.assert_received_closes();
    ended.ledger.assert_lossless();
    let name = format!("geneve_vni77_{}", pair.source(Ip::V4));
    let found: Vec<_> = session(&ended.captures, &name).into_iter().map(|record| record.frame).collect();
    assert!(seen.len() >= 20, "{}", seen.len());
    assert_same("what left by the device", &found, &seen);
}
