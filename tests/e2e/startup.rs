//! A sensor that cannot start says why, in words that a person can act on; other things do not keep
//! it from starting.

use std::fs;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::process::Command;

use crate::captures::{self, assert_holds};
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace, Pair};
use crate::overload::Mount;
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::{Setup, VXTAP, message};

/// The exit code that says so.
const NOT_YET: i32 = 75;

/// Fails unless the sensor ends with this code and an error that has all these words.
#[track_caller]
fn assert_refused(setup: Setup<'_>, code: i32, words: &[&str]) {
    let (got, text) = setup.fails();
    assert_eq!(got, Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is to be in: {text}");
    }
}

#[test]
fn the_port_belongs_to_a_kernel_device() {
    if !need::programs(&[]) {
        return;
    }
    let namespace = Namespace::new();
    namespace.ip("link add vx0 type vxlan id 5 dstport 4789 local 127.0.0.1 nolearning");
    namespace.ip("link set vx0 up");
    let words = ["4789", "taken", "ip -d link show type vxlan"];
    assert_refused(Setup::new(&namespace), NOT_YET, &words);
    assert_refused(Setup::new(&namespace).with("--listen 0.0.0.0:4789"), NOT_YET, &words);
    // Another port is free.
    let ended = Setup::new(&namespace).with("--listen 0.0.0.0:8472").start().stop();
    assert_eq!((ended.code, ended.ledger.received()), (Some(0), 0));
}

#[test]
fn the_port_belongs_to_a_process() {
    if !need::programs(&[]) {
        return;
    }
    let namespace = Namespace::new();
    let socket = namespace.enter(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    let me = format!("process {}", std::process::id());
    assert_refused(Setup::new(&namespace), NOT_YET, &["4789", "taken", &me]);
    drop(socket);
    // A child that another test is just starting has a copy until it becomes another program.
    let sockets = || namespace.enter(|| fs::read_to_string("/proc/thread-self/net/udp").unwrap());
    eventually("the port is free", || sockets().lines().count() == 1);
    let first = Setup::new(&namespace).start();
    let other = format!("process {} (vxtap)", first.process.pid().as_raw_nonzero());
    assert_refused(Setup::new(&namespace), NOT_YET, &["4789", "taken", &other]);
}

#[test]
fn the_address_is_not_ours() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1500);
    let words = ["192.0.2.99", "does not have that address", "10.73.0.2", "fd73::2"];
    assert_refused(Setup::new(&pair.sensor).with("--listen 192.0.2.99:4789"), NOT_YET, &words);
    // When it is, the same command starts.
    pair.sensor.ip("address add 192.0.2.99/32 dev eth0");
    assert_eq!(Setup::new(&pair.sensor).with("--listen 192.0.2.99:4789").start().stop().code, Some(0));
    assert_refused(Setup::new(&pair.sensor).with("--listen [fe80::1%99]:4789"), NOT_YET, &["cannot listen on"]);
}

#[test]
fn an_interface_comes_late() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1500);
    let bpf = || Setup::new(&pair.sensor).with("--source bpf --attach tc --interface eth9");
    assert_refused(bpf(), NOT_YET, &["there is no interface eth9"]);
    pair.sensor.ip("link add eth9 type bridge");
    assert_eq!(bpf().start().stop().code, Some(0));
    let powerless = "setpriv --bounding-set=-net_admin";
    let tap = || Setup::new(&pair.sensor).through(powerless).with("--tap mirror0 --no-write");
    assert_refused(tap(), NOT_YET, &["creating tap mirror0 needs CAP_NET_ADMIN"]);
    pair.sensor.ip("tuntap add dev mirror0 mode tap");
    let sensor = tap().start();
    assert_refused(tap().with("--listen [::]:8472"), NOT_YET, &["mirror0 is in use by another process"]);
    assert_eq!(sensor.stop().code, Some(0));
}

/// The unit tries again for as long as it takes, and only where that can help.
#[test]
fn the_unit_knows_the_exit_codes() {
    let unit = include_str!("../../systemd/vxtap.service");
    let of = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(of("Restart="), "on-failure");
    assert!(of("RestartPreventExitStatus=").split(' ').all(|code| matches!(code, "1" | "2")));
    assert_eq!(of("StartLimitIntervalSec="), "0");
    // A reload that is refused fails, and says why.
    assert_eq!(of("ExecReload="), "/usr/bin/vxtap reload");
    assert_eq!(of("RuntimeDirectory="), "vxtap");
    assert!(of("RestrictAddressFamilies=").split(' ').any(|family| family == "AF_UNIX"));
}

