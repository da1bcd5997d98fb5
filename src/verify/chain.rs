//! The lines of a manifest, and what they say of the files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::OFlags;

use super::files::{Job, Kind, Look};
use super::report::{Break, Mismatch, Note, Report};
use crate::evidence::names::{PART, is_capture_path, is_inside};
use crate::evidence::{Digest, Event, Line, Lines};
use crate::storage::Storage;

/// What was read of a manifest.
#[derive(Debug)]
pub(super) struct Chain {
    lines: Option<Lines<BufReader<File>>>,
    /// Hash of the last line.
    head: Digest,
    /// Line by hash.
    numbers: HashMap<Digest, u64>,
    /// Lines that name another one than that before them, and which.
    breaks: Vec<(u64, Digest)>,
    mismatches: Vec<Mismatch>,
    /// What lines say of files, by the number of the last line about each.
    files: BTreeMap<u64, Job>,
    /// That number by path.
    places: HashMap<String, u64>,
    /// Lines about pruned files.
    pruned: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            lines: None,
            head: Digest::ZERO,
            numbers: HashMap::new(),
            breaks: Vec::new(),
            mismatches: Vec::new(),
            files: BTreeMap::new(),
            places: HashMap::new(),
            pruned: 0,
        }
    }
}

impl Chain {
    /// Reads the whole lines that were not read before.
    ///
    /// # Errors
    /// What opening or reading the manifest returns.
    pub(super) fn read(&mut self, storage: &dyn Storage, manifest: &Path) -> io::Result<()> {
        let mut file = storage.open(manifest, OFlags::RDONLY)?;
        let mut lines = match self.lines.take() {
            None => Lines::new(BufReader::new(file)),
            Some(lines) => {
                file.seek(SeekFrom::Start(lines.end()))?;
                lines.resume(BufReader::new(file))
            }
        };
        while let Some(read) = lines.next_line()? {
            if let Some(previous) = read.previous.filter(|previous| *previous != self.head) {
                self.breaks.push((read.number, previous));
            }
            self.head = read.hash;
            self.numbers.entry(read.hash).or_insert(read.number);
            match read.line {
                Ok(line) => self.take(read.number, line),
                Err(error) => self.mismatches.push(Mismatch::Line { line: read.number, error }),
            }
        }
        self.lines = Some(lines);
        Ok(())
    }

    fn take(&mut self, number: u64, line: Line) {
        let (kind, path, bytes, hash) = match line.event {
            Event::Published(capture) | Event::Recovered(capture) => {
                (Kind::Published, capture.path, Some(capture.bytes), capture.hash)
            }
            Event::Pruned { path, hash, .. } => {
                self.pruned += 1;
                (Kind::Pruned, path, None, hash)
            }
            Event::SetAside { path, bytes, hash, .. } => (Kind::SetAside, path, Some(bytes), Some(hash)),
            Event::Lost { .. } => return,
        };
        let fine = if kind == Kind::SetAside { is_inside(&path) } else { is_capture_path(&path) };
        if !fine {
            self.mismatches.push(Mismatch::Path { line: number, path });
            return;
        }
        if let Some(earlier) = self.places.insert(path.clone(), number) {
            self.files.remove(&earlier);
        }
        self.files.insert(number, Job { kind, line: number, path, bytes, hash });
    }

    /// The files to look at, in the order of the lines: those that should be there, and those that should not but are among `found`.
    pub(super) fn expected(&self, found: &[String]) -> Vec<Job> {
        let there = |job: &&Job| job.kind != Kind::Pruned || found.binary_search(&job.path).is_ok();
        self.files.values().filter(there).cloned().collect()
    }

    /// What a look at the file of `job` means, now that the manifest was read to its end.
    pub(super) fn judge(&self, job: &Job, look: Look, report: &mut Report) {
        let now = self.places.get(&job.path).and_then(|number| self.files.get(number));
        // Pruned, or written once more, while files were read: what was found may be either.
        if now.is_none_or(|now| now.line != job.line) {
            return;
        }
        let (line, path) = (job.line, job.path.clone());
        let (look, shown) = match look {
            Look::Part(before, look) => (*look, before),
            look => (look, path.clone()),
        };
        let part = shown != path;
        match (look, job.kind) {
            (Look::Missing | Look::Part(..), Kind::Published) => {
                report.mismatches.push(Mismatch::Missing { line, path })
            }
            (Look::Missing | Look::Part(..), Kind::SetAside) => report.notes.push(Note::SetAsideGone { line, path }),
            (Look::Missing | Look::Part(..), Kind::Pruned) => {}
            (Look::Unreadable(error), _) => {
                report.mismatches.push(Mismatch::Unreadable { line, path: shown, error: error.to_string() });
            }
            (Look::Length(found), _) => {
                let said = job.bytes.unwrap_or_default();
                report.mismatches.push(Mismatch::Length { line, path: shown, said, found });
            }
            (Look::Hash { said, found }, _) if found != said => {
                report.mismatches.push(Mismatch::Content { line, path: shown, said, found });
            }
            (Look::Hash { .. } | Look::Unhashed, Kind::Pruned) => report.notes.push(Note::PrunedStays { line, path }),
            (look @ (Look::Hash { .. } | Look::Unhashed), _) => {
                report.files += 1;
                report.unhashed += u64::from(matches!(look, Look::Unhashed));
                report.bytes = report.bytes.saturating_add(job.bytes.unwrap_or_default());
                if part {
                    report.notes.push(Note::Unnamed { line, path: shown });
                }
            }
        }
    }

    /// Names the files among `found` that no line is about.
    pub(super) fn strangers(&self, found: &[String], report: &mut Report) {
        let is_there = |name: &str| found.binary_search_by(|path| path.as_str().cmp(name)).is_ok();
        for path in found.iter().filter(|path| !self.places.contains_key(*path)) {
            match path.strip_suffix(PART) {
                // It was looked at as that capture, or became it meanwhile.
                Some(name) if self.places.contains_key(name) && !is_there(name) => {}
                // Or as a salvaged one, which has another name.
                Some(_)
                    if report
                        .notes
                        .iter()
                        .any(|note| matches!(note, Note::Unnamed { path: part, .. } if part == path)) => {}
                Some(_) => report.notes.push(Note::Part { path: path.clone() }),
                None => report.mismatches.push(Mismatch::Stranger { path: path.clone() }),
            }
        }
    }

    /// What is to be said of the lines themselves.
    pub(super) fn end(self, head: Option<Digest>, report: &mut Report) {
        for (line, previous) in self.breaks {
            let how = match self.numbers.get(&previous) {
                _ if previous == Digest::ZERO => Break::First,
                Some(named) => Break::Follows(*named),
                None => Break::Unknown,
            };
            report.mismatches.push(Mismatch::Chain { line, how });
        }
        report.mismatches.extend(self.mismatches);
        if let Some(head) = head.filter(|head| !self.numbers.contains_key(head)) {
            report.mismatches.push(Mismatch::Head(head));
        }
        if let Some(lines) = self.lines {
            report.lines = lines.number();
            if lines.torn() > 0 {
                report.notes.push(Note::Torn { bytes: lines.torn() });
            }
        }
        report.pruned = self.pruned;
        report.head = Some(self.head).filter(|_| report.lines > 0);
        report.mismatches.sort_by_key(Mismatch::line);
    }
}
