//! The outputs of the ledger come and go while the sensor runs. What they counted stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::catalogue::Cell;
use super::counter::Counter;
use super::counters::{OutputCounters, OutputTotals};
use super::durations::Histogram;
use super::lost::{Lost, LostBy};
use super::seat::Seat;
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

/// All outputs that ever ran, in the order in which they came. Those of one name that have finished
/// are one, so that the memory does not grow with how often some come. The lock is taken where an
/// output comes or goes, and where somebody adds up: no frame passes here.
#[derive(Debug, Default)]
pub struct Outputs {
    entries: Mutex<Vec<Entry>>,
    /// Frames that outputs had lost of sessions that were forgotten since.
    forgotten: Counter,
}

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
        self.entries.lock().push(Entry { output: Arc::new(output), since: None, until: None });
    }

    /// Adds an output that comes while the sensor runs.
    pub(crate) fn come(&self, output: Output) {
        let mut entries = self.entries.lock();
        unite(&mut entries, &output.name);
        entries.push(Entry { output: Arc::new(output), since: Some(Timestamp::now()), until: None });
    }

    /// Notes that the output of this name is taken away.
    pub(crate) fn go(&self, name: &str) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.output.name == name) {
            entry.until.get_or_insert_with(Timestamp::now);
        }
    }

    /// Has `free` say of which sessions nobody has anything any more, before others get their
    /// numbers. What outputs lost of them counts as of sessions that have expired. One thread calls
    /// this.
    pub(crate) fn forgetting<T>(&self, free: impl FnOnce(&mut dyn FnMut(Seat)) -> T) -> T {
        let entries = self.entries.lock();
        let all: Vec<&Lost> = entries.iter().flat_map(|entry| &entry.output.ends).map(|end| &end.lost).collect();
        free(&mut |seat| all.iter().for_each(|lost| self.forgotten.add(lost.forget(seat))))
    }

    /// Adds up what the outputs lost by session.
    pub(super) fn lost(&self) -> LostBy {
        let entries = self.entries.lock();
        Lost::of(&self.forgotten, entries.iter().flat_map(|entry| &entry.output.ends).map(|end| &end.lost))
    }

    /// Adds up the outputs by name.
    pub(super) fn sums(&self) -> Sums {
        let entries = self.entries.lock();
        by_name(&entries).into_iter().map(|(name, entries)| (name.to_owned(), Entry::sum(&entries))).collect()
    }

    /// Returns how long the outputs take for what comes at once, by name.
    pub fn durations(&self) -> BTreeMap<String, Histogram> {
        let entries = self.entries.lock();
        let by_name = by_name(&entries).into_iter();
        by_name
            .map(|(name, entries)| (name.to_owned(), Histogram::of(ends(&entries).map(|end| &end.durations))))
            .collect()
    }

    /// Returns the bytes of the captures of each output that is there, by name.
    pub(crate) fn archived(&self) -> BTreeMap<String, u64> {
        let entries = self.entries.lock();
        let there = entries.iter().filter(|entry| entry.until.is_none());
        let bytes = |entry: &Entry| entry.output.ends.iter().map(|end| end.archive_bytes.get()).sum();
        there.map(|entry| (entry.output.name.clone(), bytes(entry))).collect()
    }

    /// Lends the output of this place.
    #[cfg(test)]
    pub(crate) fn at(&self, place: usize) -> Arc<Output> {
        Arc::clone(&self.entries.lock()[place].output)
    }
}

/// Makes one of the outputs of this name that have finished.
fn unite(entries: &mut Vec<Entry>, name: &str) {
    let finished: Vec<Entry> =
        entries.extract_if(.., |entry| entry.output.name == name && entry.has_finished()).collect();
    let (Some(first), Some(last)) = (finished.first(), finished.last()) else { return };
    let all = OutputCounters::default();
    finished.iter().flat_map(|entry| &entry.output.ends).for_each(|end| all.take_over_all(end));
    let output = Arc::new(Output { name: name.to_owned(), ends: vec![Arc::new(all)] });
    let (since, until) = (first.since, last.until);
    entries.insert(0, Entry { output, since, until });
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
    /// Says whether the output was taken away, and nobody counts for it any more.
    fn has_finished(&mut self) -> bool {
        let is_counted = |end: &mut Arc<OutputCounters>| Arc::get_mut(end).is_none();
        let output = Arc::get_mut(&mut self.output).filter(|_| self.until.is_some());
        output.is_some_and(|output| !output.ends.iter_mut().any(is_counted))
    }

    /// Adds up outputs of one name, in the order in which they came.
    fn sum(entries: &[&Self]) -> (OutputTotals, Option<Partly>) {
        let ends = || ends(entries);
        // What a frame is counted in first is read last.
        let totals = OutputCounters::sum(&ends().collect::<Vec<_>>());
        let is_partly = entries.iter().any(|entry| entry.since.is_some() || entry.until.is_some());
        let partly = is_partly.then(|| Partly {
            since: entries.iter().map(|entry| entry.since).min().flatten(),
            removed: entries.last().and_then(|entry| entry.until),
            decapsulated: ends().map(|end| end.presence.decapsulated()).sum(),
        });
        (totals, partly)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Filtered, OutputDrop, WorkerCounters};
    use super::*;

    #[test]
    fn outputs_of_one_name_that_have_finished_have_one_place() {
        let (outputs, worker) = (Outputs::default(), Arc::new(WorkerCounters::default()));
        let mut held = None;
        for round in 1..=9 {
            let mut output = Output { name: "watch:1".into(), ends: Vec::new() };
            let (lane, sink) = (output.end(), output.end());
            outputs.come(output);
            lane.presence.begin(Arc::<WorkerCounters>::clone(&worker));
            worker.decapsulated.add(round);
            lane.offered.add(round);
            lane.filtered.add(1);
            lane.filtered_by(Filtered::Session).add(1);
            sink.dropped(OutputDrop::LaneFull).add(round - 1);
            sink.durations.add(Duration::from_millis(round));
            lane.presence.end();
            worker.decapsulated.add(100);
            outputs.go("watch:1");
            // Somebody still counts for this one when others come.
            held = (round == 4).then_some(lane).or(held);
            let (totals, partly) = outputs.sums().remove("watch:1").unwrap();
            let all: u64 = (1..=round).sum();
            assert_eq!((totals.offered, totals.filtered, totals.filtered_by["session"]), (all, round, round));
            assert_eq!(totals.dropped["lane_full"], all - round);
            assert_eq!(partly.map(|partly| (partly.decapsulated, partly.removed.is_some())), Some((all, true)));
            let durations = &outputs.durations()["watch:1"];
            assert_eq!((durations.count(), durations.sum), (round, Duration::from_millis(all)));
            let places = outputs.entries.lock().iter().map(|entry| entry.output.ends.len()).collect::<Vec<_>>();
            assert!(places.len() <= 3 && places.iter().sum::<usize>() <= 5, "{places:?}");
        }
        let first = outputs.entries.lock().iter().map(|entry| entry.since).min();
        let partly = || outputs.sums()["watch:1"].1.unwrap();
        assert_eq!(Some(partly().since), first);
        drop(held);
        outputs.come(Output { name: "other".into(), ends: Vec::new() });
        assert_eq!(outputs.entries.lock().len(), 4, "others are none of its affair");
        outputs.come(Output { name: "watch:1".into(), ends: Vec::new() });
        assert_eq!(outputs.entries.lock().len(), 3);
        assert_eq!((Some(partly().since), partly().removed), (first, None));
    }
}
