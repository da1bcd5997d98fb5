//! The catalogue says what is known of a counter beside its value: its label, its help text, its
//! unit, its places in the equations and in the table. The counters themselves are declared in
//! `counters.rs`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::wire::Reason;

/// The unit of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// UDP datagrams.
    Datagrams,
    /// Packets of any kind.
    Packets,
    /// Inner Ethernet frames.
    Frames,
    /// Bytes.
    Bytes,
    /// Files.
    Files,
    /// Commands that are run for a file.
    Commands,
    /// Times that something happened.
    Times,
}

impl Unit {
    /// The unit in a word, as it is in the name of a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Unit::Datagrams => "datagrams",
            Unit::Packets => "packets",
            Unit::Frames => "frames",
            Unit::Bytes => "bytes",
            Unit::Files => "files",
            Unit::Commands => "commands",
            Unit::Times => "times",
        }
    }
}

/// Says how a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Monotonic,
    /// It rises and falls.
    Gauge,
}

/// Says what it means that something was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Nothing by itself.
    Plain,
    /// It was not kept, as somebody asked for, or not apart from the rest.
    Besides,
    /// It was lost: by load, or because of what it is.
    Lost,
    /// It was lost because something failed, or another thing failed: the sensor ends with exit
    /// code 3.
    Failed,
}

/// An equation that holds when the sensor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equation {
    /// Says what became of datagrams.
    Datagrams,
    /// Says that what the program in the kernel put into rings was read.
    Rings,
    /// Says whose the frames were.
    Sessions,
    /// Says which sessions delivered duplicates.
    Duplicates,
    /// Says whose frames the outputs lost.
    Lost,
    /// That an output is offered every frame.
    Offers,
    /// Says what became of an output's frames.
    Frames,
    /// Says why frames were kept out of an output.
    Filtered,
}

impl Equation {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Equation; 8] = [
        Equation::Datagrams,
        Equation::Rings,
        Equation::Sessions,
        Equation::Duplicates,
        Equation::Lost,
        Equation::Offers,
        Equation::Frames,
        Equation::Filtered,
    ];

    /// Says whether the equation holds for each output by itself.
    #[must_use]
    pub const fn is_of_outputs(self) -> bool {
        matches!(self, Equation::Offers | Equation::Frames | Equation::Filtered)
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Lines are in the order of this number.
    pub rank: u8,
    /// The beginning of the line; for a counter by reason, what stands before the reason.
    pub name: &'static str,
    /// The text behind the number.
    pub note: &'static str,
    /// True where there is a line also for zero.
    pub always: bool,
}

/// The part of a declaration that is no label, no type and no help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The unit.
    pub unit: Unit,
    /// Says how the number moves.
    pub kind: Kind,
    /// Says what the number means.
    pub weight: Weight,
    /// Equations in which it is on the left.
    pub left: &'static [Equation],
    /// Equations in which it is on the right.
    pub right: &'static [Equation],
    /// Its line in the table.
    pub row: Option<Row>,
    /// True where a counter by reason has a key in JSON only where it is not zero.
    pub sparse: bool,
    /// The warning of a running sensor in which the number has grown.
    pub warning: Option<&'static str>,
    /// It counts what moved from the first counter to the second, if there is one: neither falls
    /// while the sensor runs, and the ledger of one that has ended has both with the move. A
    /// counter by reason is named as `dropped.write_error`.
    pub moves: Option<(&'static str, Option<&'static str>)>,
}

impl Facts {
    /// A counter of `unit` of which nothing else is known.
    #[must_use]
    pub(crate) const fn of(unit: Unit) -> Self {
        let (kind, weight) = (Kind::Monotonic, Weight::Plain);
        Self { unit, kind, weight, left: &[], right: &[], row: None, sparse: false, warning: None, moves: None }
    }

    /// It is a gauge.
    #[must_use]
    pub(crate) const fn gauge(self) -> Self {
        Self { kind: Kind::Gauge, ..self }
    }

    /// It is on the left of these equations.
    #[must_use]
    pub(crate) const fn left(self, left: &'static [Equation]) -> Self {
        Self { left, ..self }
    }

    /// It is on the right of these equations.
    #[must_use]
    pub(crate) const fn right(self, right: &'static [Equation]) -> Self {
        Self { right, ..self }
    }

    /// It has a line in the table, at this rank.
    #[must_use]
    pub(crate) const fn row(self, rank: u8, name: &'static str, note: &'static str) -> Self {
        Self { row: Some(Row { rank, name, note, always: true }), ..self }
    }

    /// It has a line in the table where it is not zero, at this rank.
    #[must_use]
    pub(crate) const fn row_if_any(self, rank: u8, name: &'static str, note: &'static str) -> Self {
        Self { row: Some(Row { rank, name, note, always: false }), ..self }
    }

    /// It has no key in JSON where it is zero.
    #[must_use]
    pub(crate) const fn sparse(self) -> Self {
        Self { sparse: true, ..self }
    }

    /// It has this weight.
    #[must_use]
    pub(crate) const fn weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// A running sensor warns of it.
    #[must_use]
    pub(crate) const fn warning(self, warning: &'static str) -> Self {
        Self { warning: Some(warning), ..self }
    }

