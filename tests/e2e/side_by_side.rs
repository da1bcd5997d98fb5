//! The shell pipeline of AWS's own template and the sensor with the settings of
//! `deploy/cloudformation/alb-mirror.yaml` take the same traffic under the same faults: ten
//! sources, one VNI, services of a systemd, objects in a directory.
//!
//! `VXTAP_SIDE_BY_SIDE=N` has the traffic go on for N times as long. The table is in
//! `docs/deploy.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::captures;
use crate::frames;
use crate::manifest;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::process::{PATIENCE, eventually, run};
use crate::replay::{self, Replay};
use crate::sensor::VXTAP;
use crate::systemd::{self, Root, Systemd};

const VNI: u32 = 12_345;
const SOURCES: u32 = 10;
/// Numbers of frames that a source has for its own.
const OWN: u32 = 1_000_000;

/// What happens while frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    Kill,
    FullDisk,
    Restart,
    Load,
}

/// `aws s3 cp [--only-show-errors] FROM s3://BUCKET/KEY`, for a store that is a directory. An
/// object is there as a whole or not at all, as in S3.
pub(crate) const AWS: &str = r#"#!/bin/sh
set -e
shift 2
[ "$1" != --only-show-errors ] || shift
to=$OBJECTS/$(echo "$2" | cut -d / -f 4-)
mkdir -p "$(dirname "$to")"
cp "$1" "$OBJECTS/.$$"
mv "$OBJECTS/.$$" "$to"
"#;

