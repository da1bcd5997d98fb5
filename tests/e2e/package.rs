//! The Debian package is installed in a clean root, with a systemd, and does there what it says:
//! nothing by itself, then all that the service is for, until it is purged.
//!
//! `./ci.sh package` makes the root, with two versions of the package in it, and says where it is.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::systemd::{self, Root, Systemd};
use crate::{frames, replay};

/// The variable that says where the root is.
const ROOT: &str = "VXTAP_TEST_ROOT";

/// Where services log, since no journal runs.
const LOG: &str = "/var/log/vxtap.log";

/// What is to be written for what stands in `systemd/vxtap.toml`, to have an interface for an IDS.
pub(crate) const WITH_INTERFACE: [(&str, &str); 2] = [
    ("# [output.ids]\n# kind = \"tap\"\n", "[output.ids]\nkind = \"tap\"\n"),
    ("# interface = \"mirror0\"\n# tag = \"session\"", "interface = \"mirror0\"\ntag = \"session\""),
];

/// The service.
const UNIT: &str = "vxtap.service";

/// A host with the package.
struct Host {
    root: PathBuf,
    systemd: Systemd,
}

impl Host {
    /// Returns what a command in the root did.
    fn output(&self, words: &[&str]) -> Output {
        self.systemd.command(words[0]).args(&words[1..]).output().unwrap()
    }

