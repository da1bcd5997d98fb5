use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::sessions::{Named, named};
use super::*;
use crate::ledger::{Ledger, Output, OutputDrop, SessionTotals, Snapshot};
use crate::record::Timestamp;
use crate::route::policy::{Entry, Match, Policy, SessionPlan};
use crate::sandbox;
use crate::session::{Label, Session};
use crate::view::{Configuration, LastHour, OutputState, SessionsState, State, Status, WorkerState};
use crate::wire::Vni;

/// Rewrites the document instead of comparing it.
const REWRITE: &str = "VXTAP_REWRITE";
const BEGIN: &str = "<!-- metrics: begin -->\n";
const END: &str = "<!-- metrics: end -->\n";

fn status() -> Status {
    let output = OutputState {
        name: "pcap".into(),
        kind: "pcap".into(),
        essential: true,
        up: true,
        reason: None,
        directory: Some("/var/lib/vxtap".into()),
        interface: None,
        queue_bytes: 7,
        queue_limit_bytes: 64 << 20,
        free_bytes: Some(50 << 30),
    };
    Status {
        schema: 1,
        version: "0.1.0".into(),
        pid: 7,
        started: Timestamp::from_ns(1_000_000_000_000),
        now: Timestamp::from_ns(1_090_000_000_000),
        uptime_seconds: 100.0,
        last_hour: LastHour::default(),
        state: State::Receiving,
        ready: true,
        reasons: Vec::new(),
        live: true,
        listen: vec!["0.0.0.0:4789".into()],
        source: "sockets".into(),
        workers: vec![WorkerState { worker: 0, turns: 9, idle_seconds: 0.25, busy_seconds: 1.5 }],
        sessions: SessionsState { count: 3, limit: 1024 },
        outputs: vec![output],
        losses: Vec::new(),
        config: Configuration { path: None, applied: 2, refused: 1, last: None },
        sandbox: sandbox::State { landlock: Some(7), seccomp: true, ..Default::default() },
    }
}

/// A sensor with an output, and with these sessions.
fn moment(ledger: &Ledger, sessions: Vec<SessionTotals>, names: &[&str]) -> Moment {
    let named = names.iter().map(|name| Named {
        name: (*name).into(),
        description: "eni-1 \"front\"".into(),
        vni: "7".into(),
        source: "all".into(),
    });
    Moment {
        snapshot: Snapshot::of(ledger, Timestamp::from_ns(1_000_000_000_000), sessions),
        status: status(),
        named: named.collect(),
        durations: ledger.outputs.durations(),
        archived: ledger.outputs.archived(),
        reserves: [("pcap".to_owned(), 10 << 30)].into(),
        configured: 1000.0,
        waiting: Some(vec![70, 0]),
        rings: vec![0, 4096],
    }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    let worker = ledger.worker();
    worker.received.add(12);
    let mut output = Output { name: "pcap".into(), ends: Vec::new() };
    let end = output.end();
    end.offered.add(9);
    end.written.add(6);
    end.gone.add(2);
    end.dropped(OutputDrop::DiskFull).add(3);
    end.durations.add(Duration::from_millis(3));
    ledger.outputs.push(output);
    ledger
}

fn session(number: u32) -> Session {
    Session::vxlan(Ipv4Addr::from(0x0a00_0000 + number).to_ipv6_mapped(), Vni::new(number).unwrap())
}

fn totals(number: u32, name: Option<&str>, frames: u64, first: u64) -> SessionTotals {
    let label = Label { name: name.map(Into::into), ..Label::default() };
    let at = Timestamp::from_ns;
    let (first, last) = (at(first), at(first + 1_000_000_000));
    SessionTotals { session: session(number), label, frames, bytes: 100 * frames, first, last, lost: 0, duplicates: 0 }
}

/// The value of a series in the format of Prometheus.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[derive(Debug)]
struct Fixed(Vec<Family>);

impl Collector for Fixed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| format::encode(family, &mut encoder))
    }
}

fn text(format: Format, families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Fixed(families)));
    format.encode(&registry).unwrap()
}

