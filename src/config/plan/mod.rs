//! The plan of `vxtap run` follows from settings and facts of the host. It is worked out, and
//! nothing else is done: no file, no socket, no limit is touched.

mod capture;
mod control;
mod expressions;
mod listen;
mod outputs;
pub(super) mod policy;
mod queue;
mod ranges;
mod receive;
mod redirect;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use self::expressions::Expressions;
use super::allow::AllowPlan;
use super::error::{LEAST_FLUSH, PlanError};
use super::origin::Origins;
use super::settings::{Sandbox, Settings};
use crate::control::ControlPlan;
use crate::host::HostFacts;
use crate::pipeline::{Destination, PipelinePlan};
use crate::sandbox::SandboxPlan;
use crate::setting::Wording;
use crate::setting::key;
use crate::source::{Allowed, SourcePlan};

/// The plan of `vxtap run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// The source of datagrams.
    pub source: SourcePlan,
    /// The sessions that are let in.
    pub allow: AllowPlan,
    /// The way from datagrams to outputs.
    pub pipeline: PipelinePlan,
    /// The time after which a session that sends nothing is forgotten.
    pub session_idle: Duration,
    /// The memory of each output's queue, where somebody said how much.
    pub queue: Option<u64>,
    /// The time that the sensor runs, where that is limited.
    pub duration: Option<Duration>,
    /// The places where the sensor answers questions.
    pub control: ControlPlan,
    /// The time for which the sensor receives when it is to end, and says that it is not ready.
    pub drain: Duration,
    /// What the sensor gives up.
    pub sandbox: SandboxPlan,
    /// The names by which texts call settings.
    pub wording: Wording,
    /// The settings that this is the plan of, without the places where they were said.
    pub settings: Arc<Settings>,
}

impl RunPlan {
    /// Makes the plan that these settings ask for on this host.
    ///
    /// # Errors
    /// A setting makes no sense together with others or on this host; the error says what would.
    pub fn new(settings: &Settings, host: &HostFacts) -> Result<Self, PlanError> {
        make(settings, host).map_err(|errors| errors.first)
    }

    /// Makes the plan that a file asks for, and goes on behind an error.
    ///
    /// # Errors
    /// All that can be found.
    pub(super) fn of_file(settings: &Settings, host: &HostFacts) -> Result<Self, Vec<PlanError>> {
        let plan = make(settings, host).map_err(|errors| [vec![errors.first], errors.others].concat())?;
        Ok(plan.worded(Wording::Keys))
    }

    /// Has texts call settings by these names.
    pub(super) fn worded(mut self, wording: Wording) -> Self {
        for output in &mut self.pipeline.outputs {
            if let Destination::Files(files) = &mut output.to {
                files.archive.wording = wording;
            }
        }
        (self.wording, self.source.wording) = (wording, wording);
        self
    }
}

/// What is wrong with settings.
struct Errors {
    first: PlanError,
    others: Vec<PlanError>,
}

/// Makes a plan. A part that cannot be as it is asked for is as by default, so that the others are
/// looked at too.
fn make(settings: &Settings, host: &HostFacts) -> Result<RunPlan, Errors> {
    let mut wrong = ranges::check(settings);
    let mut udp = receive::sockets(settings, host, &mut wrong);
    let mirrors = capture::plan(settings, &mut udp, &mut wrong);
    if settings.delivery.flush.0 < LEAST_FLUSH {
        wrong.push(PlanError::Flush(settings.origins.said(&key::FLUSH)));
    }
    let queue = queue::bytes(settings, host, udp.workers);
    let mut expressions = Expressions::default();
    let outputs = outputs::plan(settings, host, udp.workers, queue, &mut expressions, &mut wrong);
    let policy = policy::plan(settings, &outputs, &mut expressions, &mut wrong);
    wrong.extend(redirect::check(settings, &policy).err());
    let pipeline = PipelinePlan {
        reserved_bits: settings.receive.reserved_bits,
        vni_mask: settings.receive.vni_mask,
        timestamps: settings.receive.timestamps,
        max_sessions: settings.sessions.max,
        count: settings.run.count,
        policy,
        outputs: outputs.outputs,
    };
    wrong.extend(queue::check(settings, host, queue, pipeline.queue_memory(udp.workers) as u64).err());
    let allow = sessions::plan(settings).unwrap_or_else(|error| {
        wrong.push(error);
        AllowPlan::Given(Allowed::default())
    });
    let bpf = receive::program(settings, host, &udp, &pipeline, &mut wrong);
    let wording = Wording::default();
    let source = SourcePlan { way: settings.receive.source.clone(), udp, mirrors, bpf, wording };
    let asked = settings.delivery.queue.map(|queue| queue.0);
    let duration = settings.run.duration.map(|duration| duration.0);
    // The time of a capture is not the clock's.
    let is_capture = settings.receive.source.file().is_some();
    let session_idle = if is_capture { Duration::MAX } else { settings.sessions.idle.0 };
    let control = control::plan(settings, host, &mut wrong);
    let drain = control::drain(settings);
    let Sandbox { mode, directories } = settings.sandbox.clone();
    let sandbox = SandboxPlan { mode, directories };
    let settings = Arc::new(Settings { origins: Origins::default(), ..settings.clone() });
    let plan = RunPlan {
        source,
        allow,
        pipeline,
        session_idle,
        queue: asked,
        duration,
        control,
        drain,
        sandbox,
        wording,
        settings,
    };
    let mut wrong = wrong.into_iter();
    match wrong.next() {
        None => Ok(plan),
        Some(first) => Err(Errors { first, others: wrong.collect() }),
    }
}

#[cfg(test)]
mod tests;
