//! A face has so many slots for connections. A new one takes the place of the one that dawdles.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::times::{Doing, Times};

/// The most connections of a face.
const MOST: usize = 32;

/// A connection that is being served.
#[derive(Debug)]
struct Slot {
    times: Arc<Times>,
    task: AbortHandle,
}

/// The connections of a face, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// Makes room for one connection more. Where there is none, the oldest goes that waits for its
    /// client to ask, else the oldest that waits for its client to take the answer. Returns false
    /// where all of them wait for the program or get a stream.
    pub(super) fn make_room(&mut self) -> bool {
        self.0.retain(|slot| !slot.task.is_finished());
        if self.0.len() < MOST {
            return true;
        }
        let oldest = |doing| self.0.iter().position(|slot| slot.times.doing() == doing);
        let Some(at) = oldest(Doing::Asking).or_else(|| oldest(Doing::Writing)) else { return false };
        self.0.remove(at).task.abort();
        true
    }

    /// Takes a connection in.
    pub(super) fn take(&mut self, times: Arc<Times>, task: AbortHandle) {
        self.0.push(Slot { times, task });
    }
}
