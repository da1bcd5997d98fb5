//! Metrics say what the ledger says, in both formats, and their number does not hang on what comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::captures;
use crate::datagrams::{self, vxlan};
use crate::frames;
use crate::need;
use crate::netns::Ip;
use crate::process::eventually;
use crate::site::{Answer, HTTP, Site};

/// A scrape: the kind of the answer, and its text.
struct Scrape {
    kind: String,
    text: String,
}

impl Scrape {
    /// Asks a sensor, accepting these kinds.
    #[track_caller]
    fn of(site: &Site, accept: &str) -> Scrape {
        let Answer { status, head, body: text } = site.get("/metrics", &format!("Accept: {accept}\r\n"));
        assert_eq!(status, 200, "{head}");
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap().to_owned();
        Scrape { kind, text }
    }

    /// All series with their values.
    fn series(&self) -> BTreeMap<&str, f64> {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        *self.series().get(series).unwrap_or_else(|| panic!("no {series} in {}", self.text))
    }

    /// The series of counters, by the types that are said, and the parts of histograms.
    fn counters(&self) -> BTreeMap<String, f64> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let rising = types.filter(|line| line.ends_with(" counter") || line.ends_with(" histogram"));
        let rising: Vec<&str> = rising.map(|line| line.split(' ').next().unwrap()).collect();
        let is_rising = |series: &&str| {
            let name = series.split('{').next().unwrap();
            let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            rising.iter().any(|rising| name == *rising || whole == Some(*rising))
        };
        let series = self.series().into_iter().filter(|(series, _)| is_rising(series));
        series.map(|(series, value)| (series.to_owned(), value)).collect()
    }

    /// Names of metrics, as types have them.
    fn names(&self) -> BTreeSet<String> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

/// Runs promtool on a text, and returns what it prints where it finds no fault.
#[track_caller]
fn promtool(words: &str, text: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(words.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().unwrap();
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && faults.is_empty(), "{words}: {faults}");
    String::from_utf8(output.stdout).unwrap()
}

impl Site {
    /// Returns the text of a file that has these sessions.
    fn text(&self, sessions: &str) -> String {
        format!(
            "[http]\nlisten = [\"{HTTP}\"]\n[control]\nenabled = false\n{sessions}\n\
             {}[delivery]\nflush = \"100ms\"\n",
            self.pcap()
        )
    }

    fn send_vnis(&self, vnis: impl IntoIterator<Item = u32>) {
        let frame = &frames::assorted(1)[0];
        let datagrams: Vec<_> = vnis.into_iter().map(|vni| vxlan(8, [0; 3], vni, 0, frame)).collect();
        // In pieces that the socket's buffer holds.
        for piece in datagrams.chunks(200) {
            datagrams::send(&self.pair.sender, self.pair.target(Ip::V4), piece);
        }
    }

    #[track_caller]
    fn scrape(&self) -> Scrape {
        Scrape::of(self, "*/*")
    }

    /// Waits until so many were received and are written or counted otherwise.
    #[track_caller]
    fn all_came(&self, received: f64) {
        eventually("all are written", || {
            let scrape = self.scrape();
            scrape.get("vxtap_received_datagrams_total") == received
                && scrape.get("vxtap_in_flight_datagrams") == 0.0
                && scrape.get("vxtap_output_in_flight_frames{output=\"pcap\"}") == 0.0
        });
    }
}

/// Names of metrics in the table of the documents.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let (_, table) = text.split_once("<!-- metrics: begin -->").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned));
    rows.collect()
}

