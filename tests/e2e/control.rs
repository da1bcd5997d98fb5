//! A running sensor is asked and told things over its control socket and over HTTP, and nobody who
//! asks holds it up.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::captures;
use crate::disk::Loop;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{PATIENCE, eventually};
use crate::replay::replay_all;
use crate::sensor::{Setup, VXTAP};
use crate::site::{HTTP, Site};

impl Site {
    /// Runs a command that the sensor refuses, and returns what it says.
    #[track_caller]
    fn refuses(&self, words: &str) -> String {
        let output = self.vxtap(words);
        assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Sends a request to the HTTP port, and returns the status and the whole answer.
    fn http(&self, request: &str) -> (u16, String) {
        exchange(self.connect(), request)
    }
}

/// Sends a request, and returns the status and the whole answer; status 0 is none.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    // A server that has heard enough may have closed.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..n]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// Fails unless this, which answers what nothing should hold up, takes less than a second. Of three
/// times one counts: a machine with much else to do may be slow now and then.
#[track_caller]
fn at_once<T>(what: &str, mut ask: impl FnMut() -> T) {
    let times = [(); 3].map(|()| {
        let begun = Instant::now();
        ask();
        begun.elapsed()
    });
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{what}: {times:?}");
}

fn curl(socket: &Path, words: &str) -> Output {
    Command::new("curl")
        .args(["-sS", "--max-time", "10", "--unix-socket"])
        .arg(socket)
        .args(words.split(' '))
        .output()
        .unwrap()
}

#[test]
fn questions_are_answered_and_orders_are_carried_out() {
    if !need::programs(&["curl"]) {
        return;
    }
    let site = Site::new();
    let sensor = site.start("--vni 7 --flush 100ms");
    assert_eq!(fs::symlink_metadata(site.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let file = frames::write(site.directory.path(), "frames.pcap", &frames::assorted(50));
    replay_all(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "--vni 7 --rate 1000", 50);
    eventually("all are written", || site.json("ledger")["outputs"]["pcap"]["written"] == 50);

    let ledger = site.json("ledger");
    assert_eq!((&ledger["schema"], &ledger["received"]), (&1.into(), &50.into()), "{ledger:#}");
    assert_eq!(ledger["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(site.json("ledger --top 0")["sessions"].as_array().unwrap().len(), 0);
    assert!(site.says("ledger").contains("decapsulated"), "the table");
    let sessions = site.json("sessions");
    assert_eq!((&sessions["count"], &sessions["sessions"][0]["frames"]), (&1.into(), &50.into()), "{sessions:#}");
    assert!(site.says("sessions").contains("1 of 1024 sessions at most"));
    let status = site.json("status");
    assert_eq!((&status["state"], &status["schema"]), (&"receiving".into(), &1.into()), "{status:#}");
    let lately = &status["last_hour"];
    assert_eq!((&lately["received"], &lately["received_bytes"]), (&50.into(), &ledger["received_bytes"]), "{status:#}");
    assert!(lately["seconds"].as_f64() > Some(0.0), "{status:#}");
    assert!(site.says("status").contains("receiving for"));
    let config = site.says("config");
    assert!(config.contains("vni = [7]") && config.contains("flush = \"100ms\""), "{config}");

    // The same by any client of HTTP.
    let answer = curl(&site.socket(), "http://any.name/ledger?top=1");
    assert_eq!(serde_json::from_slice::<Value>(&answer.stdout).unwrap()["received"], 50, "{answer:?}");
    let head = String::from_utf8(curl(&site.socket(), "-I http://x/status").stdout).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: application/json"), "{head}");
    for (words, status) in [
        ("http://x/nothing", "404"),
        ("http://x/ledger?top=all", "400"),
        ("http://x/reload", "405"),
        ("-X POST http://x/ledger", "405"),
        ("-X DELETE http://x/ledger", "405"),
        ("-0 http://x/ledger", "200"),
        // There is no file.
        ("-X POST http://x/reload", "409"),
    ] {
        let answer = curl(&site.socket(), &format!("-o /dev/null -w %{{http_code}} {words}"));
        assert_eq!(String::from_utf8_lossy(&answer.stdout), status, "{words}: {answer:?}");
    }

    assert!(captures::files(&sensor.captures).iter().all(|path| path.extension().unwrap() == "part"));
    assert!(site.says("cut").contains("being completed"));
    eventually("the file is complete", || {
        let files = captures::files(&sensor.captures);
        files.iter().any(|path| path.extension().is_some_and(|extension| extension == "pcap"))
    });
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(!site.socket().exists(), "the socket goes with the sensor");
    assert!(site.refuses("status").contains("no sensor runs here"));
}

#[test]
fn a_reload_is_waited_for_and_says_what_came_of_it() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.answering("[sessions]\nvni = [1]");
    let file = site.file();
    let before = fs::read_to_string(&file).unwrap();
    let write = |from: &str, to: &str| fs::write(&file, before.replace(from, to)).unwrap();
    assert!(site.says("reload").contains("is read again: nothing has changed"));
    write("vni = [1]", "vni = [1, 2]");
    assert!(site.says("reload").contains("sessions that are let in"));
    assert!(site.says("config").contains("vni = [1, 2]"));
    write("kind = \"pcap\"", "kind = \"pcap\"\nrotate_siz = 5");
    let refused = site.refuses("reload");
    assert!(
        refused.contains("nothing has changed: \n") && refused.contains("rotate_siz") && refused.contains("^^^"),
        "{refused}"
    );
    write("[sessions]", "[run]\ncount = 5\n[sessions]");
    assert!(site.refuses("reload").contains("run.count needs a restart"));
    write("[output", "[http]\nlisten = \"127.0.0.1:9479\"\n[output");
    assert!(site.refuses("reload").contains("http.listen needs a restart"));
    fs::remove_file(&file).unwrap();
    assert!(site.refuses("reload").contains("cannot read"));
    assert!(site.says("config").contains("vni = [1, 2]"), "what is in force");
    write("kind = \"pcap\"", "kind = \"pcap\"\nrotate_frames = 5");
    let answer = site.json("reload");
    assert_eq!((&answer["schema"], answer["changed"].as_array().map(Vec::len)), (&1.into(), Some(2)), "{answer:#}");
    let history = &site.json("status")["config"];
    assert_eq!((&history["applied"], &history["refused"]), (&3.into(), &4.into()), "{history:#}");
    // Signals go on beside it.
    sensor.process.signal(Signal::USR2);
    sensor.process.stderr.find("SIGUSR2", 0, |line| line.contains("SIGUSR2: ").then_some(()));
    let log = sensor.stop().log;
    assert_eq!(log.iter().filter(|line| line.contains("vxtap reload: ")).count(), 7, "{log:#?}");
}

#[test]
fn a_socket_is_that_of_one_sensor() {
    if !need::programs(&["setpriv"]) {
        return;
    }
    let site = Site::new();
    let mut sensor = site.start("");
    let second = Site { pair: Pair::new(1600), directory: site.directory };
    let start = |arguments: &str| {
        Setup::new(&second.pair.sensor).with(&format!("--control {} {arguments}", second.socket().display()))
    };
    let (code, log) = start("").fails();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("a sensor is there already"), "{log}");
    assert!(second.says("status").contains("receiving"), "the first one answers");
    // Another user has no business there.
    fs::set_permissions(second.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups".split(' ').collect::<Vec<_>>();
    let program = second.directory.path().join("vxtap");
    fs::copy(VXTAP, &program).unwrap();
    let status = |socket: &Path| {
        Command::new(nobody[0])
            .args(&nobody[1..])
            .arg(&program)
            .args(["status", "--control"])
            .arg(socket)
            .output()
            .unwrap()
    };
    let refused = status(&second.socket());
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is for the sensor's user and root"), "{refused:?}");
    fs::set_permissions(second.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let refused = status(&second.socket());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not for this user"), "whatever the file lets in");
    // One that was killed leaves its socket, which the next one replaces.
    sensor.process.signal(Signal::KILL);
    sensor.process.wait();
    assert!(second.refuses("status").contains("it has ended"));
    let sensor = start("").start();
    assert!(second.says("status").contains("receiving"));
    sensor.stop();
    // What is no socket is left alone, and a link is not followed.
    let elsewhere = second.directory.path().join("elsewhere");
    symlink(&elsewhere, second.socket()).unwrap();
    let (code, log) = start("").fails();
    assert_eq!(code, Some(1));
    assert!(log.contains("is no socket; it is left alone"), "{log}");
    assert!(!elsewhere.exists());
    let (code, log) = start("--no-control").fails();
    assert_eq!(code, Some(2), "{log}");
}

#[test]
fn http_is_for_those_who_may_ask() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let all = "[http]\nlisten = [\"127.0.0.1:9479\", \"0.0.0.0:9480\"]\nnames = [\"sensor.example\"]";
    let sensor = site.answering(all);
    let get = |path: &str, host: &str| site.http(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let (status, answer) = get("/ledger", "127.0.0.1:9479");
    assert_eq!(status, 200, "{answer}");
    for header in [
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy: same-origin",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
    ] {
        assert!(answer.contains(&format!("{header}\r\n")), "{header}: {answer}");
    }
    for (host, status) in [
        ("localhost", 200),
        ("[::1]:9479", 200),
        ("sensor.example:9479", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        assert_eq!(get("/status", host).0, status, "{host}");
    }
    assert_eq!(site.http("GET http://evil.example/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").0, 421);
    assert_eq!(site.http("GET /status HTTP/1.1\r\n\r\n").0, 400);
    assert_eq!(site.http("GET /status HTTP/1.0\r\n\r\n").0, 200);
    // No order, and nothing that is for the owner alone.
    for (request, status) in
        [("POST /reload", 405), ("POST /ledger", 405), ("PUT /ledger", 405), ("GET /reload", 404), ("GET /config", 404)]
    {
        let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(site.http(&request).0, status, "{request}");
    }
    let (status, answer) = site.http("HEAD /ledger HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(status == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
    // A head is of 8 KiB at most.
    let long = |bytes: usize| {
        site.http(&format!("GET /status HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(bytes)))
    };
    assert_eq!(long(7000).0, 200);
    assert_eq!(long(9000).0, 431);
    assert_eq!(long(1 << 20).0, 431);
    // By its own address the host is no longer itself, and is not let in; nor is another host.
    let address = site.pair.target(Ip::V4).ip();
    let request = format!("GET /status HTTP/1.1\r\nHost: {address}\r\n\r\n");
    for host in [&site.pair.sensor, &site.pair.sender] {
        let stream = host.enter(|| TcpStream::connect((address, 9480)).unwrap());
        assert_eq!(exchange(stream, &request).0, 0, "refused before anything is read");
    }
    assert_eq!(get("/status", "localhost").0, 200);
    let ended = sensor.stop();
    let places = "/control http://127.0.0.1:9479 http://0.0.0.0:9480\"";
    assert!(ended.log.iter().any(|line| line.contains("questions are answered at ") && line.contains(places)));
    assert_eq!(ended.messages("[http] allow lets in this one alone").len(), 1);
    assert_eq!(ended.messages("is not in the list of those who may ask").len(), 1, "{:#?}", ended.log);
    // Those who are listed are let in.
    let listed = format!("[http]\nlisten = \"0.0.0.0:9480\"\nallow = [\"{}\"]", site.pair.source(Ip::V4));
    let sensor = site.answering(&listed);
    let stream = site.pair.sender.enter(|| TcpStream::connect((address, 9480)).unwrap());
    assert_eq!(exchange(stream, &request).0, 200);
    // A port that is taken may be free later.
    let (code, log) = Setup::new(&site.pair.sensor).with("--listen 4790 --http 127.0.0.1:9480").fails();
    assert_eq!(code, Some(75), "{log}");
    assert!(log.contains("cannot listen on 127.0.0.1:9480"), "{log}");
    sensor.stop();
}

#[test]
fn orders_that_wait_for_a_disk_hold_up_no_other() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let site = Site::new();
    let sensor = site.answering(&format!("[sandbox]\ndirectories = [{:?}]", disk.path()));
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    let file = site.file();
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{before}[output.slow]\nkind = \"pcap\"\ndirectory = {:?}\n", disk.path().join("slow")))
        .unwrap();
    let (sender, ended) = mpsc::channel();
    let said: Vec<Output> = thread::scope(|scope| {
        // Dropped where something here fails, so that those who wait end.
        let frozen = frozen;
        for _ in 0..12 {
            let (sender, site) = (sender.clone(), &site);
            scope.spawn(move || sender.send(site.vxtap("reload")));
        }
        for _ in 0..4 {
            let refused = ended.recv_timeout(PATIENCE).unwrap();
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains("8 wait already"), "{refused:?}");
        }
        at_once("others", || [site.says("status"), site.says("cut")]);
        assert!(!site.says("config").contains("output.slow"));
        drop(frozen);
        (0..8).map(|_| ended.recv_timeout(PATIENCE).unwrap()).collect()
    });
    let said: Vec<_> = said.iter().map(|output| String::from_utf8_lossy(&output.stdout)).collect();
    let added = said.iter().filter(|said| said.contains("output slow added")).count();
    let nothing = said.iter().filter(|said| said.contains("nothing has changed")).count();
    assert!(added > 0 && added + nothing == 8, "{said:#?}");
    assert!(site.says("config").contains("[output.slow]"));
    assert_eq!(sensor.stop().code, Some(0));
}

#[test]
fn the_socket_is_in_the_runtime_directory() {
    if !need::programs(&["env"]) {
        return;
    }
    let site = Site::new();
    let runtime = format!("RUNTIME_DIRECTORY={}", site.directory.path().display());
    let start = |namespace| Setup::new(namespace).through(&format!("env {runtime}")).start();
    let sensor = start(&site.pair.sensor);
    assert!(site.says("status").contains("receiving"));
    let asked = Command::new("env").args([&runtime, VXTAP, "status"]).output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    // Nobody asked for it, so a second sensor does without.
    let ended = start(&site.pair.sender).stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert_eq!(ended.messages("there is no control socket: ").len(), 1, "{:#?}", ended.log);
    assert!(site.says("status").contains("receiving"), "the first one has kept its own");
    sensor.stop();
    assert!(!site.socket().exists());
    let none = Setup::new(&site.pair.sensor).through(&format!("env {runtime}")).with("--no-control").start();
    assert!(!site.socket().exists());
    assert_eq!(none.stop().code, Some(0));
}

/// Takes the slots of the HTTP port, over and over, with clients that send a byte a second.
fn dawdle(site: &Site) -> Vec<TcpStream> {
    let mut slow: Vec<TcpStream> = (0..100).map(|_| site.connect()).collect();
    for _ in 0..3 {
        for stream in &mut slow {
            let _ = stream.write_all(b"G");
        }
        thread::sleep(Duration::from_millis(200));
    }
    slow
}

#[test]
fn a_hundred_slow_clients_hold_up_nobody() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    let sensor = site.start(&format!("--http {HTTP}"));
    // Others each time: after five seconds those of the last time are gone.
    let mut slow = Vec::new();
    let times = [(); 3].map(|()| {
        slow = dawdle(&site);
        let begun = Instant::now();
        assert_eq!(site.http("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 200);
        let mut control = UnixStream::connect(site.socket()).unwrap();
        control.write_all(b"GET /status HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
        begun.elapsed()
    });
    // A machine with much else to do may be slow now and then.
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
    // Each of them is let go within its time: five seconds for a head.
    let begun = Instant::now();
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(sensor.stop().code, Some(0));
}

#[test]
fn a_disk_that_stalls_delays_no_answer() {
    if !need::programs(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let Some(disk) = Loop::new() else { return need::cannot("no file system in a file can be mounted here") };
    let site = Site::new();
    let captures = disk.path().join("captures");
    let arguments = format!("--control {} --flush 100ms --vni 7", site.socket().display());
    let sensor = Setup::new(&site.pair.sensor).with(&arguments).writing(&captures).start();
    let file = frames::write(site.directory.path(), "frames.pcap", &frames::assorted(50));
    let send = || replay_all(&site.pair.sender, site.pair.target(Ip::V4), &[&file], "--vni 7 --rate 1000", 50);
    send();
    eventually("frames are written", || captures::files(&captures).len() == 1);
    let Some(frozen) = disk.freeze() else { return need::cannot("fsfreeze fails here") };
    send();
    site.says("cut");
    for _ in 0..3 {
        for words in ["status", "ledger", "sessions", "config"] {
            at_once(words, || site.says(words));
        }
        thread::sleep(Duration::from_millis(300));
    }
    // One that ends waits for the disk. It says so, and takes no order any more.
    sensor.process.signal(Signal::TERM);
    eventually("it drains", || site.json("status")["state"] == "draining");
    assert!(site.refuses("cut").contains("about to end"));
    assert!(site.says("ledger").contains("decapsulated"));
    drop(frozen);
    assert_eq!(sensor.ended().code, Some(0));
    assert!(!site.socket().exists());
}
