//! Sessions have names and descriptions, which people give them, and tags.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::Tag;
use crate::wire::Encapsulation;

/// The longest name.
const LONGEST: usize = 64;

/// Names of files and directories that are not those of one session.
const TAKEN: [&str; 2] = ["overflow", "unsalvageable"];

/// Words that may stand for encapsulations in front of `_vni` some day, as the labels of those that
/// are known do. A directory must not look as if a name were one of these.
const ENCAPSULATIONS_TO_COME: [&str; 7] = ["gtp", "gue", "ipip", "mpls", "nsh", "stt", "teb"];

/// The name and the description that people gave a session, and its tag. Nothing that tells
/// sessions apart is derived from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// The name, which is in paths. [`check_name`] finds no fault in it.
    pub name: Option<Arc<str>>,
    /// The description.
    pub description: Option<Arc<str>>,
    /// The tag that the session has on interfaces where sessions are told apart by tags. The sensor
    /// gives it.
    pub tag: Option<Tag>,
    /// True where records of its packets have the number that all copies of a packet have.
    pub packet_ids: bool,
}

/// As fields of an object, of which those are there that somebody gave.
impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = [("name", &self.name), ("description", &self.description)];
        let there = fields.iter().filter(|(_, value)| value.is_some()).count() + usize::from(self.tag.is_some());
        let mut object = serializer.serialize_struct("Label", there)?;
        for (key, value) in fields {
            match value {
                Some(value) => object.serialize_field(key, &**value)?,
                None => object.skip_field(key)?,
            }
        }
        match self.tag {
            Some(tag) => object.serialize_field("tag", &tag)?,
            None => object.skip_field("tag")?,
        }
        object.end()
    }
}

/// The reason why a session cannot have a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty or too long.
    #[error("a name has from 1 to {LONGEST} characters, and this has {0}")]
    Length(usize),
    /// It has a character that paths should not have.
    #[error("{0:?} cannot be in a name: it has letters of ASCII, digits, '.', '_' and '-'")]
    Character(char),
    /// It begins as no name may.
    #[error("a name cannot begin with {0:?}")]
    Begins(&'static str),
    /// It is another's.
    #[error("{0:?} has a meaning of its own in paths")]
    Taken(String),
}

/// Says whether a session can have this name.
///
/// # Errors
/// The first fault of the name.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let length = name.chars().count();
    if length == 0 || length > LONGEST {
        return Err(NameError::Length(length));
    }
    let is_fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(other) = name.chars().find(|c| !is_fine(c)) {
        return Err(NameError::Character(other));
    }
    if let Some(begins) = ["vni", ".", "-"].into_iter().find(|begins| name.starts_with(begins)) {
        return Err(NameError::Begins(begins));
    }
    let last = name.rsplit('_').next().unwrap_or(name);
    let known = Encapsulation::ALL.map(Encapsulation::label);
    if TAKEN.contains(&name) || known.contains(&last) || ENCAPSULATIONS_TO_COME.contains(&last) {
        return Err(NameError::Taken(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_paths_can_have() {
        let longest = "x".repeat(LONGEST);
        for fine in ["web-1", "a", "9", "_", "prod_eu.west-1", "a_vni7", "geneve_1", "xgeneve", "Overflow", &longest] {
            assert_eq!(check_name(fine), Ok(()), "{fine}");
        }
        let longer = "x".repeat(LONGEST + 1);
        for (wrong, why) in [
            ("", "has 0"),
            (&*longer, "has 65"),
            ("web 1", "' ' cannot be in a name"),
            ("a/b", "'/' cannot be in a name"),
            ("a\0", "cannot be in a name"),
            ("é", "cannot be in a name"),
            ("vni7", "cannot begin with \"vni\""),
            (".a", "cannot begin with \".\""),
            ("-a", "cannot begin with \"-\""),
            ("overflow", "\"overflow\" has a meaning of its own"),
            ("unsalvageable", "has a meaning of its own"),
            ("geneve", "has a meaning of its own"),
            ("a_geneve", "has a meaning of its own"),
        ] {
            let error = check_name(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn every_encapsulation_is_no_name() {
        for encapsulation in crate::wire::Encapsulation::ALL {
            assert!(check_name(encapsulation.label()).is_err(), "{encapsulation:?}");
        }
    }

    #[test]
    fn a_label_is_written_as_far_as_it_was_given() {
        let label = |name: Option<&str>, description: Option<&str>| Label {
            name: name.map(Into::into),
            description: description.map(Into::into),
            ..Label::default()
        };
        for (label, wanted) in [
            (label(None, None), "{}"),
            (label(Some("web"), None), r#"{"name":"web"}"#),
            (label(Some("web"), Some("i-1")), r#"{"name":"web","description":"i-1"}"#),
        ] {
            assert_eq!(serde_json::to_string(&label).unwrap(), wanted);
        }
        let tagged = Label { tag: Tag::new(5), ..label(Some("web"), None) };
        assert_eq!(serde_json::to_string(&tagged).unwrap(), r#"{"name":"web","tag":[5]}"#);
    }
}
