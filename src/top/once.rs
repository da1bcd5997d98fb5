//! One table for scripts and for terminals that cannot be drawn on.

use std::fmt::Write;

use super::model::Model;
use super::units::{ago, bytes, count, rate};
use crate::console::printable;

/// Writes columns below each other. Columns of numbers are on the right.
fn columns(text: &mut String, rows: &[Vec<String>], numbers: &[usize]) {
    let Some(first) = rows.first() else { return };
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
            if numbers.contains(&at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Writes what the sensor does as a table.
pub(super) fn table(model: &Model) -> String {
    let mut text = String::new();
    let Some(now) = &model.now else { return text };
    let rates = model.rates();
    let ready = model.banner().unwrap_or_else(|| "ready".into());
    let _ = writeln!(text, "{ready}");
    let _ = writeln!(
        text,
        "{} datagrams/s  {:.1} MB/s  {} received  {} of {} sessions",
        rate(rates.datagrams),
        rates.megabytes,
        count(now.ledger.received),
        now.status.sessions.count,
        now.status.sessions.limit,
    );
    let lost: Vec<String> = model
        .losses()
        .iter()
        .map(|lost| format!("{} {} (+{})", lost.what, count(lost.count), count(lost.newly)))
        .collect();
    let _ = writeln!(
        text,
        "{}\n",
        if lost.is_empty() { "nothing lost".into() } else { format!("LOST {}", lost.join(", ")) }
    );
    let head = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![head(&["OUTPUT", "STATE", "FRAMES/S", "MB/S", "WRITTEN", "DROPPED", "WAITS", "FREE"])];
    for output in model.outputs() {
        let state = &output.state;
        rows.push(vec![
            printable(&state.name),
            if state.up { "up".into() } else { "DOWN".into() },
            rate(output.rate),
            format!("{:.1}", output.megabytes),
            count(output.written),
            count(output.dropped),
            format!("{} of {}", bytes(state.queue_bytes), bytes(state.queue_limit_bytes)),
            state.free_bytes.map_or_else(|| "-".into(), bytes),
        ]);
    }
    columns(&mut text, &rows, &[2, 3, 4, 5, 6, 7]);
    text.push('\n');
    let mut rows =
        vec![head(&["SESSION", "SOURCE", "VNI", "FRAMES/S", "MB/S", "FRAMES", "LOST", "DUPLICATES", "BYTES", "LAST"])];
    for session in model.sessions() {
        rows.push(vec![
            session.name,
            session.source,
            session.vni.to_string(),
            rate(session.rate),
            format!("{:.1}", session.megabytes),
            count(session.frames),
            count(session.lost),
            count(session.duplicates),
            bytes(session.bytes),
            ago(session.silent),
        ]);
    }
    columns(&mut text, &rows, &[2, 3, 4, 5, 6, 7, 8, 9]);
    text
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::model;
    use super::*;

    #[test]
    fn a_table_says_it_all() {
        let wanted = "\
NOT READY: output evidence: disk full
2000 datagrams/s  2.0 MB/s  8,000 received  2 of 1024 sessions
LOST evidence disk_full 40 (+40)

OUTPUT    STATE  FRAMES/S  MB/S  WRITTEN  DROPPED                WAITS     FREE
evidence  DOWN       1980   1.8    7,960       40  50.0 MiB of 192 MiB  5.0 TiB

SESSION  SOURCE      VNI  FRAMES/S  MB/S  FRAMES  LOST  DUPLICATES    BYTES  LAST
-        192.0.2.10  100      1500   0.8   6,000    40           0  3.1 MiB  12 s
web-1    10.0.1.5      7       500   1.0   2,000     0           0  3.8 MiB   now
";
        assert_eq!(table(&model(40)), wanted);
    }
}
