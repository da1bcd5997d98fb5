//! A sensor of the fleet that its autoscaling group takes out is drained: what
//! `deploy/cloudformation/fleet.yaml` gives to an instance runs here as it does there, with a
//! metadata service and a store of objects that are the test's own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use serde_json::Value;

use crate::captures;
use crate::frames;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::{eventually, run};
use crate::replay::replay_all;
use crate::service::{self, UNIT as SENSOR};
use crate::side_by_side::AWS;
use crate::site::Answer;
use crate::systemd::{self, Root, Systemd};

/// The unit under test.
const UNIT: &str = "vxtap-drain.service";

/// Where the store is, for the units. The sensor's commands may write there.
const OBJECTS: &str = "/var/lib/vxtap/objects";

/// What a store does that does not answer the first time.
const STALLS: &str = "#!/bin/sh\n! mkdir /var/lib/vxtap/asked 2>/dev/null || exec sleep 1000\n";

/// How long the sensor goes on to receive, in seconds.
const DRAIN: u64 = 8;

/// Returns what the fleet's template has as this file, with these values of its parameters.
#[track_caller]
fn given(path: &str) -> String {
    let template = include_str!("../../deploy/cloudformation/fleet.yaml");
    let (_, behind) = template.split_once(&format!("- path: {path}\n")).unwrap();
    let (_, content) = behind.split_once("content: |\n").unwrap();
    let indent = content.find(|letter| letter != ' ').unwrap();
    let is_in = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() >= indent;
    let lines = content.lines().take_while(is_in).map(|line| line.get(indent..).unwrap_or_default());
    let mut text = lines.fold(String::new(), |text, line| text + line + "\n");
    for (name, value) in [
        ("MirrorSourceCidr", "10.73.0.0/16"),
        ("VpcCidr", "10.73.0.0/16"),
        ("RotateTime", "1h"),
        ("BucketName", "captures"),
        ("AWS::StackName", "fleet"),
    ] {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    assert!(!text.contains("${"), "{text}");
    text
}

/// The metadata service, as an instance of a group has it.
#[derive(Clone, Default)]
struct Metadata(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// What is to become of the host. No group has it yet where this is empty.
    state: &'static str,
    /// How often it was asked that, and answered with what is the state now.
    answered: u32,
}

impl Metadata {
    const TOKEN: &str = "AQAEAtoken==";

    /// Answers from now on.
    fn start(pair: &Pair) -> Metadata {
        pair.sensor.ip("addr add 169.254.169.254/32 dev lo");
        let listener = pair.sensor.enter(|| TcpListener::bind("169.254.169.254:80").unwrap());
        let metadata = Metadata::default();
        let this = metadata.clone();
        thread::spawn(move || listener.incoming().for_each(|stream| this.answer(stream.unwrap())));
        metadata
    }

    fn answer(&self, stream: TcpStream) {
        let head: Vec<String> =
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let has = |field: &str| head.iter().any(|line| line.to_lowercase() == field.to_lowercase());
        let (status, body) = match head.first().map_or("", String::as_str) {
            "PUT /latest/api/token HTTP/1.1" if has("X-aws-ec2-metadata-token-ttl-seconds: 60") => {
                ("200 OK", Self::TOKEN)
            }
            "GET /latest/meta-data/autoscaling/target-lifecycle-state HTTP/1.1" => {
                let mut told = self.0.lock().unwrap();
                told.answered += 1;
                match told.state {
                    _ if !has(&format!("X-aws-ec2-metadata-token: {}", Self::TOKEN)) => ("401 Unauthorized", ""),
                    "" => ("404 Not Found", ""),
                    state => ("200 OK", state),
                }
            }
            _ => ("400 Bad Request", ""),
        };
        let length = body.len();
        // Who has asked may be gone.
        let _ = write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }

    /// Says this from now on.
    fn says(&self, state: &'static str) {
        *self.0.lock().unwrap() = Told { state, answered: 0 };
    }

    /// Waits until it has said so several times.
    #[track_caller]
    fn is_asked(&self) {
        eventually("the metadata service is asked", || self.0.lock().unwrap().answered >= 3);
    }
}

/// An instance of the fleet.
struct Instance {
    pair: Pair,
    systemd: Systemd,
    metadata: Metadata,
}

impl Instance {
    fn new() -> Instance {
        let pair = Pair::new(1600);
        let metadata = Metadata::start(&pair);
        let here = format!(
            "[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=OBJECTS={OBJECTS}\nStandardError=append:/var/log/units.log\n"
        );
        let drain = given("/etc/systemd/system/vxtap-drain.service");
        let units = [
            (SENSOR, include_str!("../../systemd/vxtap.service")),
            ("vxtap.service.d/here.conf", &here),
            (UNIT, &drain),
            ("vxtap-drain.service.d/here.conf", &here),
            // What has ended is not forgotten.
            ("vxtap-test.target.d/order.conf", "[Unit]\nAfter=vxtap.service vxtap-drain.service\n"),
        ];
        let instance = Instance { systemd: Systemd::start(&pair.sensor, Root::Copy, &units), metadata, pair };
        let configuration = given("/etc/vxtap/vxtap.toml");
        assert!(configuration.contains("drain = \"20s\""), "{configuration}");
        service::bring(&instance.systemd, &configuration.replace("20s", &format!("{DRAIN}s")));
        let script = given("/usr/local/sbin/vxtap-drain");
        assert!(script.contains("\n  sleep 5\n"), "{script}");
        instance.systemd.write("/usr/local/sbin/vxtap-drain", &script.replace("sleep 5", "sleep 0.2"));
        instance.systemd.write("/usr/local/bin/vxtap-upload", &given("/usr/local/bin/vxtap-upload"));
        instance.systemd.write("/usr/local/bin/aws", &AWS.replace("#!/bin/sh\n", STALLS));
        instance
    }

    /// Sends these frames.
    fn receives(&self, frames: &[Vec<u8>]) {
        let directory = tempfile::tempdir().unwrap();
        let file = frames::write(directory.path(), "frames", frames);
        replay_all(&self.pair.sender, self.pair.target(Ip::V4), &[&file], "--vni 7 --rate 5000", frames.len());
    }

    /// Asks as the balancer does, and returns the status of the answer.
    fn health(&self) -> u16 {
        let mut to = self.pair.target(Ip::V4);
        to.set_port(8080);
        let stream = self.pair.sender.enter(|| TcpStream::connect(to).unwrap());
        Answer::to(stream, "GET /healthz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n").status
    }

    /// Returns a time of the sensor's unit, in µs.
    fn time(&self, property: &str) -> u64 {
        self.systemd.property(SENSOR, property).parse().unwrap()
    }
}

#[test]
fn a_sensor_that_is_taken_out_receives_until_the_balancer_has_turned_away_and_uploads_all() {
    if !need::programs(&["curl", "flock", "systemd-sysusers"]) || !systemd::is_here() {
        return;
    }
    let instance = Instance::new();
    let systemd = &instance.systemd;
    let frames = frames::assorted(300);
    systemd.does(&format!("start {SENSOR}"));
    systemd.does(&format!("start {UNIT}"));
    // Whoever has no group, or one that keeps it, goes on.
    instance.metadata.is_asked();
    instance.metadata.says("InService");
    instance.receives(&frames[..100]);
    // This upload does not end.
    let ledger = || run(systemd.command("vxtap").args(["ledger", "--json"])).stdout;
    let written = |ledger: &Value| ledger.pointer("/outputs/captures/written").and_then(Value::as_u64);
    eventually("the frames are written", || written(&serde_json::from_slice(&ledger()).unwrap()) == Some(100));
    run(systemd.command("vxtap").arg("cut"));
    eventually("the upload begins", || systemd.inside("/var/lib/vxtap/asked").exists());
    instance.receives(&frames[100..200]);
    instance.metadata.is_asked();
    assert_eq!((instance.health(), systemd.property(SENSOR, "ActiveState").as_str()), (200, "active"));

    instance.metadata.says("Terminated");
    eventually("the balancer is told to turn away", || instance.health() == 503);
    // It has not yet.
    instance.receives(&frames[200..]);
    systemd.comes_to(UNIT, "SubState", "dead");
    let log = || fs::read_to_string(systemd.inside("/var/log/units.log")).unwrap();
    for unit in [SENSOR, UNIT] {
        assert_eq!(systemd.property(unit, "Result"), "success", "{unit}: {}", log());
    }
    assert_eq!(systemd.property(SENSOR, "ActiveState"), "inactive");
    let drained = instance.time("InactiveEnterTimestampMonotonic") - instance.time("ActiveExitTimestampMonotonic");
    assert!(drained >= DRAIN * 1_000_000, "{drained} us");

    // The frames of all captures are in the bucket, and so is the manifest.
    let bucket = systemd.inside(OBJECTS).join("fleet");
    let mut all: Vec<_> = captures::files(&bucket).iter().flat_map(|path| captures::read(path)).collect();
    all.sort_by_key(|record| record.time);
    captures::assert_holds("the bucket", &all, &frames);
    let manifests: Vec<_> = fs::read_dir(bucket.join("manifest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [manifest] = manifests.as_slice() else { panic!("{manifests:?}: {}", log()) };
    let here = systemd.inside("/var/lib/vxtap/captures/manifest.jsonl");
    assert_eq!(fs::read_to_string(manifest).unwrap(), fs::read_to_string(here).unwrap());
}
