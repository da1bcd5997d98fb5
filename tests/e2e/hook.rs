//! The command for each published file is told what it needs, and is in nobody's way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::statvfs;
use rustix::process::Signal;
use serde_json::Value;

use crate::captures;
use crate::frames;
use crate::manifest::{assert_verified, events, named, paths};
use crate::need;
use crate::netns::{Ip, Pair};
use crate::overload::Mount;
use crate::process::eventually;
use crate::replay::replay_all;
use crate::sensor::{Ended, Sensor, Setup};

fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("hook.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a sensor with many files and this script for each. Its end waits for commands for a few
/// seconds only, so it is asked to end when all is published and `done` says that enough commands
/// were run for so many files. Those that still wait for `gate` may go on when it has ended.
/// Nothing may be lost, whatever the script does.
fn run(directory: &Path, text: &str, arguments: &str, done: impl Fn(usize) -> bool) -> Ended {
    let pair = Pair::new(1600);
    let frames = frames::assorted(3000);
    let file = frames::write(directory, "frames.pcap", &frames);
    let hook = script(directory, text);
    let arguments = format!("--rotate-size 128KiB --flush 100ms --on-publish {} {arguments}", hook.display());
    let mut sensor = Setup::new(&pair.sensor).with(&arguments).start();
    let sent = 2 * frames.len();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--vni 1-3 --loop 2 --rate 10000", sent);
    eventually("all is published", || {
        // What is not written yet comes to a file of its own.
        sensor.process.signal(Signal::USR1);
        let published = events(&sensor.captures, "published");
        published.iter().map(|line| line["frames"].as_u64().unwrap()).sum::<u64>() == sent as u64
    });
    eventually("the commands were run", || done(named(&sensor.captures).len()));
    sensor.process.signal(Signal::TERM);
    eventually("the sensor has ended", || !sensor.process.is_running());
    // Whoever waits for the end of its standard error waits for the commands.
    fs::write(directory.join("gate"), "").unwrap();
    let ended = sensor.ended();
    ended.ledger.assert_closes(&ended.captures);
    ended.ledger.assert_lossless();
    assert_eq!(ended.ledger.received(), sent as u64);
    assert!(captures::files(&ended.captures).iter().all(|path| !path.to_str().unwrap().ends_with(".part")));
    assert_verified(&ended.captures);
    assert!(ended.ledger.get("/outputs/pcap/files") > 10);
    ended
}

/// Has a sensor publish its one file, once it has written so many frames to it. Its end waits for a
/// command for a few seconds only, and a busy machine may take longer.
pub(crate) fn publish(sensor: &Sensor, frames: usize) {
    let written = || captures::files(&sensor.captures).iter().map(|path| captures::readable(path)).sum::<usize>();
    eventually("all is written", || written() == frames);
    sensor.process.signal(Signal::USR1);
}

/// Returns how many lines there are that scripts wrote.
fn count(lines: &Path) -> usize {
    fs::read_to_string(lines).unwrap_or_default().lines().count()
}

/// Returns what the ledger says of commands: run, failed, skipped.
fn counted(ended: &Ended) -> [u64; 3] {
    ["hooks", "hooks_failed", "hooks_skipped"].map(|what| ended.ledger.get(&format!("/outputs/pcap/{what}")))
}

#[test]
fn is_told_what_the_manifest_says() {
    if !need::programs(&[]) {
        return;
    }
    let variables = ["SOURCE", "VNI", "FRAMES", "BYTES", "DROPPED", "FIRST", "LAST", "SHA256", "BLAKE3", "FORMAT"];
    for (compression, arguments) in [(false, "--format pcap"), (true, "--format pcapng --compress lz4 --hash blake3")] {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let values: Vec<String> = variables.iter().map(|name| format!("$VXTAP_{name}")).collect();
        // The file has its name by then, and its size.
        let size = "$(stat -c %s \"$1\")";
        let text = format!("echo \"$#|$1|{size}|{}\" >>{}", values.join("|"), told.display());
        let ended = run(directory.path(), &text, arguments, |files| count(&told) == files);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        // Empty where the line has no such field.
        let word = |value: &Value| match value {
            Value::Null => String::new(),
            value => value.as_str().map_or_else(|| value.to_string(), String::from),
        };
        let mut want: Vec<String> = Vec::new();
        for line in events(&ended.captures, "published") {
            assert_eq!((line["compression"].is_string(), line["blake3"].is_string()), (compression, compression));
            let path = ended.captures.join(line["path"].as_str().unwrap());
            let lost: u64 = line["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            let session = &line["session"];
            let values = [&session["source"], &session["vni"], &line["frames"], &line["bytes"], &lost.into()].map(word);
            let others = ["first", "last", "sha256", "blake3", "format"].map(|key| word(&line[key]));
            want.push(format!("1|{}|{}|{}|{}", path.display(), line["bytes"], values.join("|"), others.join("|")));
        }
        let mut told: Vec<String> = fs::read_to_string(&told).unwrap().lines().map(String::from).collect();
        // Four run at the same time.
        told.sort();
        want.sort();
        assert_eq!(told, want);
        assert_eq!(counted(&ended), [want.len() as u64, 0, 0]);
    }
}

#[test]
fn fails() {
    if !need::programs(&[]) {
        return;
    }
    let (directory, begun) = (tempfile::tempdir().unwrap(), Instant::now());
    let tried = directory.path().join("tried");
    let text = format!("echo >>{}; exit 1", tried.display());
    let ended = run(directory.path(), &text, "", |files| count(&tried) == files);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let files = ended.ledger.get("/outputs/pcap/files");
    assert_eq!(counted(&ended), [files, files, 0]);
    let told = ended.messages("--on-publish").len() as u64;
    // One a second.
    assert!((1..=10 + begun.elapsed().as_secs()).contains(&told), "{told} lines about {files} failures");
}

/// The end waits for commands, but not for long, and says for which files none has ended.
#[test]
fn hangs() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ended = run(directory.path(), &waiting(directory.path()), "", |_| true);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let files = ended.ledger.get("/outputs/pcap/files");
    assert_eq!(counted(&ended), [4, 0, files - 4], "four run at the same time, the others wait");
    assert_eq!(ended.ledger.get("/outputs/pcap/hooks_unfinished"), 4);
    let told = ended.messages("not waiting any longer");
    assert_eq!(told.len(), 1, "{:#?}", ended.log);
    let published = paths(&named(&ended.captures));
    let is_named = |path: &&String| told[0].contains(ended.captures.join(path).to_str().unwrap());
    assert_eq!(
        published.iter().filter(is_named).count(),
        4 + 5,
        "those that run, and the first of the others: {told:?}"
    );
    assert!(told[0].contains(&format!(" and {} more", files - 4 - 5)), "{told:?}");
    let time = |what: &str| {
        let line: Value = serde_json::from_str(&ended.messages(what)[0]).unwrap();
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let waited = time("not waiting any longer").duration_since(time("SIGTERM: draining"));
    assert!((3.0..30.0).contains(&waited.as_secs_f64()), "{waited:?}");
}

/// The sensor has a capability that it passes on to what it starts, as a service's ambient ones;
/// the command has none.
#[test]
fn has_no_capability() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(10);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let told = directory.path().join("told");
    let hook = script(directory.path(), &format!("exec grep Cap /proc/self/status >{}", told.display()));
    // Root without what makes it one: it has what it is given.
    let few = "setpriv --securebits +noroot --inh-caps -all,+net_admin --ambient-caps -all,+net_admin";
    // The sandbox gives the capability up.
    let arguments = format!("--sandbox off --on-publish {}", hook.display());
    let sensor = Setup::new(&pair.sensor).through(few).with(&arguments).start();
    let own = fs::read_to_string(format!("/proc/{}/status", sensor.process.pid().as_raw_nonzero())).unwrap();
    let sets = |status: &str| -> Vec<String> {
        let line = |set: &str| status.lines().find(|line| line.starts_with(set)).unwrap().split_once('\t').unwrap().1;
        ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(|set| line(set).to_owned()).to_vec()
    };
    // CAP_NET_ADMIN is number 12.
    assert_eq!(sets(&own), ["0000000000001000"; 4], "{own}");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    publish(&sensor, frames.len());
    eventually("the command was run", || count(&told) > 0);
    let ended = sensor.stop();
    assert_eq!((ended.code, counted(&ended)), (Some(0), [1, 0, 0]), "{:#?}", ended.log);
    let status = fs::read_to_string(told).unwrap();
    assert_eq!(sets(&status), ["0000000000000000"; 4], "{status}");
}

/// Returns a script that waits until there is a file `gate`, and then tells of the capture in
/// `told`.
fn waiting(directory: &Path) -> String {
    let (directory, gate, told) = (directory.display(), directory.join("gate"), directory.join("told"));
    let (gate, told) = (gate.display(), told.display());
    // Whoever waits for the end of the sensor's standard error does not wait for this.
    format!(
        "exec >/dev/null 2>&1\nwhile test -d {directory} && ! test -e {gate}; do sleep 0.05; done; test -e \"$1\" && echo \"$1\" >>{told}"
    )
}

/// Returns what was told of, relative to the directory of captures.
fn told(directory: &Path, captures: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(directory.join("told")).unwrap_or_default();
    let relative = |line: &str| Path::new(line).strip_prefix(captures).unwrap().to_str().unwrap().to_owned();
    text.lines().map(relative).collect()
}

/// The next start runs the command for every capture that has none behind it, and then nothing is
/// owed.
#[track_caller]
fn assert_made_up_for(pair: &Pair, captures: &Path, missing: &BTreeSet<String>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("gate"), "").unwrap();
    let hook = script(directory.path(), &waiting(directory.path()));
    let sensor = Setup::new(&pair.sensor).with(&format!("--on-publish {}", hook.display())).writing(captures).start();
    eventually("the commands are made up for", || told(directory.path(), captures).is_superset(missing));
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(counted(&ended)[1..], [0, 0]);
    assert!(!captures.join("on-publish.jsonl").exists());
    assert_verified(captures);
}

