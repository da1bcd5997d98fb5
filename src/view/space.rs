//! The free room of the file systems that captures are written to.
//!
//! A file system that does not answer holds up whoever asks it. So each output has a thread that
//! asks for it, and everybody reads what that thread has found.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::pipeline::OutputGauge;
use crate::storage::{Disk, Space, Storage};

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// The time after which what was found says nothing any more.
const OLD: Duration = Duration::from_secs(10);

/// What was found, and when.
type Found = Mutex<Option<(Space, Instant)>>;

/// What is known of one output's file system.
#[derive(Debug)]
struct Followed {
    output: Weak<OutputGauge>,
    found: Arc<Found>,
}

/// What was found, by the name of the output.
#[derive(Debug, Default)]
pub(super) struct Spaces(Mutex<BTreeMap<String, Followed>>);

impl Spaces {
    /// Has a thread for each of these outputs that writes captures and has none yet.
    ///
    /// # Errors
    /// A thread cannot be created.
    pub(super) fn follow(&self, outputs: &[Arc<OutputGauge>]) -> io::Result<()> {
        let mut spaces = self.0.lock();
        spaces.retain(|_, space| space.output.strong_count() > 0);
        for output in outputs {
            let Some(directory) = output.directory.clone() else { continue };
            let is_followed = |space: &Followed| space.output.as_ptr() == Arc::as_ptr(output);
            if spaces.get(&output.name).is_some_and(is_followed) {
                continue;
            }
            let (weak, found) = (Arc::downgrade(output), Arc::new(Found::default()));
            let space = Followed { output: Weak::clone(&weak), found: Arc::clone(&found) };
            thread::Builder::new().name("vxtap-space".into()).spawn(move || look(&weak, &directory, &found))?;
            // One without a thread is asked for again.
            spaces.insert(output.name.clone(), space);
        }
        Ok(())
    }

    /// Returns the room for the output of this name, where that is known.
    pub(super) fn of(&self, output: &str) -> Option<Space> {
        let found = self.0.lock().get(output).and_then(|space| *space.found.lock());
        found.filter(|(_, at)| at.elapsed() < OLD).map(|(space, _)| space)
    }
}

/// Looks now and then, as long as there is the output.
fn look(output: &Weak<OutputGauge>, directory: &Path, found: &Found) {
    let disk = Disk::default();
    while output.strong_count() > 0 {
        *found.lock() = disk.space(directory).ok().map(|space| (space, Instant::now()));
        thread::sleep(EVERY);
    }
}
