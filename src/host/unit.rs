//! systemd runs the sensor as its unit says: a file, and others beside it that change it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The unit of the sensor.
pub(crate) const NAME: &str = "vxtap.service";

/// The directories of units; what is in an earlier one hides its like in a later one.
const DIRECTORIES: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// The directory that is there where systemd is the first process.
const RUNS: &str = "run/systemd/system";

/// What a host has for the sensor as a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// Systemd does not run this host.
    NoSystemd,
    /// There is no unit.
    None,
    /// There is this one.
    Unit(Unit),
}

/// The section `[Service]` of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The file.
    pub path: PathBuf,
    /// The values of each directive, in the order in which they are said.
    values: HashMap<String, Vec<String>>,
}

impl Service {
    /// Looks for the unit below this root, which is `/` but for tests.
    #[must_use]
    pub(crate) fn read(root: &Path) -> Self {
        if !root.join(RUNS).is_dir() {
            return Self::NoSystemd;
        }
        let directories = || DIRECTORIES.iter().map(|directory| root.join(directory));
        let found = directories().map(|directory| directory.join(NAME)).find_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some((path, text))
        });
        let Some((path, text)) = found else { return Self::None };
        let mut unit = Unit { path, ..Unit::default() };
        unit.add(&text);
        let mut changes: Vec<PathBuf> = Vec::new();
        for directory in directories().map(|directory| directory.join(format!("{NAME}.d"))) {
            let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_new = |path: &PathBuf| !changes.iter().any(|known| known.file_name() == path.file_name());
            let new: Vec<PathBuf> =
                files.filter(|path| path.extension().is_some_and(|end| end == "conf")).filter(is_new).collect();
            changes.extend(new);
        }
        changes.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        for path in changes {
            unit.add(&fs::read_to_string(path).unwrap_or_default());
        }
        Self::Unit(unit)
    }
}

impl Unit {
    /// Adds what a file says. An empty value takes back all that was said before.
    fn add(&mut self, text: &str) {
        let mut section = String::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                line.clone_into(&mut section);
            } else if let (true, Some((name, value))) = (section == "[Service]", line.split_once('=')) {
                let values = self.values.entry(name.trim().to_owned()).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.to_owned()),
                }
            }
        }
    }

    /// Says whether there is a directive, even with an empty value.
    #[must_use]
    pub(crate) fn says(&self, directive: &str) -> bool {
        self.values.contains_key(directive)
    }

    /// Returns the last value of a directive.
    #[must_use]
    pub(crate) fn last(&self, directive: &str) -> Option<&str> {
        self.values.get(directive)?.last().map(String::as_str)
    }

    /// Returns the words of all values of a directive.
    pub(crate) fn words(&self, directive: &str) -> impl Iterator<Item = &str> {
        self.values.get(directive).into_iter().flatten().flat_map(|value| value.split_whitespace())
    }
}

#[cfg(test)]
impl Unit {
    /// Makes a unit that says this.
    pub(crate) fn of(text: &str) -> Self {
        let mut unit = Self { path: Path::new("/etc/systemd/system").join(NAME), ..Self::default() };
        unit.add(&format!("[Service]\n{text}"));
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_what_all_its_files_say() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Service::read(root.path()), Service::NoSystemd);
        fs::create_dir_all(root.path().join(RUNS)).unwrap();
        assert_eq!(Service::read(root.path()), Service::None);
        write("usr/lib/systemd/system/vxtap.service", "[Service]\nUser=other\n");
        write(
            "etc/systemd/system/vxtap.service",
            "[Unit]\nUser=nobody\n[Service]\n# User=x\nUser = vxtap\nReadWritePaths=/a \\\n /b\nAmbientCapabilities=CAP_A\nLimitNOFILE=7\n",
        );
        write("etc/systemd/system/vxtap.service.d/20.conf", "[Service]\nLimitNOFILE=9\nAmbientCapabilities=CAP_C\n");
        write(
            "usr/lib/systemd/system/vxtap.service.d/10.conf",
            "[Service]\nAmbientCapabilities=\nAmbientCapabilities=CAP_B\n",
        );
        write("usr/lib/systemd/system/vxtap.service.d/20.conf", "[Service]\nLimitNOFILE=11\n");
        let Service::Unit(unit) = Service::read(root.path()) else { panic!() };
        assert!(unit.path.ends_with("etc/systemd/system/vxtap.service"));
        assert_eq!((unit.last("User"), unit.last("LimitNOFILE"), unit.last("Nice")), (Some("vxtap"), Some("9"), None));
        assert_eq!(unit.words("ReadWritePaths").collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(unit.words("AmbientCapabilities").collect::<Vec<_>>(), ["CAP_B", "CAP_C"]);
    }
}
