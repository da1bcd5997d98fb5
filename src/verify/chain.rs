//! A manifest is a chain of lines, which speak of files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::files::{Job, Look};
use super::report::{Break, Mismatch, Note, Report};
use crate::evidence::catalogue::{Catalogue, Fate, Reader, Standing, Wrong};
use crate::evidence::names::PART;
use crate::evidence::{Digest, Event, Line, Lines};
use crate::storage::Storage;

/// The part of a manifest that was read.
#[derive(Debug, Default)]
pub(super) struct Chain {
    lines: Option<Lines<BufReader<File>>>,
    files: Catalogue<Job>,
    said: Said,
}

/// The statements of lines beside what became of files.
#[derive(Debug, Default)]
struct Said {
    /// The number of each line, by its hash.
    numbers: HashMap<Digest, u64>,
    /// Lines that name another line than that before them, and the hash that they name.
    breaks: Vec<(u64, Digest)>,
    mismatches: Vec<Mismatch>,
    /// Lines about pruned files.
    pruned: u64,
}

impl Reader for Said {
    type File = Job;

    fn file(
        &mut self,
        number: u64,
        fate: Fate,
        path: &Arc<str>,
        line: Line,
        _: Option<Job>,
    ) -> Result<Option<Job>, String> {
        let (bytes, hash) = match line.event {
            Event::Published(capture) | Event::Recovered(capture) => (Some(capture.bytes), capture.hash),
            Event::Pruned { hash, .. } => {
                self.pruned += 1;
                (None, hash)
            }
            Event::SetAside { bytes, hash, .. } => (Some(bytes), Some(hash)),
            Event::Lost { .. } => return Ok(None),
        };
        Ok(Some(Job { fate, line: number, path: Arc::clone(path), bytes, hash }))
    }

    fn line(&mut self, standing: Standing) {
        let Standing { line, hash, named, before, wrong } = standing;
        self.breaks.extend(named.filter(|named| *named != before).map(|named| (line, named)));
        self.numbers.entry(hash).or_insert(line);
        self.mismatches.extend(wrong.map(|wrong| match wrong {
            Wrong::Unreadable(error) | Wrong::Other(error) => Mismatch::Line { line, error },
            Wrong::Path(_, path) => Mismatch::Path { line, path },
        }));
    }
}

impl Chain {
    /// Reads the whole lines that were not read before.
    ///
    /// # Errors
    /// The manifest cannot be opened or read.
    pub(super) fn read(&mut self, storage: &dyn Storage, manifest: &Path) -> io::Result<()> {
        let mut file = storage.open(manifest, OFlags::RDONLY)?;
        let mut lines = match self.lines.take() {
            None => Lines::new(BufReader::new(file)),
            Some(lines) => {
                file.seek(SeekFrom::Start(lines.end()))?;
                lines.resume(BufReader::new(file))
            }
        };
        self.files.read(&mut lines, &mut self.said)?;
        self.lines = Some(lines);
        Ok(())
    }

    /// Returns the files to look at, in the order of the lines: those that should be there, and
    /// those that should not but are among `found`.
    pub(super) fn expected(&self, found: &[String]) -> Vec<Job> {
        let is_found = |path: &str| found.binary_search_by(|found| found.as_str().cmp(path)).is_ok();
        let jobs = self.files.in_order().into_iter().map(|(_, job)| job);
        jobs.filter(|job| job.fate != Fate::Pruned || is_found(&job.path)).cloned().collect()
    }

    /// Reports what a look at the file of `job` means, now that the manifest was read to its end.
    pub(super) fn judge(&self, job: &Job, look: Look, report: &mut Report) {
        // The file was pruned, or written once more, while files were read. What was found may be
        // either.
        if self.files.get(&job.path).is_none_or(|(line, _)| *line != job.line) {
            return;
        }
        let (line, path) = (job.line, job.path.to_string());
        let (look, shown) = match look {
            Look::Part(before, look) => (*look, before),
            look => (look, path.clone()),
        };
        let part = shown != path;
        match (look, job.fate) {
            (Look::Missing | Look::Part(..), Fate::Published) => {
                report.mismatches.push(Mismatch::Missing { line, path })
            }
            (Look::Missing | Look::Part(..), Fate::SetAside) => report.notes.push(Note::SetAsideGone { line, path }),
            (Look::Missing | Look::Part(..), Fate::Pruned) => {}
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
            (Look::Hash { .. } | Look::Unhashed, Fate::Pruned) => report.notes.push(Note::PrunedStays { line, path }),
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
        for path in found.iter().filter(|path| !self.files.has(path)) {
            match path.strip_suffix(PART) {
                // The file was looked at as that capture, or became it meanwhile.
                Some(name) if self.files.has(name) && !is_there(name) => {}
                // Or it was looked at as a salvaged one, which has another name.
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

    /// Reports what is to be said of the lines themselves.
    pub(super) fn end(self, head: Option<Digest>, report: &mut Report) {
        for (line, previous) in self.said.breaks {
            let how = match self.said.numbers.get(&previous) {
                _ if previous == Digest::ZERO => Break::First,
                Some(named) => Break::Follows(*named),
                None => Break::Unknown,
            };
            report.mismatches.push(Mismatch::Chain { line, how });
        }
        report.mismatches.extend(self.said.mismatches);
        if let Some(head) = head.filter(|head| !self.said.numbers.contains_key(head)) {
            report.mismatches.push(Mismatch::Head(head));
        }
        if let Some(lines) = self.lines {
            report.lines = lines.number();
            if lines.torn() > 0 {
                report.notes.push(Note::Torn { bytes: lines.torn() });
            }
        }
        report.pruned = self.said.pruned;
        report.head = Some(self.files.head()).filter(|_| report.lines > 0);
        report.mismatches.sort_by_key(Mismatch::line);
    }
}