#[test]
fn both_formats_have_the_same_series_and_each_its_own_frame() {
    let families = scraped(&moment(&ledger(), vec![totals(7, Some("web"), 5, 1)], &["web"]), &mut Accounts::default());
    let prometheus = text(Format::Prometheus, families.clone());
    let wanted = "# HELP vxtap_received_datagrams_total Datagrams that the sensor took from its sockets and rings, or \
                  that its program in the kernel redirected or found not allowed.\n\
                  # TYPE vxtap_received_datagrams_total counter\nvxtap_received_datagrams_total 12\n";
    assert!(prometheus.contains(wanted), "{prometheus}");
    for (series, wanted) in [
        ("vxtap_output_written_frames_total{output=\"pcap\"}", 6.0),
        ("vxtap_output_gone_frames_total{output=\"pcap\"}", 2.0),
        ("vxtap_output_dropped_frames_total{output=\"pcap\",reason=\"disk_full\"}", 3.0),
        ("vxtap_output_filtered_frames_total{output=\"pcap\",reason=\"session\"}", 0.0),
        ("vxtap_output_write_seconds_bucket{output=\"pcap\",le=\"0.001\"}", 0.0),
        ("vxtap_output_write_seconds_bucket{output=\"pcap\",le=\"0.005\"}", 1.0),
        ("vxtap_output_write_seconds_bucket{output=\"pcap\",le=\"+Inf\"}", 1.0),
        ("vxtap_output_write_seconds_sum{output=\"pcap\"}", 0.003),
        ("vxtap_clock_stepped_seconds", -10.0),
        ("vxtap_worker_busy_seconds_total{worker=\"0\"}", 1.5),
        ("vxtap_socket_queue_bytes{worker=\"0\"}", 70.0),
        ("vxtap_ring_used_bytes{worker=\"1\"}", 4096.0),
        ("vxtap_config_reloads_total{result=\"refused\"}", 1.0),
        ("vxtap_session_received_frames_total{session=\"web\"}", 5.0),
        ("vxtap_session_info{session=\"web\",vni=\"7\",source=\"all\",description=\"eni-1 \\\"front\\\"\"}", 1.0),
    ] {
        assert_eq!(value(&prometheus, series), Some(wanted), "{series}: {prometheus}");
    }
    let openmetrics = text(Format::OpenMetrics, families);
    assert!(openmetrics.ends_with("# EOF\n") && !prometheus.contains("# EOF"), "{openmetrics}");
    assert!(openmetrics.contains("# TYPE vxtap_received_datagrams counter\nvxtap_received_datagrams_total 12\n"));
    assert!(openmetrics.contains("# TYPE vxtap_session info\nvxtap_session_info{"), "{openmetrics}");
    // The labels of a bucket are in another order.
    let series = |text: &str| -> BTreeSet<Vec<String>> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parts = lines.map(|line| line.rsplit_once(' ').unwrap().0.split(['{', ',', '}']).map(String::from));
        parts.map(|parts| parts.collect::<BTreeSet<_>>().into_iter().collect()).collect()
    };
    assert_eq!(series(&prometheus), series(&openmetrics));
}

#[test]
fn every_counter_of_the_catalogue_has_a_metric_and_no_two_the_same() {
    let families = moment(&ledger(), Vec::new(), &[]).families().into_list();
    let names: BTreeSet<String> = families.iter().map(Family::name).collect();
    assert_eq!(names.len(), families.len());
    for family in &families {
        let labels: BTreeSet<String> = family.series.iter().map(|(labels, _)| format!("{labels:?}")).collect();
        assert_eq!(labels.len(), family.series.len(), "two counters are {}", family.name());
        assert!(!family.help.is_empty() && family.help.ends_with('.'), "{}: {}", family.name(), family.help);
    }
    for name in [
        "vxtap_received_bytes_total",
        "vxtap_decapsulated_frames_total",
        "vxtap_dropped_datagrams_total",
        "vxtap_kernel_dropped_datagrams_total",
        "vxtap_fast_path_ring_full_datagrams_total",
        "vxtap_unselected_frames_total",
        "vxtap_overflow_frames_total",
        "vxtap_expired_bytes_total",
        "vxtap_truncated_frames_total",
        "vxtap_redirected_frames_total",
        "vxtap_not_redirected_datagrams_total",
        "vxtap_beyond_cutoff_bytes_total",
        "vxtap_output_offered_frames_total",
        "vxtap_output_written_bytes_total",
        "vxtap_output_files_published_total",
        "vxtap_output_files_recovered_total",
        "vxtap_output_files_pruned_total",
        "vxtap_output_files_unpublished_total",
        "vxtap_output_hooks_total",
        "vxtap_output_hooks_failed_total",
        "vxtap_output_hooks_skipped_total",
        "vxtap_output_manifest_changed_total",
        "vxtap_output_in_flight_frames",
    ] {
        assert!(names.contains(name), "{name} is none of {names:#?}");
    }
}

#[test]
fn a_flood_of_sessions_adds_no_series() {
    let lines = |sessions: Vec<SessionTotals>| {
        let families = scraped(&moment(&ledger(), sessions, &["web", "all"]), &mut Accounts::default());
        text(Format::Prometheus, families)
    };
    let few = lines(Vec::new());
    let name = |number: u32| if number < 100 { Some("all") } else { None };
    let many = lines((1..=10_000).map(|number| totals(number, name(number), 2, 1)).collect());
    assert_eq!(many.lines().count(), few.lines().count());
    assert_eq!(value(&many, "vxtap_session_received_frames_total{session=\"all\"}"), Some(198.0));
    assert_eq!(value(&many, "vxtap_session_received_frames_total{session=\"other\"}"), Some(2.0 * 9901.0));
    assert_eq!(value(&many, "vxtap_session_received_frames_total{session=\"web\"}"), Some(0.0));
}