    /// Runs a command in the root, which must succeed, and returns what it printed.
    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        String::from_utf8(run(self.systemd.command(words[0]).args(&words[1..])).stdout).unwrap()
    }

    /// Has a service start, which must succeed.
    #[track_caller]
    fn starts(&self, unit: &str) {
        let output = self.systemd.systemctl(&format!("start {unit}"));
        let log = || fs::read_to_string(self.path(LOG)).unwrap_or_default();
        let status = || self.output(&["systemctl", "status", "--lines=0", unit]);
        assert!(output.status.success(), "{output:?}\n{:?}\n{}", status(), log());
    }

    #[track_caller]
    fn state(&self) -> String {
        self.systemd.property(UNIT, "ActiveState")
    }

    /// Returns a path as seen from outside.
    fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Has the configuration say something else.
    #[track_caller]
    fn configure(&self, from: &str, to: &str) {
        let path = self.path("/etc/vxtap/vxtap.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// Returns the names of what is in the directory of captures.
    fn captures(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("/var/lib/vxtap/captures")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn the_package_does_what_it_says() {
    let Some(root) = env::var_os(ROOT).map(PathBuf::from) else { return };
    assert!(systemd::is_here());
    let pair = Pair::new(1600);
    let host = Host { systemd: Systemd::start(&pair.sensor, Root::Directory(&root), &[]), root };
    nothing_starts_by_itself(&host);
    a_program_is_there(&host);
    the_service_receives(&host, &pair);
    a_change_is_made_while_it_runs(&host);
    sessions_get_their_names(&host);
    an_interface_needs_its_drop_in(&host, &pair);
    an_upgrade_restarts_what_runs(&host);
    captures_outlive_the_package(&host);
}

fn nothing_starts_by_itself(host: &Host) {
    host.does(&["dpkg", "--install", "/srv/1.deb"]);
    assert_eq!(host.state(), "inactive");
    for unit in [UNIT, "vxtap-sessions.timer", "vxtap-suricata.service"] {
        let enabled = host.output(&["systemctl", "is-enabled", unit]);
        assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled", "{unit}: {enabled:?}");
    }
    let owner = |path: &str| fs::metadata(host.path(path)).unwrap().uid();
    assert_eq!((owner("/etc/vxtap/vxtap.toml"), owner("/usr/bin/vxtap")), (0, 0));
    host.does(&["getent", "passwd", "vxtap"]);
    assert!(!host.path("/var/lib/vxtap").exists());
}

fn a_program_is_there(host: &Host) {
    let demo = host.does(&["vxtap", "demo", "--write", "/tmp"]);
    assert!(demo.contains("nothing was lost, and the ledger closes"), "{demo}");
    assert!(host.does(&["vxtap", "check", "--config-only", "-c", "/etc/vxtap/vxtap.toml"]).contains("no fault"));
    // It has no interface for what comes yet, or no room beyond the disk; nothing is an error.
    let check = host.output(&["vxtap", "check", "-c", "/etc/vxtap/vxtap.toml"]);
    let text = String::from_utf8_lossy(&check.stdout);
    assert!(matches!(check.status.code(), Some(0 | 10)), "{check:?}");
    for name in ["unit", "unit-capabilities", "unit-paths", "unit-reload"] {
        let is_fine = |line: &str| line.starts_with("ok ") && line.contains(&format!(" {name}: "));
        assert!(text.lines().any(is_fine), "{name} in {text}");
    }
}

fn the_service_receives(host: &Host, pair: &Pair) {
    for unit in [UNIT, "vxtap-sessions.service"] {
        let log = format!("[Service]\nStandardError=append:{LOG}\n");
        host.systemd.install(&format!("{unit}.d/log.conf"), &log);
    }
    host.starts(UNIT);
    let status = host.does(&["vxtap", "status"]);
    assert!(status.contains("ready     yes"), "{status}");
    let capture = frames::write(host.path("/tmp").as_path(), "mirrored", &frames::assorted(200));
    replay::replay_all(&pair.sender, pair.target(Ip::V4), &[&capture], "--vni 7", 200);
    let directory = format!("vni7_{}", pair.source(Ip::V4));
    eventually("all are written", || host.does(&["vxtap", "ledger", "--json"]).contains("\"written\":200,"));
    host.does(&["vxtap", "cut"]);
    let directory = host.path("/var/lib/vxtap/captures").join(directory);
    let files = || fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    eventually("a capture is published", || files().any(|path| path.extension().is_some_and(|end| end == "pcap")));
    // Members of the group can read them, and nobody else.
    let owner = host.does(&["stat", "-c", "%U %G %a", "/var/lib/vxtap"]);
    assert_eq!(owner.trim(), "vxtap vxtap 750");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in files() {
        assert_eq!(mode(&path), 0o640, "{}", path.display());
    }
    // No capability, and a user namespace of its own.
    let pid = host.systemd.main_process(UNIT).unwrap().as_raw_nonzero();
    let process = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(process.contains("CapEff:\t0000000000000000"), "{process}");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"));
}

fn a_change_is_made_while_it_runs(host: &Host) {
    let before = host.systemd.main_process(UNIT);
    host.configure("min_free = \"10%\"", "min_free = \"1%\"\nrotate_size = \"64MiB\"");
    host.systemd.does(&format!("reload {UNIT}"));
    assert!(host.does(&["vxtap", "config"]).contains("rotate_size = \"64MiB\""));
    // A file with faults is refused with its fault, and the sensor goes on.
    host.configure("64MiB", "64MiBytes");
    assert!(!host.systemd.systemctl(&format!("reload {UNIT}")).status.success());
    let reload = host.output(&["vxtap", "reload"]);
    let said = String::from_utf8_lossy(&reload.stderr);
    assert!(reload.status.code() == Some(1) && said.contains("rotate_size"), "{reload:?}");
    host.configure("64MiBytes", "64MiB");
    assert_eq!((host.state().as_str(), host.systemd.main_process(UNIT)), ("active", before));
}

/// AWS is asked by a process without rights, and root has the sensor read what came of it.
fn sessions_get_their_names(host: &Host) {
    let aws = "#!/bin/sh\nset -e\nof=${4#describe-}; of=${of#traffic-mirror-}; cat /srv/aws/${of#network-}.json\n";
    fs::write(host.path("/srv/aws.sh"), aws).unwrap();
    fs::write(host.path("/etc/vxtap/sessions.env"), "VXTAP_AWS=sh /srv/aws.sh\n").unwrap();
    host.starts("vxtap-sessions.service");
    let made = fs::read_to_string(host.path("/etc/vxtap/sessions.d/aws.toml")).unwrap();
    assert_eq!(made, include_str!("../../examples/sessions.d/aws.toml"));
    assert!(host.does(&["vxtap", "config"]).contains("shop-web"));
    // What cannot be together with the rest is taken back, and the unit says so.
    let sessions = host.path("/srv/aws/sessions.json");
    let text = fs::read_to_string(&sessions).unwrap();
    fs::write(&sessions, text.replace("TCP of the shop", "TCP of the shops")).unwrap();
    host.configure("[sessions]\n", "[[session]]\nname = \"shop-web\"\ndrop = true\n\n[sessions]\n");
    assert!(!host.systemd.systemctl("start vxtap-sessions.service").status.success());
    host.configure("[[session]]\nname = \"shop-web\"\ndrop = true\n\n", "");
    assert_eq!(fs::read_to_string(host.path("/etc/vxtap/sessions.d/aws.toml")).unwrap(), made);
}

fn an_interface_needs_its_drop_in(host: &Host, pair: &Pair) {
    for (from, to) in WITH_INTERFACE {
        host.configure(from, to);
    }
    host.systemd.does(&format!("stop {UNIT}"));
    let check = host.output(&["vxtap", "check", "-c", "/etc/vxtap/vxtap.toml"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("drop-ins/tap.conf"), "{check:?}");
    assert!(!host.systemd.systemctl(&format!("start {UNIT}")).status.success());
    let directory = host.path("/etc/systemd/system/vxtap.service.d");
    fs::create_dir_all(&directory).unwrap();
    symlink("/usr/share/vxtap/drop-ins/tap.conf", directory.join("tap.conf")).unwrap();
    // As udev has it, whatever the host does.
    host.does(&["mknod", "-m", "666", "/srv/tun", "c", "10", "200"]);
    host.systemd.install(&format!("{UNIT}.d/tun.conf"), "[Service]\nBindPaths=/srv/tun:/dev/net/tun\n");
    host.starts(UNIT);
    assert!(pair.sensor.has_link("mirror0"));
    assert!(host.does(&["vxtap", "status"]).contains("ready     yes"));
}

fn an_upgrade_restarts_what_runs(host: &Host) {
    let before = host.systemd.main_process(UNIT);
    host.does(&["dpkg", "--install", "/srv/2.deb"]);
    host.systemd.comes_to(UNIT, "SubState", "running");
    let after = host.systemd.main_process(UNIT);
    assert!(before.is_some() && after.is_some() && before != after, "{before:?} {after:?}");
    // Nothing that came meanwhile is lost.
    let said = fs::read_to_string(host.path(LOG)).unwrap();
    assert_eq!(said.matches("receiving goes on with the sockets of the process before this one").count(), 1, "{said}");
    // What was edited stays as it was.
    assert!(fs::read_to_string(host.path("/etc/vxtap/vxtap.toml")).unwrap().contains("\ninterface = \"mirror0\""));
    // What does not run does not begin to.
    host.systemd.does(&format!("stop {UNIT}"));
    host.does(&["dpkg", "--install", "/srv/1.deb"]);
    assert_eq!(host.state(), "inactive");
}

fn captures_outlive_the_package(host: &Host) {
    host.systemd.does(&format!("enable --now {UNIT}"));
    host.does(&["dpkg", "--remove", "vxtap"]);
    assert_ne!(host.state(), "active");
    assert!(host.path("/etc/vxtap/vxtap.toml").exists() && !host.path("/usr/bin/vxtap").exists());
    let captures = host.captures();
    host.does(&["dpkg", "--purge", "vxtap"]);
    assert!(!host.path("/etc/vxtap").exists(), "{:?}", host.does(&["find", "/etc/vxtap"]));
    assert!(!host.path("/etc/systemd/system/multi-user.target.wants/vxtap.service").is_symlink());
    assert!(captures.len() >= 2, "{captures:?}");
    assert_eq!(host.captures(), captures);
    assert!(host.does(&["dpkg", "--list"]).lines().all(|line| !line.contains(" vxtap ")));
}
