//! A report has all that a check has found, for people and for programs.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::finding::{Finding, Level, worst};
use super::watch::Traffic;

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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(watch) = &self.watch {
            watch.fmt(f)?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
