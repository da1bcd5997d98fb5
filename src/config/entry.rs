//! An entry for sessions says of which it is, what they are called, and what becomes of their
//! frames.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kept::{Duplicates, Tls};
use super::rules::RuleEntry;
use super::sessions::{Networks, Vnis};
use super::typed::as_typed;
use super::units::Size;
use crate::route::slice::Slice;
use crate::session::{Scope, check_name};

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
    pub scope: Option<Scope>,
    /// The UDP port of this host that the datagrams come to.
    pub port: Option<u16>,
    /// The outputs that the frames go to, by name; all where it is left out.
    pub outputs: Option<Vec<String>>,
    /// Says whether the frames go nowhere.
    pub drop: bool,
    /// The most bytes of a frame that are kept.
    pub snaplen: Option<u32>,
    /// The part of a frame that is kept at most.
    pub slice: Option<Slice>,
    /// The expression that the frames satisfy; all do where there is none.
    pub filter: Option<String>,
    /// What becomes of packets that another session of the group delivered before.
    pub dedup: Option<Duplicates>,
    /// The group; without it the sessions of this entry.
    pub dedup_group: Option<Name>,
    /// Bytes that are kept of each flow.
    pub flow_limit: Option<Size>,
    /// The part that is kept of each flow that is TLS.
    pub tls: Option<Tls>,
    /// The rules by which packets are kept; all are where there is none.
    pub rules: Vec<RuleEntry>,
}

/// The name of sessions, which is part of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

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

/// Reads a name.
///
/// # Errors
/// The text is none; the error says what is.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    match check_name(text) {
        Ok(()) => Ok(Name(text.to_owned())),
        Err(fault) => Err(format!("{fault}; write one as web-1")),
    }
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
            ("", "this has 0"),
            ("a b", "' ' cannot be in a name"),
            ("vni7", "cannot begin with \"vni\""),
            ("overflow", "meaning of its own"),
        ] {
            let said = text.parse::<Name>().unwrap_err();
            assert!(said.contains(fault), "{text}: {said}");
        }
    }
}
