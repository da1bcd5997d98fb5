//! An entry for sessions says of which it is, what they are called, and what becomes of their
//! frames.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rules::RuleEntry;
use super::sessions::{Networks, Vnis};
use super::typed::as_typed;

/// An entry for sessions. The first whose conditions are all true of a session counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionEntry {
    /// The name of these sessions.
    pub name: Option<Name>,
    /// A text about these sessions.
    pub description: Option<String>,
    /// Outer source addresses; none stands for all.
    pub source: Networks,
    /// VNIs; none stands for all.
    pub vni: Vnis,
    /// The scope that tells equal VNIs apart.
    pub scope: Option<u64>,
    /// The UDP port of this host that the datagrams come to.
    pub port: Option<u16>,
    /// The outputs that the frames go to, by name; all where it is left out.
    pub outputs: Option<Vec<String>>,
    /// Says whether the frames go nowhere.
    pub drop: bool,
    /// The most bytes of a frame that are kept.
    pub snaplen: Option<u32>,
    /// The expression that the frames satisfy; all do where there is none.
    pub filter: Option<String>,
    /// The rules by which packets are kept; all are where there is none.
    pub rules: Vec<RuleEntry>,
}

impl SessionEntry {
    /// Says whether what becomes of a frame can depend on any of its bytes.
    #[must_use]
    pub(crate) fn reads_all(&self) -> bool {
        self.filter.is_some() || !self.rules.is_empty()
    }

    /// Says whether the frames go to all outputs, whole.
    #[must_use]
    pub(crate) fn is_plain(&self) -> bool {
        let Self {
            name: _,
            description: _,
            source: _,
            vni: _,
            scope: _,
            port: _,
            outputs,
            drop,
            snaplen,
            filter,
            rules,
        } = self;
        outputs.is_none() && !drop && snaplen.is_none() && filter.is_none() && rules.is_empty()
    }
}

/// The name of sessions, which is part of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The most bytes of a name.
pub(crate) const LONGEST: usize = 64;

/// Names that directories have which are no session's.
const TAKEN: [&str; 2] = ["overflow", "unsalvageable"];

impl Name {
    /// Returns the name as text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_typed!(Name, name);

/// Says whether a name can have this character.
pub(crate) fn fits(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Reads a name.
///
/// # Errors
/// The text is none; the error says what is.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    if text.is_empty() {
        return Err("empty; a name has from 1 to 64 characters".into());
    }
    if let Some(other) = text.chars().find(|c| !fits(*c)) {
        return Err(format!("a name with {other:?} in it; it can have letters, digits, and . _ -"));
    }
    if text.len() > LONGEST {
        return Err(format!("a name of {} characters; it can have {LONGEST}", text.len()));
    }
    if text.starts_with("vni") {
        return Err("a name that begins with vni, as those do that sessions have of their own; write another".into());
    }
    if TAKEN.contains(&text) || text.starts_with('.') {
        return Err("not a name here, for a directory has it that is no session's; write another".into());
    }
    Ok(Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_directories_can_be_called_and_no_other_is() {
        for text in ["web-1", "a", "10.0.0.7", "X_y.z-0", &"x".repeat(64)] {
            assert_eq!(text.parse::<Name>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for (text, fault) in [
            ("", "empty"),
            ("a b", "' ' in it"),
            ("a/b", "'/' in it"),
            ("größe", "'ö' in it"),
            ("vni7", "begins with vni"),
            ("overflow", "no session's"),
            ("unsalvageable", "no session's"),
            (".hidden", "no session's"),
            ("..", "no session's"),
            (&"x".repeat(65), "65 characters"),
        ] {
            let said = text.parse::<Name>().unwrap_err();
            assert!(said.contains(fault), "{text}: {said}");
        }
    }
}
