//! `vxtap run`: the sensor from start to end.

mod signals;
mod status;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{after, never, select};

pub use self::signals::Signals;
use crate::config::RunPlan;
use crate::config::allow::{AllowError, AllowPlan};
use crate::console::Console;
use crate::pipeline::{Destination, Outcome, OutputError, OutputPlan, Pipeline, PipelinePlan};
use crate::record::compress::{self, Compression};
use crate::source::bpf::Gate;
use crate::source::{self, AllowList, OpenError, Opened, Sources};

/// Why the sensor could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not to know what is allowed.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// Not to receive.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// Not to deliver.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// A sensor that receives.
#[derive(Debug)]
pub struct Sensor {
    pipeline: Pipeline,
    /// Where it listens.
    pub addresses: Vec<std::net::SocketAddr>,
    allow: Allow,
    duration: Option<Duration>,
}

/// What is allowed, and who is to be told when that changes.
#[derive(Debug)]
struct Allow {
    plan: AllowPlan,
    /// Of the workers.
    list: Arc<AllowList>,
    /// Of the program in the kernel.
    gate: Option<Gate>,
}

impl Allow {
    /// Takes over what the file says now. Where it cannot be used, nothing changes.
    fn reread(&self) {
        let AllowPlan::File(path) = &self.plan else {
            return tracing::warn!("SIGUSR2: there is no file to read again; --allow names one");
        };
        match self.plan.read() {
            Ok(allowed) => {
                if let Some(gate) = &self.gate {
                    gate.allow(&allowed);
                }
                let now = allowed.to_string();
                self.list.replace(allowed);
                tracing::info!("SIGUSR2: {} is read again; allowed are {now}", path.display());
            }
            Err(error) => tracing::error!("SIGUSR2: what was allowed stays so: {error}"),
        }
    }
}

/// Starts the sensor.
///
/// # Errors
/// Why it could not start; nothing is left behind then.
pub fn start(plan: &RunPlan) -> Result<Sensor, StartError> {
    let allowed = plan.allow.read()?;
    let Opened { sources, addresses, receive_buffer, redirect, description, gate } =
        source::open(&plan.source, &allowed)?;
    let udp = &plan.source.udp;
    if receive_buffer < udp.receive_buffer {
        tracing::warn!(
            "the receive buffer is {receive_buffer} bytes instead of {wanted}, so bursts may be lost in the kernel; \
             raise the limit with: sysctl -w net.core.rmem_max={wanted}",
            wanted = udp.receive_buffer,
        );
    }
    let allow = Allow { plan: plan.allow.clone(), list: Arc::new(AllowList::new(allowed)), gate };
    let pipeline = match sources {
        Sources::Udp(sources) => Pipeline::start(&plan.pipeline, &allow.list, sources, None),
        Sources::Bpf(sources) => Pipeline::start(&plan.pipeline, &allow.list, sources, redirect),
    }?;
    if let Some(compression) = plan.pipeline.outputs.iter().find_map(compression) {
        let mib = (compress::memory(compression) * plan.pipeline.max_sessions as usize) >> 20;
        tracing::info!(%compression, "a compressor for each session: at most {mib} MiB for --max-sessions of them");
    }
    let listen: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = %listen.join(" "),
        source = %description,
        workers = udp.workers,
        queue_mib = plan.pipeline.queue_memory(udp.workers) >> 20,
        outputs = %outputs(&plan.pipeline).join(" "),
        "receiving"
    );
    Ok(Sensor { pipeline, addresses, allow, duration: plan.duration })
}

fn compression(output: &OutputPlan) -> Option<Compression> {
    match &output.to {
        Destination::Files(files) => files.compression,
        Destination::Interface(_) | Destination::Redirect(_) => None,
    }
}

/// Where frames go, in words.
fn outputs(plan: &PipelinePlan) -> Vec<String> {
    let name = |to: &Destination| match to {
        Destination::Files(files) => files.directory.display().to_string(),
        Destination::Interface(interface) | Destination::Redirect(interface) => interface.name.clone(),
    };
    plan.outputs.iter().map(|output| name(&output.to)).collect()
}

impl Sensor {
    /// Lets the sensor run until a signal comes, its time is over, or it ends by itself; then ends it.
    #[must_use]
    pub fn conduct(self, signals: &Signals, console: &Console) -> Outcome {
        let status = status::show(&self.pipeline, console)
            .inspect_err(|error| tracing::warn!(%error, "cannot show how the sensor does"))
            .ok();
        let over = self.duration.map_or_else(never, after);
        loop {
            select! {
                recv(signals.cut) -> asked => {
                    if asked.is_ok() {
                        tracing::info!("SIGUSR1: completing the files that are written to");
                        self.pipeline.orders.cut();
                        continue;
                    }
                }
                recv(signals.reread) -> asked => {
                    if asked.is_ok() {
                        self.allow.reread();
                        continue;
                    }
                }
                recv(signals.received) -> signal => {
                    if let Ok(name) = signal {
                        tracing::info!("{name}: draining; once more to leave at once");
                    }
                }
                recv(over) -> _ => {}
                recv(self.pipeline.ended) -> _ => {}
            }
            break;
        }
        if let Some(status) = status {
            status.end();
        }
        self.end()
    }

    /// Drains what has been received and ends the sensor.
    #[must_use]
    pub fn end(self) -> Outcome {
        self.pipeline.end()
    }
}
