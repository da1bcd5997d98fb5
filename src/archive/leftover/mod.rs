//! What a crash left behind: part files that nobody writes to any more.
//!
//! The directory is locked, so a part file that is there at the start is nobody's. It is cut at its last whole record and published with
//! `.recovered` in its name. Where it is damaged, with more behind than a torn record or in a field
//! of its header, what is whole is copied, with the header as it has to be, and the file itself
//! moved aside.
//! So is what has no whole record.

mod make;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use rustix::fs::{FileType, OFlags};

use self::make::flaw;
use super::closed::{Broken, Gone, Losses};
use super::publisher::{Publisher, hash_file, tell_changed};
use super::unlisted;
use crate::evidence::names::{self, COPY, Names, is_capture};
use crate::evidence::{Capture, Contents, Event, Manifest};
use crate::ledger::OutputDrop;
use crate::record::compress::Compression;
use crate::record::salvage::{self, Unsalvageable, Whole};
use crate::storage::{Changed, NotRegular, Storage};

/// Where files are moved that cannot be salvaged.
const ASIDE: &str = "unsalvageable";

/// What a compressed stream has around bytes that do not compress, at most.
const STREAM: u64 = 64;
/// Seconds between two attempts at a file, at most.
const LONGEST_PATIENCE: u32 = 64;

/// Files to salvage.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    waiting: VecDeque<Names>,
    /// Files that could not be salvaged yet, as on a full disk.
    later: Vec<Names>,
    /// How many ticks they wait, and still have to.
    patience: u32,
    left: u32,
    /// Whether the log says so.
    said: bool,
    /// What the manifest says of captures that may not have their name yet, or have it beside what they were made from, by path.
    announced: HashMap<String, Capture>,
    /// Files of this process among those that wait, which it could not complete, by their part names.
    own: HashMap<PathBuf, Broken>,
    found: usize,
    /// Files that a sync failed for, by their part names. The system tells of lost bytes once: the next sync of the same file may succeed
    /// without them. So such a file is never published itself, but copied, as far as it can be read, into new pages that are synced.
    unsynced: HashSet<PathBuf>,
    /// Where files are to be moved to whose line says so already, by their part names.
    aside: HashMap<PathBuf, PathBuf>,
}

impl Leftovers {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a file of this process.
    pub(super) fn add(&mut self, broken: Broken) {
        self.waiting.push_back(broken.names.clone());
        self.own.insert(broken.names.part.clone(), broken);
    }

    /// Called every second: lets those wait again that could not be salvaged, at longer and longer intervals, since each attempt may read
    /// and write all of a file.
    pub(super) fn retry(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 && !self.later.is_empty() {
            self.patience = (self.patience * 2).clamp(1, LONGEST_PATIENCE);
            self.left = self.patience;
            self.waiting.extend(self.later.drain(..));
        }
    }

    /// Forgets the files that are not of this process.
    pub(super) fn keep_own(&mut self) {
        self.waiting.extend(self.later.drain(..));
        if self.waiting.len() > self.own.len() {
            tracing::info!("what a crash left behind is not all salvaged yet: the next start goes on");
        }
        self.waiting.retain(|names| self.own.contains_key(&names.part));
    }

    /// Files of this process that are not salvaged.
    pub(super) fn own(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.own.keys().map(PathBuf::as_path)
    }
}

/// The left-overs in `directory`.
pub(super) fn list(storage: &dyn Storage, directory: &Path, contents: &Contents, manifest: &Manifest) -> Leftovers {
    let mut left = Leftovers::default();
    let entries = |directory: &Path| {
        storage.list(directory).unwrap_or_else(|error| {
            tracing::warn!(path = %directory.display(), %error, "cannot look for what a crash left behind");
            Vec::new()
        })
    };
    for session in entries(directory) {
        let name = session.name.to_string_lossy().into_owned();
        if names::parse_session(&name).is_none() || session.kind != FileType::Directory {
            continue;
        }
        let session = directory.join(session.name);
        for file in entries(&session) {
            let path = session.join(&file.name);
            // What is not named as our files are is not ours.
            let is_ours = |file: &str| file.starts_with(&name) && !file.contains(char::is_control);
            if !file.name.to_str().is_some_and(is_ours) {
                continue;
            }
            if let Some(names) = Names::of_part(&path).filter(|_| path.to_str().is_some_and(is_capture)) {
                left.waiting.push_back(names);
            } else if let Some(part) = path.to_str().and_then(|path| path.strip_suffix(COPY))
                && Names::of_part(Path::new(part)).is_some_and(|names| matches!(storage.exists(&names.part), Ok(true)))
            {
                // An incomplete copy of a file that is there still.
                let _ = storage.remove(&path);
            }
        }
    }
    unlisted::warn(storage, directory, contents);
    left.found = left.waiting.len();
    if left.found > 0 {
        left.waiting.make_contiguous().sort_by(|a, b| a.part.cmp(&b.part));
        tracing::info!(files = left.found, "a crash left capture files behind; salvaging them");
    }
    left.announced = announced(storage, directory, contents, manifest, &left.waiting);
    left
}

