//! An output's queue has so much memory as the settings ask for, or as the host allows.

use super::super::error::PlanError;
use super::super::settings::Settings;
use crate::host::HostFacts;
use crate::lane::CHUNK_MEMORY;
use crate::setting::key;

/// The queue of an output: a disk that pauses for a third of a second costs nothing at 3 Gbit/s.
/// Memory that is not needed is not touched.
const QUEUE: u64 = 256 << 20;

/// Returns the memory of the queue of each output.
pub(super) fn bytes(settings: &Settings, host: &HostFacts, workers: usize) -> u64 {
    let asked = settings.delivery.queue.map(|queue| queue.0);
    asked.unwrap_or_else(|| by_default(workers, queues(settings), host.memory))
}

/// Says whether the host has the `asked` bytes that all outputs together would take.
///
/// # Errors
/// The host has less.
pub(super) fn check(settings: &Settings, host: &HostFacts, queue: u64, asked: u64) -> Result<(), PlanError> {
    match host.memory {
        Some(has) if asked > has => {
            Err(PlanError::Memory { said: settings.origins.said(&key::QUEUE), queue, asked, has })
        }
        _ => Ok(()),
    }
}

/// Returns the memory of an output's queue where nobody says how much. On a host with this much
/// `memory`, all of them may have a quarter of it.
fn by_default(workers: usize, queues: usize, memory: Option<u64>) -> u64 {
    let share = memory.map_or(QUEUE, |memory| memory / 4 / queues.max(1) as u64);
    QUEUE.min(share).max(least(workers))
}

/// Returns the bytes with which each worker has two chunks, and a quarter gathers.
pub(super) fn least(workers: usize) -> u64 {
    (2 * workers * CHUNK_MEMORY) as u64 * 4 / 3 + 1
}

/// Returns the number of queues of all outputs that are asked for.
fn queues(settings: &Settings) -> usize {
    settings.output.0.iter().map(|(_, output)| output.queues()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn the_queue_is_as_large_as_the_host_allows() {
        assert_eq!(by_default(2, 1, Some(16 << 30)), 256 << 20);
        assert_eq!(by_default(2, 1, None), 256 << 20);
        // A t3.micro has less than its 1 GiB.
        assert_eq!(by_default(1, 1, Some(948 << 20)), 237 << 20);
        assert_eq!(by_default(1, 3, Some(948 << 20)), 79 << 20, "all outputs together have a quarter");
        assert_eq!(by_default(256, 2, Some(1 << 30)), least(256), "not too small to start");
        let memory = |more: &[&str]| {
            let plan = plan(&[&["--workers", "2"], more].concat()).unwrap();
            plan.pipeline.outputs.iter().map(|output| output.queue_memory(2) as u64).collect::<Vec<_>>()
        };
        let asked = memory(&["--queue", "64MiB", "--tap", "m", "--tap-count", "2"]);
        assert!(asked.len() == 3 && asked.iter().all(|bytes| (60 << 20..=64 << 20).contains(bytes)), "{asked:?}");
    }
}
