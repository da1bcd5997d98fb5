//! Files on their way to their names stand in a queue.
//!
//! A sensor with many sessions cuts thousands of files at once: at its end, at SIGUSR1, and where
//! the time of day passes a multiple of the rotation interval. What can be done for all of them is
//! done once: the look at the manifest, the lines, which go out in a few writes, and the syncs. The
//! order is that of a single file, for all: bytes, lines, names. A crash in between leaves lines
//! whose files have no name yet, and the next start completes each. A file that fails waits or is
//! given up by itself.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::books::{Books, Unready};
use super::handover::{Closed, Losses};
use super::plan::Encoding;
use super::stock::{Named, Stock, sync_together};
use crate::episode::Episode;
use crate::evidence::names::{self, Names};
use crate::evidence::{Capture, Event};
use crate::storage::{Changed, explain};

/// Files published together at most: the first of them waits for the lines of the last.
pub(super) const FILES: usize = 1024;
/// The time for which the budget is not looked at while files are made ready.
const BUSY: Duration = Duration::from_millis(20);
/// Names that are tried for a file whose own something else has.
const NAMES: u32 = 1000;
/// Files that wait at most. Those beyond are left to the next start.
const WAITING: usize = 10_000;

/// A file whose bytes are safe and known.
#[derive(Debug)]
struct Ready {
    closed: Box<Closed>,
    /// The content of its line.
    capture: Capture,
    /// True where its line is in the manifest already.
    announced: bool,
}

/// Publishes files, and holds those that have to wait.
#[derive(Debug)]
pub(super) struct Queue {
    encoding: Encoding,
    /// Files that could not be published yet.
    waiting: VecDeque<Box<Closed>>,
    /// Lasts while files have to wait.
    stalled: Episode,
    /// Lasts while more files wait than may.
    full: Episode,
}