/// Says how many threads a process has that do not await burial.
fn threads_of(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_dead = status.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'));
    if is_dead { 0 } else { fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) }
}

#[test]
fn waits_when_the_sensor_is_killed() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1050);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let captures = directory.path().join("captures");
    let hook = script(directory.path(), &waiting(directory.path()));
    let arguments = format!("--rotate-frames 100 --flush 100ms --workers 1 --on-publish {}", hook.display());
    let mut sensor = Setup::new(&pair.sensor).with(&arguments).writing(&captures).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    eventually("files are published", || named(&captures).len() == 10);
    assert!(told(directory.path(), &captures).is_empty());
    sensor.process.signal(Signal::KILL);
    // The shells of the commands that run hold on to its standard error.
    eventually("it is gone", || threads_of(sensor.process.pid().as_raw_nonzero().get()) == 0);
    fs::write(directory.path().join("gate"), "").unwrap();
    sensor.process.wait();
    assert_made_up_for(&pair, &captures, &paths(&named(&captures)));
    // And a further start has nothing to do.
    assert_made_up_for(&pair, &captures, &BTreeSet::new());
}

#[test]
fn is_still_slow_when_the_sensor_ends() {
    if !need::programs(&[]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ended = run(directory.path(), &waiting(directory.path()), "", |_| true);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    let pair = Pair::new(1600);
    assert_made_up_for(&pair, &ended.captures, &paths(&named(&ended.captures)));
}

#[test]
fn keeps_captures_from_being_removed_for_a_limit() {
    if !need::programs(&[]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(1000);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let hook = script(directory.path(), &waiting(directory.path()));
    let arguments = "--rotate-frames 100 --flush 100ms --workers 1 --keep-files 2 --sync publish --on-publish";
    let sensor = Setup::new(&pair.sensor).with(&format!("{arguments} {}", hook.display())).start();
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    // The last is cut when it has its frames.
    eventually("files are published", || named(&sensor.captures).len() >= 9);
    assert_eq!(events(&sensor.captures, "pruned").len(), 0);
    fs::write(directory.path().join("gate"), "").unwrap();
    let count = || (named(&sensor.captures).len(), events(&sensor.captures, "pruned").len());
    eventually("the others are removed", || count().0 == count().1 + 2);
    let captures = sensor.captures.clone();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(told(directory.path(), &captures), paths(&named(&captures)), "each was there for its command");
    assert!(events(&captures, "pruned").iter().all(|line| line.get("undelivered").is_none()));
    assert_verified(&captures);
}

#[test]
fn keeps_no_captures_on_a_disk_that_fills() {
    if !need::programs(&["mount", "umount"]) {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(500);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let hook = script(directory.path(), &waiting(directory.path()));
    let disk = Mount::new("size=4m");
    let arguments = "--rotate-size 128KiB --flush 100ms --min-free 1MiB --on-publish";
    let sensor = Setup::new(&pair.sensor).with(&format!("{arguments} {}", hook.display())).writing(disk.path()).start();
    for piece in 1..=16 {
        replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "--rate 5000", frames.len());
        // The next needs less than the half of --min-free that captures may use until there is room
        // again, however long that takes.
        eventually("all is written, and there is room for more", || {
            let published = events(disk.path(), "published");
            let published: u64 = published.iter().map(|line| line["frames"].as_u64().unwrap()).sum();
            let parts = captures::files(disk.path()).into_iter().filter(|path| path.extension().unwrap() == "part");
            let written = published as usize + parts.map(|part| captures::readable(&part)).sum::<usize>();
            let space = statvfs(disk.path()).unwrap();
            written == piece * frames.len() && space.f_bavail * space.f_frsize >= 1 << 20
        });
    }
    eventually("captures are removed", || events(disk.path(), "pruned").len() > 10);
    fs::write(directory.path().join("gate"), "").unwrap();
    let ended = sensor.stop();
    ended.ledger.assert_lossless();
    let pruned = events(disk.path(), "pruned");
    let undelivered = pruned.iter().filter(|line| line["undelivered"] == serde_json::json!(["on-publish"])).count();
    assert!(undelivered > 10, "{undelivered} of {}", pruned.len());
    // Four ran when their captures went, or failed to find them; the others never began.
    assert!(counted(&ended)[2] > 0, "{:#}", ended.ledger.0);
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert_eq!(ended.messages("removed to keep the budget before a consumer was done").len(), 1);
    assert_verified(disk.path());
}
