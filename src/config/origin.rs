//! A setting remembers where its value was said, so that an error can name the setting as whoever
//! said it knows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::key::Key;

/// The place that a value comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave the value.
    #[default]
    Default,
    /// The command line gave the value.
    Flag,
    /// A file gave the value.
    File {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
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
    #[must_use]
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

    fn at(&self, key: &Key, path: String) -> Said {
        Said(Box::new(Place { origin: self.of(&path), path, flag: Cow::Borrowed(key.flag) }))
    }
}

/// A setting, as whoever gave its value knows it: `--queue`, or `vxtap.toml:12 delivery.queue`. A
/// setting that nobody gave has the name of its flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(Box<Place>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
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
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.origin {
            Origin::Default | Origin::Flag => f.write_str(&self.0.flag),
            Origin::File { path, line } => write!(f, "{}:{line} {}", path.display(), self.0.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key;
    use super::*;

    #[test]
    fn a_setting_is_named_as_it_was_said() {
        let mut origins = Origins::default();
        assert_eq!(origins.said(&key::QUEUE).to_string(), "--queue", "nobody said it");
        origins.note("delivery.queue", Origin::Flag);
        assert_eq!(origins.said(&key::QUEUE).to_string(), "--queue");
        let line = |line| Origin::File { path: "vxtap.toml".into(), line };
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
