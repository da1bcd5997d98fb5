//! Balancers ask whether the sensor may be sent traffic. What it answers follows outputs and
//! workers, never load, and nothing holds up an answer.

use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::configuration::WAYS;
use crate::disk::Loop;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Namespace};
use crate::overload::Mount;
use crate::process::{Process, eventually, task_named};
use crate::replay::{self, replay_all};
use crate::sensor::Sensor;
use crate::site::{Answer, Site};

/// The port for checks.
const PORT: u16 = 8080;
/// The time for which something must be otherwise before the answer is.
const HYSTERESIS: Duration = Duration::from_secs(10);
/// An answer that took so long was held up: far less than what is to hold it up here lasts.
const HELD_UP: Duration = Duration::from_secs(10);

impl Answer {
    fn reason(&self) -> String {
        self.json()["reasons"].to_string()
    }
}

impl Site {
    /// Starts a sensor that is checked. `more` are lines of tables behind `[health]`.
    #[track_caller]
    fn checked(&self, more: &str) -> Sensor {
        self.configured(&format!("[health]\nlisten = \"0.0.0.0:{PORT}\"\n{more}\n"))
    }

    /// Sends a request from one of the hosts, and waits for the whole answer.
    fn ask(&self, from: &Namespace, request: &str) -> Answer {
        let mut to = self.pair.target(Ip::V4);
        to.set_port(PORT);
        Answer::to(from.enter(|| TcpStream::connect(to).unwrap()), request)
    }

    /// Asks as a balancer does. An answer waits for nothing, whatever happens to the sensor; it
    /// takes time only where somebody else has the cores.
    #[track_caller]
    fn check(&self, path: &str) -> Answer {
        let begun = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.pair.target(Ip::V4));
        let answer = self.ask(&self.pair.sender, &request);
        assert!(begun.elapsed() < HELD_UP, "{path}: {:?}", begun.elapsed());
        answer
    }

    /// Fails unless answers take no second, as most do even where one has to wait for a core.
    #[track_caller]
    fn answers_at_once(&self, paths: &[&str]) {
        let mut times: Vec<_> = (0..30)
            .map(|number| {
                let begun = Instant::now();
                self.check(paths[number % paths.len()]);
                begun.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[times.len() / 2] < Duration::from_secs(1), "{times:?}");
    }

    /// Waits until a path answers with this status, and returns the answer.
    #[track_caller]
    fn becomes(&self, path: &str, status: u16) -> Answer {
        let mut found = None;
        eventually(&format!("{path} answers with {status}"), || {
            found = Some(self.check(path)).filter(|answer| answer.status == status);
            found.is_some()
        });
        found.unwrap()
    }

    /// Sends this many frames.
    fn send(&self, count: u32, arguments: &str) {
        let file = frames::write(self.directory.path(), "frames.pcap", &frames::assorted(count));
        replay_all(&self.pair.sender, self.pair.target(Ip::V4), &[&file], arguments, count as usize);
    }
}

