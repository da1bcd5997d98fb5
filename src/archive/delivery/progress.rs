//! A file on the disk has what a consumer is still owed.
//!
//! A capture is owed to a consumer from before it gets its name until the consumer is done with it.
//! Whatever ends the process between, the next start finds the capture in this file. So a consumer
//! hears of each capture at least once, and of one twice where the process ended before the second
//! mark.
//!
//! The marks are in a file beside the manifest, `NAME.jsonl`, and not in the manifest. A manifest
//! is kept for good: two more lines for each capture and consumer would triple it, and slow each
//! start and each `vxtap verify` down. Its chain would vouch for what is no evidence, since a mark
//! says what this program did and not what a capture is. A `verify` of before would call such lines
//! unreadable. Marks can be lost: then a consumer hears of a capture twice. And they name captures
//! by their paths, so that files without a hash make no difference. Of what a manifest that
//! somebody replaced does not vouch for, the consumer does not hear; it counts as skipped.
//!
//! The file has what is owed and nothing else: marks are cut off as soon as nothing is owed, and
//! the file is removed at the end. A consumer that comes to an old directory is owed nothing of it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::episode::Episode;
use crate::evidence::names::is_complete_path;
use crate::storage::{Identity, Storage, StoredFile, TooLarge};

/// Bytes of marks that nobody needs any more, which may stay in the file.
const SLACK: u64 = 64 * 1024;

/// Bytes that are read at the start at most, which is marks of some hundred thousand captures.
const MOST: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// A mark.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    /// The consumer is to hear of the capture at this path.
    Owed(String),
    /// The consumer is done with the capture at this path.
    Done(String),
}

/// The captures that a consumer is owed, by path.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    sync: bool,
    /// The directory when this was opened.
    directory: Option<Identity>,
    /// The file that got the name from here, or was found there.
    named: Option<Identity>,
    /// Open from the first mark on.
    file: Option<Box<dyn StoredFile>>,
    /// Bytes in the file, at least.
    length: u64,
    owed: BTreeSet<String>,
    /// Bytes of the marks of the captures that are owed.
    needed: u64,
    /// Lasts while the file is not what it should be, since a mark could not be written.
    failing: Episode,
}

impl Progress {
    /// Reads what `consumer` is owed in `directory`. Marks survive a loss of power if `sync`.
    ///
    /// # Errors
    /// The file cannot be opened or read; [`NotRegular`](crate::storage::NotRegular) where its name
    /// is something else's, [`TooLarge`] where the file is larger than any that this program wrote.
    pub(super) fn open(consumer: &str, directory: &Path, storage: &Arc<dyn Storage>, sync: bool) -> io::Result<Self> {
        let path = directory.join(format!("{consumer}.jsonl"));
        let mut progress = Self {
            path,
            storage: Arc::clone(storage),
            sync,
            directory: storage.status(directory)?.map(|found| found.identity),
            named: None,
            file: None,
            length: 0,
            owed: BTreeSet::new(),
            needed: 0,
            failing: Episode::default(),
        };
        progress.read()?;
        Ok(progress)
    }

    /// Has marks survive a loss of power from now on, or not.
    pub(super) fn set_sync(&mut self, sync: bool) {
        self.sync = sync;
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(found) = self.storage.status(&self.path)? else { return Ok(()) };
        self.named = Some(found.identity);
        if found.length > MOST as u64 {
            return Err(io::Error::other(TooLarge(MOST)));
        }
        let damaged = self.read_marks(self.storage.open(&self.path, OFlags::RDONLY)?.take(MOST as u64))?;
        if damaged > 0 {
            tracing::warn!(
                path = %self.path.display(), damaged,
                "some marks of captures that a consumer is still to hear of are damaged: it may miss these, or hear of some again"
            );
        }
        // Nothing is appended to what may end in a part of a mark. A full disk takes no copy, and
        // only a sensor that has started removes captures to make room.
        let result = self.rewrite();
        self.hear(result);
        Ok(())
    }

    /// Reads marks, and returns how many are none of this program's.
    fn read_marks(&mut self, marks: impl Read) -> io::Result<u64> {
        let mut lines = BufReader::new(marks);
        let (mut line, mut damaged) = (Vec::new(), 0);
        while lines.read_until(b'\n', &mut line)? > 0 {
            match serde_json::from_slice(&line) {
                Ok(Mark::Owed(path)) if is_complete_path(&path) => drop(self.insert(path)),
                Ok(Mark::Done(path)) => drop(self.remove(&path)),
                // A crash in the middle of a mark leaves a part of it. Then what it marks has not
                // begun.
                Err(_) if !line.ends_with(b"\n") => {}
                Ok(Mark::Owed(_)) | Err(_) => damaged += 1,
            }
            self.length += line.len() as u64;
            line.clear();
        }
        Ok(damaged)
    }