    /// It counts what moved from one counter to another, or away.
    #[must_use]
    pub(crate) const fn moves(self, from: &'static str, to: Option<&'static str>) -> Self {
        Self { moves: Some((from, to)), ..self }
    }
}

/// A [`Reason`] of the ledger, which may have facts of its own.
pub trait Weighed: Reason {
    /// The facts of the counter of this reason, where the counters of all have `shared`.
    fn facts(self, shared: Facts) -> Facts;
}

/// A counter of the catalogue, with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The object of the JSON that it is in, if not the outer one.
    pub group: Option<&'static str>,
    /// Its label: the key in the JSON.
    pub label: &'static str,
    /// For a counter by reason, the reason's label: the key within [`Reading::label`].
    pub reason: Option<&'static str>,
    /// The help text, in sentences.
    pub help: String,
    /// The help text of the counter that it is of, whose reasons have texts of their own.
    pub whole: String,
    /// The facts of its declaration.
    pub facts: Facts,
    /// The value.
    pub value: u64,
}

impl Reading {
    /// Says whether it has a key in JSON.
    fn is_shown(&self) -> bool {
        self.value > 0 || !self.facts.sparse
    }

    /// Its name within its group, as `written` or `dropped.write_error`.
    #[must_use]
    pub fn name(&self) -> String {
        self.reason.map_or_else(|| self.label.to_owned(), |reason| format!("{}.{reason}", self.label))
    }
}

/// A field of a set of counters: a counter, one for each reason, or a further set.
pub trait Cell {
    /// The sum of several of them.
    type Total;

    /// Adds up the values.
    fn sum(cells: &[&Self]) -> Self::Total;

    /// Counts what `other` has counted, which counts no more.
    fn take_over(&self, other: &Self);

    /// The catalogue's entries of a total, all of which are as `declared`.
    fn readings(total: &Self::Total, declared: Reading) -> Vec<Reading>;
}

/// Readings with what moved where it belongs, and without the counters of moves: what the ledger
/// shows.
pub(super) fn settled(mut readings: Vec<Reading>) -> Vec<Reading> {
    let (moves, mut shown): (Vec<_>, Vec<_>) = readings.drain(..).partition(|reading| reading.facts.moves.is_some());
    for moved in moves {
        let Some((from, to)) = moved.facts.moves else { continue };
        for reading in &mut shown {
            let name = reading.name();
            if name == from {
                reading.value = reading.value.wrapping_sub(moved.value);
            } else if Some(name.as_str()) == to {
                reading.value += moved.value;
            }
        }
    }
    shown
}

/// The two sides of an equation.
pub(super) struct Sides {
    pub(super) left: u64,
    pub(super) right: u64,
}

impl Sides {
    /// The sides of `equation`, added up from these readings.
    pub(super) fn of(equation: Equation, readings: &[Reading]) -> Self {
        let sum = |side: fn(&Facts) -> &'static [Equation]| {
            let terms = readings.iter().filter(|reading| side(&reading.facts).contains(&equation));
            terms.map(|reading| reading.value).sum()
        };
        Self { left: sum(|facts| facts.left), right: sum(|facts| facts.right) }
    }

    /// By how much the left side is larger.
    pub(super) fn difference(&self) -> i64 {
        self.left.wrapping_sub(self.right).cast_signed()
    }
}

/// Readings as an object of JSON, in which groups and counters by reason are objects of their own.
/// A counter of moves has a key where it is not zero, and so has one that is sparse.
pub(super) struct Object<'a> {
    pub(super) readings: &'a [Reading],
    /// The number on its way, which has a key where it is not zero.
    pub(super) in_flight: i64,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for group in self.readings.chunk_by(|a, b| a.group == b.group) {
            match group {
                // An object without keys says nothing.
                [Reading { group: Some(_), .. }, ..] if !group.iter().any(Reading::is_shown) => {}
                [Reading { group: Some(name), .. }, ..] => map.serialize_entry(name, &Group(group))?,
                _ => entries(group, &mut map)?,
            }
        }
        if self.in_flight != 0 {
            map.serialize_entry("in_flight", &self.in_flight)?;
        }
        map.end()
    }
}

/// Readings of one group.
struct Group<'a>(&'a [Reading]);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entries(self.0, &mut map)?;
        map.end()
    }
}

/// Readings of one counter by reason.
struct Reasons<'a>(&'a [Reading]);

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter_map(|reading| Some((reading.reason?, reading.value))))
    }
}

fn entries<M: SerializeMap>(readings: &[Reading], map: &mut M) -> Result<(), M::Error> {
    let shown: Vec<_> = readings.iter().filter(|reading| reading.is_shown()).cloned().collect();
    for counter in shown.chunk_by(|a, b| a.label == b.label) {
        match counter {
            [Reading { value: 0, facts: Facts { moves: Some(_), .. }, .. }] => {}
            [Reading { reason: None, label, value, .. }, ..] => map.serialize_entry(label, value)?,
            [Reading { label, .. }, ..] => map.serialize_entry(label, &Reasons(counter))?,
            [] => {}
        }
    }
    Ok(())
}