/// What the manifest announced and does not have its name yet, or has it as a copy of a file that waits. Nothing where none waits: the manifest is
/// read once more for it.
fn announced(
    storage: &dyn Storage,
    directory: &Path,
    contents: &Contents,
    manifest: &Manifest,
    waiting: &VecDeque<Names>,
) -> HashMap<String, Capture> {
    if waiting.is_empty() {
        return HashMap::new();
    }
    let copies: HashSet<PathBuf> = waiting.iter().filter_map(|names| names.recovered(1)).collect();
    let unnamed = |path: &Path| matches!(storage.exists(path), Ok(false)) || copies.contains(path);
    // What a line behind a break announces is salvaged as if it were not announced.
    let on_record = contents.captures.iter().take(contents.chained).map(|entry| &*entry.path);
    let paths: HashSet<&str> = on_record.filter(|path| unnamed(&directory.join(path))).collect();
    if paths.is_empty() {
        return HashMap::new();
    }
    let captures = manifest.captures(|path| paths.contains(path)).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read what the manifest announced");
        Vec::new()
    });
    captures.into_iter().map(|capture| (capture.path.clone(), capture)).collect()
}

/// How a file came out.
enum Salvaged {
    /// Published.
    Recovered,
    /// It holds no frame and no other byte that may be one.
    Empty,
    /// Moved there.
    Aside,
}

