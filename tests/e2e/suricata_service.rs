//! The service that has Suricata sniff the mirror interface, as the package brings it, with the
//! Suricata and the configuration of Debian's package.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::package::WITH_INTERFACE;
use crate::process::{eventually, run};
use crate::replay::replay_all;
use crate::service::{self, UNIT as SENSOR};
use crate::suricata;
use crate::systemd::{self, Root, Systemd};
use crate::tags::conversation;

/// The unit under test.
const UNIT: &str = "vxtap-suricata.service";

/// Where Suricata logs, as the unit says.
const LOGS: &str = "/var/log/vxtap-suricata";

/// Where Debian's configuration looks for rules.
const RULES: &str = "/var/lib/suricata/rules/suricata.rules";

/// A rule that finds what neither of two fragments has.
const FRAGMENTS: &str = "alert udp any any -> any 9 (msg:\"fragmented\"; content:\"fragmented-\"; sid:3; rev:1;)\n";

/// What comes to each unit here: there is nothing of a host around it, and no journal.
const HERE: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nStandardError=append:/var/log/units.log\n";

/// A rule that finds requests for this path.
fn rule(path: &str, sid: u32) -> String {
    format!("alert http any any -> any any (msg:\"{path}\"; http.uri; content:\"{path}\"; sid:{sid}; rev:1;)\n")
}

/// A host with both services.
struct Host {
    pair: Pair,
    systemd: Systemd,
}

impl Host {
    fn new() -> Host {
        let pair = Pair::new(1600);
        let units = [
            (SENSOR, include_str!("../../systemd/vxtap.service")),
            ("vxtap.service.d/tap.conf", include_str!("../../systemd/drop-ins/tap.conf")),
            // As udev has it, whatever this machine does.
            ("vxtap.service.d/tun.conf", "[Service]\nBindPaths=/srv/tun:/dev/net/tun\n"),
            ("vxtap.service.d/here.conf", HERE),
            (UNIT, include_str!("../../systemd/vxtap-suricata.service")),
            ("vxtap-suricata.service.d/here.conf", HERE),
        ];
        let host = Host { systemd: Systemd::start(&pair.sensor, Root::Copy, &units), pair };
        let mut configuration = include_str!("../../systemd/vxtap.toml").to_owned();
        for (from, to) in WITH_INTERFACE {
            assert!(configuration.contains(from), "{from} is not in {configuration}");
            configuration = configuration.replace(from, to);
        }
        service::bring(&host.systemd, &configuration);
        host.systemd.write(RULES, &rule("/tenant-a", 1));
        run(host.systemd.command("mknod").args(["-m", "666", "/srv/tun", "c", "10", "200"]));
        host
    }

    /// Returns what Suricata has said about itself.
    fn log(&self) -> String {
        fs::read_to_string(self.systemd.inside(LOGS).join("suricata.log")).unwrap_or_default()
    }

    /// Starts a unit, which must succeed.
    #[track_caller]
    fn starts(&self, unit: &str) {
        let output = self.systemd.systemctl(&format!("start {unit}"));
        let log = || fs::read_to_string(self.systemd.inside("/var/log/units.log")).unwrap_or_default();
        assert!(output.status.success(), "{output:?}\n{}\n{}\n{:#?}", log(), self.log(), self.systemd.log());
    }

