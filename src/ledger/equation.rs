//! The equations of the ledger. Which counter stands where is in the catalogue.

use super::catalogue::{Equation, Facts, Reading, Sides, Unit, Weight};
use super::counters::Totals;
use super::sessions::SessionTotals;
use super::snapshot::Snapshot;

/// An equation of the ledger that does not hold: an error of the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger does not close: {equation}: {left} is not {right}")]
pub(crate) struct Imbalance {
    /// The equation in words.
    pub equation: String,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

/// `equation` in words, with the terms that are among these readings; `output` is the output that
/// it is of.
#[must_use]
pub fn words(equation: Equation, readings: &[Reading], output: Option<&str>) -> String {
    let side = |side: fn(&Facts) -> &'static [Equation]| {
        let mut names: Vec<String> = Vec::new();
        for reading in readings.iter().filter(|reading| side(&reading.facts).contains(&equation)) {
            let name = match (reading.group, reading.label, output) {
                (None, "offered", Some(output)) => format!("offered to {output}"),
                (None, label, _) => label.to_owned(),
                (Some(group), label, _) => format!("{group}.{label}"),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names.join(" + ")
    };
    format!("{} = {}", side(|facts| facts.left), side(|facts| facts.right))
}

/// A sum that is not in the catalogue, of frames, as a term of equations.
fn term(group: &'static str, label: &'static str, facts: Facts, value: u64) -> Reading {
    let (help, whole) = Default::default();
    Reading { group: Some(group), label, reason: None, help, whole, facts, value }
}

impl Snapshot {
    /// Returns the terms of the equations of the whole sensor.
    #[must_use]
    pub fn terms(&self) -> Vec<Reading> {
        let overflow = self.overflow.shown().into_iter().map(|reading| Reading { group: Some("overflow"), ..reading });
        let sum = |of: fn(&SessionTotals) -> u64| self.sessions.iter().map(of).sum();
        let frames = Facts::of(Unit::Frames);
        let sums = [
            term("sessions", "frames", frames.right(&[Equation::Sessions]), sum(|session| session.frames)),
            term("sessions", "duplicates", frames.right(&[Equation::Duplicates]), sum(|session| session.duplicates)),
            term("sessions", "lost", frames.right(&[Equation::Lost]), sum(|session| session.lost)),
            term("outputs", "lost", frames.left(&[Equation::Lost]), self.lost_of_sessions()),
        ];
        let expired = self.expired.shown().into_iter().map(|reading| Reading { group: Some("expired"), ..reading });
        self.datagrams.shown().into_iter().chain(overflow).chain(expired).chain(sums).collect()
    }

    /// Returns the frames that outputs lost, as far as it is known of which sessions. One that two
    /// of them lost counts twice.
    #[must_use]
    pub(crate) fn lost_of_sessions(&self) -> u64 {
        let readings = self.outputs.values().flat_map(|output| output.shown());
        readings.filter(|reading| reading.facts.left.contains(&Equation::Lost)).map(|reading| reading.value).sum()
    }

    /// Checks the equations, which hold when the sensor has ended.
    ///
    /// # Errors
    /// The first equation that does not hold.
    pub(crate) fn check(&self) -> Result<(), Imbalance> {
        let terms = self.terms();
        let check = |equation, terms: &[Reading], output| {
            let Sides { left, right } = Sides::of(equation, terms);
            let equation = words(equation, terms, output);
            if left == right { Ok(()) } else { Err(Imbalance { equation, left, right }) }
        };
        let (of_outputs, of_all): (Vec<Equation>, Vec<Equation>) =
            Equation::ALL.into_iter().partition(|equation| equation.is_of_outputs());
        of_all.into_iter().try_for_each(|equation| check(equation, &terms, None))?;
        for (name, output) in &self.outputs {
            let mut terms: Vec<_> = terms.iter().cloned().chain(output.shown()).collect();
            if let Some(partly) = self.partly.get(name) {
                // It was offered what came while it was there.
                let of_all = terms.iter_mut().filter(|term| term.facts.left.contains(&Equation::Offers));
                of_all.for_each(|term| term.value = partly.decapsulated);
            }
            of_outputs.iter().try_for_each(|equation| check(*equation, &terms, Some(name)))?;
        }
        Ok(())
    }

    /// Frames that outputs lost by failing, files not published, and commands that failed or did
    /// not end: what the catalogue calls [`Weight::Failed`]. Load is none of it, nor what is the
    /// frames' own.
    #[must_use]
    pub(crate) fn failed(&self) -> u64 {
        let readings = self.outputs.values().flat_map(|output| output.shown());
        readings.filter(|reading| reading.facts.weight == Weight::Failed).map(|reading| reading.value).sum()
    }
}
