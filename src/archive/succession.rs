//! What becomes of an archive when its manifest is removed, replaced or changed while it is written
//! to.
//!
//! One that somebody changed in place ([`Edited`]) is evidence of that, and stays as it is: nothing
//! is published, removed or put on record any more. The next start takes up what is there.
//!
//! The locks are on a file and a directory, not on their names: once others have the names, or none has, another sensor may have the directory. So
//! nothing is published, removed or put on record from then on, until the manifest that has the name by then is this process's. What was lost
//! of the evidence is written again, from the file that is still open:
//!
//! - Where the manifest that is there is the beginning of the former one (a copy in its place, or nothing at all), it gets the lines that it lacks, as
//!   they were. Hashes noted before hold.
//! - Where it is another one, as that of a sensor that had the directory meanwhile, it stays as it is, and each capture that is there and that it
//!   does not have gets a line again. The same where no capture is there any more, which is the directory removed: then a manifest begins anew.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use super::publisher::Publisher;
use super::{Shelf, sync_names};
use crate::evidence::lock::DirectoryLock;
use crate::evidence::{Contents, Edited, Entry, Event, Manifest};
use crate::record::Timestamp;

/// How long whoever removes a directory, or edits a manifest, has to finish.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Since the manifest has been without its name.
#[derive(Debug)]
pub(super) struct Displaced {
    since: Instant,
    /// Whether the log says why it goes on.
    said: bool,
}

impl Publisher {
    /// Makes sure that the manifest is as it was written, and still has its name.
    pub(super) fn look_for_manifest(&mut self) {
        if self.edited.is_some() {
            return;
        }
        self.edited = self.manifest.edited();
        if let Some(edited) = self.edited {
            self.say_edited(edited);
        } else if self.displaced.is_none() && !self.manifest.has_its_name() {
            tracing::error!(
                directory = %self.directory.display(), last_line = %self.manifest.head(),
                "somebody removed or replaced the manifest; files keep their part names meanwhile"
            );
            self.displaced = Some(Displaced { since: Instant::now(), said: false });
        }
    }

    /// What somebody did to the manifest is a failure of the sensor's task, also where no file is
    /// left to be published.
    fn say_edited(&self, edited: Edited) {
        self.counters.manifest_changed.add(1);
        tracing::error!(
            directory = %self.directory.display(), last_line = %self.manifest.head(),
            "somebody changed the manifest: {edited}. Nothing is appended to it, captures keep their part names and none is removed \
             from here on; `vxtap verify` tells what differs, and the next start puts these captures on record"
        );
    }

    /// Fails while the manifest is without its name, and once it was changed.
    pub(super) fn owns_directory(&self) -> io::Result<()> {
        match (self.edited, &self.displaced) {
            (Some(edited), _) => Err(io::Error::other(edited)),
            (None, Some(_)) => Err(io::Error::other("somebody removed or replaced the manifest")),
            (None, None) => Ok(()),
        }
    }

    /// Goes on with the manifest that has the name now, where the former has been without for `pause`.
    pub(super) fn find_manifest(&mut self, pause: Duration) {
        self.look_for_manifest();
        let Some(displaced) = self.displaced.as_ref().filter(|_| self.edited.is_none()) else { return };
        if displaced.since.elapsed() < pause {
            return;
        }
        match self.succeed() {
            Ok(()) => self.displaced = None,
            Err(error) => {
                if let Some(Displaced { said: said @ false, .. }) = &mut self.displaced {
                    *said = true;
                    tracing::error!(
                        error,
                        "cannot go on with the manifest that is there now; trying again every second"
                    );
                }
            }
        }
    }

    fn succeed(&mut self) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if self.manifest.has_its_name() {
            tracing::info!("the manifest is back");
            return Ok(());
        }
        self.storage.create_directory(&self.directory).map_err(text)?;
        if !self.lock.is_on(&self.directory) {
            self.lock = DirectoryLock::take(&self.directory).map_err(|error| error.to_string())?;
        }
        let (mut next, contents) = Manifest::open(&self.storage, &self.directory).map_err(|error| error.to_string())?;
        if self.syncs() {
            sync_names(&*self.storage, &self.directory);
        }
        let empty = next.head() == Manifest::NO_LINE;
        if !(empty && self.is_bare()) && next.complete(&self.manifest, self.syncs()).map_err(text)? {
            tracing::warn!(last_line = %next.head(), "the manifest has all its lines again");
        } else {
            let again = self.announce_again(&mut next, contents).map_err(text)?;
            tracing::warn!(
                before = %self.manifest.head(), again,
                "going on with another manifest, in which the captures that are there and that it lacked were put on record again"
            );
        }
        self.manifest = next;
        Ok(())
    }

    /// Whether none of the captures is there any more.
    fn is_bare(&self) -> bool {
        !self.shelf.iter().any(|entry| matches!(self.storage.exists(&self.directory.join(&*entry.path)), Ok(true)))
    }

    /// Takes over what `next` has, and writes a line for each capture that it lacks. Returns how many these are.
    fn announce_again(&mut self, next: &mut Manifest, contents: Contents) -> io::Result<u64> {
        let known: HashSet<_> = contents.captures.iter().map(|entry| &*entry.path).collect();
        // What is not on the shelf may be another's file, which a line behind a break in the chain names.
        let lacks = |path: &str| {
            !known.contains(path) && !contents.pruned.iter().any(|pruned| pruned == path) && self.shelf.has(path)
        };
        let (mut again, mut count) = (Vec::new(), 0);
        for capture in self.manifest.captures(lacks)? {
            let path = self.directory.join(&capture.path);
            if !self.is_ours(&path) || !matches!(self.storage.exists(&path), Ok(true)) {
                continue;
            }
            again.push(Entry::of(&capture, Timestamp::now()));
            count += 1;
            next.append(&Event::Published(capture), self.syncs())?;
        }
        let before = std::mem::replace(&mut self.shelf, Shelf::new(self.plan.budget));
        self.adopt(&contents);
        // Those of before were vouched for, however broken the other chain is.
        for entry in before.iter().filter(|entry| known.contains(&*entry.path) && !self.shelf.has(&entry.path)) {
            if matches!(self.storage.exists(&self.directory.join(&*entry.path)), Ok(true)) {
                again.push(entry.clone());
            }
        }
        again.into_iter().for_each(|entry| self.shelf.add(entry));
        // Their lines are in the former manifest only.
        self.unpublished.iter_mut().for_each(|closed| closed.announced = None);
        self.leftovers.forget_announced();
        Ok(count)
    }
}
