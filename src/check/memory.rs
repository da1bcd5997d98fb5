//! What the plan takes of the host's memory is there, and what sockets ask for they get.

use super::finding::Finding;
use super::words::{Bytes, count};
use crate::config::RunPlan;
use crate::host::process::{Capabilities, Capability};
use crate::sink::file::{descriptors_for, open_files};
use crate::source::{Steering, Way};

/// The names of the findings.
pub(super) const RECEIVE_BUFFER: &str = "receive-buffer";
pub(super) const MEMORY: &str = "memory";
pub(super) const DESCRIPTORS: &str = "descriptors";

/// The memory of the host, and what the kernel lets this process have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    /// All memory; `None` where nobody tells.
    pub total: Option<u64>,
    /// The memory that can be had without swapping.
    pub available: Option<u64>,
    /// The largest receive buffer of a socket without CAP_NET_ADMIN.
    pub rmem_max: Option<u64>,
    /// The capabilities of this process.
    pub capabilities: Option<Capabilities>,
    /// CPUs that the host can ever have.
    pub possible_cpus: Option<usize>,
    /// Descriptors that this process may have.
    pub descriptors: u64,
}

/// Says whether sockets get the receive buffer that they ask for.
pub(super) fn receive_buffer(plan: &RunPlan, memory: &Memory) -> Finding {
    let asked = u64::from(plan.source.udp.receive_buffer);
    let Some(most) = memory.rmem_max else {
        return Finding::ok(RECEIVE_BUFFER, "nobody tells net.core.rmem_max");
    };
    if asked <= most {
        let reason =
            format!("sockets get the {} that are asked for (net.core.rmem_max is {})", Bytes(asked), Bytes(most));
        return Finding::ok(RECEIVE_BUFFER, reason);
    }
    if memory.capabilities.is_some_and(|has| has.has(Capability::NetAdmin)) {
        let reason =
            format!("sockets get {}, beyond net.core.rmem_max ({}), by CAP_NET_ADMIN", Bytes(asked), Bytes(most));
        return Finding::ok(RECEIVE_BUFFER, reason);
    }
    Finding::warning(
        RECEIVE_BUFFER,
        format!(
            "sockets get {} of the {} that are asked for: net.core.rmem_max is less, and CAP_NET_ADMIN is missing; bursts \
             are lost sooner",
            Bytes(most),
            Bytes(asked)
        ),
        format!("sysctl -w net.core.rmem_max={asked}, and the same line in /etc/sysctl.d/vxtap.conf"),
    )
}

/// Compares what queues, rings and receive buffers may take with the memory that there is.
pub(super) fn memory(plan: &RunPlan, memory: &Memory) -> Finding {
    let udp = &plan.source.udp;
    let queues = plan.pipeline.queue_memory(udp.workers) as u64;
    let rings = match (&plan.source.way, udp.steering) {
        (Way::Udp | Way::File(_), _) => 0,
        (_, Steering::Session) => udp.workers,
        (_, Steering::Flow) => memory.possible_cpus.unwrap_or(udp.workers),
    };
    let rings = rings as u64 * u64::from(plan.source.bpf.ring);
    // The kernel doubles what is asked for, to have room for its own part.
    let buffers = (udp.listen.len() * udp.workers) as u64 * u64::from(udp.receive_buffer) * 2;
    let sum = queues.saturating_add(rings).saturating_add(buffers);
    let rings = if rings > 0 { format!(", {} of rings", Bytes(rings)) } else { String::new() };
    let parts =
        format!("{} at most ({} of queues{rings}, {} of receive buffers)", Bytes(sum), Bytes(queues), Bytes(buffers));
    match (memory.available, memory.total) {
        (Some(available), total) if sum > available => {
            let total = total.map(|total| format!(" of {}", Bytes(total))).unwrap_or_default();
            Finding::warning(
                MEMORY,
                format!("the sensor takes {parts}, and {} are available{total}", Bytes(available)),
                "less for each: --queue 64MiB, --receive-buffer 8MiB, --workers 1",
            )
        }
        (Some(available), _) => {
            Finding::ok(MEMORY, format!("the sensor takes {parts}; {} are available", Bytes(available)))
        }
        (None, _) => Finding::ok(MEMORY, format!("the sensor takes {parts}; nobody tells how much is available")),
    }
}

/// Counts the outputs that have files.
fn with_files(plan: &RunPlan) -> u64 {
    plan.pipeline.outputs.iter().filter(|output| output.to.files().is_some()).count() as u64
}

