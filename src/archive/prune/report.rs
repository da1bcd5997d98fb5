//! The log tells what the budget removes: what is about to go at the start, and what has gone since
//! a moment ago.

use std::sync::Arc;

use crate::evidence::{Entry, PruneReason};
use crate::setting::Wording;

/// Captures that went, or are to go, in the order in which they do.
#[derive(Debug, Default)]
pub(super) struct Report {
    files: u64,
    bytes: u64,
    /// Each limit once.
    limits: Vec<PruneReason>,
    oldest: Option<Arc<str>>,
    newest: Option<Arc<str>>,
}

impl Report {
    pub(super) fn add(&mut self, entry: &Entry, reason: PruneReason) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes);
        if !self.limits.contains(&reason) {
            self.limits.push(reason);
        }
        self.oldest.get_or_insert_with(|| Arc::clone(&entry.path));
        self.newest = Some(Arc::clone(&entry.path));
    }

    /// Says how many captures there are, and forgets them.
    pub(super) fn say(&mut self, wording: Wording) {
        if self.files > 0 {
            let Self { files, bytes, limits, oldest, newest } = std::mem::take(self);
            let (budget, oldest, newest) =
                (names(&limits, wording), oldest.unwrap_or_default(), newest.unwrap_or_default());
            tracing::info!(files, bytes, budget, %oldest, %newest, "captures removed to keep the budget");
        }
    }

    /// Says that these captures are about to go.
    pub(super) fn announce(self, wording: Wording) {
        if self.files > 0 {
            let Self { files, bytes, limits, oldest, newest } = self;
            let (budget, oldest, newest) =
                (names(&limits, wording), oldest.unwrap_or_default(), newest.unwrap_or_default());
            tracing::warn!(
                files, bytes, budget, %oldest, %newest,
                "there are more captures than the budget keeps: the oldest are about to be removed"
            );
        }
    }
}

/// Names the options that the limits come from.
fn names(limits: &[PruneReason], wording: Wording) -> String {
    limits.iter().map(|limit| wording.put(limit.option())).collect::<Vec<_>>().join(" ")
}
