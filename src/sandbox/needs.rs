//! What a sensor needs once it runs.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::sys::rings::Stock;

/// A file system that answers does so within this time, unless a disk has to begin to turn.
const SOON: Duration = Duration::from_secs(2);

/// What a sensor needs once it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Directories of captures, which may be made anew.
    pub captures: Vec<PathBuf>,
    /// Other directories with all that is in them, to write to.
    pub directories: Vec<PathBuf>,
    /// Files that are written anew in their directories.
    pub rewritten: Vec<PathBuf>,
    /// Files that are read again. Others may take their place in their directories.
    pub read: Vec<PathBuf>,
    /// Directories that are read.
    pub listed: Vec<PathBuf>,
    /// Sockets with a path.
    pub sockets: Vec<PathBuf>,
    /// TCP ports that are bound.
    pub ports: Vec<u16>,
    /// True where interfaces are fed.
    pub interfaces: bool,
    /// True where a program of the kernel is attached.
    pub program: bool,
    /// Rings for what is written.
    pub rings: Stock,
}

/// Returns the directory that a capture directory can be made anew in, unless that has more than
/// is a sensor's.
pub(super) fn roof(directory: &Path) -> Option<&Path> {
    directory.parent().filter(|parent| is_own(parent))
}

/// Says whether all of a directory may be a sensor's. The root and what is in it are everybody's,
/// as `/etc` and `/data`; the home directory has keys; in a directory such as `/var/tmp` each name
/// belongs to whoever made it.
pub(super) fn is_own(directory: &Path) -> bool {
    let is_home = std::env::home_dir().is_some_and(|home| real(&home).starts_with(directory));
    directory.components().count() > 2 && !is_home && !is_sticky(directory)
}

fn is_sticky(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    /// `S_ISVTX`
    const STICKY: u32 = 0o1000;
    std::fs::metadata(directory).is_ok_and(|directory| directory.mode() & STICKY != 0)
}

/// Returns a path without links, as far as it leads anywhere.
pub(super) fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    let mut there = absolute.as_path();
    loop {
        if let Ok(real) = std::fs::canonicalize(there) {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return absolute };
        rest.push(name);
        there = parent;
    }
}

/// Asks a file system, and returns its answer unless that takes longer than a moment. Whoever needs
/// what was asked for waits for it.
pub(super) fn soon<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, answer) = mpsc::channel();
    let ask = move || {
        // Nobody hears a late answer.
        let _ = sender.send(ask());
    };
    thread::Builder::new().spawn(ask).ok()?;
    answer.recv_timeout(SOON).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_others_have_too_is_not_a_sensors() {
        for (directory, roof_is) in [
            ("/captures", None),
            ("/data/captures", None),
            ("/var/lib/vxtap/captures", Some("/var/lib/vxtap")),
            ("/", None),
        ] {
            assert_eq!(roof(Path::new(directory)), roof_is.map(Path::new), "{directory}");
        }
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        assert!(is_own(&shared));
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(!is_own(&shared));
        let home = std::env::home_dir().unwrap();
        assert!(!is_own(&real(&home)));
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(top.join("a")).unwrap();
        symlink("a", top.join("b")).unwrap();
        assert_eq!(real(&top.join("b/c/d")), top.join("a/c/d"));
        assert_eq!(real(&top.join("b")), top.join("a"));
    }
}
