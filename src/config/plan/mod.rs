//! The plan of `vxtap run` follows from settings and facts of the host. It is worked out, and
//! nothing else is done: no file, no socket, no limit is touched.

mod listen;
mod outputs;
mod queue;
mod ranges;
mod receive;
mod redirect;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use super::allow::AllowPlan;
use super::error::{LEAST_FLUSH, PlanError};
use super::key;
use super::settings::Settings;
use crate::host::HostFacts;
use crate::pipeline::PipelinePlan;
use crate::source::SourcePlan;

/// The plan of `vxtap run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// The source of datagrams.
    pub source: SourcePlan,
    /// The sessions that are let in.
    pub allow: AllowPlan,
    /// The way from datagrams to outputs.
    pub pipeline: PipelinePlan,
    /// The time that the sensor runs, where that is limited.
    pub duration: Option<Duration>,
}

impl RunPlan {
    /// Makes the plan that these settings ask for on this host.
    ///
    /// # Errors
    /// A setting makes no sense together with others or on this host; the error says what would.
    pub fn new(settings: &Settings, host: &HostFacts) -> Result<Self, PlanError> {
        ranges::check(settings)?;
        let udp = receive::sockets(settings, host)?;
        if settings.delivery.flush.0 < LEAST_FLUSH {
            return Err(PlanError::Flush(settings.origins.said(&key::FLUSH)));
        }
        redirect::check(settings)?;
        let queue = queue::bytes(settings, host, udp.workers);
        let pipeline = PipelinePlan {
            reserved_bits: settings.receive.reserved_bits,
            max_sessions: settings.sessions.max,
            count: settings.run.count,
            policy: Arc::default(),
            outputs: outputs::plan(settings, host, udp.workers, queue)?,
        };
        queue::check(settings, host, queue, pipeline.queue_memory(udp.workers) as u64)?;
        let allow = sessions::plan(settings)?;
        let bpf = receive::program(settings, host, &udp, &pipeline)?;
        let source = SourcePlan { way: settings.receive.source, udp, bpf };
        Ok(Self { source, allow, pipeline, duration: settings.run.duration.map(|duration| duration.0) })
    }
}

#[cfg(test)]
mod tests;
