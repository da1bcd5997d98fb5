//! Where frames go: one thread per output takes chunks from its lanes.

pub mod file;
pub mod interface;
#[cfg(test)]
pub(crate) mod namespace;
mod open_files;
pub mod tap;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;

use crate::lane::{Inbox, Lent};

/// What an output's thread runs.
pub trait Sink: Send + 'static {
    /// Takes the records of a chunk. Each of its frames is written or counted as dropped, now or by [`Sink::finish`]. Who holds on to the
    /// chunk keeps its memory from the lane.
    fn consume(&mut self, chunk: &Arc<Lent>);

    /// Called between chunks, and at the time it returned last: the place for what is due by time. Returns when it wants to be
    /// called again.
    fn tick(&mut self, now: Instant) -> Instant;

    /// Called when somebody asks for what there is so far: files that are written to are completed. Where there is nothing to complete,
    /// nothing happens.
    fn cut(&mut self) {}

    /// Called once, after the last chunk.
    fn finish(&mut self);
}

/// What outputs are asked to do while they run.
#[derive(Debug, Default)]
pub struct Orders {
    cuts: AtomicU32,
}

impl Orders {
    /// Asks all outputs to complete what they are writing.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was asked for.
    fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Starts the thread of an output. It ends when all lanes have ended and their last chunks are consumed.
///
/// # Errors
/// What creating a thread returns.
pub fn spawn(name: &str, mut sink: impl Sink, inbox: Inbox, orders: Arc<Orders>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("vxtap-{name}")).spawn(move || {
        let mut cuts = orders.cuts();
        loop {
            let asked = orders.cuts();
            if asked != cuts {
                cuts = asked;
                sink.cut();
            }
            let due = sink.tick(Instant::now());
            match inbox.full.recv_deadline(due) {
                Ok(chunk) => sink.consume(&inbox.lend(chunk)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        sink.finish();
    })
}
