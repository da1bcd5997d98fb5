//! `vxtap check` finds what is amiss with a host, and leaves the host and a running sensor as they
//! are.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::datagrams;
use crate::need;
use crate::netns::{Ip, Namespace, Pair};
use crate::process::eventually;
use crate::sensor::{Setup, VXTAP};

/// What a check has found.
pub(crate) struct Checked {
    code: Option<i32>,
    json: Value,
}

impl Checked {
    /// Checks in a namespace, through this command where there is one.
    #[track_caller]
    fn through(namespace: &Namespace, before: &str, arguments: &str) -> Checked {
        let mut words = before.split_whitespace().chain([VXTAP, "check", "--json"]);
        let mut command = namespace.command(words.next().unwrap());
        Self::by(command.args(words).args(arguments.split_whitespace()))
    }

    /// Checks by this command, which asks for JSON.
    #[track_caller]
    pub(crate) fn by(command: &mut Command) -> Checked {
        let output = command.output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let checked = Checked { code: output.status.code(), json };
        let code = match checked.json["level"].as_str().unwrap() {
            "ok" => 0,
            "warning" => 10,
            _ => 11,
        };
        assert_eq!(checked.code, Some(code), "{:#}", checked.json);
        checked
    }

    #[track_caller]
    fn of(namespace: &Namespace, arguments: &str) -> Checked {
        Self::through(namespace, "", arguments)
    }

    /// Fails unless a finding of this name has this level, and these words.
    #[track_caller]
    pub(crate) fn has(&self, level: &str, name: &str, words: &[&str]) {
        let fits = |finding: &Value| {
            let text = format!("{} {}", finding["reason"], finding["remedy"]);
            finding["name"] == name && finding["level"] == level && words.iter().all(|word| text.contains(word))
        };
        assert!(
            self.json["findings"].as_array().unwrap().iter().any(fits),
            "{level} {name} {words:?}: {:#}",
            self.json
        );
        assert!(level == "ok" || self.code != Some(0));
    }