#[test]
fn an_interface_that_is_down_takes_the_sensor_out_unless_it_is_not_essential() {
    let site = Site::new();
    let taps = "[output.ids]\nkind = \"tap\"\ninterface = \"mirror0\"\n\
                [output.lab]\nkind = \"tap\"\ninterface = \"mirror1\"\nessential = false\n";
    let sensor = site.checked(&format!("drain = \"0s\"\n[sessions]\nfrom = \"192.0.2.77\"\n{}{taps}", site.pcap()));
    let healthy = site.check("/healthz");
    assert_eq!((healthy.status, &healthy.json()["ready"]), (200, &Value::Bool(true)), "{}", healthy.body);
    assert_eq!(site.check("/healthz?format=text").body, "ready\n");
    // The checks of one balancer and another: an old version, a name of its own, no content.
    let old = site.ask(&site.pair.sender, "GET /healthz HTTP/1.0\r\n\r\n");
    let own = site.ask(&site.pair.sender, "GET /healthz HTTP/1.1\r\nHost: lb.example:80\r\nConnection: close\r\n\r\n");
    let head = site.ask(&site.pair.sender, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((old.status, own.status, head.status, head.body.as_str()), (200, 200, 200, ""), "{}", head.head);
    assert_eq!((site.check("/livez").status, site.check("/ledger").status, site.check("/").status), (200, 404, 404));

    site.pair.sensor.ip("link set mirror1 down");
    let since = Instant::now();
    site.pair.sensor.ip("link set mirror0 down");
    let answer = site.becomes("/healthz", 503);
    let took = since.elapsed();
    assert!(took > HYSTERESIS - Duration::from_secs(1) && took < HYSTERESIS * 3, "{took:?}");
    assert_eq!(answer.reason(), "[\"output ids: the interface is down\"]");
    assert_eq!(site.check("/healthz?format=text").body, "not ready: output ids: the interface is down\n");
    assert_eq!(site.check("/livez").status, 200);
    let since = Instant::now();
    site.pair.sensor.ip("link set mirror0 up");
    site.becomes("/healthz", 200);
    assert!(since.elapsed() > HYSTERESIS - Duration::from_secs(1), "{:?}", since.elapsed());

    // No check is mirror traffic that was denied.
    let ended = sensor.stop();
    let get = |what: &str| ended.ledger.get(what);
    assert_eq!((get("/received"), get("/unselected"), ended.code), (0, 0, Some(0)), "{:#}", ended.ledger.0);
}

#[test]
fn a_full_disk_takes_the_sensor_out_until_there_is_room() {
    if !need::programs(&["mount", "umount"]) {
        return;
    }
    let site = Site::new();
    let disk = Mount::new("size=2m");
    let place = format!("[output.pcap]\nkind = \"pcap\"\ndirectory = {:?}\nmin_free = \"0\"\n", disk.path());
    let sensor = site.checked(&format!("drain = \"0s\"\n{place}"));
    assert_eq!(site.check("/healthz").status, 200);
    let file = frames::write(site.directory.path(), "frames.pcap", &frames::assorted(1000));
    let since = Instant::now();
    let load = replay::start(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "--loop 1000000 --rate 2000");
    let answer = site.becomes("/healthz", 503);
    assert!(since.elapsed() > HYSTERESIS - Duration::from_secs(1), "{:?}", since.elapsed());
    let wanted = format!("[\"output pcap: there is no room for captures in {}\"]", disk.path().display());
    assert_eq!(answer.reason(), wanted);
    assert_eq!(site.check("/livez").status, 200);
    disk.remount("size=1g");
    site.becomes("/healthz", 200);
    load.0.signal(Signal::TERM);
    load.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(3), "{:#?}", ended.log);
    assert!(ended.ledger.get("/outputs/pcap/dropped/disk_full") > 0, "{:#}", ended.ledger.0);
}

#[test]
fn load_takes_no_sensor_out() {
    let site = Site::new();
    let more = format!(
        "[delivery]\nqueue = \"1500KiB\"\n[receive]\nworkers = 1\nbuffer = \"64KiB\"\n{}compress = \"zstd:19\"\n",
        site.pcap()
    );
    let sensor = site.checked(&format!("drain = \"0s\"\n{more}"));
    let file = frames::write(site.directory.path(), "frames.pcap", &frames::assorted(1000));
    let load = replay::start(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "--loop 1000000 --rate 100000");
    let end = Instant::now() + HYSTERESIS * 2;
    while Instant::now() < end {
        assert_eq!((site.check("/healthz").status, site.check("/livez").status), (200, 200));
        thread::sleep(Duration::from_millis(200));
    }
    load.0.signal(Signal::TERM);
    load.ended();
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "load is no failure: {:#?}", ended.log);
    assert!(ended.ledger.get("/outputs/pcap/dropped/lane_full") > 1000, "{:#}", ended.ledger.0);
}

/// However datagrams are received, no check is one of them.
#[test]
fn a_sensor_that_is_to_end_says_so_first_and_receives_what_still_comes() {
    // Far longer than it takes to send some frames, even where one has to wait for a core.
    let drain = Duration::from_secs(15);
    let receives = |way: &str| {
        let site = Site::new();
        let seconds = drain.as_secs();
        let sensor = site.checked(&format!("drain = \"{seconds}s\"\n[receive]\n{way}\n{}", site.pcap()));
        site.send(100, "--vni 7");
        assert_eq!(site.check("/healthz").status, 200);
        let asked = Instant::now();
        sensor.process.signal(Signal::TERM);
        let answer = site.becomes("/healthz", 503);
        assert!(asked.elapsed() < HYSTERESIS / 2, "at once: {:?}", asked.elapsed());
        assert_eq!((answer.reason().as_str(), site.check("/livez").status), ("[\"the sensor is about to end\"]", 200));
        site.send(200, "--vni 8");
        let ended = sensor.ended();
        assert!(asked.elapsed() >= drain, "{:?}", asked.elapsed());
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
        assert_eq!(ended.ledger.sessions().iter().map(|session| session.2).collect::<Vec<_>>(), [100, 200]);
        assert_eq!(ended.ledger.received(), 300, "{:#}", ended.ledger.0);
        ended.ledger.assert_lossless();
        ended.ledger.assert_output_closes("pcap");
    };
    thread::scope(|scope| WAYS.iter().for_each(|way| drop(scope.spawn(|| receives(way)))));
}

