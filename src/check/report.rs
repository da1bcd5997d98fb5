//! A report has all that a check has found, for people and for programs.

use std::fmt::Write;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::finding::{Finding, Level, worst};
use super::watch::Traffic;
use super::words::count;

/// The number of the shape of its JSON.
const SCHEMA: u32 = 1;

/// What a check has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The mirror traffic that came, where it was watched.
    pub watch: Option<Traffic>,
}

impl Report {
    /// Returns the level of the worst finding.
    #[must_use]
    pub fn level(&self) -> Level {
        worst(&self.findings)
    }

    /// Writes it for people: a finding is a line, and what mends it is another below.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let width = self.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0) + 1;
        let mut text = self.watch.as_ref().map(ToString::to_string).unwrap_or_default();
        for Finding { level, name, reason, remedy } in &self.findings {
            let (on, off) = if colours { (colour(*level), "\x1b[0m") } else { ("", "") };
            let _ = writeln!(text, "{on}{:<7}{off}  {:<width$} {reason}", level.label(), format!("{name}:"));
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "         -> {remedy}");
            }
        }
        if self.findings.len() > 1 {
            let of = |level| self.findings.iter().filter(|finding| finding.level == level).count() as u64;
            let (warnings, errors) = (count(of(Level::Warning), "warning"), count(of(Level::Error), "error"));
            let _ = writeln!(text, "\n{} ok, {warnings}, {errors}", of(Level::Ok));
        }
        text
    }
}

/// Returns what turns text into the colour of a level.
fn colour(level: Level) -> &'static str {
    match level {
        Level::Ok => "\x1b[32m",
        Level::Warning => "\x1b[33m",
        Level::Error => "\x1b[1;31m",
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Report", 3 + usize::from(self.watch.is_some()))?;
        object.serialize_field("schema", &SCHEMA)?;
        object.serialize_field("level", &self.level())?;
        object.serialize_field("findings", &self.findings)?;
        match &self.watch {
            Some(watch) => object.serialize_field("watch", watch)?,
            None => object.skip_field("watch")?,
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_aligned_for_people_and_whole_for_programs() {
        let findings = vec![Finding::ok("clock", "it is set"), Finding::error("mtu", "it is small", "make it large")];
        let report = Report { findings, watch: None };
        let wanted = "ok       clock: it is set\nerror    mtu:   it is small\n         -> make it large\n\n1 ok, 0 warnings, 1 error\n";
        assert_eq!(report.text(false), wanted);
        assert!(report.text(true).contains("\x1b[1;31merror  \x1b[0m  mtu:"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["schema"].as_u64(), json["level"].as_str()), (Some(1), Some("error")));
        assert_eq!(json["findings"][1]["remedy"], "make it large");
    }
}
