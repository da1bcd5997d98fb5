//! Another plan reaches an output while it runs.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::plan::FilePlan;

/// The place where a plan waits until the output takes it. One that comes meanwhile takes its
/// place.
#[derive(Debug, Default)]
pub(crate) struct Replans {
    waits: AtomicBool,
    plan: Mutex<Option<FilePlan>>,
}

impl Replans {
    /// Has the output write by this plan as soon as it can.
    pub(crate) fn put(&self, plan: FilePlan) {
        *self.plan.lock() = Some(plan);
        self.waits.store(true, Ordering::Release);
    }

    /// Takes the plan that waits, if there is one.
    pub(super) fn take(&self) -> Option<FilePlan> {
        if !self.waits.load(Ordering::Relaxed) || !self.waits.swap(false, Ordering::Acquire) {
            return None;
        }
        self.plan.lock().take()
    }
}
