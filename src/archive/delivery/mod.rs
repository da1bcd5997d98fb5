//! Consumers of published captures. The command of `--on-publish` is one.

mod command;
mod hook;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::hook::{Hook, HookCounters};
use crate::evidence::Capture;
use crate::ledger::OutputCounters;
use crate::storage::{Changed, Identity, Storage, changed};

/// The consumers, and how far each is.
#[derive(Debug)]
pub(super) struct Deliveries {
    hook: Option<(Hook, Arc<HookCounters>)>,
}

impl Deliveries {
    /// Starts the command of `--on-publish`, if there is one.
    ///
    /// # Errors
    /// What creating a thread returns.
    pub(super) fn start(on_publish: Option<&str>) -> io::Result<Self> {
        let start = |command| {
            let counters = Arc::new(HookCounters::default());
            Ok::<_, io::Error>((Hook::start(command, Arc::clone(&counters))?, counters))
        };
        Ok(Self { hook: on_publish.map(start).transpose()? })
    }

    /// Has the consumers hear of a capture. None reads it where something else has its name by then.
    pub(super) fn offer(&mut self, path: PathBuf, capture: Capture, file: Option<Identity>, storage: Arc<dyn Storage>) {
        if let Some((hook, _)) = &self.hook {
            hook.run(path, capture, Box::new(move |path, bytes| replaced(&*storage, path, file?, bytes)));
        }
    }

    /// Shows in the ledger how far they are.
    pub(super) fn count(&self, counters: &OutputCounters) {
        if let Some((_, hook)) = &self.hook {
            set(hook, counters);
        }
    }

    /// Waits for the consumers, for `patience` at most.
    pub(super) fn finish(&mut self, patience: Duration, counters: &OutputCounters) {
        if let Some((hook, totals)) = self.hook.take() {
            hook.finish(patience);
            set(&totals, counters);
        }
    }
}

fn set(hook: &HookCounters, counters: &OutputCounters) {
    let totals = hook.totals();
    counters.hooks.raise(totals.run);
    counters.hooks_failed.raise(totals.failed);
    counters.hooks_skipped.raise(totals.skipped);
    counters.hooks_unfinished.raise(totals.unfinished);
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
