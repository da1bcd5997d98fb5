//! A report says in words what came out.

use std::fmt;

use indicatif::HumanCount;

use crate::evidence::{Digest, FileHash};

/// Something that is not as it was recorded, or is not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// A line does not name the one before.
    Chain {
        /// Its number.
        line: u64,
        /// The line that it names instead.
        how: Break,
    },
    /// A line cannot be read.
    Line {
        /// Its number.
        line: u64,
        /// The fault of the line.
        error: String,
    },
    /// A line is about a file that can be none of ours.
    Path {
        /// Its number.
        line: u64,
        /// Its file.
        path: String,
    },
    /// No line has the hash that was asked for.
    Head(Digest),
    /// A published file is not there.
    Missing {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
    },
    /// A file cannot be read, or something else is in its place.
    Unreadable {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
        /// The error of the system.
        error: String,
    },
    /// A file has another length.
    Length {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
        /// Bytes, by the line.
        said: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A file has other bytes.
    Content {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
        /// Their hash, by the line.
        said: FileHash,
        /// Their hash.
        found: FileHash,
    },
    /// A session's directory is a symbolic link, and its target is none of the archive's.
    Link {
        /// The link.
        path: String,
    },
    /// No line is about a capture.
    Stranger {
        /// The file.
        path: String,
    },
}

/// The line that another line names instead of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// No line: it was the first.
    First,
    /// The line of this number.
    Follows(u64),
    /// A line that is not there.
    Unknown,
}

/// Something that happens without anybody's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The last line is not whole.
    Torn {
        /// Bytes of it.
        bytes: u64,
    },
    /// A file is being written, or a crash left it.
    Part {
        /// The file.
        path: String,
    },
    /// A file has its line, but not yet its name.
    Unnamed {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
    },
    /// A pruned file is there.
    PrunedStays {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
    },
    /// A file that was set aside is not there.
    SetAsideGone {
        /// Line about it.
        line: u64,
        /// The file.
        path: String,
    },
}

/// The outcome of comparing a directory with its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The mismatches, in the order of the lines.
    pub mismatches: Vec<Mismatch>,
    /// The notes: findings that are worth a mention.
    pub notes: Vec<Note>,
    /// Files that match.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Files among these whose line has no hash: only their sizes were compared.
    pub unhashed: u64,
    /// Lines of the manifest.
    pub lines: u64,
    /// Lines about pruned files.
    pub pruned: u64,
    /// Hash of the last line.
    pub head: Option<Digest>,
    /// Files that were not looked at, or not to their end.
    pub unchecked: u64,
    /// True where it was told to stop.
    pub interrupted: bool,
}

impl Mismatch {
    /// Returns the number of the line that the mismatch is about; the largest number where it is
    /// about none.
    pub(super) fn line(&self) -> u64 {
        match self {
            Mismatch::Chain { line, .. }
            | Mismatch::Line { line, .. }
            | Mismatch::Path { line, .. }
            | Mismatch::Missing { line, .. }
            | Mismatch::Unreadable { line, .. }
            | Mismatch::Length { line, .. }
            | Mismatch::Content { line, .. } => *line,
            Mismatch::Head(_) | Mismatch::Link { .. } | Mismatch::Stranger { .. } => u64::MAX,
        }
    }
}

/// Text of unknown origin, which must not move a terminal's cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Chain { line, how } => chain(f, *line, *how),
            Mismatch::Line { line, error } => write!(f, "line {line} cannot be read: {}", Plain(error)),
            Mismatch::Path { line, path } => {
                write!(f, "line {line} is about {}, which is no capture's name", Plain(path))
            }
            Mismatch::Head(hash) => {
                write!(f, "no line has the hash {hash}: lines up to that one were changed or removed")
            }
            Mismatch::Missing { line, path } => write!(f, "{} is missing (line {line})", Plain(path)),
            Mismatch::Unreadable { line, path, error } => {
                write!(f, "{} cannot be read: {} (line {line})", Plain(path), Plain(error))
            }
            Mismatch::Length { line, path, said, found } => {
                let (said, found) = (HumanCount(*said), HumanCount(*found));
                write!(f, "{} was changed: it has {found} bytes, and had {said} (line {line})", Plain(path))
            }
            Mismatch::Content { line, path, said, found } => {
                write!(f, "{} was changed: its hash is {found}, and was {said} (line {line})", Plain(path))
            }
            Mismatch::Link { path } => {
                write!(f, "{} is a symbolic link in place of a session's directory", Plain(path))
            }
            Mismatch::Stranger { path } => write!(f, "{} is not in the manifest", Plain(path)),
        }
    }
}

fn chain(f: &mut fmt::Formatter<'_>, line: u64, how: Break) -> fmt::Result {
    let before = line - 1;
    match how {
        Break::First => write!(f, "line {line} was the first: what is before it was inserted or moved there"),
        Break::Follows(named) if named == line => write!(f, "line {line} names itself"),
        Break::Follows(named) if named > line => {
            write!(f, "line {line} belongs behind line {named}: lines were moved")
        }
        Break::Follows(named) => {
            write!(f, "line {line} belongs behind line {named}: what is between them was inserted or moved there")
        }
        Break::Unknown if before == 0 => write!(f, "line 1 was not the first: lines before it were removed"),
        Break::Unknown => write!(
            f,
            "line {line} does not follow from line {before}: line {before} was changed, or lines between them were removed"
        ),
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Torn { bytes } => {
                write!(
                    f,
                    "the last line is not whole ({} bytes): it is being written, or a crash tore it",
                    HumanCount(*bytes)
                )
            }
            Note::Part { path } => write!(f, "{} is being written, or a crash left it", Plain(path)),
            Note::Unnamed { line, path } => {
                write!(
                    f,
                    "{} has its line but not yet its name (line {line}): the next start gives it that",
                    Plain(path)
                )
            }
            Note::PrunedStays { line, path } => {
                write!(f, "{} was pruned, and is still there (line {line})", Plain(path))
            }
            Note::SetAsideGone { line, path } => write!(f, "{} was set aside, and is gone (line {line})", Plain(path)),
        }
    }
}

/// A number of things.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", HumanCount(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// Writes a line for each finding, then the totals, without a newline at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mismatch in &self.mismatches {
            writeln!(f, "{mismatch}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.interrupted {
            writeln!(f, "interrupted: not checked {}", Count(self.unchecked, "file"))?;
        }
        writeln!(
            f,
            "{} of {} as recorded; {}, {} of pruned files; {}",
            Count(self.files, "file"),
            Count(self.bytes, "byte"),
            Count(self.lines, "line"),
            HumanCount(self.pruned),
            Count(self.mismatches.len() as u64, "difference"),
        )?;
        match self.unhashed {
            0 => {}
            1 => writeln!(f, "1 file was written with --hash none: only its size was compared")?,
            n => writeln!(f, "{} were written with --hash none: only their sizes were compared", Count(n, "file"))?,
        }
        match &self.head {
            Some(head) => write!(f, "last line: {head}"),
            None => write!(f, "the manifest is empty"),
        }
    }
}
