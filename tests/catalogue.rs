//! `docs/ledger.md` has the keys of the ledger as the catalogue of counters has them.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use vxtap::ledger::{Equation, Kind, Ledger, Output, Reading, Snapshot, Totals, words};
use vxtap::record::Timestamp;

/// Rewrites the document instead of comparing it.
const REWRITE: &str = "VXTAP_REWRITE";
const BEGIN: &str = "<!-- counters: begin -->\n";
const END: &str = "<!-- counters: end -->\n";

/// Returns a table of these counters, with their keys in JSON below `prefix`.
fn table(title: &str, prefix: &str, readings: impl IntoIterator<Item = Reading>) -> String {
    let mut text = format!("### {title}\n\n| key | unit | |\n|---|---|---|\n");
    for reading in readings {
        let group = reading.group.map(|group| format!("{group}.")).unwrap_or_default();
        let help = reading.help.trim_end_matches('.').replace('|', "\\|");
        let kind = if reading.facts.kind == Kind::Gauge { " (rises and falls)" } else { "" };
        let sparse = if reading.facts.sparse { ", not if 0" } else { "" };
        let unit = reading.facts.unit.label();
        writeln!(text, "| `{prefix}{group}{}` | {unit}{kind}{sparse} | {help} |", reading.name()).unwrap();
    }
    text
}

/// Returns an equation, with counters by reason as sums.
fn equation(equation: Equation, terms: &[Reading]) -> String {
    words(equation, terms, None)
        .replace("dropped", "Σ dropped[reason]")
        .replace("filtered_by", "Σ filtered_by[reason]")
        .replace("sessions.", "Σ sessions[].")
        .replace("outputs.", "Σ outputs[].")
}

/// Returns what is between the marks in the document.
fn generated() -> String {
    let sensor = Snapshot::of(&Ledger::default(), Timestamp::from_ns(0), Vec::new());
    let output = Output { name: String::new(), ends: Vec::new() }.totals();
    let all = sensor.terms();
    let both: Vec<_> = all.iter().cloned().chain(output.shown()).collect();
    let mut text = format!("{BEGIN}\n```text\n");
    for one in Equation::ALL {
        let (terms, each) = if one.is_of_outputs() { (&both, "  (for each output)") } else { (&all, "") };
        writeln!(text, "{}{each}", equation(one, terms)).unwrap();
    }
    text += "```\n\n`outputs[].lost` is no key: it is `Σ dropped[reason]` without `not_ip`, which is no loss, and\n\
             `redirect_lost`, of which the sessions are not known.\n\n";
    let datagrams = sensor.datagrams.shown().into_iter().chain(sensor.datagrams.gauge());
    text += &table("Datagrams and frames", "", datagrams);
    text += "\n";
    text += &table("Sessions beyond the limit", "overflow.", sensor.overflow.shown());
    text += "\n";
    text += &table("Sessions that have expired", "expired.", sensor.expired.shown());
    text += "\n";
    text += &table("Each output", "outputs.NAME.", output.shown().into_iter().chain(output.gauge()));
    text += "\n";
    let moves: Vec<_> = output.readings().into_iter().filter(|reading| reading.facts.moves.is_some()).collect();
    text += "What became of some frames is found out later. They are counted apart, so that no counter falls while the\n\
             sensor runs. Each of these counters is then a key where it is not zero, as `outputs.NAME.gone`, and the keys\n\
             above are without the moves. The ledger of a sensor that has ended has no such key: the keys above have these\n\
             frames where they belong.\n\n| counter | from | to | |\n|---|---|---|---|\n";
    for reading in moves {
        let (from, to) = reading.facts.moves.unwrap();
        let to = to.map(|to| format!("`{to}`")).unwrap_or_default();
        writeln!(text, "| `{}` | `{from}` | {to} | {} |", reading.label, reading.help.trim_end_matches('.')).unwrap();
    }
    text + "\n" + END
}

#[test]
fn the_document_has_the_counters_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ledger.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{}{after}", generated());
    if std::env::var_os(REWRITE).is_some() {
        fs::write(&path, &wanted).unwrap();
    } else {
        let command = format!("{REWRITE}=1 cargo test --test catalogue");
        assert!(text == wanted, "docs/ledger.md is not what the catalogue says: write it anew with {command}");
    }
}
