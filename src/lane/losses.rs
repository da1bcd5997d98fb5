//! A lane notes which sessions lost how many frames, to tell the sink with the next chunk.

use super::chunk::Loss;
use crate::route::SessionId;

/// Frames lost since the last chunk was taken.
#[derive(Debug)]
pub(super) struct Losses {
    /// The number of lost frames, by session number.
    pub(super) frames: Box<[u64]>,
    /// Sessions that have lost some.
    sessions: Vec<SessionId>,
}

impl Losses {
    /// Makes room for sessions of numbers up to `last`.
    pub(super) fn new(last: u32) -> Self {
        Self { frames: vec![0; last as usize + 1].into_boxed_slice(), sessions: Vec::with_capacity(last as usize + 1) }
    }

    pub(super) fn add(&mut self, session: SessionId, more: u64) {
        if let Some(frames) = self.frames.get_mut(session.index())
            && more > 0
        {
            if *frames == 0 {
                self.sessions.push(session);
            }
            *frames += more;
        }
    }

    /// Says whether none are lost.
    pub(super) fn are_none(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Loss> {
        let frames = &mut self.frames;
        let losses = self.sessions.drain(..).filter_map(|session| {
            let frames = std::mem::take(frames.get_mut(session.index())?);
            Some(Loss { session, frames })
        });
        losses.collect()
    }
}
