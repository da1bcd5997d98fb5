//! The ledger as people read it.

use std::fmt;

use indicatif::HumanCount;

use super::catalogue::Reading;
use super::counters::{OutputTotals, Totals, WorkerTotals};
use super::losses::Losses;
use super::outputs::Partly;
use super::snapshot::Snapshot;

/// Sessions listed in the table; JSON has them all.
const SESSIONS_SHOWN: usize = 32;

/// The counter of the workers whose row tells of bytes.
const RECEIVED: &str = "received";
/// The counter of an output whose row tells of bytes and files.
const WRITTEN: &str = "written";
/// The counter of these bytes.
const WRITTEN_BYTES: &str = "written_bytes";
/// The counter of these files.
const FILES: &str = "files";

/// Writes a row of a summary: a count, what it is called, and what there is to say of it.
pub(crate) fn row(f: &mut fmt::Formatter<'_>, name: &str, n: u64, note: &str) -> fmt::Result {
    let line = format!("  {name:<28} {:>17}  {note}", HumanCount(n).to_string());
    writeln!(f, "{}", line.trim_end())
}

/// The rows of these counters, in the order of their ranks. A row has the note that is in the
/// catalogue, and before it what `besides` has to say of the counter of this label.
fn rows(f: &mut fmt::Formatter<'_>, readings: &[Reading], besides: impl Fn(&str) -> String) -> fmt::Result {
    let with_row = readings.iter().filter_map(|reading| Some((reading.facts.row?, reading)));
    let mut rows: Vec<_> = with_row.collect();
    rows.sort_by_key(|(at, _)| at.rank);
    for (at, reading) in rows.iter().filter(|(at, reading)| at.always || reading.value > 0) {
        let name = format!("{}{}", at.name, reading.reason.unwrap_or_default());
        row(f, &name, reading.value, &(besides(reading.label) + at.note))?;
    }
    Ok(())
}

fn datagrams(f: &mut fmt::Formatter<'_>, readings: &[Reading], totals: &WorkerTotals) -> fmt::Result {
    rows(f, readings, |label| match label {
        RECEIVED => format!("{} bytes", HumanCount(totals.received_bytes)),
        _ => String::new(),
    })
}

fn output(f: &mut fmt::Formatter<'_>, totals: &OutputTotals) -> fmt::Result {
    let readings = totals.shown();
    let of = |label: &str| readings.iter().find(|reading| reading.label == label).map_or(0, |reading| reading.value);
    rows(f, &readings, |label| match (label, of(FILES)) {
        (WRITTEN, files) => {
            let files = match files {
                0 => String::new(),
                1 => " in 1 file".into(),
                n => format!(" in {} files", HumanCount(n)),
            };
            format!("{} bytes{files}", HumanCount(of(WRITTEN_BYTES)))
        }
        _ => String::new(),
    })
}

/// Says when an output was there.
fn when(partly: &Partly) -> String {
    let since = partly.since.map(|since| format!("added {}", since.compact()));
    let removed = partly.removed.map(|removed| format!("removed {}", removed.compact()));
    let times: Vec<String> = since.into_iter().chain(removed).collect();
    if times.is_empty() { " (not there all the time)".into() } else { format!(" ({})", times.join(", ")) }
}

impl Snapshot {
    /// Writes the table without its last line.
    fn write_counts(&self, f: &mut fmt::Formatter<'_>, losses: &Losses) -> fmt::Result {
        writeln!(f, "{losses}")?;
        writeln!(f, "datagrams")?;
        datagrams(f, &self.terms(), &self.datagrams)?;
        for (name, totals) in &self.outputs {
            let partly = self.partly.get(name);
            writeln!(f, "output {name}{}", partly.map(when).unwrap_or_default())?;
            if let Some(partly) = partly {
                row(f, "decapsulated", partly.decapsulated, "while it was there")?;
            }
            output(f, totals)?;
        }
        writeln!(f, "sessions ({})", HumanCount(self.sessions.len() as u64))?;
        for s in self.sessions.iter().take(SESSIONS_SHOWN) {
            let seconds = (s.last.ns() - s.first.ns()) as f64 / 1e9;
            let note = format!("{} bytes in {seconds:.3} s from {}", HumanCount(s.bytes), s.first.compact());
            let more = [(s.lost, "lost"), (s.duplicates, "duplicates"), (s.upstream.lost(), "lost upstream")];
            let more = more.into_iter().filter(|(n, _)| *n > 0);
            let note = more.fold(note, |note, (n, what)| format!("{note}, {} {what}", HumanCount(n)));
            let name = s.label.name.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
            row(f, &format!("{name}{}", s.session), s.frames, &note)?;
        }
        if self.sessions.len() > SESSIONS_SHOWN {
            writeln!(f, "  ... {} more; --ledger json lists all", self.sessions.len() - SESSIONS_SHOWN)?;
        }
        Ok(())
    }
}

/// The table of a sensor that runs. Nothing is said of its equations: they hold when nothing is on
/// its way any more, and with all sessions.
#[derive(Debug)]
pub(crate) struct SoFar<'a>(pub &'a Snapshot);

impl fmt::Display for SoFar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_counts(f, &Losses::of(self.0))
    }
}

/// The table of a ledger that has ended, with all that was lost, be it before the ledger.
#[derive(Debug)]
pub struct Table<'a>(pub &'a Snapshot, pub &'a Losses);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table(snapshot, losses) = self;
        snapshot.write_counts(f, losses)?;
        match snapshot.check() {
            Ok(()) => {
                writeln!(f, "{}, and the ledger closes: every datagram received is accounted for", losses.share())
            }
            Err(e) => writeln!(f, "{e}"),
        }
    }
}

/// The table of what the ledger has.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table(self, &Losses::of(self)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_looked_up_by_label_exist() {
        let ledger = crate::ledger::Ledger::default();
        let sensor = Snapshot::of(&ledger, crate::record::Timestamp::from_ns(0), Vec::new());
        assert!(sensor.datagrams.value(RECEIVED).is_some());
        for label in [WRITTEN, WRITTEN_BYTES, FILES] {
            assert!(OutputTotals::default().value(label).is_some(), "{label}");
        }
    }
}