#[test]
fn the_directory_takes_no_files() {
    if !need::programs(&["mount", "umount", "setpriv"]) {
        return;
    }
    let namespace = Namespace::new();
    let read_only = Mount::new("ro");
    let words = ["read-only", "--write", read_only.path().to_str().unwrap()];
    assert_refused(Setup::new(&namespace).writing(&read_only.path().join("captures")), 1, &words);

    // Somebody else's directory, and root without its power over files.
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    chown(&foreign, Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["Permission denied", "writable", foreign.to_str().unwrap()];
    let powerless = "setpriv --bounding-set -all --inh-caps -all";
    assert_refused(Setup::new(&namespace).through(powerless).writing(&foreign), 1, &words);

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_refused(Setup::new(&namespace).writing(&file), 1, &["is a file", file.to_str().unwrap()]);
}

#[test]
fn the_command_line_is_wrong() {
    if !need::programs(&[]) {
        return;
    }
    let namespace = Namespace::new();
    for (arguments, word) in [
        ("--queue 64KiB", "--queue"),
        ("--rotate-size 10", "--rotate-size"),
        ("--vni 16777216", "16777216"),
        ("--listen nowhere", "nowhere"),
        ("--workers 0", "--workers"),
        ("--min-free 5", "5%?"),
        ("--frobnicate", "--frobnicate"),
    ] {
        assert_refused(Setup::new(&namespace).with(arguments), 2, &[word]);
    }
}

#[test]
fn replay_says_what_it_cannot_do() {
    if !need::programs(&[]) {
        return;
    }
    let namespace = Namespace::new();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/dns.pcap");
    for (arguments, code, word) in [
        ("/nonexistent.pcap --to 127.0.0.1", 1, "/nonexistent.pcap"),
        (&format!("{fixture} --to 192.0.2.1"), 1, "route"),
        (&format!("{fixture} --to 127.0.0.1 --from 192.0.2.7"), 1, "192.0.2.7"),
        (&format!("{fixture} --to bastion"), 2, "bastion"),
        (&format!("{fixture} --to 127.0.0.1 --vni 9-7"), 2, "9-7"),
    ] {
        let mut command: Command = namespace.command(VXTAP);
        let output = command.arg("replay").args(arguments.split_whitespace()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
    }
}

#[test]
fn a_host_without_ipv6_receives_ipv4() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    pair.sensor.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(200);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_holds("IPv4", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &frames);
}

#[test]
fn an_ordinary_user_receives_and_is_told_of_the_small_buffer() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(200);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    // Root by name only: the program may be in a folder of root's.
    let powerless = "setpriv --bounding-set -all --inh-caps -all";
    let sensor = Setup::new(&pair.sensor).through(powerless).with("--receive-buffer 512MiB").start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 10000", frames.len());
    let ended = sensor.stop();
    ended.assert_all_is_well();
    assert_holds("frames", &captures::session(&ended.captures, pair.source(Ip::V4), 1), &frames);
    let advice = ended.messages("sysctl -w net.core.rmem_max=536870912");
    assert_eq!(advice.len(), 1, "{:#?}", ended.log);
}

#[test]
fn a_port_an_address_and_a_link_local_address_are_enough() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    for (namespace, host) in [(&pair.sender, 1), (&pair.sensor, 2)] {
        namespace.ip(&format!("address add fe80::73:{host}/64 dev eth0 nodad"));
    }
    let index =
        pair.sender.enter(|| rustix::net::netdevice::name_to_index(UdpSocket::bind("[::1]:0").unwrap(), "eth0"));
    let link_local = SocketAddr::V6(SocketAddrV6::new("fe80::73:2".parse().unwrap(), 4789, 0, index.unwrap()));
    for (listen, to) in [
        ("--listen 4789", pair.target(Ip::V6)),
        ("--listen 4789", pair.target(Ip::V4)),
        ("--listen 0.0.0.0", pair.target(Ip::V4)),
        ("--listen [fe80::73:2%eth0]:4789", link_local),
        ("--listen [fe80::73:2%eth0] --source bpf", link_local),
    ] {
        let sensor = Setup::new(&pair.sensor).with(listen).start();
        replay_all(&pair.sender, to, &[&file], "--rate 10000", frames.len());
        let ended = sensor.stop();
        ended.assert_all_is_well();
        assert_eq!(ended.ledger.received(), frames.len() as u64, "{listen}");
    }
    assert_refused(
        Setup::new(&pair.sensor).with("--listen [fe80::73:2%eth9]:4789"),
        75,
        &["no interface eth9", "eth0"],
    );
}

#[test]
fn every_session_is_named_and_no_salvaged_file_has_a_line() {
    if !need::programs(&[]) {
        return;
    }
    const SESSIONS: usize = 40;
    let directory = tempfile::tempdir().unwrap();
    let captures = directory.path().join("captures");
    let frames = frames::assorted(SESSIONS as u32);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let pair = Pair::new(1600);
    let sensor = Setup::new(&pair.sensor).writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], &format!("--vni 1-{SESSIONS}"), frames.len());
    let source = pair.source(Ip::V4);
    let named = || {
        let log = sensor.process.stderr.all();
        let alone = log.iter().filter(|line| message(line).is_some_and(|said| said == "new mirror session")).count();
        let together = log
            .iter()
            .filter_map(|line| message(line)?.strip_prefix("further new mirror sessions: ").map(String::from));
        let together: Vec<String> =
            together.flat_map(|names| names.split(", ").map(String::from).collect::<Vec<_>>()).collect();
        assert!(together.iter().all(|name| name.starts_with(&format!("{source} vni "))), "{together:?}");
        alone + together.len()
    };
    eventually("all sessions are named", || named() == SESSIONS);
    sensor.stop().assert_all_is_well();

    // As a crash would have left them.
    for path in captures::files(&captures) {
        fs::rename(&path, path.with_extension("pcap.part")).unwrap();
    }
    for (verbose, lines) in [("", 0), ("-v", SESSIONS)] {
        fs::remove_file(captures.join("manifest.jsonl")).unwrap();
        let sensor = Setup::new(&pair.sensor).with(verbose).writing(&captures).start();
        let complete = |line: &str| message(line)?.contains("salvage is complete").then(|| line.to_owned());
        let summary = sensor.process.stderr.find("salvage is complete", 0, complete);
        assert!(summary.contains(&format!("\"recovered\":{SESSIONS}")), "{summary}");
        let ended = sensor.stop();
        assert_eq!(ended.messages("salvaged a capture file").len(), lines, "{:#?}", ended.log);
        for path in captures::files(&captures) {
            let name = path.to_str().unwrap().replace(".recovered", "");
            fs::rename(&path, format!("{name}.part")).unwrap();
        }
    }
}
