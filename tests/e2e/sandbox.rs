//! A sensor gives up what it does not need, and does all that it is asked for without it.

use std::fs;

use serde_json::{Value, json};

use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, task_named};
use crate::replay::replay_all;
use crate::sensor::{Sensor, Setup};
use crate::site::Site;

/// Says whether this kernel has what the sandbox needs, by whether a sensor starts that requires
/// it.
#[must_use]
fn is_to_be_had() -> bool {
    if !need::programs(&["setpriv"]) {
        return false;
    }
    let lsm = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if !lsm.contains("landlock") {
        need::cannot("this kernel has no Landlock");
        return false;
    }
    true
}

/// Returns these fields of each thread of a process.
fn of_threads(sensor: &Sensor, fields: [&str; 5]) -> Vec<[String; 5]> {
    let tasks = format!("/proc/{}/task", sensor.process.pid().as_raw_nonzero());
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let statuses = fs::read_dir(tasks).unwrap().filter_map(|task| status(task.unwrap()));
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    statuses.map(|status| fields.map(|name| field(&status, name))).collect()
}

#[test]
fn all_threads_have_given_up_what_is_said() {
    if !is_to_be_had() {
        return;
    }
    let site = Site::new();
    // Root without what makes it one: it has what it is given.
    let few = "setpriv --securebits +noroot --inh-caps -all,+net_admin --ambient-caps -all,+net_admin --bounding-set -all,+net_admin";
    for (arguments, kept, named) in
        [("", "0000000000000000", json!([])), ("--tap mirror7", "0000000000001000", json!(["cap_net_admin"]))]
    {
        let control = site.socket();
        let arguments = format!("--sandbox require --control {} --on-publish true {arguments}", control.display());
        let sensor = Setup::new(&site.pair.sensor).through(few).with(&arguments).start();
        // The last of the start begins after the sensor has said that it receives.
        task_named(sensor.process.pid(), "vxtap-space");
        let threads = of_threads(&sensor, ["NoNewPrivs", "Seccomp", "CapPrm", "CapEff", "CapAmb"]);
        assert!(threads.len() > 8, "{threads:?}");
        for thread in &threads {
            assert_eq!(thread[..4], ["1", "2", kept, kept], "{threads:?}");
            assert_eq!(thread[4], "0000000000000000");
        }
        let sandbox: Value = site.json("status")["sandbox"].clone();
        assert_eq!(
            (&sandbox["mode"], &sandbox["seccomp"], &sandbox["no_new_privs"]),
            (&json!("require"), &json!(true), &json!(true))
        );
        assert_eq!((&sandbox["capabilities"], &sandbox["missing"]), (&named, &json!([])));
        let landlock = sandbox["landlock"].as_u64().unwrap();
        assert!(landlock >= 2, "{sandbox}");
        let said = format!("sandbox   Landlock {landlock}, system calls are filtered, ");
        assert!(site.says("status").contains(&said), "{}", site.says("status"));
        let ended = sensor.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.messages("sandbox"), [""; 0]);
    }
}

#[test]
fn metrics_say_what_is_given_up() {
    if !is_to_be_had() {
        return;
    }
    let site = Site::new();
    for (mode, wanted) in [("require", "seccomp=\"filter\""), ("off", "landlock=\"none\",seccomp=\"none\"")] {
        let _sensor = site.start(&format!("--sandbox {mode} --http 127.0.0.1:9479"));
        let metrics = site.get("/metrics", "").body;
        let line = metrics.lines().find(|line| line.starts_with("vxtap_sandbox_info{")).unwrap();
        assert!(line.contains(wanted) && line.ends_with(" 1"), "{line}");
    }
}

#[test]
fn a_reload_stays_within_what_the_sensor_can_reach() {
    if !is_to_be_had() {
        return;
    }
    let site = Site::new();
    let [outside, listed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let told = site.path("told");
    let lines = format!("[sandbox]\nmode = \"require\"\ndirectories = [{:?}]", listed.path());
    let sensor = site.answering(&lines);
    let before = fs::read_to_string(site.file()).unwrap();
    let output = |name: &str, directory: &std::path::Path, more: &str| {
        format!("{before}\n[output.{name}]\nkind = \"pcap\"\ndirectory = {:?}\n{more}\n", directory.join("captures"))
    };
    // As editors do: another file takes the name.
    let replace = |text: String| {
        fs::write(site.path("new"), text).unwrap();
        fs::rename(site.path("new"), site.file()).unwrap();
    };
    replace(output("second", outside.path(), ""));
    let refused = site.vxtap("reload");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains(&format!("write to {}/captures: restart it", outside.path().display())), "{said}");
    assert!(said.contains("[sandbox]"), "{said}");
    // So is a file that a rule hides, whichever way it is named.
    fs::write(outside.path().join("more.toml"), "").unwrap();
    replace(format!("include = [\"{}/more.toml\"]\n{before}", outside.path().display()));
    let refused = site.vxtap("reload");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("more.toml: Permission denied") && said.contains("the sandbox does not let"), "{said}");
    // What is listed works, with a command that nobody knew at the start, and a new interface.
    let hook = format!(
        "on_publish = 'grep -e Cap -e NoNewPrivs /proc/self/status >{}; :'\nrotate_frames = 5\ndirect = \"on\"",
        told.display()
    );
    replace(output("second", listed.path(), &hook) + "[output.late7]\nkind = \"tap\"\n");
    site.says("reload");
    assert!(site.pair.sensor.has_link("late7"));
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    replay_all(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "", frames.len());
    // It runs for each file, and what it has written is gone when the next begins.
    let mut status = String::new();
    eventually("the command has run", || {
        status = fs::read_to_string(&told).unwrap_or_default();
        status.contains("NoNewPrivs:\t1")
    });
    assert!(status.contains("CapAmb:\t0000000000000000") && status.contains("CapInh:\t0000000000000000"), "{status}");
    // A filter is compiled by a library that was there before.
    replace(output("second", listed.path(), "filter = \"tcp port 443 or port domain\""));
    site.says("reload");
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_closes(&ended.captures);
}

/// The process that runs commands is of no use to whoever has taken over the sensor, and its end is
/// said.
#[test]
fn commands_that_nobody_runs_any_more_stay_owed() {
    if !is_to_be_had() {
        return;
    }
    let pair = Pair::new(1600);
    let directory = tempfile::tempdir().unwrap();
    let frames = frames::assorted(100);
    let file = frames::write(directory.path(), "frames.pcap", &frames);
    let sensor = Setup::new(&pair.sensor).with("--sandbox require --rotate-frames 10 --on-publish true").start();
    let pid = sensor.process.pid().as_raw_nonzero();
    let helper = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let helper: i32 = helper.trim().parse().unwrap();
    // It names itself once it runs.
    let name = || fs::read_to_string(format!("/proc/{helper}/comm")).unwrap();
    eventually("the helper has its name", || name().trim() == "vxtap-hooks");
    rustix::process::kill_process(rustix::process::Pid::from_raw(helper).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    sensor.says(0, "the process that runs commands has ended");
    replay_all(&pair.sender, pair.target(Ip::V4), &[&file], "", frames.len());
    sensor.is_writing();
    let captures = sensor.captures.clone();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    ended.ledger.assert_closes(&captures);
    assert!(captures.join("on-publish.jsonl").exists());
}
