//! A configuration file includes others, as those of a directory that a program writes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fault::Text;
use super::value::Wrong;
use crate::storage::read_small_bytes;

/// The most bytes of a file: a few thousand sessions, each with its rules.
pub(super) const MOST: usize = 4 << 20;
/// The most files that can be included.
const MOST_FILES: usize = 1024;

/// A pattern of which not all can be read.
#[derive(Debug)]
pub(super) struct Unread {
    /// What is wrong, with the place of the pattern.
    pub wrong: Wrong,
    /// The file or directory that could not be read for want of a right.
    pub denied: Option<PathBuf>,
}

/// The reason for which there are no files, or one cannot be read.
#[derive(Debug)]
struct Failure {
    fault: String,
    denied: Option<PathBuf>,
}

impl Failure {
    fn read(path: &Path, error: &io::Error) -> Self {
        let denied = (error.kind() == io::ErrorKind::PermissionDenied).then(|| path.to_owned());
        Self { fault: format!("cannot read {}: {error}", path.display()), denied }
    }
}

impl From<String> for Failure {
    fn from(fault: String) -> Self {
        Self { fault, denied: None }
    }
}

/// Reads the files that these patterns of the file at `path` stand for: relative ones are below its
/// directory. The files of a pattern come in the order of their names. What is wrong has the place
/// of its pattern.
pub(super) fn read(path: &Path, patterns: &[(String, Range<usize>)]) -> Vec<Result<Text, Unread>> {
    let below = path.parent().unwrap_or(Path::new(""));
    let mut read = Vec::new();
    let mut files = 0;
    // A file that is not there is told where it is read.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let this = real(path);
    let mut known = HashSet::new();
    for (pattern, span) in patterns {
        let wrong = |Failure { fault, denied }: Failure, advice: Option<&str>| {
            let fault = format!("include: {fault}");
            Err(Unread { wrong: Wrong { span: span.clone(), fault, advice: advice.map(Into::into) }, denied })
        };
        let found = match find(below, pattern) {
            Ok(found) => found,
            Err(failure) => {
                read.push(wrong(failure, None));
                continue;
            }
        };
        files += found.len();
        if files > MOST_FILES {
            read.push(wrong(format!("{files} files are too many; at most {MOST_FILES}").into(), None));
            break;
        }
        read.extend(found.into_iter().map(|path| {
            let real = real(&path);
            if real == this {
                let fault = format!("{} is this file", path.display());
                return wrong(fault.into(), Some("name others, as those of a directory of their own"));
            }
            if !known.insert(real) {
                let fault = format!("{} was included before", path.display());
                return wrong(fault.into(), Some("include each file once"));
            }
            match read_small_bytes(&path, MOST) {
                Ok(bytes) => Ok(Text::new(&path, bytes)),
                Err(error) => wrong(Failure::read(&path, &error), None),
            }
        }));
    }
    read
}

/// Returns the directories that the files of these patterns are in, whatever is there.
pub(super) fn directories(path: &Path, patterns: &[(String, Range<usize>)]) -> Vec<PathBuf> {
    let below = path.parent().unwrap_or(Path::new(""));
    let directory = |(pattern, _): &(String, _)| below.join(pattern).parent().map(Path::to_owned);
    patterns.iter().filter_map(directory).collect()
}

/// Finds the files that a pattern stands for, sorted.
fn find(below: &Path, pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = below.join(pattern);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{pattern:?} names no file").into());
    };
    if pattern.strip_suffix(name).is_some_and(|directory| directory.contains(['*', '?'])) {
        return Err(format!(
            "{pattern:?} has * or ? in a directory, where it stands for itself: in the file's name alone"
        )
        .into());
    }
    if !name.contains(['*', '?']) {
        return Ok(vec![path]);
    }
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(here).map(|entries| entries.map(|entry| Ok(entry?.file_name())));
    let names = entries.and_then(|entries| fitting(name, entries));
    let names = names.map_err(|error| Failure::read(here, &error))?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// Returns the names that the pattern stands for, sorted.
///
/// # Errors
/// The error of the first name that cannot be read: its file would be missing without a word.
fn fitting(pattern: &str, names: impl Iterator<Item = io::Result<OsString>>) -> io::Result<Vec<OsString>> {
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.retain(|other| other.to_str().is_some_and(|other| fits(pattern, other)));
    names.sort();
    Ok(names)
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
        let found = |pattern: &str| find(dir.path(), pattern).map(|found| found.len()).map_err(|failure| failure.fault);
        assert_eq!((found("sessions.d/*.toml"), found("sessions.d/*"), found("*.toml")), (Ok(2), Ok(3), Ok(0)));
        assert!(found("nosuch.d/*.toml").unwrap_err().contains("nosuch.d"));
        assert!(found("*/a.toml").unwrap_err().contains("in the file's name alone"));
        let texts = read(&dir.path().join("vxtap.toml"), &[("sessions.d/*.toml".into(), 0..1), ("x".into(), 1..2)]);
        let texts: Vec<String> =
            texts.into_iter().map(|text| text.map_or_else(|unread| unread.wrong.fault, |t| t.text)).collect();
        assert_eq!(&texts[..2], ["a.toml", "b.toml"]);
        assert!(texts[2].starts_with("include: cannot read "), "{}", texts[2]);
    }

    #[test]
    fn a_directory_that_ends_with_an_error_is_not_taken_as_read() {
        let names = |error: Option<i32>| {
            let names = ["b.toml", "a.toml", "c"].map(|name| Ok(name.into()));
            names.into_iter().chain(error.map(|error| Err(io::Error::from_raw_os_error(error))))
        };
        assert_eq!(fitting("*.toml", names(None)).unwrap(), ["a.toml", "b.toml"]);
        assert_eq!(fitting("*.toml", names(Some(libc::EIO))).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn a_file_is_included_once_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.toml"), "a").unwrap();
        fs::write(at("vxtap.toml"), "v").unwrap();
        std::os::unix::fs::symlink("a.toml", at("b.toml")).unwrap();
        let patterns = ["a.toml", "./a.toml", "b.toml", "v*.toml"].map(|pattern| (pattern.to_owned(), 0..1));
        let read = read(&at("vxtap.toml"), &patterns);
        let read = read.into_iter().map(|text| text.map_or_else(|unread| unread.wrong.fault, |text| text.text));
        let read: Vec<String> = read.collect();
        assert_eq!(read[0], "a");
        assert!(read[1].ends_with("a.toml was included before"), "{}", read[1]);
        assert!(read[2].ends_with("b.toml was included before"), "{}", read[2]);
        assert!(read[3].ends_with("vxtap.toml is this file"), "{}", read[3]);
    }
}
