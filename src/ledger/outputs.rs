//! The outputs of the ledger come and go while the sensor runs. What they counted stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::catalogue::Cell;
use super::counters::{OutputCounters, OutputTotals};
use super::durations::Histogram;
use crate::record::Timestamp;

/// The counters of one output: one set per lane, one for the sink.
#[derive(Debug)]
pub struct Output {
    /// The output's name, as `pcap`.
    pub name: String,
    /// Every end's counters.
    pub ends: Vec<Arc<OutputCounters>>,
}

impl Output {
    /// Adds a set of counters for one end of this output.
    pub(crate) fn end(&mut self) -> Arc<OutputCounters> {
        let counters = Arc::new(OutputCounters::default());
        self.ends.push(Arc::clone(&counters));
        counters
    }

    /// Adds up what the ends count.
    #[must_use]
    pub fn totals(&self) -> OutputTotals {
        OutputCounters::sum(&self.ends.iter().map(|end| &**end).collect::<Vec<_>>())
    }
}

/// All outputs that ever ran, in the order in which they came. The lock is taken where an output
/// comes or goes, and where somebody adds up: no frame passes here.
#[derive(Debug, Default)]
pub struct Outputs(Mutex<Vec<Entry>>);

/// An output, and when it was there.
#[derive(Debug)]
struct Entry {
    output: Arc<Output>,
    /// The time at which it came; none where it was there from the start.
    since: Option<Timestamp>,
    /// The time at which it was taken away; none where it is there.
    until: Option<Timestamp>,
}

/// What tells of an output that was not there all the time. Outputs of one name are told of
/// together, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Partly {
    /// The time at which it first came; none where it was there from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time at which it was taken away; none where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// Datagrams that yielded an inner frame while it was there: those that it was offered.
    pub decapsulated: u64,
}

/// The sums of the outputs of one name, and what tells of a part of the time.
pub(super) type Sums = BTreeMap<String, (OutputTotals, Option<Partly>)>;

impl Outputs {
    /// Adds an output that is there from the start.
    pub fn push(&self, output: Output) {
        self.0.lock().push(Entry { output: Arc::new(output), since: None, until: None });
    }

    /// Adds an output that comes while the sensor runs.
    pub(crate) fn come(&self, output: Output) {
        self.0.lock().push(Entry { output: Arc::new(output), since: Some(Timestamp::now()), until: None });
    }

    /// Notes that the output of this name is taken away.
    pub(crate) fn go(&self, name: &str) {
        let mut entries = self.0.lock();
        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.output.name == name) {
            entry.until.get_or_insert_with(Timestamp::now);
        }
    }

    /// Adds up the outputs by name.
    pub(super) fn sums(&self) -> Sums {
        let entries = self.0.lock();
        by_name(&entries).into_iter().map(|(name, entries)| (name.to_owned(), Entry::sum(&entries))).collect()
    }

    /// Returns how long the outputs take for what comes at once, by name.
    pub fn durations(&self) -> BTreeMap<String, Histogram> {
        let entries = self.0.lock();
        let by_name = by_name(&entries).into_iter();
        by_name
            .map(|(name, entries)| (name.to_owned(), Histogram::of(ends(&entries).map(|end| &end.durations))))
            .collect()
    }

    /// Returns the bytes of the captures of each output that is there, by name.
    pub(crate) fn archived(&self) -> BTreeMap<String, u64> {
        let entries = self.0.lock();
        let there = entries.iter().filter(|entry| entry.until.is_none());
        let bytes = |entry: &Entry| entry.output.ends.iter().map(|end| end.archive_bytes.get()).sum();
        there.map(|entry| (entry.output.name.clone(), bytes(entry))).collect()
    }

    /// Lends the output of this place.
    #[cfg(test)]
    pub(crate) fn at(&self, place: usize) -> Arc<Output> {
        Arc::clone(&self.0.lock()[place].output)
    }
}

/// Returns the outputs of each name, in the order in which they came.
fn by_name(entries: &[Entry]) -> BTreeMap<&str, Vec<&Entry>> {
    let mut by_name: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_name.entry(&entry.output.name).or_default().push(entry);
    }
    by_name
}

/// Returns the counters of all ends of these outputs.
fn ends<'a>(entries: &[&'a Entry]) -> impl Iterator<Item = &'a OutputCounters> {
    entries.iter().flat_map(|entry| &entry.output.ends).map(|end| &**end)
}

impl Entry {
    /// Adds up outputs of one name, in the order in which they came.
    fn sum(entries: &[&Self]) -> (OutputTotals, Option<Partly>) {
        let ends = || ends(entries);
        // What a frame is counted in first is read last.
        let totals = OutputCounters::sum(&ends().collect::<Vec<_>>());
        let is_partly = entries.iter().any(|entry| entry.since.is_some() || entry.until.is_some());
        let partly = is_partly.then(|| Partly {
            since: entries.first().and_then(|entry| entry.since),
            removed: entries.last().and_then(|entry| entry.until),
            decapsulated: ends().map(|end| end.presence.decapsulated()).sum(),
        });
        (totals, partly)
    }
}
