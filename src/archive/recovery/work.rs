//! Files are salvaged one after the other.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::announced::{Announced, is_copy_of, is_what_was_announced};
use super::aside::{Aside, length};
use super::find::part_files;
use super::make::{Maker, copy_of, flaw};
use super::outcome::{Salvaged, Stop};
use crate::archive::books::Books;
use crate::archive::handover::{Broken, Gone, Losses};
use crate::archive::stock::Stock;
use crate::episode::Episode;
use crate::evidence::names::{self, Names};
use crate::evidence::{Capture, Contents, Event};
use crate::ledger::OutputDrop;
use crate::record::compress::Compression;
use crate::record::salvage::{self, Unsalvageable};
use crate::storage::{Changed, NotRegular};

/// The most bytes that a compressed stream has around bytes that do not compress.
const STREAM: u64 = 64;
/// Seconds between two attempts at a file, at most.
const LONGEST_PATIENCE: u32 = 64;

/// A file that is to get its name.
struct Made<'a> {
    /// The names of the part file that it was made from.
    names: &'a Names,
    /// The place of the file.
    made: &'a Path,
    /// Its name to be.
    to: &'a Path,
    /// The flaw of the part file, which is then kept.
    flaw: Option<String>,
}

/// Files to salvage.
#[derive(Debug, Default)]
pub(in crate::archive) struct Recovery {
    waiting: VecDeque<Names>,
    /// Files that could not be salvaged yet, as on a full disk.
    later: Vec<Names>,
    /// Ticks for which they wait.
    patience: u32,
    /// Ticks for which they still have to wait.
    left: u32,
    /// Lasts while a file cannot be salvaged.
    failing: Episode,
    announced: Announced,
    /// Files of this process among those that wait, which it could not complete, by their part
    /// names.
    own: HashMap<PathBuf, Broken>,
    /// Files that a crash left, until the log says that they are done with.
    found: usize,
    maker: Maker,
    aside: Aside,
}

impl Recovery {
    /// Finds what a crash left in the directory.
    pub(in crate::archive) fn find(books: &Books, contents: &Contents) -> Self {
        let waiting: VecDeque<_> = part_files(books).into();
        if !waiting.is_empty() {
            tracing::info!(files = waiting.len(), "a crash left capture files behind; salvaging them");
        }
        let announced = Announced::find(books, contents, waiting.iter());
        Self { found: waiting.len(), waiting, announced, ..Self::default() }
    }

