//! Files are hashed while they are written, in a thread of its own.
//!
//! One core computes SHA-256 of 1.8 GB/s, which is less than it can write. In the writing thread
//! that would be two thirds of the work, and BLAKE3 half of it. So the writing thread passes on
//! what it wrote, by reference: a chunk goes back to its lane when it is written and hashed. All
//! that the archive is told passes through here, so that a file is complete here when it is to be
//! published. Where files are not hashed there is no such thread.

use std::collections::HashMap;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use super::handover::{FileNumber, Task};
use crate::evidence::{Algorithm, FileHasher};

/// The most messages that wait to be hashed. Beyond, the writer waits, and then the lanes fill, as
/// when the disk is slow.
pub(super) const WAITING: usize = 64;

/// A message for the hashing thread.
#[derive(Debug)]
pub(super) enum Message {
    /// The bytes that were written to a file next.
    More(FileNumber, Bytes),
    /// A file will not be published as it was written.
    Forget(FileNumber),
    /// A task for the archive.
    Pass(Task),
}

/// Hashes until nobody has more to say. Another plan may have another algorithm, or none.
pub(super) fn run(algorithm: Algorithm, messages: &Receiver<Message>, tasks: &Sender<Task>) {
    let mut algorithm = Some(algorithm);
    let mut files: HashMap<FileNumber, FileHasher> = HashMap::new();
    for message in messages {
        match message {
            Message::More(file, bytes) => {
                if let Some(algorithm) = algorithm {
                    files.entry(file).or_insert_with(|| FileHasher::new(algorithm)).update(&bytes);
                }
            }
            Message::Forget(file) => {
                files.remove(&file);
            }
            Message::Pass(mut task) => {
                match &mut task {
                    Task::Publish(closed) => {
                        let hasher = closed.number.and_then(|file| files.remove(&file));
                        closed.hash = hasher.map(FileHasher::finish).or_else(|| closed.hash.take());
                    }
                    Task::Replan(replan) => algorithm = replan.plan.hash,
                    Task::Salvage(_) | Task::Lost(..) => {}
                }
                // The archive's thread ends when this end of the channel is dropped, and not
                // before.
                let _ = tasks.send(task);
            }
        }
    }
}
