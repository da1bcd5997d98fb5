//! The sink's thread takes chunks from its inbox, to which all lanes of an output lead.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::chunk::{Chunk, Forget};
use super::waiting::Queue;

/// The sink's ends of the lanes of one output.
#[derive(Debug)]
pub struct Inbox {
    /// Chunks with records, from all lanes.
    pub full: Receiver<Chunk>,
    /// The channels by which chunks are returned, by lane.
    returns: Vec<Sender<Chunk>>,
    /// What waits here, which can be looked at from elsewhere.
    pub(crate) queue: Queue,
    /// Sessions that are forgotten when all lanes have said so, with how many have.
    forgetting: Option<(Arc<Forget>, usize)>,
}

impl Inbox {
    /// Makes the inbox of lanes from what they share with it, in their order.
    pub(super) fn new(full: Receiver<Chunk>, returns: Vec<Sender<Chunk>>, queue: Queue) -> Self {
        Self { full, returns, queue, forgetting: None }
    }

    /// Lends a chunk that was received, which goes back to its lane when the last who holds it lets
    /// go of it.
    #[must_use]
    pub fn lend(&self, chunk: Chunk) -> Arc<Lent> {
        let number = usize::from(chunk.lane());
        if let Some(waiting) = self.queue.lane(number).filter(|_| !chunk.is_empty()) {
            waiting.taken();
        }
        // One that only tells something is none of the lane's.
        let lane = self.returns.get(number).filter(|_| chunk.forget().is_none()).cloned();
        Arc::new(Lent { chunk, lane })
    }

    /// Hears whether the lane of this chunk says that sessions are forgotten. Returns them when all
    /// lanes have said so: no frame of these numbers is on its way any more.
    pub(crate) fn forgotten(&mut self, chunk: &Chunk) -> Option<Arc<Forget>> {
        let forget = chunk.forget()?;
        let said = self.forgetting.take().filter(|(other, _)| Arc::ptr_eq(other, forget)).map_or(0, |(_, said)| said);
        if said + 1 < self.returns.len() {
            self.forgetting = Some((Arc::clone(forget), said + 1));
            return None;
        }
        Some(Arc::clone(forget))
    }

    /// Returns how far the sink is behind, in thousandths. That is the share of its chunks that the
    /// lane has handed over and that wait here, of the lane of which most do. Frames are dropped
    /// where one lane's chunks are out, however many others have.
    #[must_use]
    pub(crate) fn behind(&self) -> u32 {
        self.queue.behind()
    }

    /// Says whether all lanes have ended. What they handed over last may still be here.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.queue.has_ended()
    }
}

/// A chunk that is the lane's and comes back to it by itself.
#[derive(Debug)]
pub struct Lent {
    chunk: Chunk,
    lane: Option<Sender<Chunk>>,
}

impl From<Chunk> for Lent {
    /// Wraps a chunk that no lane waits for.
    fn from(chunk: Chunk) -> Self {
        Self { chunk, lane: None }
    }
}

impl Deref for Lent {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        &self.chunk
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            let mut chunk = std::mem::take(&mut self.chunk);
            chunk.clear();
            // The lane is gone when its worker has ended; then nobody needs the chunk.
            let _ = lane.try_send(chunk);
        }
    }
}
