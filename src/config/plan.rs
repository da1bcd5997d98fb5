//! The validated plan of `vxtap run`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::units::VXLAN_PORT;
use crate::cli::{self, RunArgs};
use crate::lane::CHUNK_MEMORY;
use crate::pipeline::PipelinePlan;
use crate::pipeline::decap::ReservedBits;
use crate::sink::file::{FilePlan, allowed_open_files};
use crate::source::udp::{self, Steering, UdpPlan};
use crate::wire::Vni;

/// What `vxtap run` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// Where it receives.
    pub udp: UdpPlan,
    /// What it does with what it receives.
    pub pipeline: PipelinePlan,
    /// How long it runs, where that is limited.
    pub duration: Option<Duration>,
}

/// Arguments that are each well formed but make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not enough memory for two chunks per worker.
    #[error("--queue {queue} is too small for {workers} worker(s); give at least {least}")]
    Queue {
        /// As asked, in bytes.
        queue: u64,
        /// Workers.
        workers: usize,
        /// What would do, in bytes.
        least: u64,
    },
    /// A file must have room for its header and a frame.
    #[error("--rotate-size {0} is too small; give at least {LEAST_ROTATE_SIZE}")]
    RotateSize(u64),
    /// The kernel takes an int and doubles it.
    #[error("--receive-buffer {0} is too large; the kernel takes at most {MOST_RECEIVE_BUFFER}")]
    ReceiveBuffer(u64),
    /// More addresses than a worker waits on.
    #[error("--listen is given more than {} times", udp::MAX_LISTEN)]
    ListenMany,
    /// The same address twice.
    #[error("--listen {0} is given twice")]
    ListenTwice(SocketAddr),
}

const LEAST_ROTATE_SIZE: u64 = 4096;
const MOST_RECEIVE_BUFFER: u64 = (1 << 30) - 1;

impl RunPlan {
    /// The plan that these arguments ask for.
    ///
    /// # Errors
    /// What makes no sense, and what would.
    pub fn resolve(args: &RunArgs) -> Result<Self, PlanError> {
        let mut listen = Vec::new();
        for address in &args.listen {
            if address.port() != 0 && listen.contains(address) {
                return Err(PlanError::ListenTwice(*address));
            }
            listen.push(*address);
        }
        if listen.is_empty() {
            listen.push(udp::default_listen(VXLAN_PORT));
        }
        if listen.len() > udp::MAX_LISTEN {
            return Err(PlanError::ListenMany);
        }
        let workers = args.workers.map_or_else(default_workers, usize::from);
        let receive_buffer = u32::try_from(args.receive_buffer)
            .ok()
            .filter(|n| u64::from(*n) <= MOST_RECEIVE_BUFFER)
            .ok_or(PlanError::ReceiveBuffer(args.receive_buffer))?;
        if args.rotate_size < LEAST_ROTATE_SIZE {
            return Err(PlanError::RotateSize(args.rotate_size));
        }
        // A quarter of an output's memory gathers records per session, the rest is chunks.
        let queue = usize::try_from(args.queue).unwrap_or(usize::MAX);
        let buffer_memory = queue / 4;
        let chunks = (queue - buffer_memory) / workers / CHUNK_MEMORY;
        if chunks < 2 {
            let least = (2 * workers * CHUNK_MEMORY) as u64 * 4 / 3 + 1;
            return Err(PlanError::Queue { queue: args.queue, workers, least });
        }
        let mut vnis: Vec<Vni> = args.vni.iter().copied().filter_map(Vni::new).collect();
        vnis.sort_unstable();
        let pipeline = PipelinePlan {
            reserved_bits: match args.reserved_bits {
                cli::ReservedBits::Accept => ReservedBits::Accept,
                cli::ReservedBits::Reject => ReservedBits::Reject,
            },
            vnis: Some(vnis).filter(|vnis| !vnis.is_empty()),
            max_sessions: args.max_sessions,
            count: args.count,
            files: FilePlan {
                directory: args.write.clone(),
                rotate_size: args.rotate_size,
                rotate_time: args.rotate_time,
                snaplen: args.snaplen,
                // A record waits in its lane for half of --flush at most, and for a quarter and a sweep in the output.
                linger: args.flush / 4,
                buffer_memory,
                open_files: allowed_open_files(),
            },
            linger: args.flush / 2,
            chunks,
        };
        let steering = match args.steer {
            cli::Steer::Session => Steering::Session,
            cli::Steer::Flow => Steering::Flow,
        };
        Ok(Self { udp: UdpPlan { listen, workers, steering, receive_buffer }, pipeline, duration: args.duration })
    }
}

/// Half the cores: the kernel's own part of receiving, which is the larger, and the outputs take the rest.
fn default_workers() -> usize {
    (thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(more: &[&str]) -> Result<RunPlan, PlanError> {
        let words = ["vxtap", "run", "--listen", "127.0.0.1:4789"].iter().chain(more);
        match cli::Cli::try_parse_from(words).unwrap().command {
            cli::Command::Run(args) => RunPlan::resolve(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults() {
        let plan = plan(&["--workers", "2"]).unwrap();
        assert_eq!(plan.pipeline.vnis, None);
        assert_eq!(plan.pipeline.max_sessions, 1024);
        assert!(plan.pipeline.queue_memory(2) <= 64 << 20, "--queue bounds the memory");
        assert!(plan.pipeline.queue_memory(2) > 60 << 20, "and is used");
    }

    #[test]
    fn vnis_are_sorted() {
        let plan = plan(&["--vni", "9,2", "--vni", "5"]).unwrap();
        let vnis = [2, 5, 9].map(|n| Vni::new(n).unwrap()).to_vec();
        assert_eq!(plan.pipeline.vnis, Some(vnis));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let refused = |more: &[&str]| plan(more).unwrap_err();
        let PlanError::Queue { least, .. } = refused(&["--queue", "1MiB", "--workers", "4"]) else { panic!() };
        assert!(plan(&["--queue", &least.to_string(), "--workers", "4"]).is_ok());
        assert!(plan(&["--queue", &(least - 8).to_string(), "--workers", "4"]).is_err());
        assert_eq!(refused(&["--rotate-size", "100"]), PlanError::RotateSize(100));
        assert_eq!(refused(&["--receive-buffer", "1GiB"]), PlanError::ReceiveBuffer(1 << 30));
        assert!(matches!(refused(&["--listen", "127.0.0.1:4789"]), PlanError::ListenTwice(_)));
    }
}
