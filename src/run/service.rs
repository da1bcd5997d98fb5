//! The service manager hears how the sensor does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at};

use super::reload::Running;
use crate::ledger::{Losses, Snapshot};
use crate::service::{Manager, Notify, Watchdog};
use crate::view::View;

/// The time between two lines for `systemctl status`.
const EVERY: Duration = Duration::from_secs(10);

/// What the service manager was told, and when it is to hear more.
pub(super) struct Service {
    notify: Notify,
    watchdog: Watchdog,
    view: Arc<View>,
    /// True where the manager was told that a file is being read again.
    reloads: bool,
    /// The line is fixed from when the sensor is about to end.
    leaves: bool,
    next: Instant,
}

impl Service {
    /// Says that the sensor receives.
    pub(super) fn begin(view: &Arc<View>, manager: Arc<Manager>) -> Self {
        let (notify, watchdog) = (Notify::new(manager), Watchdog::asked());
        notify.ready();
        Self { notify, watchdog, view: Arc::clone(view), reloads: false, leaves: false, next: Instant::now() }
    }

    /// Receives when there is something to say.
    pub(super) fn due(&self) -> Receiver<Instant> {
        at(self.watchdog.next().map_or(self.next, |next| next.min(self.next)))
    }

    /// Says what there is to say.
    pub(super) fn tend(&mut self, running: &Running) {
        let now = Instant::now();
        let workers = self.view.gauges.workers.iter();
        self.watchdog.feed(workers.map(|worker| worker.beat(now).turns), now, &self.notify);
        let reloads = running.is_reloading();
        if reloads != self.reloads {
            self.reloads = reloads;
            if reloads { self.notify.reloading() } else { self.notify.ready() }
        }
        if now >= self.next {
            self.next = now + EVERY;
            if !self.leaves {
                self.notify.status(&self.line());
            }
        }
    }

    /// Says from now on only this of how the sensor does.
    pub(super) fn says(&mut self, text: &str) {
        self.leaves = true;
        self.notify.status(text);
    }

    /// Says that the sensor ends.
    pub(super) fn ends(&mut self) {
        self.notify.stopping();
        self.says("completing what was received");
    }

    fn line(&self) -> String {
        let ledger = Snapshot::of(&self.view.ledger, self.view.started, Vec::new());
        let losses = Losses::of(&ledger);
        format!("receiving: {} sessions, {} datagrams, {losses}", self.view.registry.count(), ledger.datagrams.received)
    }
}