    /// Returns the names of findings that are not ok. The clock and systemd are this machine's.
    fn amiss(&self) -> Vec<&str> {
        let findings = self.json["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] != "ok");
        let names = findings.map(|finding| finding["name"].as_str().unwrap());
        names.filter(|name| *name != "clock" && !name.starts_with("unit")).collect()
    }
}

/// Two hosts, and a directory for captures that is the sensor's alone.
fn site(mtu: u32) -> Option<(Pair, TempDir)> {
    need::programs(&[]).then(|| {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        (Pair::new(mtu), directory)
    })
}

/// Options with which nothing is amiss.
fn fine(directory: &Path) -> String {
    let control = directory.join("control");
    format!("--write {0} --min-free 1MB --from 10.73.0.0/24 --control {1}", directory.display(), control.display())
}

#[test]
fn a_healthy_host_is_fine_before_and_beside_a_sensor() {
    let Some((pair, directory)) = site(1600) else { return };
    let fine = fine(directory.path());
    let before = Checked::of(&pair.sensor, &fine);
    assert_eq!(before.amiss(), [""; 0], "{:#}", before.json);
    for name in ["port", "mtu", "speed", "room"] {
        before.has("ok", name, &[]);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    let (_, options) = fine.split_once("--min-free").unwrap();
    let sensor = Setup::new(&pair.sensor).with(&format!("--min-free {options}")).writing(directory.path()).start();
    let pid = format!("process {}", sensor.process.pid().as_raw_nonzero());
    datagrams::send(&pair.sender, pair.target(Ip::V4), &vec![vec![0; 200]; 8]);
    eventually("all has come", || {
        let mut status = Command::new(VXTAP);
        status.args(["status", "--json", "--control"]).arg(directory.path().join("control"));
        serde_json::from_slice::<Value>(&status.output().unwrap().stdout).unwrap()["last_hour"]["received"] == 8
    });
    let beside = Checked::of(&pair.sensor, &fine);
    assert_eq!(beside.amiss(), [""; 0], "{:#}", beside.json);
    beside.has("ok", "sensor", &["a sensor runs", &pid]);
    beside.has("ok", "port", &["the running sensor's own", &pid]);
    beside.has("ok", "restart", &["a receive buffer holds", "on average since the sensor began"]);
    assert_eq!(sensor.stop().code, Some(0));
}

#[test]
fn ports_and_addresses_are_somebody_elses() {
    let Some((pair, directory)) = site(1600) else { return };
    let fine = fine(directory.path());
    let socket = pair.sensor.enter(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    let me = format!("process {}", std::process::id());
    Checked::of(&pair.sensor, &fine).has("error", "port", &["UDP [::]:4789 is taken", &me]);
    Checked::of(&pair.sensor, &format!("{fine} --listen 8472")).has("ok", "port", &["is free"]);
    drop(socket);
    pair.sensor.ip("link add vx7 type vxlan id 5 dstport 8472 local 127.0.0.1 nolearning");
    pair.sensor.ip("link set vx7 up");
    let words = ["vxlan device vx7", "ip link del vx7"];
    Checked::of(&pair.sensor, &format!("{fine} --listen 8472")).has("error", "port", &words);
    let other = Checked::of(&pair.sensor, &format!("{fine} --listen 192.0.2.9"));
    other.has("error", "address", &["192.0.2.9:4789 is no address of this host", "10.73.0.2"]);
}

#[test]
fn interfaces_do_not_go_with_the_source() {
    let Some((pair, directory)) = site(1500) else { return };
    let fine = fine(directory.path());
    let listen = format!("{fine} --listen 10.73.0.2");
    let small = Checked::of(&pair.sensor, &listen);
    small.has("warning", "mtu", &["eth0 has MTU 1500", "more than 1450 bytes", "ip link set eth0 mtu 9001"]);
    Checked::of(&pair.sensor, &format!("{listen} --source bpf")).has("ok", "interface", &["driver veth", "native XDP"]);
    let missing = Checked::of(&pair.sensor, &format!("{listen} --source bpf --interface eth7"));
    missing.has("error", "interface", &["there is no interface eth7"]);
    pair.sensor.ip("link add d0 type bridge");
    let down = Checked::of(&pair.sensor, &format!("{listen} --source bpf --interface d0"));
    down.has("error", "interface", &["d0 is down", "ip link set d0 up"]);
    pair.sensor.ip("link set d0 up");
    let at_xdp = format!("{listen} --source bpf --interface d0 --attach xdp");
    Checked::of(&pair.sensor, &at_xdp).has("error", "interface", &["driver (bridge)", "--attach tc"]);
    let tap = Checked::of(&pair.sensor, &format!("{listen} --tap d0"));
    tap.has("error", "tap", &["d0 exists and is of kind bridge", "ip link delete d0"]);
    Checked::of(&pair.sensor, &fine.replace("--from 10.73.0.0/24", "")).has(
        "warning",
        "allow",
        &["[::]:4789", "--from"],
    );
}

#[test]
fn a_user_may_do_less_than_is_needed() {
    let Some((pair, directory)) = site(1600) else { return };
    if !need::programs(&["setpriv", "prlimit"]) {
        return;
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    // Nobody may look into the directory, nor for a socket there.
    let fine = format!("{} --receive-buffer 1GB --listen 10.73.0.2:472", fine(directory.path()));
    let found = Checked::through(&pair.sensor, nobody, &format!("{fine} --source bpf"));
    found.has(
        "error",
        "capabilities",
        &["CAP_BPF for --source bpf", "CAP_NET_BIND_SERVICE for port 472", "setcap cap_bpf,"],
    );
    found.has("error", "directory", &["user 65534 may not write there"]);
    found.has("ok", "speed", &["not measured"]);
    found.has("warning", "receive-buffer", &["953.6 MiB that are asked for", "sysctl -w net.core.rmem_max=1000000000"]);
    let auto = Checked::through(&pair.sensor, nobody, &format!("{fine} --source auto").replace(":472 ", ":4720 "));
    auto.has("warning", "capabilities", &["sockets receive"]);
    let few = Checked::through(&pair.sensor, "prlimit --nofile=256:256", &fine);
    few.has("warning", "descriptors", &["this process may have 256", "LimitNOFILE="]);
}

#[test]
fn captures_have_no_room_or_no_order() {
    let Some((pair, directory)) = site(1600) else { return };
    let path = directory.path();
    let fine = fine(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    Checked::of(&pair.sensor, &fine).has("warning", "directory", &["mode 777", "chmod o-rwx"]);
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    let session = path.join("vni7_192.0.2.1");
    fs::create_dir(&session).unwrap();
    fs::write(session.join("a.pcap.part"), [0; 2048]).unwrap();
    Checked::of(&pair.sensor, &fine).has("warning", "parts", &["1 file (2 KiB) is not complete"]);
    let keep = fine.replace("--min-free 1MB", "--keep-bytes 900TB");
    Checked::of(&pair.sensor, &keep).has("warning", "room", &["--keep-bytes", "TiB"]);
    let free = fine.replace("--min-free 1MB", "--min-free 900TB");
    Checked::of(&pair.sensor, &free).has("warning", "room", &["--min-free asks for"]);
    let file = session.join("a.pcap.part");
    let other = fine.replacen(&path.display().to_string(), &file.display().to_string(), 1);
    Checked::of(&pair.sensor, &other).has("error", "directory", &["is no directory"]);
    let hook = Checked::of(&pair.sensor, &format!("{fine} --on-publish nosuchprogram"));
    hook.has("error", "on-publish", &["there is no program nosuchprogram"]);
    let hook = Checked::of(&pair.sensor, &format!("{fine} --on-publish cat"));
    hook.has("ok", "on-publish", &["/cat is there"]);
    assert_eq!(fs::read(&file).unwrap(), [0; 2048], "what is there stays as it is");
}

#[test]
fn a_unit_gives_less_than_is_needed() {
    let Some((pair, directory)) = site(1600) else { return };
    if !need::programs(&["unshare"]) {
        return;
    }
    // A host with systemd and this unit, for the check alone.
    let check = |unit: Option<&str>, more: &str| {
        let source = directory.path().join("unit");
        fs::write(&source, unit.unwrap_or_default()).unwrap();
        let mount = "mount -t tmpfs none /run && mkdir -p /run/systemd/system";
        let copy = unit.map(|_| format!("&& cp {} /run/systemd/system/vxtap.service", source.display()));
        let words = format!("{} {more}", fine(Path::new("/data/captures")));
        let script = format!("{mount} {} && exec {VXTAP} check --json {words}", copy.unwrap_or_default());
        let mut command: Command = pair.sensor.command("unshare");
        let output = command.args(["--mount", "sh", "-c", &script]).output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        Checked { code: output.status.code(), json }
    };
    if Path::new("/etc/systemd/system/vxtap.service").exists() {
        return need::cannot("there is a unit already");
    }
    check(None, "").has("warning", "unit", &["there is no vxtap.service"]);
    let ours = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/vxtap.service")).unwrap();
    let found = check(Some(&ours), "");
    for name in ["unit", "unit-capabilities", "unit-files", "unit-paths", "unit-reload"] {
        found.has("ok", name, &[]);
    }
    let found = check(Some(&ours), "--source bpf --tap m0");
    found.has("error", "unit-capabilities", &["CAP_PERFMON", "AmbientCapabilities="]);
    found.has("error", "unit-paths", &["/dev/net/tun", "PrivateDevices=no"]);
    let found = check(Some("[Service]\nLimitNOFILE=256\n"), "");
    found.has("warning", "unit-files", &["LimitNOFILE=256"]);
    found.has("warning", "unit-reload", &["ExecReload=/usr/local/bin/vxtap reload"]);
}

#[test]
fn a_file_with_faults_is_one_finding() {
    let Some((pair, directory)) = site(1600) else { return };
    let file = directory.path().join("vxtap.toml");
    fs::write(&file, "[delivery]\nflush = 5\n").unwrap();
    let found = Checked::of(&pair.sensor, &format!("-c {}", file.display()));
    assert_eq!(found.amiss(), ["configuration"]);
    found.has("error", "configuration", &["vxtap.toml:2: delivery.flush", "write 5s"]);
    fs::write(&file, "[receive]\nlisten = 8472\n").unwrap();
    let mut command = pair.sensor.command(VXTAP);
    let output = command.args(["check", "-c"]).arg(&file).current_dir(&directory).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("ok       configuration:  "), "{text}");
    assert!(text.contains("\n         -> ") && !text.contains('\x1b'), "{text}");
}