#[test]
fn a_scrape_is_what_the_ledger_says_in_both_formats() {
    if !need::programs(&["promtool"]) {
        return;
    }
    let site = Site::new();
    let sensor =
        site.configured(&site.text("[[session]]\nname = \"web\"\nvni = [7]\ndescription = 'the \"front\" \\ end'\n"));
    site.send_vnis((0..300).map(|number| 7 + number % 3));
    datagrams::send(&site.pair.sender, site.pair.target(Ip::V4), &[vec![0; 50]]);
    site.all_came(301.0);
    let file_systems = "vxtap_filesystem_free_bytes{output=\"pcap\"}";
    eventually("its file system was looked at", || site.scrape().series().contains_key(file_systems));

    let scrape = site.scrape();
    assert_eq!(scrape.kind, "text/plain; version=0.0.4; charset=utf-8");
    for (series, value) in [
        ("vxtap_decapsulated_frames_total", 300.0),
        ("vxtap_dropped_datagrams_total{reason=\"vni_flag_clear\"}", 1.0),
        ("vxtap_output_offered_frames_total{output=\"pcap\"}", 300.0),
        ("vxtap_output_written_frames_total{output=\"pcap\"}", 300.0),
        ("vxtap_output_up{output=\"pcap\"}", 1.0),
        ("vxtap_session_received_frames_total{session=\"web\"}", 100.0),
        ("vxtap_session_received_frames_total{session=\"other\"}", 200.0),
        ("vxtap_sessions", 3.0),
        ("vxtap_sessions_limit", 1024.0),
        ("vxtap_ready", 1.0),
        ("vxtap_config_last_reload_successful", 1.0),
        (
            "vxtap_session_info{session=\"web\",vni=\"7\",source=\"all\",description=\"the \\\"front\\\" \\\\ end\"}",
            1.0,
        ),
    ] {
        assert_eq!(scrape.get(series), value, "{series}");
    }
    let on_disk =
        || -> u64 { captures::files(&site.captures()).iter().map(|file| fs::metadata(file).unwrap().len()).sum() };
    eventually("the captures are as large as the archive says", || {
        site.scrape().get("vxtap_archive_bytes{output=\"pcap\"}") == on_disk() as f64
    });
    assert!(scrape.get("vxtap_output_write_seconds_count{output=\"pcap\"}") >= 1.0);
    let (start, last) = ("vxtap_start_time_seconds", "vxtap_session_last_frame_timestamp_seconds{session=\"web\"}");
    assert!(scrape.get(last) > scrape.get(start) && scrape.get(start) > 1e9);
    assert!(scrape.get("vxtap_clock_stepped_seconds").abs() < 1.0);
    assert!(scrape.get("process_cpu_seconds_total") >= 0.0 && scrape.get("process_open_fds") > 5.0);
    let cardinality = promtool("check metrics --extended", &scrape.text);
    assert!(cardinality.contains("vxtap_output_dropped_frames_total"), "{cardinality}");
    assert_eq!(scrape.names(), documented());

    let other = Scrape::of(&site, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(other.kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    // promtool reads this format where each value has a time.
    let series = other.text.lines().map(|line| if line.starts_with('#') { line.into() } else { format!("{line} 1") });
    let timed = site.directory.path().join("metrics");
    fs::write(&timed, series.map(|line| line + "\n").collect::<String>()).unwrap();
    let data = site.directory.path().join("data");
    let words = format!("tsdb create-blocks-from openmetrics {} {}", timed.display(), data.display());
    let read = promtool(&words, "");
    assert!(read.contains("BLOCK ULID"), "{read}");
    let names = |scrape: &Scrape| {
        scrape.series().into_keys().filter(|name| !name.contains("le=")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&other), names(&scrape));

    let said = |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?["fields"]["metrics"].clone());
    let has_all = |line: &str| said(line).filter(|metrics| metrics["vxtap_received_datagrams_total"] == 301);
    let metrics = sensor.process.stderr.find("a status after all came", 0, has_all);
    assert_eq!(metrics["vxtap_output_written_frames_total"], serde_json::json!({ "pcap": 300 }), "{metrics:#}");
    assert!(metrics.get("vxtap_session_received_frames_total").is_none());
    let ended = sensor.stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    ended.ledger.assert_output_closes("pcap");
    assert_eq!((ended.ledger.received(), ended.ledger.written()), (301, 300));
}

#[test]
fn a_flood_of_vnis_adds_no_series() {
    if !need::programs(&["promtool"]) {
        return;
    }
    let site = Site::new();
    let sensor = site
        .configured(&site.text("[[session]]\nname = \"web\"\nvni = [7]\n[[session]]\nname = \"all\"\nvni = \"all\"\n"));
    site.send_vnis([7]);
    site.all_came(1.0);
    let file_systems = "vxtap_filesystem_free_bytes{output=\"pcap\"}";
    eventually("its file system was looked at", || site.scrape().series().contains_key(file_systems));
    let before = site.scrape().series().len();
    site.send_vnis(1..=10_000);
    eventually("all came", || {
        let scrape = site.scrape();
        let lost = scrape.get("vxtap_kernel_dropped_datagrams_total");
        scrape.get("vxtap_received_datagrams_total") + lost == 10_001.0
            && scrape.get("vxtap_in_flight_datagrams") == 0.0
    });
    let scrape = site.scrape();
    assert_eq!(scrape.series().len(), before);
    assert!(before < 250, "{before} series: {}", scrape.text);
    assert_eq!(scrape.get("vxtap_sessions"), 1024.0);
    let received = scrape.get("vxtap_decapsulated_frames_total");
    let named = ["web", "all", "other"]
        .map(|name| scrape.get(&format!("vxtap_session_received_frames_total{{session=\"{name}\"}}")));
    assert_eq!(named.iter().sum::<f64>(), received);
    assert_eq!((named[0], named[1], named[2]), (2.0, 1023.0, received - 1025.0));
    promtool("check metrics --extended", &scrape.text);
    drop(sensor);
}

#[test]
fn no_counter_falls_by_a_reload_or_by_sessions_that_are_forgotten() {
    if !need::programs(&[]) {
        return;
    }
    let site = Site::new();
    // A scrape finds sessions before they are forgotten, even where it has to wait for a core.
    let idle = |sessions: &str| format!("[sessions]\nidle = \"5s\"\n{sessions}");
    let sensor = site.configured(&site.text(&idle("[[session]]\nname = \"web\"\nvni = [7, 8]\n")));
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    let mut look = |what: &str| {
        let scrape = site.scrape();
        let now = scrape.counters();
        for (series, value) in &now {
            let old = before.get(series).copied().unwrap_or(0.0);
            assert!(*value >= old, "{series} fell from {old} to {value} after {what}");
        }
        before.extend(now);
        scrape
    };
    let of =
        |scrape: &Scrape, name: &str| scrape.get(&format!("vxtap_session_received_frames_total{{session=\"{name}\"}}"));
    site.send_vnis([7, 8, 9]);
    site.all_came(3.0);
    let scrape = look("frames");
    assert_eq!((of(&scrape, "web"), of(&scrape, "other")), (2.0, 1.0));
    eventually("sessions are forgotten", || look("nothing").get("vxtap_expired_frames_total") == 3.0);
    let scrape = look("forgetting");
    assert_eq!((of(&scrape, "web"), of(&scrape, "other")), (2.0, 1.0));
    site.send_vnis([7, 9]);
    site.all_came(5.0);
    let scrape = look("sessions that came again");
    assert_eq!((of(&scrape, "web"), of(&scrape, "other")), (3.0, 2.0));
    fs::write(site.file(), site.text(&idle("[[session]]\nname = \"front\"\nvni = [7, 9]\n"))).unwrap();
    sensor.process.signal(Signal::HUP);
    eventually("the file is in force", || {
        look("a reload").get("vxtap_config_reloads_total{result=\"applied\"}") == 1.0
    });
    site.send_vnis([7, 9, 9]);
    site.all_came(8.0);
    let scrape = look("frames under another name");
    assert_eq!((of(&scrape, "front"), of(&scrape, "other")), (3.0, 2.0));
    assert!(!scrape.text.contains("session=\"web\""), "{}", scrape.text);
    fs::write(site.file(), "nonsense").unwrap();
    sensor.process.signal(Signal::HUP);
    eventually("the file is refused", || look("nonsense").get("vxtap_config_last_reload_successful") == 0.0);
    assert_eq!(look("nonsense").get("vxtap_config_reloads_total{result=\"refused\"}"), 1.0);
    drop(sensor);
}
