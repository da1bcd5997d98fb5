//! A finding is one sentence about this host or its traffic, and the command that mends it.

use std::fmt;

use serde::Serialize;

use crate::setting::Wording;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// The sensor works, and something is worse than it could be.
    Warning,
    /// The sensor does not work, or loses frames.
    Error,
}

impl Level {
    /// Returns the exit code of a check whose worst finding has this level. Those of the program
    /// from 1 to 4 say that it could not check.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 10,
            Level::Error => 11,
        }
    }

    /// Returns the word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// The stable name of what was looked at.
    pub name: &'static str,
    /// What is so, and why.
    pub reason: String,
    /// What to type or to change; none where all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// Makes a finding that all is well.
    #[must_use]
    pub fn ok(name: &'static str, reason: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, reason: reason.into(), remedy: None }
    }

    /// Makes a finding that could be better.
    #[must_use]
    pub fn warning(name: &'static str, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, name, reason: reason.into(), remedy: Some(remedy.into()) }
    }

    /// Makes a finding that has to be mended.
    #[must_use]
    pub fn error(name: &'static str, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Error, name, reason: reason.into(), remedy: Some(remedy.into()) }
    }

    /// Calls settings by other names.
    #[must_use]
    pub fn worded(self, wording: Wording) -> Self {
        let put = |text: String| wording.put(&text).into_owned();
        Self { reason: put(self.reason), remedy: self.remedy.map(put), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7}  {}: {}", self.level.label(), self.name, self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n         -> {remedy}"),
            None => Ok(()),
        }
    }
}

/// Returns the level of the worst of these findings.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_read_by_people_and_programs() {
        let slow = Finding::warning("clock", "the clock is not set", "timedatectl set-ntp true");
        assert_eq!(slow.to_string(), "warning  clock: the clock is not set\n         -> timedatectl set-ntp true");
        assert_eq!(
            serde_json::to_string(&Finding::ok("ram", "there is enough")).unwrap(),
            r#"{"level":"ok","name":"ram","reason":"there is enough","remedy":null}"#
        );
        let all = [Finding::ok("ram", ""), slow];
        assert_eq!((worst(&all).exit_code(), worst(&all[..1]).exit_code(), worst(&[]).exit_code()), (10, 0, 0));
    }
}
