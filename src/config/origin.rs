//! A setting remembers where its value was said, so that an error can name the setting as whoever
//! said it knows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::setting::key::Key;

/// The place that a value comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave the value.
    #[default]
    Default,
    /// The command line gave the value.
    Flag,
    /// A file gave the value.
    File(Place),
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The number of the line, from 1.
    pub line: usize,
    /// The bytes of the file that are meant.
    pub span: Range<usize>,
}

/// The origins of all values that somebody gave, by their path in the tree of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Notes where the value at `path` was said.
    pub(crate) fn note(&mut self, path: impl Into<String>, origin: Origin) {
        self.0.insert(path.into(), origin);
    }

    /// Returns the origin of the value at `path`.
    #[cfg(test)]
    pub(crate) fn of(&self, path: &str) -> Origin {
        self.0.get(path).cloned().unwrap_or_default()
    }

    /// Names the setting `key`.
    #[must_use]
    pub(crate) fn said(&self, key: &Key) -> Said {
        self.at(key, key.path.to_owned())
    }

    /// Names the setting `key` of the output `name`.
    #[must_use]
    pub(crate) fn said_of(&self, key: &Key, name: &str) -> Said {
        self.at(key, key.of(name))
    }

    /// Names the item `index` of the list `key`. Where its place was not noted, that is the list.
    #[must_use]
    pub(crate) fn said_item(&self, key: &Key, index: usize) -> Said {
        self.item_of(self.said(key), index)
    }

    /// Names the item `index` of the list `said`, by the path of the list: what is wrong with an
    /// item follows from a fault of the list. Where its place was not noted, that is the list.
    #[must_use]
    pub(crate) fn item_of(&self, mut said: Said, index: usize) -> Said {
        if let Some(origin) = self.0.get(&item(said.path(), index)) {
            said.0.origin = origin.clone();
        }
        said
    }

    /// Names the key `name` of the entry `index` for sessions, which has no flag.
    #[must_use]
    pub(crate) fn said_in_session(&self, index: usize, name: &'static str) -> Said {
        self.at(&Key { path: "", flag: name }, format!("{}.{name}", item("session", index)))
    }

    /// Names the entry `index` for sessions.
    #[must_use]
    pub(crate) fn said_session(&self, index: usize) -> Said {
        self.at(&Key { path: "", flag: "session" }, item("session", index))
    }

    /// Names the setting at `path`. A value that a file leaves out is said by its table there.
    fn at(&self, key: &Key, path: String) -> Said {
        let table = || path.rsplit_once('.').and_then(|(table, _)| self.0.get(table));
        let origin = self.0.get(&path).or_else(table).cloned().unwrap_or_default();
        Said(Box::new(Named { origin, path, flag: Cow::Borrowed(key.flag) }))
    }
}

/// Returns a path as people read it, who see by the line which item is meant.
#[must_use]
pub(crate) fn shown(path: &str) -> String {
    let mut parts = path.split('[');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| shown.push_str(part.split_once(']').map_or(part, |(_, rest)| rest)));
    shown
}

/// Returns the path of an item of the list at `path`.
#[must_use]
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A setting, as whoever gave its value knows it: `--queue`, or `vxtap.toml:12 delivery.queue`. A
/// setting that nobody gave has the name of its flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(Box<Named>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    path: String,
    flag: Cow<'static, str>,
    origin: Origin,
}

impl Said {
    /// Calls the setting `words` where it is a flag.
    #[must_use]
    pub(crate) fn typed(mut self, words: impl Into<Cow<'static, str>>) -> Self {
        self.0.flag = words.into();
        self
    }

    /// Returns the setting's path in the tree.
    #[must_use]
    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }

    /// Names the setting without the place where it was said.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        shown(&self.0.path)
    }

    /// Returns the place in a file where the value was said, if that is where.
    #[must_use]
    pub(crate) fn place(&self) -> Option<&Place> {
        match &self.0.origin {
            Origin::File(place) => Some(place),
            Origin::Default | Origin::Flag => None,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.origin {
            Origin::Default | Origin::Flag => f.write_str(&self.0.flag),
            Origin::File(Place { path, line, .. }) => {
                write!(f, "{}:{line} {}", path.display(), shown(&self.0.path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::key;

    #[test]
    fn a_setting_is_named_as_it_was_said() {
        let mut origins = Origins::default();
        assert_eq!(origins.said(&key::QUEUE).to_string(), "--queue", "nobody said it");
        origins.note("delivery.queue", Origin::Flag);
        assert_eq!(origins.said(&key::QUEUE).to_string(), "--queue");
        let line = |line| Origin::File(Place { path: Path::new("vxtap.toml").into(), line, span: 0..0 });
        origins.note("delivery.queue", line(12));
        assert_eq!(origins.said(&key::QUEUE).to_string(), "vxtap.toml:12 delivery.queue");
        origins.note("output.evidence.rotate_size", line(20));
        let said = origins.said_of(&key::ROTATE_SIZE, "evidence");
        assert_eq!(said.to_string(), "vxtap.toml:20 output.evidence.rotate_size");
        assert_eq!(origins.said_of(&key::ROTATE_SIZE, "other").to_string(), "--rotate-size");
        let tap = origins.said_of(&key::TAP, "m").typed("more than one --tap");
        assert_eq!(tap.to_string(), "more than one --tap");
        assert_eq!(said.typed("--x").to_string(), "vxtap.toml:20 output.evidence.rotate_size");
    }
}