/// Why a file is left as it is.
#[derive(Debug)]
enum Stop {
    Io(io::Error),
    /// Somebody changed a file of this process.
    Changed(Changed),
    Unsalvageable(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

impl Publisher {
    /// Salvages the next of the files that wait.
    pub(super) fn salvage_one(&mut self, gone: &Sender<Gone>) {
        let Some(names) = self.leftovers.waiting.pop_front() else { return };
        // Nothing can be put on record: it is left to the next start.
        if self.edited.is_some() {
            return self.leftovers.later.push(names);
        }
        let result = match self.salvage(&names) {
            Err(Stop::Unsalvageable(why)) => self.set_aside(&names, why).map_err(Stop::Io),
            result => result,
        };
        match result {
            Ok(Salvaged::Recovered) => self.counters.recovered.add(1),
            Ok(Salvaged::Aside) => self.counters.set_aside.add(1),
            Ok(Salvaged::Empty) => {}
            Err(Stop::Changed(changed)) => self.miss_left(&names, changed, gone),
            Err(Stop::Io(error))
                if error.kind() == io::ErrorKind::NotFound && matches!(self.storage.exists(&names.part), Ok(false)) =>
            {
                self.miss_left(&names, Changed::Missing, gone);
            }
            Err(Stop::Io(error)) if error.get_ref().is_some_and(|error| error.is::<NotRegular>()) => {
                tracing::error!(path = %names.part.display(), %error, "cannot salvage this: it stays as it is");
            }
            Err(Stop::Io(error)) => {
                if !std::mem::replace(&mut self.leftovers.said, true) {
                    tracing::error!(
                        path = %names.part.display(), %error,
                        "cannot salvage a capture file: it stays under this name; trying again"
                    );
                }
                return self.leftovers.later.push(names);
            }
            Err(Stop::Unsalvageable(_)) => {}
        }
        self.leftovers.said = false;
        self.leftovers.patience = 0;
        self.leftovers.own.remove(&names.part);
        self.leftovers.unsynced.remove(&names.part);
        if self.leftovers.is_empty() && self.leftovers.later.is_empty() && self.leftovers.found > 0 {
            self.leftovers.found = 0;
            tracing::info!(
                recovered = self.counters.recovered.get(),
                set_aside = self.counters.set_aside.get(),
                "salvage is complete; -v names each file, and so does the manifest"
            );
        }
    }

    /// Somebody removed or changed a file before it was salvaged.
    fn miss_left(&mut self, names: &Names, changed: Changed, gone: &Sender<Gone>) {
        match self.leftovers.own.remove(&names.part) {
            Some(broken) => self.miss_broken(&broken, changed, gone),
            None => {
                tracing::error!(path = %names.part.display(), "somebody removed a capture file before it was salvaged");
            }
        }
    }

    /// The same, of a file of this process: what counts as written is lost.
    pub(super) fn miss_broken(&mut self, broken: &Broken, changed: Changed, gone: &Sender<Gone>) {
        let holds = broken.holds;
        tell_changed(&broken.names.part, changed, holds.frames, "salvaged");
        // The writer of captures may have ended; then it asks once more after this thread has.
        let _ = gone.send(holds);
        let mut losses = Losses::default();
        losses.add(OutputDrop::WriteError, holds.frames);
        self.record_loss(holds.session, losses);
    }

    fn salvage(&mut self, names: &Names) -> Result<Salvaged, Stop> {
        if let Some(changed) =
            self.leftovers.own.get(&names.part).and_then(|broken| broken.changed(&*self.storage, false))
        {
            return Err(Stop::Changed(changed));
        }
        if self.complete_announced(names)? {
            return Ok(Salvaged::Recovered);
        }
        if let Some(broken) = self.leftovers.own.get(&names.part) {
            // What lies behind is counted as lost.
            self.storage.append(&names.part)?.cut(broken.written)?;
        }
        let whole = match salvage::scan(self.storage.open(&names.part, OFlags::RDONLY)?) {
            Ok(whole) => whole,
            Err(Unsalvageable::Io(error)) => return Err(error.into()),
            Err(Unsalvageable::Empty) => return self.remove_empty(names),
            Err(other) => return Err(Stop::Unsalvageable(other.to_string())),
        };
        if whole.frames == 0 {
            // Damage behind the beginning may hide frames: only a file that is its beginning and nothing else holds none.
            let there = self.length(&names.part)?;
            let most = whole.length + if whole.compression.is_some() { STREAM } else { 0 };
            return match whole.total == whole.length && there <= most && whole.mended.is_none() {
                true => self.remove_empty(names),
                false => Err(Stop::Unsalvageable("it has no whole frame".into())),
            };
        }
        let (made, bytes) = self.make(names, &whole)?;
        let published = self.free_name(names)?;
        let Some(path) = self.relative(&published) else { return Ok(Salvaged::Empty) };
        let directory = names.part.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let capture = Capture {
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
            hash: self.hash_of(&made)?,
        };
        self.append(&Event::Recovered(capture.clone()))?;
        // Where one of the next steps fails, the next attempt goes on from here, and writes no second line.
        self.leftovers.announced.insert(capture.path.clone(), capture.clone());
        self.complete(names, &made, &published, capture, flaw(&whole))?;
        tracing::debug!(
            path = %published.display(), frames = whole.frames, cut = whole.total - whole.length,
            "salvaged a capture file"
        );
        Ok(Salvaged::Recovered)
    }

    /// A crash, or a failure, between a line and what it announces: does what was announced. False where there was nothing of the kind.
    fn complete_announced(&mut self, names: &Names) -> Result<bool, Stop> {
        let copy = with_ending(&names.part, COPY);
        for (to, path) in self.announced_names(names)? {
            let Some(capture) = self.leftovers.announced.get(&path).cloned() else { continue };
            // A copy has its name, or not yet, while what it was made from is still there.
            for from in [&to, &names.part, &copy] {
                if !is_what_was_announced(&*self.storage, from, &capture) {
                    continue;
                }
                let (made, flaw) = if from == &names.part {
                    (self.make_announced_safe(names, &capture)?, None)
                } else {
                    // It was synced before it got its line.
                    let Some(whole) = is_copy_of(&*self.storage, &capture, &names.part)? else { continue };
                    (from.clone(), flaw(&whole))
                };
                match self.complete(names, &made, &to, capture, flaw) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        tracing::warn!(
                            path = %to.display(),
                            "something else has the name that was announced for a capture file: it is salvaged under another"
                        );
                        self.leftovers.announced.remove(&path);
                        return Ok(false);
                    }
                    done => done?,
                }
                tracing::debug!(path = %to.display(), "published a capture file that a crash had kept from its name");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names that may have been announced for a part file, and the same as the manifest has
    /// them.
    fn announced_names(&self, names: &Names) -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        found.extend(self.relative(&names.published).map(|path| (names.published.clone(), path)));
        // Of these, one that is neither there nor announced is the last.
        for (first, name) in [(2, Names::another as fn(&Names, u32) -> Option<PathBuf>), (1, Names::recovered)] {
            for attempt in first.. {
                let Some((to, path)) = name(names, attempt).and_then(|to| Some((to.clone(), self.relative(&to)?)))
                else {
                    break;
                };
                if !self.leftovers.announced.contains_key(&path) && !self.storage.exists(&to)? {
                    break;
                }
                found.push((to, path));
            }
        }
        Ok(found)
    }

    /// Gives `made`, whose line is written, the name `to`, and removes what it was made from, or
    /// moves that aside where it has a flaw.
    fn complete(
        &mut self,
        names: &Names,
        made: &Path,
        to: &Path,
        capture: Capture,
        flaw: Option<String>,
    ) -> io::Result<()> {
        if made != to {
            self.storage.rename(made, to)?;
        }
        if let Some(flaw) = flaw {
            self.set_aside(names, format!("{flaw}; {} has its {} whole frames", capture.path, capture.frames))?;
            self.counters.set_aside.add(1);
        } else if made != names.part {
            self.storage.remove(&names.part)?;
        }
        self.leftovers.announced.remove(&capture.path);
        self.announce(to, capture);
        Ok(())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(self.storage.status(path)?.ok_or(io::ErrorKind::NotFound)?.length)
    }

    fn remove_empty(&self, names: &Names) -> Result<Salvaged, Stop> {
        self.storage.remove(&names.part)?;
        Ok(Salvaged::Empty)
    }

    /// Moves a file aside.
    fn set_aside(&mut self, names: &Names, why: String) -> io::Result<Salvaged> {
        if let Some(to) = self.leftovers.aside.get(&names.part) {
            // The line is written; then the move failed.
            match self.storage.rename(&names.part, to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                moved => moved?,
            }
            let moved = !self.storage.exists(&names.part)?;
            self.leftovers.aside.remove(&names.part);
            if moved {
                return Ok(Salvaged::Aside);
            }
        }
        let directory = self.directory.join(ASIDE);
        self.storage.create_directory(&directory)?;
        if self.storage.status(&directory)?.is_none_or(|found| found.kind != FileType::Directory) {
            return Err(io::Error::other(format!("{} is no directory", directory.display())));
        }
        let name = names.part.file_name().unwrap_or_default().to_string_lossy();
        let mut to = directory.join(&*name);
        for attempt in 2.. {
            if !self.storage.exists(&to)? {
                break;
            }
            to = directory.join(format!("{name}-{attempt}"));
        }
        let Some(path) = self.relative(&to) else { return Ok(Salvaged::Empty) };
        let bytes = self.length(&names.part)?;
        let hash = hash_file(&*self.storage, &names.part, self.plan.hash.unwrap_or_default())?;
        self.append(&Event::SetAside { path, bytes, hash, why: why.clone() })?;
        self.leftovers.aside.insert(names.part.clone(), to.clone());
        self.storage.rename(&names.part, &to)?;
        self.leftovers.aside.remove(&names.part);
        tracing::warn!(path = %to.display(), bytes, "moved a file aside: {why}");
        Ok(Salvaged::Aside)
    }

    /// A name for a salvaged file that is not taken.
    fn free_name(&self, names: &Names) -> io::Result<PathBuf> {
        for attempt in 1.. {
            let name = names.recovered(attempt).ok_or_else(|| io::Error::other("its name is not one of a capture"))?;
            if !self.storage.exists(&name)? {
                return Ok(name);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Whether a file is the one that a line announced: by its hash, or else by its size and the frames that it holds.
fn is_what_was_announced(storage: &dyn Storage, path: &Path, capture: &Capture) -> bool {
    if let Some(said) = capture.hash {
        return hash_file(storage, path, said.algorithm()).is_ok_and(|found| found == said);
    }
    let Ok(file) = storage.open(path, OFlags::RDONLY) else { return false };
    file.metadata().is_ok_and(|file| file.len() == capture.bytes)
        && salvage::scan(file).is_ok_and(|whole| {
            whole.intact
                && whole.mended.is_none()
                && (whole.frames, whole.frame_bytes) == (capture.frames, capture.frame_bytes)
        })
}

/// What is whole of `part`, where a capture that was announced holds that. None where it holds
/// something else.
fn is_copy_of(storage: &dyn Storage, capture: &Capture, part: &Path) -> io::Result<Option<Whole>> {
    let whole = match salvage::scan(storage.open(part, OFlags::RDONLY)?) {
        Ok(whole) => whole,
        Err(Unsalvageable::Io(error)) => return Err(error),
        Err(_) => return Ok(None),
    };
    let holds = (whole.frames, whole.frame_bytes, whole.first, whole.last);
    let same = holds == (capture.frames, capture.frame_bytes, Some(capture.first), Some(capture.last));
    Ok(same.then_some(whole))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// How a file is compressed, by its name. The level is not in the name: that of a copy is the default.
fn compression_of(names: &Names) -> Option<Compression> {
    match names.published.extension()?.to_str()? {
        "lz4" => Some(Compression::Lz4),
        "zst" => "zstd".parse().ok(),
        _ => None,
    }
}
