//! Files that are published together.
//!
//! A sensor with many sessions cuts thousands of files at once: at its end, at SIGUSR1, and where the time of day passes a multiple of the rotation
//! interval. What can be done for all of them is done once: the look at the manifest, the lines, which go out in a few writes, and the syncs. The
//! order is that of a single file, for all: bytes, lines, names. A crash in between leaves lines whose files have no name yet, and the next start
//! completes each. A file that fails waits or is given up by itself.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::Common;
use super::closed::{Closed, Gone, Losses};
use super::publisher::{Publisher, Task};
use crate::evidence::{Capture, Entry, Event};
use crate::record::Timestamp;
use crate::storage::{Changed, Identity, Storage, changed};

/// Files published together at most: the first of them waits for the lines of the last.
const FILES: usize = 1024;

/// So many files are synced with the whole file system, fewer one by one. Syncing all takes along what others write there, so it has to be worth it.
const MANY: usize = 64;

/// How long the budget is not looked at while files are made ready.
const BUSY: Duration = Duration::from_millis(20);

/// A file whose bytes are safe and known.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) closed: Box<Closed>,
    /// What its line tells.
    pub(super) event: Event,
    /// Its line is in the manifest already.
    pub(super) announced: bool,
}

/// A published file.
struct Named {
    path: PathBuf,
    capture: Capture,
    /// Which file it is; none where the system does not tell.
    file: Option<Identity>,
}

impl Publisher {
    /// Does a task, and what waits behind it.
    pub(super) fn work_off(&mut self, task: Task, tasks: &Receiver<Task>, gone: &Sender<Gone>, common: &Common) {
        let (mut files, mut next) = (VecDeque::new(), Some(task));
        let last = loop {
            match next {
                Some(Task::Publish(closed)) => files.push_back(closed),
                other => break other,
            }
            next = if files.len() < FILES { tasks.try_recv().ok() } else { None };
        };
        // Lines are in the order of what they tell of.
        self.publish(files, gone, common);
        match last {
            Some(Task::Salvage(broken)) => match broken.changed(&*self.storage, true) {
                Some(changed) => self.miss_broken(&broken, changed, gone),
                None => self.leftovers.add(broken),
            },
            Some(Task::Lost(session, losses)) => self.record_loss(session, losses),
            Some(Task::Publish(_)) | None => {}
        }
    }

    /// Publishes files that had to wait.
    pub(super) fn publish_all(&mut self, mut files: VecDeque<Box<Closed>>, gone: &Sender<Gone>, common: &Common) {
        while !files.is_empty() {
            let batch = files.drain(..files.len().min(FILES)).collect();
            self.publish(batch, gone, common);
        }
    }

    /// Publishes files in their order. One whose line cannot be written, or that cannot be renamed, keeps its part name until it can.
    fn publish(&mut self, files: VecDeque<Box<Closed>>, gone: &Sender<Gone>, common: &Common) {
        if files.is_empty() {
            return;
        }
        // First: with the directory the manifest is gone too, and what is missing is its affair.
        self.look_for_manifest();
        let synced = self.sync_together(files.len());
        let mut ready = Vec::with_capacity(files.len());
        let mut kept = Instant::now();
        for closed in files {
            ready.extend(self.make_ready(closed, synced, gone));
            // Some are synced or read to be hashed, which takes its time.
            if kept.elapsed() >= BUSY {
                self.keep_budget(common);
                kept = Instant::now();
            }
        }
        let mut named = Vec::new();
        for ready in self.write_lines(ready) {
            if let Some(file) = self.give_name(ready, gone) {
                self.shelf.add(Entry::of(&file.capture, Timestamp::now()));
                if self.syncs() {
                    named.push(file);
                } else {
                    // Before the budget may remove the file again.
                    self.tell(file);
                }
                // It is kept after each of them, for what they take on the disk is there already.
                self.keep_budget(common);
            }
        }
        self.sync_names(&named);
        named.into_iter().for_each(|file| self.tell(file));
    }

    /// Syncs the file system where that is asked for, worth it and possible. Where it fails, each file is synced, which tells whose bytes are lost.
    fn sync_together(&self, files: usize) -> bool {
        self.syncs() && files >= MANY && matches!(self.storage.sync_all(&self.directory), Ok(true))
    }

