//! The stock has the published captures: each counts in the budget, and is delivered to the
//! consumers.

use std::path::{Path, PathBuf};

use super::books::Books;
use super::delivery::Deliveries;
use super::prune::Pruning;
use crate::evidence::{Capture, Entry};
use crate::record::Timestamp;
use crate::storage::Identity;

/// So many files are synced with the whole file system, fewer one by one. Syncing all takes along
/// what others write there, so it has to be worth it.
const MANY: usize = 64;

/// A capture that has its name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) capture: Capture,
    /// The file's identity; none where the system does not tell.
    pub(super) file: Option<Identity>,
}

/// The two for which a published capture counts: the budget, and the consumers.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) pruning: Pruning,
    pub(super) deliveries: Deliveries,
}

impl Stock {
    /// Counts in the budget a capture that has its name.
    pub(super) fn count(&mut self, capture: &Capture) {
        self.pruning.keeper.shelf.add(Entry::of(capture, Timestamp::now()));
    }

    /// Keeps the budget.
    pub(super) fn keep_budget(&mut self, books: &mut Books) {
        self.pruning.keep_budget(books, &mut self.deliveries);
    }

    /// Owes captures to the consumers from here on: they are about to get their names.
    pub(super) fn owe<'a>(&mut self, captures: impl Iterator<Item = &'a Capture> + Clone) {
        self.deliveries.owe(captures.map(|capture| &*capture.path));
    }

    /// Withdraws a capture that has a line and will not get its name.
    pub(super) fn withdraw(&mut self, capture: &Capture) {
        self.deliveries.withdraw(&capture.path);
    }

    /// Makes names last, if that is asked for, and has the consumers hear of the captures.
    pub(super) fn announce(&mut self, books: &Books, named: Vec<Named>) {
        sync_names(books, &named);
        for Named { path, capture, file } in named {
            self.deliveries.offer(&path, &capture, file, &books.storage);
        }
    }

    /// Announces a file that was salvaged and has its name.
    pub(super) fn announce_salvaged(&mut self, books: &Books, path: &Path, capture: Capture) {
        self.count(&capture);
        let file = books.storage.status(path).ok().flatten().map(|status| status.identity);
        self.announce(books, vec![Named { path: path.to_path_buf(), capture, file }]);
    }
}

/// Syncs the file system where that is asked for, worth it and possible. Where that fails, each
/// file is synced, which tells whose bytes are lost.
pub(super) fn sync_together(books: &Books, files: usize) -> bool {
    books.syncs() && files >= MANY && matches!(books.storage.sync_all(&books.directory), Ok(true))
}

fn sync_names(books: &Books, named: &[Named]) {
    let Some(Named { path, .. }) = named.first().filter(|_| books.syncs()) else { return };
    if sync_together(books, named.len()) {
        return;
    }
    if let Err(error) = books.sync_names(named.iter().map(|file| &*file.path)) {
        tracing::error!(path = %path.display(), %error, "cannot sync the directory: a loss of power may undo the publication");
    }
}