/// Returns the descriptors that a process needs so that the files of all sessions, and of those
/// beyond them, are open at once.
pub(super) fn needed(plan: &RunPlan) -> u64 {
    descriptors_for((u64::from(plan.pipeline.max_sessions) + 1).saturating_mul(with_files(plan)))
}

/// Compares the descriptors that this process may have with the files that may be open at once;
/// none where there are no files.
pub(super) fn descriptors(plan: &RunPlan, memory: &Memory) -> Option<Finding> {
    let (limit, needs) = (memory.descriptors, needed(plan));
    let sessions = u64::from(plan.pipeline.max_sessions);
    // Those beyond all sessions have a file of each output, too.
    let fewer = (open_files(limit) as u64).checked_div(with_files(plan))?.saturating_sub(1).max(1);
    if needs <= limit {
        let reason = format!("this process may have {limit}, enough for the files of {}", count(sessions, "session"));
        return Some(Finding::ok(DESCRIPTORS, reason));
    }
    Some(Finding::warning(
        DESCRIPTORS,
        format!(
            "this process may have {limit}: of the files of {} no more are open at once, and others are closed and opened \
             in turn",
            count(sessions, "session")
        ),
        format!("ulimit -Hn {needs} (as root; LimitNOFILE={needs} in a unit), or --max-sessions {fewer}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::plan;
    use super::*;

    fn host() -> Memory {
        Memory {
            total: Some(16 << 30),
            available: Some(8 << 30),
            rmem_max: Some(212_992),
            capabilities: Some(Capabilities::of(&[])),
            possible_cpus: Some(64),
            descriptors: 1 << 16,
        }
    }

    #[test]
    fn a_buffer_is_as_large_as_the_kernel_lets_it_be() {
        let level = |words: &str, host: Memory| receive_buffer(&plan(words), &host).level;
        let asked = receive_buffer(&plan("--receive-buffer 32MiB"), &host());
        assert_eq!(asked.level, Level::Warning);
        assert!(asked.reason.starts_with("sockets get 208 KiB of the 32 MiB"), "{asked}");
        assert!(asked.remedy.unwrap().starts_with("sysctl -w net.core.rmem_max=33554432"));
        assert_eq!(level("", Memory { rmem_max: Some(1 << 30), ..host() }), Level::Ok);
        assert_eq!(
            level("", Memory { capabilities: Some(Capabilities::of(&[Capability::NetAdmin])), ..host() }),
            Level::Ok
        );
        assert_eq!(level("", Memory { rmem_max: None, ..host() }), Level::Ok);
    }

    #[test]
    fn what_is_taken_is_what_there_is_or_more() {
        let words = "--workers 2 --queue 64MiB --receive-buffer 8MiB --listen 4789";
        let found = memory(&plan(words), &host());
        assert!(
            found.level == Level::Ok && found.reason.contains("32 MiB of receive buffers); 8 GiB are available"),
            "{found}"
        );
        assert!(!found.reason.contains("rings"));
        let rings = |more: &str| memory(&plan(&format!("{words} --source bpf --ring 16MiB {more}")), &host()).reason;
        assert!(rings("").contains("32 MiB of rings") && rings("--steer flow").contains("1 GiB of rings"));
        let small = memory(&plan(words), &Memory { available: Some(64 << 20), ..host() });
        assert!(small.level == Level::Warning && small.reason.ends_with("64 MiB are available of 16 GiB"), "{small}");
    }

    #[test]
    fn descriptors_are_enough_for_all_sessions_or_not() {
        let found = |words: &str, descriptors| descriptors_of(words, descriptors);
        assert_eq!(found("--max-sessions 1000", 65_536).map(|found| found.level), Some(Level::Ok));
        let few = found("--max-sessions 1000", 256).unwrap();
        assert_eq!(few.level, Level::Warning);
        assert!(few.reason.starts_with("this process may have 256"), "{few}");
        // What mends it mends it.
        let remedy = few.remedy.unwrap();
        let (_, fewer) = remedy.split_once(", or ").unwrap();
        assert_eq!(found(fewer, 256).map(|found| found.level), Some(Level::Ok), "{remedy}");
        assert_eq!(found("--max-sessions 1000", 1049).map(|found| found.level), Some(Level::Ok), "{remedy}");
        assert_eq!(found("--tap m --no-write", 256), None, "there are no files");
    }

    fn descriptors_of(words: &str, limit: u64) -> Option<Finding> {
        let host = crate::host::HostFacts { descriptors: limit, ..crate::host::HostFacts::unknown() };
        descriptors(&super::super::tests::plan_on(words, &host), &Memory { descriptors: limit, ..self::host() })
    }
}