    fn insert(&mut self, path: String) -> bool {
        let bytes = path.len() as u64;
        let is_new = self.owed.insert(path);
        self.needed += if is_new { bytes } else { 0 };
        is_new
    }

    fn remove(&mut self, path: &str) -> bool {
        let was_owed = self.owed.remove(path);
        self.needed -= if was_owed { path.len() as u64 } else { 0 };
        was_owed
    }

    /// Says whether the capture at this path is owed.
    pub(super) fn owes(&self, path: &str) -> bool {
        self.owed.contains(path)
    }

    /// Returns the paths of all captures that are owed.
    pub(super) fn owed(&self) -> &BTreeSet<String> {
        &self.owed
    }

    /// Marks captures as owed that are about to get their names. Where the marks cannot be written,
    /// the captures are published all the same, since they are evidence. The file is then written
    /// again every second, and what a crash takes until then the consumer may miss.
    pub(super) fn owe<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        let new: Vec<_> = paths.filter(|path| self.insert((*path).to_owned())).collect();
        if !new.is_empty() {
            self.write(new.into_iter().map(|path| Mark::Owed(path.to_owned())), self.sync);
        }
    }

    /// Marks a capture as done: the consumer is done with it, or will never hear of it.
    pub(super) fn done(&mut self, path: &str) {
        if self.remove(path) {
            // Written without a sync: a mark that is lost makes the consumer hear of the capture
            // once more.
            self.write(std::iter::once(Mark::Done(path.to_owned())), false);
        }
    }

    fn write(&mut self, marks: impl Iterator<Item = Mark>, sync: bool) {
        if self.failing.lasts() {
            return;
        }
        let result = match self.has_other_names() {
            // The marks go with it: what is owed says all of them.
            Ok(true) => self.rewrite(),
            Ok(false) => self.append(marks, sync).and_then(|()| self.shorten()),
            Err(error) => Err(error),
        };
        self.hear(result);
    }

    /// Says whether the file that marks are appended to has another name, as a snapshot made of
    /// hard links gives it. What such a snapshot has stays as it is.
    fn has_other_names(&self) -> io::Result<bool> {
        if self.file.is_none() {
            return Ok(false);
        }
        let found = self.storage.status(&self.path)?;
        Ok(found.is_some_and(|found| Some(found.identity) == self.named && found.links > 1))
    }

    fn append(&mut self, marks: impl Iterator<Item = Mark>, sync: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        for mark in marks {
            serde_json::to_writer(&mut bytes, &mark)?;
            bytes.push(b'\n');
        }
        let is_new = self.file.is_none();
        if is_new {
            self.owns_name()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.storage.log(&self.path)?),
        };
        if is_new {
            self.named = Some(file.identity()?);
        }
        self.length += bytes.len() as u64;
        file.write_all(&bytes)?;
        if !sync {
            return file.flush();
        }
        file.sync()?;
        if is_new { self.sync_name() } else { Ok(()) }
    }

    /// Fails where the name leads to another's file or directory by now: another sensor may have
    /// the directory.
    fn owns_name(&self) -> io::Result<()> {
        let identity = |path: &Path| Ok::<_, io::Error>(self.storage.status(path)?.map(|found| found.identity));
        let directory = self.path.parent().map_or(Ok(None), identity)?;
        let named = identity(&self.path)?;
        if directory == self.directory && (named.is_none() || named == self.named) {
            Ok(())
        } else {
            Err(io::Error::other("somebody put another file or directory in its place"))
        }
    }

    fn sync_name(&self) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), |directory| self.storage.sync_directory(directory))
    }

    /// Has the file forget what nobody needs, where there is much of it.
    fn shorten(&mut self) -> io::Result<()> {
        if self.length <= SLACK + 4 * self.needed {
            return Ok(());
        }
        match &mut self.file {
            Some(file) if self.owed.is_empty() => {
                self.length = 0;
                file.cut(0)
            }
            _ => self.rewrite(),
        }
    }

    /// Writes a file that has what is owed, in place of the one that is there.
    fn rewrite(&mut self) -> io::Result<()> {
        self.owns_name()?;
        self.file = None;
        if self.owed.is_empty() {
            self.length = 0;
            return match self.storage.remove(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut copy = self.path.as_os_str().to_owned();
        copy.push(".copy");
        let copy = Path::new(&copy);
        if self.storage.exists(copy)? {
            self.storage.remove(copy)?;
        }
        let mut file = self.storage.log(copy)?;
        let mut bytes = Vec::new();
        for path in &self.owed {
            serde_json::to_writer(&mut bytes, &Mark::Owed(path.clone()))?;
            bytes.push(b'\n');
        }
        file.write_all(&bytes)?;
        if self.sync {
            file.sync()?
        } else {
            file.flush()?
        }
        let identity = file.identity()?;
        self.storage.replace(copy, &self.path)?;
        self.named = Some(identity);
        (self.file, self.length) = (Some(file), bytes.len() as u64);
        if self.sync { self.sync_name() } else { Ok(()) }
    }

    /// Writes the file again where a mark could not be written.
    pub(super) fn write_again(&mut self) {
        if self.failing.lasts() {
            let result = self.rewrite();
            self.hear(result);
        }
    }

    fn hear(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => drop(self.failing.ends()),
            Err(error) => {
                if self.failing.begins() {
                    tracing::error!(
                        path = %self.path.display(), %error,
                        "cannot note which captures a consumer is still to hear of: it may miss these if the sensor is killed; trying \
                         again every second"
                    );
                }
            }
        }
    }

    /// Leaves what is owed to the next start. The file goes where nothing is owed.
    pub(super) fn end(&mut self) {
        if self.owed.is_empty() && self.length > 0 || self.failing.lasts() {
            let result = self.rewrite();
            self.hear(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::faulty::Faulty;
    use std::fs;

    const A: &str = "vni7_192.0.2.1/a.pcap";
    const B: &str = "vni7_192.0.2.1/b.pcap";

    fn open(directory: &Path, storage: &Faulty) -> Progress {
        Progress::open("on-publish", directory, &(Arc::new(storage.clone()) as Arc<dyn Storage>), true).unwrap()
    }

    /// Returns what the next start finds. It finds a copy, since it would replace the file.
    fn owed(directory: &Path) -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(directory.join("on-publish.jsonl"), copy.path().join("on-publish.jsonl")).unwrap();
        open(copy.path(), &Faulty::default()).owed().iter().cloned().collect()
    }

    #[test]
    fn what_is_owed_is_there_after_a_crash_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let mut progress = open(dir.path(), &Faulty::default());
        progress.owe([A, B].into_iter());
        progress.done(A);
        progress.owe([A].into_iter());
        let path = dir.path().join("on-publish.jsonl");
        let whole = fs::read(&path).unwrap();
        let lines: Vec<usize> =
            whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        for length in 0..=whole.len() {
            let crashed = tempfile::tempdir().unwrap();
            fs::write(crashed.path().join("on-publish.jsonl"), &whole[..length]).unwrap();
            let wanted: &[&str] = match lines.iter().filter(|end| **end <= length).count() {
                0 => &[],
                1 => &[A],
                3 => &[B],
                _ => &[A, B],
            };
            assert_eq!(owed(crashed.path()), wanted, "{length}");
            // And what is appended by then is not appended to a part of a mark.
            let mut next = open(crashed.path(), &Faulty::default());
            next.owe(["overflow/c.pcap"].into_iter());
            assert_eq!(owed(crashed.path()).len(), wanted.len() + 1, "{length}");
        }
    }

    #[test]
    fn the_file_stays_small_and_goes_where_nothing_is_owed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("on-publish.jsonl");
        let mut progress = open(dir.path(), &Faulty::default());
        assert!(!path.exists(), "a consumer without captures has none");
        progress.owe([A].into_iter());
        for number in 0..10_000 {
            let other = format!("overflow/{number}.pcap");
            progress.owe([&*other].into_iter());
            progress.done(&other);
            assert!(fs::metadata(&path).unwrap().len() < 2 * SLACK);
        }
        assert_eq!(owed(dir.path()), [A]);
        progress.done(A);
        progress.end();
        assert!(!path.exists());
    }

    #[test]
    fn what_could_not_be_written_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::default();
        let mut progress = open(dir.path(), &storage);
        progress.owe([A].into_iter());
        storage.faults().write = Some((10, libc::ENOSPC));
        progress.owe([B].into_iter());
        assert_eq!(owed(dir.path()), [A]);
        progress.write_again();
        storage.faults().write = None;
        progress.write_again();
        assert_eq!(owed(dir.path()), [A, B]);
    }

    #[test]
    fn a_full_disk_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::default();
        open(dir.path(), &storage).owe([A].into_iter());
        storage.faults().write = Some((0, libc::ENOSPC));
        let mut progress = open(dir.path(), &storage);
        assert!(progress.owes(A));
        progress.owe([B].into_iter());
        progress.write_again();
        assert_eq!(owed_by_bytes(dir.path()), 1, "nothing is lost");
        storage.faults().write = None;
        progress.write_again();
        assert_eq!(owed(dir.path()), [A, B]);
    }

    /// Returns how many marks are in the file, which is left alone.
    fn owed_by_bytes(directory: &Path) -> usize {
        fs::read_to_string(directory.join("on-publish.jsonl")).unwrap().lines().count()
    }

    #[test]
    fn what_another_sensor_put_in_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (captures, old) = (dir.path().join("captures"), dir.path().join("old"));
        let path = captures.join("on-publish.jsonl");
        for is_there in [true, false] {
            fs::create_dir(&captures).unwrap();
            let storage = Faulty::default();
            let mut progress = open(&captures, &storage);
            progress.owe([A].into_iter());
            fs::rename(&captures, &old).unwrap();
            fs::create_dir(&captures).unwrap();
            if is_there {
                open(&captures, &Faulty::default()).owe([B].into_iter());
            }
            storage.faults().write = Some((0, libc::ENOSPC));
            progress.done(A);
            storage.faults().write = None;
            progress.write_again();
            progress.end();
            assert_eq!(path.exists(), is_there);
            if is_there {
                assert_eq!(owed(&captures), [B]);
            }
            fs::remove_dir_all(&captures).unwrap();
            fs::remove_dir_all(&old).unwrap();
        }
    }

    #[test]
    fn a_snapshot_of_hard_links_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, snapshot) = (dir.path().join("on-publish.jsonl"), dir.path().join("snapshot"));
        let mut progress = open(dir.path(), &Faulty::default());
        progress.owe([A].into_iter());
        for (is_owed, capture, wanted) in [(true, B, &[A, B][..]), (false, A, &[B]), (true, A, &[A, B])] {
            fs::hard_link(&path, &snapshot).unwrap();
            let before = fs::read(&snapshot).unwrap();
            match is_owed {
                true => progress.owe([capture].into_iter()),
                false => progress.done(capture),
            }
            assert_eq!(fs::read(&snapshot).unwrap(), before);
            assert_eq!(owed(dir.path()), wanted);
            fs::remove_file(&snapshot).unwrap();
        }
    }

    #[test]
    fn a_file_that_no_sensor_wrote_is_not_read_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("on-publish.jsonl")).unwrap();
        file.set_len(MOST as u64).unwrap();
        let storage = Arc::new(Faulty::default()) as Arc<dyn Storage>;
        let open = || Progress::open("on-publish", dir.path(), &storage, true);
        file.set_len(MOST as u64 + 1).unwrap();
        let error = open().unwrap_err().to_string();
        assert_eq!(error, format!("larger than {MOST} bytes, which is more than it can sensibly have"));
        file.set_len(MOST as u64).unwrap();
        assert_eq!(open().unwrap().owed().len(), 0);
    }

    #[test]
    fn damaged_marks_are_counted_and_the_end_of_a_crash_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut progress = open(dir.path(), &Faulty::default());
        let marks = format!(
            "{{\"owed\":\"{A}\"}}\n{{\"owed\":\"../etc/passwd\"}}\nno mark\n\n{{\"owed\":\"{B}\"}}\n{{\"done\":\"{B}"
        );
        assert_eq!(progress.read_marks(marks.as_bytes()).unwrap(), 3);
        assert_eq!(progress.owed().iter().collect::<Vec<_>>(), [A, B]);
    }

    #[test]
    fn paths_that_are_no_captures_are_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("on-publish.jsonl"),
            "{\"owed\":\"../etc/passwd\"}\n{\"owed\":\"overflow/x.pcap.part\"}\n",
        )
        .unwrap();
        assert_eq!(owed(dir.path()), [""; 0]);
    }
}