/// Uploads what no process has open, time and again; with an argument, all there is, once.
const UPLOADER: &str = r#"#!/bin/sh
while :; do
    for file in "$SPOOL"/*.pcap*; do
        [ -f "$file" ] || continue
        [ -n "$1" ] || ! lsof "$file" >/dev/null 2>&1 || continue
        name=$(basename "$file")
        hour=$(echo "$name" | sed 's|.*_\([0-9]\{4\}\)\([0-9][0-9]\)\([0-9][0-9]\)_\([0-9][0-9]\).*|\1/\2/\3/\4|')
        aws s3 cp "$file" "s3://objects/$hour/$name" && rm -f "$file"
    done
    [ -z "$1" ] || exit 0
    sleep 5
done
"#;

/// A host that mirror traffic comes to, and what it has.
struct Host {
    pair: Pair,
    directory: TempDir,
    disk: Mount,
}

/// What came of it.
struct Outcome {
    sent: usize,
    /// Frames in objects, each once, byte by byte as they were sent.
    whole: usize,
    objects: usize,
    /// Objects that end within a record.
    broken: usize,
    /// Lost frames of which there is a record.
    said: u64,
    /// Those among them that were in files which had to go before they were uploaded. The upload of
    /// one can have been on its way.
    undelivered: u64,
    /// Datagrams that may not have left the sender.
    no_room: u64,
}

impl Host {
    fn new() -> Host {
        let host =
            Host { pair: Pair::new(1600), directory: tempfile::tempdir().unwrap(), disk: Mount::new("size=256m") };
        fs::set_permissions(host.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for source in 0..SOURCES {
            host.pair.sender.ip(&format!("addr add {}/24 dev eth0", address(source)));
        }
        fs::create_dir(host.objects()).unwrap();
        host.script("aws", AWS);
        host.script("uploader", UPLOADER);
        let upload =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/host/vxtap-upload")).unwrap();
        host.script("vxtap-upload", &upload);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn objects(&self) -> PathBuf {
        self.path("objects")
    }

    /// Returns what services have said.
    fn log(&self) -> Vec<String> {
        fs::read_to_string(self.path("log")).unwrap_or_default().lines().map(String::from).collect()
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Returns what services are told of this host.
    fn environment(&self) -> String {
        let directory = self.directory.path().display();
        let (objects, spool) = (self.objects(), self.disk.path());
        format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=PATH={directory}:/usr/sbin:/usr/bin:/sbin:/bin \
             OBJECTS={} SPOOL={}\nStandardOutput=append:{directory}/log\nStandardError=append:{directory}/log\n",
            objects.display(),
            spool.display()
        )
    }

    /// Has ten sources send for some seconds, lets the fault happen to this service meanwhile, and
    /// returns how many frames were sent.
    fn traffic(&self, systemd: &Systemd, service: &str, fault: Fault) -> usize {
        // After a kill the pipeline pauses for three seconds, and some are to come after that.
        let short = if matches!(fault, Fault::Kill | Fault::FullDisk) { 6 } else { 3 };
        let seconds = short * std::env::var("VXTAP_SIDE_BY_SIDE").map_or(1, |times| times.parse().unwrap());
        let (count, rate) = match fault {
            Fault::Load => (10_000 * seconds, String::new()),
            _ => (200 * seconds, "--rate 200".into()),
        };
        let replays: Vec<Replay> = (0..SOURCES)
            .map(|source| {
                let sent: Vec<_> = (0..count).map(|number| frame(source * OWN + number)).collect();
                let file = frames::write(self.directory.path(), &format!("source{source}"), &sent);
                let arguments = format!("--vni {VNI} --from {} {rate}", address(source));
                replay::start(&self.pair.sender, self.pair.target(Ip::V4), &[&file], &arguments)
            })
            .collect();
        // Some have come by then.
        thread::sleep(Duration::from_millis(if fault == Fault::Load { 500 } else { 1500 }));
        let process = systemd.main_process(service).unwrap();
        match fault {
            Fault::Nothing => {}
            Fault::Kill => kill_process(process, Signal::KILL).unwrap(),
            // As where the host gives the cores to somebody else.
            Fault::Load => {
                kill_process(process, Signal::STOP).unwrap();
                thread::sleep(Duration::from_secs(1));
                kill_process(process, Signal::CONT).unwrap();
            }
            Fault::Restart => systemd.does(&format!("restart {service}")),
            Fault::FullDisk => {
                let filler = self.disk.path().join("filler");
                let disk = statvfs(self.disk.path()).unwrap();
                let _ = Command::new("fallocate")
                    .args(["-l", &(disk.f_bavail * disk.f_frsize).to_string()])
                    .arg(&filler)
                    .output()
                    .unwrap();
                let _ = fs::OpenOptions::new()
                    .append(true)
                    .open(&filler)
                    .and_then(|mut file| std::io::copy(&mut std::io::repeat(0), &mut file));
                thread::sleep(Duration::from_millis(2500));
                fs::remove_file(filler).unwrap();
            }
        }
        let sent = replays.into_iter().map(|replay| replay.ended()).map(|sent| {
            assert_eq!(sent.code, Some(0), "{}", sent.text);
            sent.frames as usize
        });
        sent.sum()
    }

    /// Looks at the objects.
    fn outcome(&self, sent: usize, said: u64) -> Outcome {
        let (mut seen, mut broken) = (BTreeSet::new(), 0);
        let objects: Vec<PathBuf> = captures::files(&self.objects())
            .into_iter()
            .filter(|path| path.to_str().unwrap().contains("_capture_"))
            .collect();
        for object in &objects {
            let bytes = fs::read(object).unwrap();
            let (frames, is_whole) = records(&bytes);
            broken += usize::from(!is_whole);
            for got in frames {
                let number = u32::from_be_bytes(got[42..46].try_into().unwrap());
                assert_eq!(got, frame(number), "{}", object.display());
                assert!(seen.insert(number), "frame {number} is there twice");
            }
        }
        let no_room = self.pair.no_room();
        Outcome { sent, whole: seen.len(), objects: objects.len(), broken, said, undelivered: 0, no_room }
    }
}

fn address(source: u32) -> String {
    format!("10.73.0.{}", 101 + source)
}

fn frame(number: u32) -> Vec<u8> {
    frames::numbered(number, 60 + (number as usize * 389) % 1440)
}

/// Returns the frames of a pcap, and whether it ends where a record does.
fn records(mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    let Some((_, rest)) = bytes.split_at_checked(24) else { return (frames, false) };
    bytes = rest;
    while let Some((header, rest)) = bytes.split_at_checked(16) {
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let Some((frame, rest)) = rest.split_at_checked(length) else { return (frames, false) };
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes.is_empty())
}

/// The template's way: a vxlan device, tcpdump as root, a loop that copies.
fn pipeline(fault: Fault) -> Outcome {
    let host = Host::new();
    host.pair.sensor.ip(&format!("link add vxlan1 type vxlan id {VNI} dev eth0 dstport 4789 local 10.73.0.2"));
    host.pair.sensor.ip("link set vxlan1 up");
    let environment = host.environment();
    let tcpdump = format!(
        "{environment}ExecStart=/usr/bin/tcpdump -i vxlan1 -s 0 \
         -w {}/shop_az1_10.73.0.2_capture_%%Y%%m%%d_%%H%%M%%S.pcap -G 2 -C 5 -Z root\nRestart=always\nRestartSec=3\n",
        host.disk.path().display()
    );
    let uploader =
        format!("{environment}ExecStart={}\nRestart=always\nRestartSec=3\n", host.path("uploader").display());
    let units = [("tcpdump-mirror.service", tcpdump.as_str()), ("pcap-uploader.service", &uploader)];
    let systemd = Systemd::start(&host.pair.sensor, Root::Machine, &units);
    systemd.does("start tcpdump-mirror pcap-uploader");
    eventually("tcpdump listens", || host.log().iter().any(|line| line.contains("listening on vxlan1")));
    let sent = host.traffic(&systemd, "tcpdump-mirror.service", fault);
    // As at the end of the template's stack: tcpdump ends, and what is left is uploaded.
    systemd.comes_to("tcpdump-mirror.service", "ActiveState", "active");
    // It leaves in its ring what came within the last second before it is told to end. That would
    // be this test's doing.
    thread::sleep(Duration::from_secs(2));
    systemd.does("stop tcpdump-mirror pcap-uploader");
    run(Command::new(host.path("uploader"))
        .arg("once")
        .env("PATH", format!("{}:/usr/bin:/bin", host.directory.path().display()))
        .env("OBJECTS", host.objects())
        .env("SPOOL", host.disk.path()));
    let said = host.log().into_iter().filter_map(|line| {
        let (before, _) = line.split_once(" packets dropped by kernel")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    host.outcome(sent, said.sum())
}

/// Returns the files that are not complete yet, or not in the object directory.
fn missing(host: &Host, captures: &Path) -> Vec<PathBuf> {
    let objects: Vec<Vec<u8>> = captures::files(&host.objects()).iter().map(|path| fs::read(path).unwrap()).collect();
    let is_missing = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        // One can have been removed meanwhile, to make room.
        name.contains(".pcap") && fs::read(path).is_ok_and(|file| name.ends_with(".part") || !objects.contains(&file))
    };
    captures::files(captures).into_iter().filter(is_missing).collect()
}

/// Returns the ledger of a sensor that has read and written all that came.
fn at_rest(pair: &Pair, systemd: &Systemd) -> Option<serde_json::Value> {
    let is_read = pair.sensor.udp_queued(4789) == 0;
    let ledger = run(systemd.command(VXTAP).args(["ledger", "--json"])).stdout;
    let ledger: serde_json::Value = serde_json::from_slice(&ledger).unwrap();
    let on_their_way = [&ledger["in_flight"], &ledger["outputs"]["captures"]["in_flight"]];
    (is_read && on_their_way.iter().all(|frames| frames.is_null())).then_some(ledger)
}

/// The sensor, with the settings of the drop-in.
fn sensor(fault: Fault) -> Outcome {
    let host = Host::new();
    let captures = host.disk.path().join("captures");
    let configuration = host.path("vxtap.toml");
    let upload = format!("{} --vni {VNI} s3://objects shop_az1", host.path("vxtap-upload").display());
    let text = format!(
        "[receive]\nlisten = \"10.73.0.2:4789\"\n[sessions]\nvni = {VNI}\nfrom = \"10.73.0.0/24\"\n\
         [output.captures]\nkind = \"pcap\"\ndirectory = {captures:?}\nformat = \"pcap-us\"\nrotate_time = \"2s\"\n\
         rotate_size = \"5MB\"\nkeep_bytes = \"100MB\"\nmin_free = \"0\"\non_publish = {upload:?}\n"
    );
    fs::write(&configuration, text).unwrap();
    let unit = format!(
        "{}Type=notify\nNotifyAccess=main\nEnvironment=VXTAP_KEEP_SOCKETS=1\nFileDescriptorStoreMax=512\n\
         RuntimeDirectory=vxtap\nExecStart={VXTAP} run -c {} --log-format json\nKillMode=mixed\n\
         Restart=on-failure\nRestartSec=100ms\n",
        host.environment(),
        configuration.display()
    );
    let systemd = Systemd::start(&host.pair.sensor, Root::Machine, &[("vxtap.service", &unit)]);
    systemd.does("start vxtap");
    let sent = host.traffic(&systemd, "vxtap.service", fault);
    systemd.comes_to("vxtap.service", "ActiveState", "active");
    // All that came is complete and uploaded; files that a fault left, too.
    let end = Instant::now() + PATIENCE;
    let ledger = loop {
        let before = at_rest(&host.pair, &systemd);
        run(systemd.command(VXTAP).args(["cut"]));
        let missing = missing(&host, &captures);
        let after = at_rest(&host.pair, &systemd);
        if let (true, Some(before), Some(after)) = (missing.is_empty(), before, after)
            && before["received"] == after["received"]
        {
            break after;
        }
        assert!(Instant::now() < end, "not uploaded: {missing:#?}: {:#?}", host.log());
        thread::sleep(Duration::from_millis(200));
    };
    // Of no session: lines of files that were written at the same time have the same ones.
    let kernel_dropped = ledger["kernel_dropped"].as_u64().unwrap();
    systemd.does("stop vxtap");
    manifest::assert_verified(&captures);
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let (mut frames, mut dropped, mut undelivered) = (BTreeMap::new(), 0, 0);
    for line in manifest::lines(&captures) {
        let path = line["path"].as_str().unwrap_or_default().to_owned();
        let reasons = line["dropped"].as_object().into_iter().flat_map(|reasons| reasons.values());
        dropped += reasons.map(number).sum::<u64>();
        if line["undelivered"].is_array() {
            undelivered += frames.get(&path).copied().unwrap_or(0);
        }
        if line["frames"].is_u64() {
            frames.insert(path, number(&line["frames"]));
        }
    }
    Outcome { undelivered, ..host.outcome(sent, kernel_dropped + dropped + undelivered) }
}

/// Runs both, says what came of it, and returns the sensor's part; none where it cannot run here.
#[allow(clippy::print_stdout, reason = "the rows of the table")]
fn side_by_side(fault: Fault) -> Option<Outcome> {
    if !need::programs(&["tcpdump", "lsof", "fallocate"]) || !systemd::is_here() {
        return None;
    }
    let (shell, ours) = thread::scope(|scope| {
        let shell = scope.spawn(|| pipeline(fault));
        let ours = sensor(fault);
        (shell.join().unwrap(), ours)
    });
    for (name, outcome) in [("tcpdump", &shell), ("vxtap", &ours)] {
        let Outcome { sent, whole, objects, broken, said, .. } = outcome;
        println!("| {fault:?} | {name} | {sent} | {whole} | {} | {said} | {broken} of {objects} |", sent - whole);
    }
    assert_eq!(ours.broken, 0, "objects are whole captures");
    Some(ours)
}

/// Fails unless each frame is in an object, or the sensor says that it is lost.
#[track_caller]
fn assert_accounted(fault: Fault) {
    let Some(ours) = side_by_side(fault) else { return };
    let lost = (ours.sent - ours.whole) as u64;
    let range = ours.said - ours.undelivered..=ours.said;
    assert!(
        range.contains(&lost) || lost.checked_sub(ours.no_room).is_some_and(|lost| range.contains(&lost)),
        "{lost} of {} lost, {} said to be, {} of them undelivered; the cable had no room for {}",
        ours.sent,
        ours.said,
        ours.undelivered,
        ours.no_room
    );
}

#[test]
fn side_by_side_in_peace() {
    assert_accounted(Fault::Nothing);
}

/// What was in the memory of the process is lost, and nobody can say how much that is.
#[test]
fn side_by_side_when_killed() {
    if let Some(ours) = side_by_side(Fault::Kill) {
        assert!(ours.whole > ours.sent / 2, "{} of {}", ours.whole, ours.sent);
    }
}

#[test]
fn side_by_side_on_a_full_disk() {
    assert_accounted(Fault::FullDisk);
}

#[test]
fn side_by_side_over_a_restart() {
    assert_accounted(Fault::Restart);
}

#[test]
fn side_by_side_under_load() {
    assert_accounted(Fault::Load);
}
