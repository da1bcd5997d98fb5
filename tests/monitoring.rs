//! The dashboard and the alerts: promtool understands every expression, every alert fires in a case
//! of its own, and every metric that they name is one that sensors have.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail where they are, too")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const RULES: &str = "deploy/prometheus/vxtap.rules.yml";
const CASES: &str = "deploy/prometheus/vxtap.rules.test.yml";
const DASHBOARD: &str = "deploy/grafana/vxtap.json";
const MAKE: &str = "deploy/grafana/make";

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// All panels, rows included.
fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

fn targets(dashboard: &Value) -> impl Iterator<Item = &Value> {
    panels(dashboard).iter().filter_map(|panel| panel["targets"].as_array()).flatten()
}

fn variables(dashboard: &Value) -> &[Value] {
    dashboard["templating"]["list"].as_array().unwrap()
}

/// The expression with values in place of Grafana's variables.
fn substituted(expression: &str) -> String {
    let variables = [("$__rate_interval", "2m"), ("$instance", ".*"), ("$output", "pcap"), ("$session", "web|other")];
    let text = variables.iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value));
    assert!(!text.contains('$'), "a variable that nobody sets: {expression}");
    text
}

/// Runs promtool, which must find no fault.
#[track_caller]
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
}

/// Says that a test cannot run here, past the test harness; with `CI` set it fails instead.
fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "nothing may be skipped in CI: {why}");
    let _ = io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

fn has_promtool() -> bool {
    let is_there = Command::new("promtool").arg("--version").output().is_ok();
    if !is_there {
        skip("promtool is not installed");
    }
    is_there
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("vxtap_") || word.starts_with("process_")).collect()
}

/// Alerts of the rules.
fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn promtool_understands_every_expression_of_the_dashboard() {
    if !has_promtool() {
        return;
    }
    let dashboard = dashboard();
    let expressions = targets(&dashboard).map(|target| substituted(target["expr"].as_str().unwrap()));
    let rules =
        (0..).zip(expressions).map(|(number, expr)| json!({ "record": format!("panel:{number}"), "expr": expr }));
    let rules: Vec<Value> = rules.collect();
    assert!(rules.len() > 30, "{rules:#?}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    // JSON is YAML too.
    fs::write(&file, json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn every_alert_is_understood_and_fires_in_a_case_and_in_another_does_not() {
    let (rules, cases, document) = (read(RULES), read(CASES), read("docs/metrics.md"));
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let case = |expected: &str| cases.contains(&format!("alertname: {alert}\n        exp_alerts:{expected}"));
        assert!(case("\n          - exp_labels: "), "there is no case in which {alert} fires");
        assert!(case(" []\n"), "there is no case in which {alert} does not fire");
        let row = document.lines().find(|line| line.starts_with(&format!("| `{alert}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/metrics.md does not say what {alert} means"));
        // The rule says for how long it is to be so, or none for at once.
        let rule = rules.split_once(&format!("- alert: {alert}\n")).unwrap().1.split("- alert: ").next().unwrap();
        let lasts = rule.lines().find_map(|line| line.trim().strip_prefix("for: "));
        let words = lasts.map(|lasts| match lasts {
            "1m" => "for a minute".to_owned(),
            minutes => format!("for {} minutes", minutes.trim_end_matches('m')),
        });
        assert!(words.as_ref().is_none_or(|words| row.contains(words)), "{alert}: {words:?} is not in {row}");
    }
    if has_promtool() {
        promtool(&["check", "rules", path(RULES).to_str().unwrap()]);
        promtool(&["test", "rules", path(CASES).to_str().unwrap()]);
    }
}

#[test]
fn sensors_have_every_metric_that_is_named() {
    let document = read("docs/metrics.md");
    let known: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for file in [RULES, CASES, DASHBOARD] {
        for name in named(&read(file)) {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(known.contains(family), "{file}: no sensor has {name}");
        }
    }
    let (rules, dashboard) = (read(RULES), read(DASHBOARD));
    assert!(named(&rules).len() >= 9 && named(&dashboard).len() >= 30, "names are found");
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    assert!(dashboard["uid"].is_string() && dashboard["title"].is_string());
    let ids: Vec<u64> = panels(&dashboard).iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    let source = variables(&dashboard).iter().find(|variable| variable["type"] == "datasource").unwrap();
    assert_eq!((&source["name"], &source["query"]), (&json!("datasource"), &json!("prometheus")));
    let ours = json!({ "type": "prometheus", "uid": "${datasource}" });
    for target in targets(&dashboard) {
        assert_eq!(target["datasource"], ours, "{target:#}");
    }
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(panel["type"] == "row" || panel["datasource"] == ours, "{panel:#}");
        assert!(panel["type"] == "row" || !panel["description"].as_str().unwrap().is_empty(), "{panel:#}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel:#}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "two panels are in one place: {panel:#}");
            }
        }
    }
    let names: Vec<&str> = variables(&dashboard).iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "output", "session"]);
}

#[test]
fn the_dashboard_is_what_its_script_makes() {
    let Ok(output) = Command::new(path(MAKE)).output() else { return skip("python3 is not installed") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_same = String::from_utf8(output.stdout).unwrap() == read(DASHBOARD);
    assert!(is_same, "make it anew: {MAKE} > {DASHBOARD}");
}