#[test]
fn what_is_counted_under_a_name_never_falls_and_is_counted_once() {
    let mut accounts = Accounts::default();
    let mut look = |sessions: &[SessionTotals], expired: u64, names: &[&str]| {
        let mut moment = moment(&Ledger::default(), sessions.to_vec(), names);
        moment.snapshot.expired.frames = expired;
        let text = text(Format::Prometheus, scraped(&moment, &mut accounts));
        let of = |name| value(&text, &format!("vxtap_session_received_frames_total{{session=\"{name}\"}}"));
        [of("a"), of("b"), of("other")].map(|value| value.map(|value| value as u64))
    };
    let names = ["a", "b"];
    let two = [totals(1, Some("a"), 10, 1), totals(2, Some("a"), 5, 1), totals(3, None, 7, 1)];
    assert_eq!(look(&two, 0, &names), [Some(15), Some(0), Some(7)]);
    // One is forgotten. What it had counted since the last look is found among what has expired.
    let one = [totals(1, Some("a"), 11, 1), totals(3, None, 8, 1)];
    assert_eq!(look(&one, 6, &names), [Some(16), Some(0), Some(9)]);
    // It comes again, and by now it has counted more than before.
    let again = [totals(1, Some("a"), 11, 1), totals(2, Some("a"), 20, 9_000), totals(3, None, 8, 1)];
    assert_eq!(look(&again, 6, &names), [Some(36), Some(0), Some(9)]);
    // Another file gives names otherwise: a name begins with what comes from then on.
    let other = [totals(1, Some("b"), 12, 1), totals(2, None, 21, 9_000), totals(3, Some("b"), 9, 1)];
    assert_eq!(look(&other, 6, &["b"]), [None, Some(2), Some(10)]);
    // A look in the middle of forgetting finds a session nowhere.
    assert_eq!(look(&other[..2], 6, &["b"]), [None, Some(2), Some(10)]);
    assert_eq!(look(&other[..2], 15, &["b"]), [None, Some(2), Some(10)]);
}

#[test]
fn the_configuration_says_which_names_there_are() {
    let entry = |name: Option<&str>, vnis: &[u32], drop| {
        let label = Label { name: name.map(Into::into), ..Label::default() };
        let vni = |vni: &u32| Vni::new(*vni).unwrap();
        let vnis = (!vnis.is_empty()).then(|| vnis.iter().map(vni).collect());
        Entry {
            sessions: Match { vnis, ..Match::default() },
            plan: SessionPlan { label, drop, ..SessionPlan::default() },
        }
    };
    let entries = vec![
        entry(Some("web"), &[1, 2, 9], false),
        entry(None, &[3], false),
        entry(Some("gone"), &[4], true),
        entry(Some("rest"), &[], false),
        entry(Some("many"), &[10, 20, 30, 40, 50, 60], false),
    ];
    let policy = Policy::new(entries, Vec::new()).unwrap();
    let told: Vec<(String, String, String)> =
        named(&policy).into_iter().map(|named| (named.name.to_string(), named.vni, named.source)).collect();
    let wanted = [("web", "1-2,9"), ("rest", "all"), ("many", "10,20,30,40 and 2 more")];
    assert_eq!(told, wanted.map(|(name, vni)| (name.into(), vni.into(), "all".into())));
}

#[test]
fn a_log_line_has_what_is_not_zero_by_the_names_of_metrics() {
    let object = object(&moment(&ledger(), vec![totals(7, Some("web"), 5, 1)], &["web"]).families().into_list());
    let object = Value::from(object);
    assert_eq!(object["vxtap_received_datagrams_total"], 12);
    assert_eq!(object["vxtap_output_dropped_frames_total"], serde_json::json!({ "pcap": { "disk_full": 3 } }));
    assert_eq!(object["vxtap_clock_stepped_seconds"], -10.0);
    let text = object.to_string();
    assert!(!text.contains("kernel_dropped") && !text.contains("session_") && !text.contains("_info"), "{text}");
}

/// The table of all metrics.
fn table() -> String {
    let families = scraped(&moment(&ledger(), Vec::new(), &["web"]), &mut Accounts::default());
    let mut text = format!("{BEGIN}\n| metric | kind | labels | |\n|---|---|---|---|\n");
    for family in families {
        let labels = family.series.first().map(|(labels, _)| labels.clone()).unwrap_or_default();
        let labels: Vec<String> = labels.iter().map(|(label, _)| format!("`{label}`")).collect();
        let kind = format!("{:?}", family.kind).to_lowercase();
        let help = family.help.trim_end_matches('.').replace('|', "\\|");
        text += &format!("| `{}` | {kind} | {} | {help} |\n", family.name(), labels.join(", "));
    }
    text + "\n" + END
}

#[test]
fn the_document_has_all_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{}{after}", table());
    if std::env::var_os(REWRITE).is_some() {
        fs::write(&path, &wanted).unwrap();
    } else {
        let command = format!("{REWRITE}=1 cargo test --lib metrics");
        assert!(text == wanted, "docs/metrics.md is not what the catalogue says: write it anew with {command}");
    }
}
