//! The service manager is told how the sensor does: `sd_notify(3)`.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use sd_notify::NotifyState;

use super::manager::Manager;
use crate::episode::Episode;

/// Tells the service manager, where one listens.
#[derive(Debug)]
pub struct Notify {
    manager: Arc<Manager>,
    /// Lasts while the manager does not take what it is told.
    deaf: RefCell<Episode>,
}

impl Notify {
    /// Has this manager be told.
    pub(crate) fn new(manager: Arc<Manager>) -> Self {
        Self { manager, deaf: RefCell::default() }
    }

    /// Says that the sensor receives.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Says that the sensor is about to read its configuration again. [`Notify::ready`] ends that.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => self.note(Err(error)),
        }
    }

    /// Says that the sensor ends.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Says in words how the sensor does.
    pub fn status(&self, text: &str) {
        self.tell(&[NotifyState::Status(text)]);
    }

    /// Says that the sensor is alive, for the watchdog.
    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        self.note(self.manager.tell(state, None));
    }

    fn note(&self, told: io::Result<()>) {
        let mut deaf = self.deaf.borrow_mut();
        match told {
            Ok(()) => {
                deaf.ends();
            }
            Err(error) => {
                if deaf.begins() {
                    tracing::warn!("cannot tell the service manager how the sensor does: {error}");
                }
            }
        }
    }
}