#[test]
fn a_second_signal_ends_a_sensor_that_still_receives() {
    let site = Site::new();
    let mut sensor = site.checked(&format!("drain = \"1h\"\n{}", site.pcap()));
    sensor.process.signal(Signal::TERM);
    site.becomes("/healthz", 503);
    sensor.process.signal(Signal::TERM);
    assert_eq!(sensor.process.wait().code(), Some(128 + 15));
}

#[test]
fn a_worker_that_stalls_is_not_live_and_delays_no_answer() {
    if !need::programs(&["strace"]) {
        return;
    }
    let site = Site::new();
    let sensor = site.checked(&format!("drain = \"0s\"\n[receive]\nworkers = 1\n{}", site.pcap()));
    site.send(100, "--vni 7");
    assert_eq!((site.check("/livez").status, site.check("/healthz").status), (200, 200));
    // Each of the worker's system calls takes 20 s more.
    let worker = task_named(sensor.process.pid(), "vxtap-rx0");
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", "trace=all", "-e", "inject=all:delay_enter=20000000", "-o", "/dev/null", "-p"]);
    let since = Instant::now();
    let strace = Process::start(strace.arg(worker.directory.file_name().unwrap()), None);
    let answer = site.becomes("/livez", 503);
    assert!(since.elapsed() > Duration::from_secs(4), "{:?}", since.elapsed());
    assert!(answer.reason().starts_with("[\"worker 0 has not turned for "), "{}", answer.reason());
    let answer = site.becomes("/healthz", 503);
    assert!(answer.reason().starts_with("[\"worker 0 has not turned for "), "{}", answer.reason());
    site.answers_at_once(&["/healthz", "/livez", "/arriving"]);
    drop(strace);
    site.becomes("/livez", 200);
    site.becomes("/healthz", 200);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_lossless();
}

#[test]
fn a_disk_that_hangs_takes_the_sensor_out_and_delays_no_answer() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let site = Site::new();
    let place = format!("[output.pcap]\nkind = \"pcap\"\ndirectory = {:?}\n", disk.path().join("captures"));
    let sensor = site.checked(&format!("drain = \"0s\"\n[delivery]\nflush = \"100ms\"\n{place}"));
    site.send(100, "--vni 7");
    assert_eq!(site.check("/healthz").status, 200);
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    site.send(100, "--vni 8");
    let answer = site.becomes("/healthz", 503);
    assert!(answer.reason().starts_with("[\"output pcap: it has not answered for "), "{}", answer.reason());
    assert_eq!((site.check("/livez").status, site.check("/arriving").status), (200, 200));
    site.answers_at_once(&["/healthz", "/livez", "/arriving"]);
    drop(frozen);
    site.becomes("/healthz", 200);
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_lossless();
}

#[test]
fn what_arrives_is_told_by_session_and_is_no_measure_of_health() {
    let site = Site::new();
    let named = "[[session]]\nname = \"web\"\nvni = 7\n";
    let sensor = site.checked(&format!("drain = \"0s\"\n{}{named}", site.pcap()));
    let none = site.check("/arriving").json();
    assert_eq!((&none["arriving"], &none["sessions"]), (&Value::Bool(false), &Value::Array(Vec::new())), "{none:#}");
    assert_eq!(site.check("/healthz").status, 200, "that nothing comes is no fault");
    site.send(100, "--vni 7");
    site.send(50, "--vni 8");
    let mut some = Value::Null;
    eventually("all frames have come", || {
        some = site.check("/arriving").json();
        some["sessions"][0]["frames"] == 100 && some["sessions"][1]["frames"] == 50
    });
    let web = &some["sessions"][0];
    assert_eq!((&web["name"], &web["vni"], &web["frames"]), (&"web".into(), &7.into(), &100.into()), "{some:#}");
    assert!(some["note"].as_str().unwrap().contains("never a balancer's criterion"));
    let text = site.check("/arriving?format=text").body;
    assert!(
        text.starts_with("arriving, in the last ") && text.contains("web (") && text.contains(": 100 frames"),
        "{text}"
    );
    eventually("they are silent", || site.check("/arriving").json()["silent"].as_array().unwrap().len() == 2);
    assert_eq!((site.check("/arriving").status, site.check("/healthz").status), (200, 200));
    assert_eq!(sensor.stop().code, Some(0));
}