    /// Writes the lines that are missing. The files that have theirs.
    fn write_lines(&mut self, mut ready: Vec<Ready>) -> Vec<Ready> {
        let lines = ready.iter().filter(|ready| !ready.announced).map(|ready| &ready.event);
        let (written, result) = match self.owns_directory() {
            Ok(()) => self.manifest.append_all(lines, self.syncs()),
            Err(error) => (0, Err(error)),
        };
        let mut missing = 0..;
        let (there, without): (Vec<_>, Vec<_>) =
            ready.drain(..).partition(|ready| ready.announced || missing.next().is_some_and(|n: usize| n < written));
        match result {
            Ok(()) => self.said.manifest = false,
            Err(error) => {
                self.look_for_manifest();
                without.into_iter().for_each(|Ready { closed, .. }| self.wait(closed, "write the manifest", &error))
            }
        }
        there
    }

    /// Gives a file its name, which its line has announced.
    fn give_name(&mut self, ready: Ready, gone: &Sender<Gone>) -> Option<Named> {
        let Ready { mut closed, event: Event::Published(capture), .. } = ready else { return None };
        match self.name(&closed) {
            Ok(None) => {
                tracing::debug!(path = %closed.names.published.display(), frames = closed.frames, "capture file published");
                self.counters.files.add(1);
                return Some(Named { path: closed.names.published, capture, file: Some(closed.file) });
            }
            Ok(Some(changed)) => {
                closed.announced = Some(capture);
                self.miss(&closed, changed, gone);
            }
            // Its line is there and names what is another's: it gets another line, with another
            // name. What was lost in its span is told.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                closed.losses = Losses::default();
                closed.kernel_dropped = 0;
                self.wait(closed, "rename a capture file", &error);
            }
            Err(error) => {
                closed.announced = Some(capture);
                match error.kind() {
                    io::ErrorKind::NotFound => self.miss(&closed, Changed::Missing, gone),
                    _ => self.wait(closed, "rename a capture file", &error),
                }
            }
        }
        None
    }

    /// A file has its name: the name is made to last, the budget counts it, and the command hears of it.
    pub(super) fn announce(&mut self, path: &Path, capture: Capture) {
        self.shelf.add(Entry::of(&capture, Timestamp::now()));
        let file = self.storage.status(path).ok().flatten().map(|status| status.identity);
        let named = [Named { path: path.to_path_buf(), capture, file }];
        self.sync_names(&named);
        named.into_iter().for_each(|file| self.tell(file));
    }

    /// Makes names last, if that is asked for.
    fn sync_names(&self, named: &[Named]) {
        let Some(Named { path, .. }) = named.first().filter(|_| self.syncs()) else { return };
        if self.sync_together(named.len()) {
            return;
        }
        let directories: BTreeSet<_> = named.iter().filter_map(|file| file.path.parent()).collect();
        let mut all = directories.into_iter().chain([&*self.directory]);
        if let Err(error) = all.try_for_each(|directory| self.storage.sync_directory(directory)) {
            tracing::error!(path = %path.display(), %error, "cannot sync the directory: a loss of power may undo the publication");
        }
    }

    /// The command hears of a file, and is not run where something else has its name by then.
    fn tell(&self, Named { path, capture, file }: Named) {
        if let Some((hook, _)) = &self.hook {
            let storage = Arc::clone(&self.storage);
            hook.run(path, capture, Box::new(move |path, bytes| replaced(&*storage, path, file?, bytes)));
        }
    }
}

/// What has a published file's name in its place, if anything. Other names of the file itself, as a
/// snapshot gives it, are no harm.
fn replaced(storage: &dyn Storage, path: &Path, file: Identity, bytes: u64) -> Option<Changed> {
    changed(storage, path, &file, bytes..=bytes).filter(|changed| !matches!(changed, Changed::Links(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_in_a_captures_place_is_seen_and_a_snapshot_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("a.pcap"), dir.path().join("secret"));
        fs::write(&path, "abcd").unwrap();
        fs::write(&secret, "abcd").unwrap();
        let storage = Disk::default();
        let file = storage.status(&path).unwrap().unwrap().identity;
        let replaced = || replaced(&storage, &path, file, 4);
        assert_eq!(replaced(), None);
        fs::hard_link(&path, dir.path().join("snapshot")).unwrap();
        assert_eq!(replaced(), None);
        fs::rename(&path, dir.path().join("away")).unwrap();
        assert_eq!(replaced(), Some(Changed::Missing));
        symlink(&secret, &path).unwrap();
        assert!(matches!(replaced(), Some(Changed::Kind(_))));
        fs::remove_file(&path).unwrap();
        fs::copy(&secret, &path).unwrap();
        assert_eq!(replaced(), Some(Changed::Other));
    }
}
