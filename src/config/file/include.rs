//! A configuration file includes others, as those of a directory that a program writes.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fault::Text;
use crate::storage::read_small;

/// The most bytes of a file: a few thousand sessions, each with its rules.
pub(super) const MOST: usize = 4 << 20;
/// The most files that can be included.
const MOST_FILES: usize = 1024;

/// Why a file cannot be included, and the pattern that asks for it.
type Fault = (String, Range<usize>);

/// Reads the files that these patterns of the file at `path` stand for: relative ones are below its
/// directory. The files of a pattern come in the order of their names.
pub(super) fn read(path: &Path, patterns: &[(String, Range<usize>)]) -> Vec<Result<Text, Fault>> {
    let below = path.parent().unwrap_or(Path::new(""));
    let mut read = Vec::new();
    let mut files = 0;
    for (pattern, span) in patterns {
        let found = match find(below, pattern) {
            Ok(found) => found,
            Err(fault) => {
                read.push(Err((format!("include: {fault}"), span.clone())));
                continue;
            }
        };
        files += found.len();
        if files > MOST_FILES {
            read.push(Err((format!("include: {files} files are too many; at most {MOST_FILES}"), span.clone())));
            break;
        }
        read.extend(found.into_iter().map(|path| match read_small(&path, MOST) {
            Ok(text) => Ok(Text { path: path.into(), text }),
            Err(error) => Err((format!("include: cannot read {}: {error}", path.display()), span.clone())),
        }));
    }
    read
}

/// Finds the files that a pattern stands for, sorted.
fn find(below: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = below.join(pattern);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{pattern:?} names no file"));
    };
    if pattern.strip_suffix(name).is_some_and(|directory| directory.contains(['*', '?'])) {
        return Err(format!(
            "{pattern:?} has * or ? in a directory, where it stands for itself: in the file's name alone"
        ));
    }
    if !name.contains(['*', '?']) {
        return Ok(vec![path]);
    }
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(here).map_err(|error| format!("cannot read {}: {error}", here.display()))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<OsString> =
        names.filter(|other| other.to_str().is_some_and(|other| fits(name, other))).collect();
    names.sort();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// Says whether a name is one that the pattern stands for. Hidden files are those of editors.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    // Where the last star is, and how much of the name it stands for so far.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_names() {
        for (pattern, name, wanted) in [
            ("*.toml", "aws.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", ".aws.toml", false),
            ("*.toml", "aws.toml~", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.toml", "a.toml", true),
            ("?.toml", "aa.toml", false),
            ("*", "x", true),
            ("**", "", true),
            ("x", "x", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_below_the_file_that_includes_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sessions.d")).unwrap();
        for name in ["b.toml", "a.toml", "c.txt"] {
            fs::write(dir.path().join("sessions.d").join(name), name).unwrap();
        }
        let found = |pattern: &str| find(dir.path(), pattern).map(|found| found.len());
        assert_eq!((found("sessions.d/*.toml"), found("sessions.d/*"), found("*.toml")), (Ok(2), Ok(3), Ok(0)));
        assert!(found("nosuch.d/*.toml").unwrap_err().contains("nosuch.d"));
        assert!(found("*/a.toml").unwrap_err().contains("in the file's name alone"));
        let texts = read(&dir.path().join("vxtap.toml"), &[("sessions.d/*.toml".into(), 0..1), ("x".into(), 1..2)]);
        let texts: Vec<String> =
            texts.into_iter().map(|text| text.map_or_else(|(fault, _)| fault, |t| t.text)).collect();
        assert_eq!(&texts[..2], ["a.toml", "b.toml"]);
        assert!(texts[2].starts_with("include: cannot read "), "{}", texts[2]);
    }
}
