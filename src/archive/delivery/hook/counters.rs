//! Counters say what became of the captures that a command was to run for.

use crate::ledger::{Counter, OutputCounters};

/// Commands that run at the same time. Each thread that runs them has counters of its own.
pub(super) const AT_ONCE: usize = 4;

/// Counts what became of the captures that a command was to run for. Once the hook has finished,
/// the captures that it was given are `run + skipped`.
#[derive(Debug, Default)]
pub(super) struct HookCounters {
    pub(super) runners: [RunnerCounters; AT_ONCE],
    /// Captures without a command: the capture was removed before its turn, or the sensor ended.
    pub(super) skipped: Counter,
    /// Captures whose command could not be started, up to their removal or the sensor's end.
    pub(super) not_begun: Counter,
    /// Commands that nobody waited for any longer.
    pub(super) unfinished: Counter,
    /// Captures whose command is left to the next start, which comes at once.
    pub(super) left: Counter,
}

/// The counters of one thread.
#[derive(Debug, Default)]
pub(super) struct RunnerCounters {
    pub(super) run: Counter,
    pub(super) failed: Counter,
}

/// [`HookCounters`], added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HookTotals {
    /// Captures whose command was started, or tried to be.
    pub(super) run: u64,
    /// Captures of these whose command could not be started, ended with another status than 0, or
    /// was killed.
    pub(super) failed: u64,
    /// Captures of these whose command still ran when the hook was told to finish and had waited as
    /// long as it was to.
    pub(super) unfinished: u64,
    /// Captures whose command was never tried.
    pub(super) skipped: u64,
}

impl HookCounters {
    /// Counts captures that wait no longer. Of each it is known whether a command was tried for it.
    pub(super) fn leave(&self, tried: impl Iterator<Item = bool>) {
        tried.for_each(|was_tried| if was_tried { self.not_begun.add(1) } else { self.skipped.add(1) });
    }

    /// Returns the sums.
    pub(super) fn totals(&self) -> HookTotals {
        let sum = |of: fn(&RunnerCounters) -> &Counter| self.runners.iter().map(|runner| of(runner).get()).sum();
        HookTotals {
            run: sum(|r| &r.run),
            failed: sum(|r| &r.failed) + self.not_begun.get(),
            unfinished: self.unfinished.get(),
            skipped: self.skipped.get(),
        }
    }

    /// Shows the sums in the ledger.
    pub(super) fn show(&self, counters: &OutputCounters) {
        let totals = self.totals();
        counters.hooks.raise(totals.run);
        counters.hooks_failed.raise(totals.failed);
        counters.hooks_skipped.raise(totals.skipped);
        counters.hooks_unfinished.raise(totals.unfinished);
        counters.hooks_left.raise(self.left.get());
    }
}