    /// Plays these frames of two sessions in turn, one of VNI 1 and then one of VNI 2.
    fn plays(&self, frames: [Vec<Vec<u8>>; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = frames;
        for (step, frames) in a.into_iter().zip(b).enumerate() {
            for (vni, frame) in [(1, frames.0), (2, frames.1)] {
                let file = frames::write(directory.path(), &format!("{step}-{vni}"), &[frame]);
                replay_all(&self.pair.sender, self.pair.target(Ip::V4), &[&file], &format!("--vni {vni}"), 1);
            }
        }
    }

    /// Plays a conversation for each session, all of them between the same hosts and ports.
    fn talks(&self, port: u16) {
        self.plays(["/tenant-a", "/tenant-b"].map(|path| conversation(path, port)));
    }

    /// Returns what Suricata has told of this kind so far: the VLANs, and what is at this place.
    fn found(&self, kind: &str, at: &str) -> Vec<(Value, Value)> {
        let events = suricata::events(&self.systemd.inside(LOGS));
        let events = events.into_iter().filter(|event| event["event_type"] == kind);
        events.map(|event| (event["vlan"].clone(), event.pointer(at).cloned().unwrap_or_default())).collect()
    }

    /// Waits until the rules have found as many as these, which must be all of them, in any order.
    #[track_caller]
    fn comes_to_find(&self, alerts: &[(u32, &str)]) {
        let mut wanted: Vec<_> = alerts.iter().map(|(vlan, what)| (json!([vlan]), json!(what))).collect();
        let found = || self.found("alert", "/alert/signature");
        eventually(&format!("Suricata finds {wanted:?}"), || found().len() >= wanted.len());
        let mut found = found();
        for list in [&mut wanted, &mut found] {
            list.sort_by_key(|(vlan, what)| format!("{what}{vlan}"));
        }
        assert_eq!(found, wanted);
    }
}

/// Returns the two fragments of a UDP datagram that says this, with the same addresses and number
/// for each.
fn fragments(says: &str) -> Vec<Vec<u8>> {
    let datagram = [&[0x9c, 0x40, 0, 9, 0, 48, 0, 0][..], format!("{says:>40}").as_bytes()].concat();
    let fragment = |more: bool, from: usize, to: usize| {
        let at = (u16::from(more) << 13 | (from / 8) as u16).to_be_bytes();
        let length = (20 + to - from) as u16;
        let mut header = vec![0x45, 0, 0, 0, 0x77, 0x77, at[0], at[1], 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        header[2..4].copy_from_slice(&length.to_be_bytes());
        let sum: u32 = header.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
        frame.extend(header);
        frame.extend(&datagram[from..to]);
        frame.resize(frame.len().max(60), 0);
        frame
    };
    // What it says is at its end, in both.
    vec![fragment(true, 0, 40), fragment(false, 40, 48)]
}

#[test]
fn the_service_of_suricata_tells_tenants_with_equal_addresses_apart() {
    if !need::programs(&["suricata", "systemd-sysusers", "mknod"]) || !systemd::is_here() {
        return;
    }
    if !Path::new("/etc/suricata/suricata.yaml").exists() {
        return need::cannot("there is no configuration of Suricata's package");
    }
    let host = Host::new();
    // It brings the sensor along.
    host.starts(UNIT);
    eventually("Suricata sniffs", || host.log().contains("Engine started"));
    let first = host.systemd.main_process(UNIT);
    let mut wanted = vec![(1, "/tenant-a")];
    host.talks(40_000);
    host.comes_to_find(&wanted);
    host.systemd.write(RULES, &[rule("/tenant-a", 1), rule("/tenant-b", 2), FRAGMENTS.to_owned()].concat());
    host.systemd.does(&format!("reload {UNIT}"));
    eventually("the rules are read again", || host.log().contains("rule reload complete"));
    host.plays([fragments("fragmented-a"), fragments("fragmented-b")]);
    wanted.extend([(1, "fragmented"), (2, "fragmented")]);
    host.comes_to_find(&wanted);
    // It goes on with the interface, which outlives the sensor, and with one that is made anew.
    host.systemd.does(&format!("restart {SENSOR}"));
    host.talks(40_001);
    wanted.extend([(1, "/tenant-a"), (2, "/tenant-b")]);
    host.comes_to_find(&wanted);
    host.systemd.does(&format!("stop {SENSOR}"));
    host.systemd.does(&format!("start {SENSOR}"));
    let count = |words: &str| host.log().matches(words).count();
    let threads: usize = host.log().split_once("creating ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    eventually("all threads sniff again", || count("interface is back up") == threads);
    host.talks(40_002);
    wanted.extend([(1, "/tenant-a"), (2, "/tenant-b")]);
    host.comes_to_find(&wanted);
    assert_eq!(host.systemd.main_process(UNIT), first);
    host.systemd.does(&format!("stop {UNIT}"));
    assert_eq!(host.systemd.property(UNIT, "Result"), "success");
    // The fragments are from the first port, too.
    let mut flows: Vec<_> =
        host.found("flow", "/src_port").iter().map(|(vlan, port)| format!("{port} {vlan}")).collect();
    flows.sort();
    assert_eq!(
        flows,
        ["40000 [1]", "40000 [1]", "40000 [2]", "40000 [2]", "40001 [1]", "40001 [2]", "40002 [1]", "40002 [2]"]
    );
}