    /// Says whether all is done that can be.
    pub(in crate::archive) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.later.is_empty()
    }

    /// Says whether no file waits.
    pub(in crate::archive) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a file of this process.
    pub(in crate::archive) fn add(&mut self, broken: Broken, books: &mut Books) {
        if let Some(changed) = broken.changed(&*books.storage, true) {
            return miss(&broken, changed, books);
        }
        self.waiting.push_back(broken.names.clone());
        self.own.insert(broken.names.part.clone(), broken);
    }

    /// Lets files wait again that could not be salvaged, at longer and longer intervals, since each
    /// attempt may read and write all of a file. Called every second.
    pub(in crate::archive) fn retry(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 && !self.later.is_empty() {
            self.patience = (self.patience * 2).clamp(1, LONGEST_PATIENCE);
            self.left = self.patience;
            self.waiting.extend(self.later.drain(..));
        }
    }

    /// Forgets the files that are not of this process.
    pub(in crate::archive) fn keep_own(&mut self) {
        self.waiting.extend(self.later.drain(..));
        if self.waiting.len() > self.own.len() {
            tracing::info!("what a crash left behind is not all salvaged yet: the next start goes on");
        }
        self.waiting.retain(|names| self.own.contains_key(&names.part));
    }

    /// Returns the files of this process that are not salvaged.
    pub(in crate::archive) fn own(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.own.keys().map(PathBuf::as_path)
    }

    /// Salvages the next of the files that wait.
    pub(in crate::archive) fn salvage_one(&mut self, books: &mut Books, stock: &mut Stock) {
        let Some(names) = self.waiting.pop_front() else { return };
        // Nothing can be put on record: the file is left to the next start.
        if books.is_edited() {
            return self.later.push(names);
        }
        let result = match self.salvage(&names, books, stock) {
            Err(Stop::Unsalvageable(why)) => self.aside.set_aside(&names, &why, books).map_err(Stop::Io),
            result => result,
        };
        match result {
            Ok(Salvaged::Recovered { frames, frame_bytes }) => {
                books.counters.recovered.add(1);
                self.settle(&names, frames, frame_bytes, books);
            }
            Ok(Salvaged::Aside) => {
                books.counters.set_aside.add(1);
                self.settle(&names, 0, 0, books);
            }
            Ok(Salvaged::Empty) => self.settle(&names, 0, 0, books),
            Err(Stop::Changed(changed)) => self.miss(&names, changed, books, stock),
            Err(Stop::Io(error))
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(books.storage.exists(&names.part), Ok(false)) =>
            {
                self.miss(&names, Changed::Missing, books, stock);
            }
            Err(Stop::Io(error)) if error.get_ref().is_some_and(|error| error.is::<NotRegular>()) => {
                tracing::error!(path = %names.part.display(), %error, "cannot salvage this: it stays as it is");
                self.settle(&names, 0, 0, books);
            }
            Err(Stop::Io(error)) => {
                if self.failing.begins() {
                    tracing::error!(
                        path = %names.part.display(), %error,
                        "cannot salvage a capture file: it stays under this name; trying again"
                    );
                }
                return self.later.push(names);
            }
            Err(Stop::Unsalvageable(_)) => {}
        }
        self.failing.ends();
        self.patience = 0;
        self.own.remove(&names.part);
        self.maker.forget(&names.part);
        if self.waiting.is_empty() && self.later.is_empty() && self.found > 0 {
            self.found = 0;
            tracing::info!(
                recovered = books.counters.recovered.get(),
                set_aside = books.counters.set_aside.get(),
                "salvage is complete; -v names each file, and so does the manifest"
            );
        }
    }

    /// Takes back what counts as written to a file of this process and is not among so many frames,
    /// with so many bytes, that were recovered.
    fn settle(&mut self, names: &Names, frames: u64, frame_bytes: u64, books: &mut Books) {
        let Some(Broken { holds, .. }) = self.own.remove(&names.part) else { return };
        let gone = Gone {
            frames: holds.frames.saturating_sub(frames),
            frame_bytes: holds.frame_bytes.saturating_sub(frame_bytes),
            ..holds
        };
        if gone.frames > 0 {
            let ((source, vni), reason) = (gone.whose(), OutputDrop::WriteError.label());
            tracing::error!(
                path = %names.part.display(), frames = gone.frames, recovered = frames, source, vni, reason,
                "not all frames that were written to a capture file could be salvaged: the others are lost"
            );
            books.take_back(gone, Losses::default());
        }
    }

    /// Records that somebody removed or changed a file before it was salvaged.
    fn miss(&mut self, names: &Names, changed: Changed, books: &mut Books, stock: &mut Stock) {
        match self.own.remove(&names.part) {
            Some(broken) => {
                self.withdraw(names, books, stock);
                miss(&broken, changed, books);
            }
            None => {
                tracing::error!(path = %names.part.display(), "somebody removed a capture file before it was salvaged");
            }
        }
    }

    /// Withdraws captures that have a line, were to be made from this file, and will not be.
    fn withdraw(&mut self, names: &Names, books: &Books, stock: &mut Stock) {
        for (to, path) in self.announced.names(names, books).unwrap_or_default() {
            if self.announced.get(&path).is_some() && matches!(books.storage.exists(&to), Ok(false)) {
                self.announced.remove(&path);
                stock.deliveries.withdraw(&path);
            }
        }
    }

    fn salvage(&mut self, names: &Names, books: &mut Books, stock: &mut Stock) -> Result<Salvaged, Stop> {
        if let Some(changed) = self.own.get(&names.part).and_then(|broken| broken.changed(&*books.storage, false)) {
            return Err(Stop::Changed(changed));
        }
        if let Some(done) = self.complete_announced(names, books, stock)? {
            return Ok(done);
        }
        if let Some(broken) = self.own.get(&names.part) {
            let mut file = books.storage.append(&names.part)?;
            // What lies behind is counted as lost. A file that is shorter by now would get zeros.
            if length(&names.part, books)? > broken.written {
                file.cut(broken.written)?;
            }
        }
        let whole = match salvage::scan(books.storage.open(&names.part, OFlags::RDONLY)?) {
            Ok(whole) => whole,
            Err(Unsalvageable::Io(error)) => return Err(error.into()),
            Err(Unsalvageable::Empty) => return remove_empty(names, books),
            Err(other) => return Err(Stop::Unsalvageable(other.to_string())),
        };
        if whole.frames == 0 {
            // Damage behind the beginning may hide frames: only a file that is its beginning and
            // nothing else holds none.
            let there = length(&names.part, books)?;
            let most = whole.length + if whole.compression.is_some() { STREAM } else { 0 };
            return match whole.total == whole.length && there <= most && whole.mended.is_none() {
                true => remove_empty(names, books),
                false => Err(Stop::Unsalvageable("it has no whole frame".into())),
            };
        }
        let (made, bytes) = self.maker.make(names, &whole, books)?;
        let published = free_name(names, books)?;
        let Some(path) = books.relative(&published) else { return Ok(Salvaged::Empty) };
        let directory = names.part.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let capture = Capture {
            name: names::given(&path).map(str::to_owned),
            // Nobody says that it has the same one now.
            tag: None,
            path,
            session: directory.and_then(names::parse_session).flatten(),
            first: whole.first.unwrap_or_default(),
            last: whole.last.unwrap_or_default(),
            frames: whole.frames,
            frame_bytes: whole.frame_bytes,
            bytes,
            // What was lost in its span went with the process.
            dropped: Default::default(),
            kernel_dropped: 0,
            format: whole.format.to_string(),
            compression: compression_of(names).map(|compression| compression.to_string()),
            hash: books.hash_of(&made)?,
        };
        books.append(&Event::Recovered(capture.clone()))?;
        // Where one of the next steps fails, the next attempt goes on from here, and writes no
        // second line.
        self.announced.add(&capture);
        let recovered = Salvaged::recovered(&capture);
        let done = Made { names, made: &made, to: &published, flaw: flaw(&whole) };
        self.complete(done, capture, books, stock)?;
        tracing::debug!(
            path = %published.display(), frames = whole.frames, cut = whole.total - whole.length,
            "salvaged a capture file"
        );
        Ok(recovered)
    }

    /// Does what was announced, where a crash or a failure came between a line and its file's name.
    /// Returns none where nothing of the kind was announced.
    fn complete_announced(
        &mut self,
        names: &Names,
        books: &mut Books,
        stock: &mut Stock,
    ) -> Result<Option<Salvaged>, Stop> {
        let copy = copy_of(&names.part);
        for (to, path) in self.announced.names(names, books)? {
            let Some(capture) = self.announced.get(&path) else { continue };
            // A copy has its name, or not yet, while what it was made from is still there.
            for from in [&to, &names.part, &copy] {
                if !is_what_was_announced(&*books.storage, from, &capture) {
                    continue;
                }
                let (made, flaw) = if from == &names.part {
                    (self.maker.make_announced_safe(names, &capture, books)?, None)
                } else {
                    // It was synced before it got its line.
                    let Some(whole) = is_copy_of(&*books.storage, &capture, &names.part)? else { continue };
                    (from.clone(), flaw(&whole))
                };
                let recovered = Salvaged::recovered(&capture);
                match self.complete(Made { names, made: &made, to: &to, flaw }, capture, books, stock) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        tracing::warn!(
                            path = %to.display(),
                            "something else has the name that was announced for a capture file: it is salvaged under another"
                        );
                        self.announced.remove(&path);
                        stock.deliveries.withdraw(&path);
                        return Ok(None);
                    }
                    done => done?,
                }
                tracing::debug!(path = %to.display(), "published a capture file that a crash had kept from its name");
                return Ok(Some(recovered));
            }
        }
        Ok(None)
    }

    /// Gives `made`, whose line is written, the name `to`, and removes what it was made from, or
    /// moves that aside where it has a flaw.
    fn complete(
        &mut self,
        Made { names, made, to, flaw }: Made<'_>,
        capture: Capture,
        books: &mut Books,
        stock: &mut Stock,
    ) -> io::Result<()> {
        stock.owe(std::iter::once(&capture));
        if made != to {
            books.storage.rename(made, to)?;
        }
        if let Some(flaw) = flaw {
            let why = format!("{flaw}; {} has its {} whole frames", capture.path, capture.frames);
            self.aside.set_aside(names, &why, books)?;
            books.counters.set_aside.add(1);
        } else if made != names.part {
            books.storage.remove(&names.part)?;
        }
        self.announced.remove(&capture.path);
        stock.announce_salvaged(books, to, capture);
        Ok(())
    }
}

/// Records that somebody removed or changed a file of this process before it was salvaged: what
/// counts as written is lost.
fn miss(broken: &Broken, changed: Changed, books: &mut Books) {
    books.miss(&broken.names.part, changed, broken.holds, Losses::default(), "salvaged");
}

fn remove_empty(names: &Names, books: &Books) -> Result<Salvaged, Stop> {
    books.storage.remove(&names.part)?;
    Ok(Salvaged::Empty)
}

/// Finds a name for a salvaged file that is not taken.
fn free_name(names: &Names, books: &Books) -> io::Result<PathBuf> {
    for attempt in 1.. {
        let name = names.recovered(attempt).ok_or_else(|| io::Error::other("its name is not one of a capture"))?;
        if !books.storage.exists(&name)? {
            return Ok(name);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Says how a file is compressed, by its name. The name does not have the level: that of a copy is
/// the default.
fn compression_of(names: &Names) -> Option<Compression> {
    match names.published.extension()?.to_str()? {
        "lz4" => Some(Compression::Lz4),
        "zst" => "zstd".parse().ok(),
        _ => None,
    }
}
