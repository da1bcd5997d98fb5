//! A family is a metric of one name, with its series.

use crate::ledger::Histogram;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It never falls.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It is always 1, and its labels say something.
    Info,
    /// It counts durations.
    Histogram,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A whole number.
    Count(u64),
    /// Any number.
    Number(f64),
    /// Durations, by how long they are.
    Durations(Histogram),
}

/// The labels of a series, in their order.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A metric with its series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// Its name as it is scraped, without `_total` or `_info`.
    pub(super) stem: String,
    /// The help text, in sentences.
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) series: Vec<(Labels, Value)>,
}

impl Family {
    /// The name as it is scraped.
    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.stem),
            Kind::Info => format!("{}_info", self.stem),
            Kind::Gauge | Kind::Histogram => self.stem.clone(),
        }
    }
}

/// Families in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<Family>);

impl Families {
    /// Adds a series to the family of this name, which is made if it is not there.
    pub(super) fn add(&mut self, kind: Kind, stem: &str, help: &str, labels: Labels, value: Value) {
        let at = self.0.iter().position(|family| family.stem == stem).unwrap_or_else(|| {
            self.0.push(Family { stem: stem.into(), help: help.into(), kind, series: Vec::new() });
            self.0.len() - 1
        });
        if let Some(family) = self.0.get_mut(at) {
            family.series.push((labels, value));
        }
    }

    /// Adds a series of a counter.
    pub(super) fn counter(&mut self, stem: &str, help: &str, labels: Labels, value: u64) {
        self.add(Kind::Counter, stem, help, labels, Value::Count(value));
    }

    /// Adds a series of a counter of seconds.
    pub(super) fn seconds(&mut self, stem: &str, help: &str, labels: Labels, value: f64) {
        self.add(Kind::Counter, stem, help, labels, Value::Number(value));
    }

    /// Adds a series of a gauge that is a whole number.
    pub(super) fn gauge(&mut self, stem: &str, help: &str, labels: Labels, value: u64) {
        self.add(Kind::Gauge, stem, help, labels, Value::Count(value));
    }

    /// Adds a series of a gauge that is any number.
    pub(super) fn number(&mut self, stem: &str, help: &str, labels: Labels, value: f64) {
        self.add(Kind::Gauge, stem, help, labels, Value::Number(value));
    }

    /// Adds what labels say.
    pub(super) fn info(&mut self, stem: &str, help: &str, labels: Labels) {
        self.add(Kind::Info, stem, help, labels, Value::Count(1));
    }

    /// Adds a series of durations.
    pub(super) fn durations(&mut self, stem: &str, help: &str, labels: Labels, durations: Histogram) {
        self.add(Kind::Histogram, stem, help, labels, Value::Durations(durations));
    }

    /// Returns the families.
    pub(super) fn into_list(self) -> Vec<Family> {
        self.0
    }
}