impl Queue {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, waiting: VecDeque::new(), stalled: Episode::default(), full: Episode::default() }
    }

    /// Notes that the files that come from now on are encoded in another way than those that wait.
    pub(super) fn encode(&mut self, encoding: Encoding) {
        let before = std::mem::replace(&mut self.encoding, encoding);
        for closed in &mut self.waiting {
            closed.encoding.get_or_insert(before);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Tries again what had to wait.
    pub(super) fn retry(&mut self, books: &mut Books, stock: &mut Stock) {
        let mut waiting = std::mem::take(&mut self.waiting);
        while !waiting.is_empty() {
            let batch = waiting.drain(..waiting.len().min(FILES)).collect();
            self.publish(batch, books, stock);
        }
        if !self.waiting.is_empty() {
            return;
        }
        self.full.ends();
        if self.stalled.ends() {
            tracing::info!("captures are published again");
        }
    }

    /// Publishes files in their order. One whose line cannot be written, or that cannot be renamed,
    /// keeps its part name until it can.
    pub(super) fn publish(&mut self, files: VecDeque<Box<Closed>>, books: &mut Books, stock: &mut Stock) {
        if files.is_empty() {
            return;
        }
        // First: with the directory the manifest is gone too, and what is missing is its affair.
        books.look_for_manifest();
        let synced = sync_together(books, files.len());
        let mut ready = Vec::with_capacity(files.len());
        let mut kept = Instant::now();
        for closed in files {
            ready.extend(self.make_ready(closed, synced, books, stock));
            // Some are synced or read to be hashed, which takes its time.
            if kept.elapsed() >= BUSY {
                stock.keep_budget(books);
                kept = Instant::now();
            }
        }
        let mut named = Vec::new();
        let ready = self.write_lines(ready, books);
        stock.owe(ready.iter().map(|ready| &ready.capture));
        for ready in ready {
            if let Some(file) = self.give_name(ready, books, stock) {
                stock.count(&file.capture);
                if books.syncs() {
                    named.push(file);
                } else {
                    stock.announce(books, vec![file]);
                }
                // It is kept after each of them, for what they take on the disk is there already.
                stock.keep_budget(books);
            }
        }
        stock.announce(books, named);
    }

    /// Makes a file ready for its line. Returns none where the file has to wait, or cannot be made
    /// ready. What is `synced` is safe already.
    fn make_ready(
        &mut self,
        mut closed: Box<Closed>,
        synced: bool,
        books: &mut Books,
        stock: &mut Stock,
    ) -> Option<Ready> {
        if let Some(changed) = closed.changed(&*books.storage, &closed.names.part) {
            closed.announced.iter().for_each(|capture| stock.withdraw(capture));
            miss(&closed, changed, books);
            return None;
        }
        if let Err(error) = books.owns_directory() {
            self.wait(closed, "write the manifest", &error, books);
            return None;
        }
        if let Some(capture) = closed.announced.take() {
            return Some(Ready { closed, capture, announced: true });
        }
        if let Err(error) = find_free_name(&mut closed.names, books) {
            self.wait(closed, "name a capture file", &error, books);
            return None;
        }
        match self.prepare(&mut closed, synced, books) {
            Ok(capture) => return Some(Ready { closed, capture, announced: false }),
            Err(Unready::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                miss(&closed, Changed::Missing, books);
            }
            Err(Unready::Read(error)) => self.wait(closed, "read a capture file", &error, books),
            // It may lack bytes, and syncing it again may not say so.
            Err(Unready::Sync(error)) => {
                give_up(&closed, books);
                tracing::error!(
                    path = %closed.names.part.display(), error = explain(&error),
                    "cannot publish a capture file: it stays under this name, and the next start salvages it"
                );
            }
        }
        None
    }

    /// Sees to it that the file's bytes are safe, and known, as far as that is asked for.
    fn prepare(&self, closed: &mut Closed, synced: bool, books: &Books) -> Result<Capture, Unready> {
        if synced {
            books.storage.append(&closed.names.part).map_err(Unready::Read)?.check().map_err(Unready::Sync)?;
        } else {
            books.make_safe(&closed.names.part)?;
        }
        if closed.hash.is_none() {
            closed.hash = books.hash_of(&closed.names.part).map_err(Unready::Read)?;
        }
        let Encoding { format, compression } = closed.encoding.unwrap_or(self.encoding);
        let path = books.relative(&closed.names.published);
        let path = path.ok_or_else(|| Unready::Read(io::Error::other("the name of the directory is not text")))?;
        let (first, last) = closed.span;
        Ok(Capture {
            session: closed.session,
            name: names::given(&path).map(str::to_owned),
            tag: closed.tag,
            path,
            first,
            last,
            frames: closed.frames,
            frame_bytes: closed.frame_bytes,
            bytes: closed.bytes,
            dropped: closed.losses.by_label(),
            kernel_dropped: closed.kernel_dropped,
            format: format.to_string(),
            compression: compression.map(|compression| compression.to_string()),
            hash: closed.hash,
        })
    }

    /// Writes the lines that are missing. Returns the files that have theirs.
    fn write_lines(&mut self, mut ready: Vec<Ready>, books: &mut Books) -> Vec<Ready> {
        let missing = ready.iter().filter(|ready| !ready.announced);
        let lines: Vec<_> = missing.map(|ready| Event::Published(ready.capture.clone())).collect();
        let (written, result) = books.append_all(lines.iter());
        let mut missing = 0..;
        let (there, without): (Vec<_>, Vec<_>) =
            ready.drain(..).partition(|ready| ready.announced || missing.next().is_some_and(|n: usize| n < written));
        if let Err(error) = result {
            for Ready { closed, .. } in without {
                self.wait(closed, "write the manifest", &error, books);
            }
        }
        there
    }

    /// Gives a file its name, which its line has announced.
    fn give_name(&mut self, ready: Ready, books: &mut Books, stock: &mut Stock) -> Option<Named> {
        let Ready { mut closed, capture, .. } = ready;
        match name(&closed, books) {
            Ok(None) => {
                tracing::debug!(path = %closed.names.published.display(), frames = closed.frames, "capture file published");
                books.counters.files.add(1);
                return Some(Named { path: closed.names.published, capture, file: Some(closed.file) });
            }
            Ok(Some(changed)) => {
                stock.withdraw(&capture);
                closed.announced = Some(capture);
                miss(&closed, changed, books);
            }
            // The line is there and names what is another's. So the file gets another line, with
            // another name. What was lost in its span is told.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                stock.withdraw(&capture);
                closed.losses = Losses::default();
                closed.kernel_dropped = 0;
                self.wait(closed, "rename a capture file", &error, books);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                stock.withdraw(&capture);
                closed.announced = Some(capture);
                miss(&closed, Changed::Missing, books);
            }
            Err(error) => {
                closed.announced = Some(capture);
                self.wait(closed, "rename a capture file", &error, books);
            }
        }
        None
    }

    /// Has a file wait that cannot be published yet.
    fn wait(&mut self, closed: Box<Closed>, what: &str, error: &io::Error, books: &mut Books) {
        if !books.is_edited() && self.stalled.begins() {
            tracing::error!(
                error = explain(error),
                "cannot {what}; files keep their part names; trying again every second"
            );
        }
        if self.waiting.len() < WAITING {
            return self.waiting.push_back(closed);
        }
        give_up(&closed, books);
        if self.full.begins() {
            tracing::error!(
                path = %closed.names.part.display(),
                "{WAITING} files wait to be published: this one and those after it are left to the next start, which salvages them"
            );
        }
    }

    /// Leaves the files that wait to the next start. Returns them, so that the log can name them.
    pub(super) fn give_up_all(&mut self, books: &mut Books) -> Vec<Names> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|closed| give_up(closed, books));
        waiting.into_iter().map(|closed| closed.names).collect()
    }
}

/// Gives a file its name. Returns what has it in the file's place, where somebody exchanged the two
/// just now: that gets its former name back.
fn name(closed: &Closed, books: &Books) -> io::Result<Option<Changed>> {
    let Names { part, published } = &closed.names;
    books.storage.rename(part, published)?;
    let changed = closed.changed(&*books.storage, published);
    if changed.is_some()
        && let Err(error) = books.storage.rename(published, part)
    {
        tracing::error!(path = %published.display(), %error, "cannot take its name from what is not the capture file");
    }
    Ok(changed)
}

/// Finds another name where something has a file's name already.
fn find_free_name(names: &mut Names, books: &Books) -> io::Result<()> {
    let exists = |name: &Path| books.storage.exists(name);
    if !exists(&names.published)? {
        return Ok(());
    }
    for attempt in 2..=NAMES {
        let Some(another) = names.another(attempt) else { break };
        if !exists(&another)? {
            tracing::warn!(
                path = %names.published.display(), name = %another.display(),
                "something has the name of a capture file already: it stays, and the file is published under another name"
            );
            names.published = another;
            return Ok(());
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Records that somebody removed the file before it was published, or changed it: its frames are
/// lost. A line that the file has tells what was lost in its span.
fn miss(closed: &Closed, changed: Changed, books: &mut Books) {
    let losses = if closed.announced.is_some() { Losses::default() } else { closed.losses };
    books.miss(&closed.names.part, changed, closed.holds(), losses, "published");
}

/// Leaves a file to the next start. The line that the next start writes can only tell what is in
/// the file, so what was lost meanwhile gets a line now.
fn give_up(closed: &Closed, books: &mut Books) {
    books.counters.unpublished.add(1);
    if closed.announced.is_none() {
        books.record_loss(closed.session, closed.losses);
    }
}
