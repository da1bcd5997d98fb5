//! An output takes frames, and has a destination.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use super::gauges::OutputGauge;
use super::marks::Marks;
use super::outlet::Outlet;
use crate::lane::{CHUNK_MEMORY, Lane, LanePlan, Queue, lanes};
use crate::ledger::{Output, WorkerCounters};
use crate::route::{Registry, Selection, Watched};
use crate::sink;
use crate::sink::Orders;
use crate::sink::file::{FileError, FilePlan, FileSink, Replans};
use crate::sink::interface::{Interface, InterfaceError, InterfacePlan};
use crate::sink::stream::{StreamError, StreamPlan, StreamSink};
use crate::sink::tap::{self, Feeder, TagMapError, TapSink};
use crate::sink::watch::{WatchPlan, WatchSink};
use crate::source::Front;
use crate::source::bpf::BpfError;
use crate::whose;

/// An output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Its name in the ledger.
    pub name: String,
    /// The frames that it takes.
    pub selection: Selection,
    /// Its lanes.
    pub lane: LanePlan,
    /// The destination that they lead to.
    pub to: Destination,
    /// Says whether a sensor without this output may be sent no traffic.
    pub essential: bool,
}

impl OutputPlan {
    /// Returns the bytes of a frame that are looked at: an expression can ask for any of them.
    #[must_use]
    pub(crate) fn reads(&self) -> usize {
        if self.selection.expression.is_some() { usize::MAX } else { self.lane.snaplen }
    }
}

/// The destination of an output's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Rotating pcap files.
    Files(FilePlan),
    /// An interface that sniffers watch.
    Interface(InterfacePlan),
    /// An interface that a program in the kernel redirects frames into. The frames that the program
    /// leaves are put there.
    Redirect(InterfacePlan),
    /// Somebody who watches for a while.
    Watch(WatchPlan),
    /// One file, or standard output, for the frames of all sessions.
    Stream(StreamPlan),
}

impl Destination {
    /// Returns the plan of the files; none where the frames go elsewhere.
    #[must_use]
    pub(crate) fn files(&self) -> Option<&FilePlan> {
        match self {
            Self::Files(plan) => Some(plan),
            Self::Interface(_) | Self::Redirect(_) | Self::Watch(_) | Self::Stream(_) => None,
        }
    }

    /// Returns the file with the tags of sessions; none where frames get none.
    #[must_use]
    pub(crate) fn tags(&self) -> Option<&Path> {
        match self {
            Self::Files(_) | Self::Watch(_) | Self::Stream(_) => None,
            Self::Interface(plan) | Self::Redirect(plan) => plan.tags.as_deref(),
        }
    }

    /// Names the directory or the interface that the frames go to, or says who has them.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Files(plan) => plan.directory.display().to_string(),
            Self::Interface(plan) | Self::Redirect(plan) => plan.name.clone(),
            Self::Watch(_) => "who watches".into(),
            Self::Stream(plan) => plan.name(),
        }
    }
}

/// The reason for which an output, or what feeds it, could not start.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Captures cannot be written.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The interface cannot be fed.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A file for all sessions cannot be written.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The tags of sessions cannot be kept.
    #[error(transparent)]
    Tags(#[from] TagMapError),
    /// Frames cannot be redirected into the interface.
    #[error("--tap-mode redirect does not work here: {0}")]
    Redirect(#[from] BpfError),
    /// A source cannot begin to receive.
    #[error("cannot begin to receive: {0}")]
    Receive(io::Error),
    /// There is no thread for the output.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl OutputError {
    /// Says whether it may be possible later.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Interface(error) => error.may_pass(),
            Self::Redirect(error) => error.may_pass(),
            Self::Files(_) | Self::Stream(_) | Self::Tags(_) | Self::Receive(_) | Self::Thread(_) => false,
        }
    }
}

impl OutputPlan {
    /// Returns the memory for frames on their way into the output, in bytes, with `workers`
    /// workers.
    #[must_use]
    pub(crate) fn queue_memory(&self, workers: usize) -> usize {
        let gathered = self.to.files().map_or(0, |plan| plan.buffer_memory);
        workers * self.lane.chunks * CHUNK_MEMORY + gathered
    }

    /// Makes the gauge of the output, of which this is the queue.
    fn gauge(&self, queue: Queue) -> OutputGauge {
        let (kind, directory, interface) = match &self.to {
            Destination::Files(files) => ("pcap", Some(files.directory.clone()), None),
            Destination::Interface(to) => (to.kind.label(), None, Some(to.name.clone())),
            Destination::Redirect(to) => ("redirect", None, Some(to.name.clone())),
            Destination::Watch(_) => ("watch", None, None),
            Destination::Stream(_) => ("stream", None, None),
        };
        let (name, essential, condition) = (self.name.clone(), AtomicBool::new(self.essential), Arc::default());
        OutputGauge { name, kind, directory, interface, essential, condition, queue }
    }

    /// Starts the output's thread. Returns its place in the ledger and an outlet for each worker.
    /// `marks` are those of the sessions that are redirected, where this is the output for it.
    ///
    /// # Errors
    /// The output could not be opened, or there is no thread for it; nothing is left behind then.
    pub(super) fn start(
        &self,
        workers: &[Arc<WorkerCounters>],
        registry: &Arc<Registry>,
        orders: &Arc<Orders>,
        front: &mut Front,
        marks: Option<&Arc<Marks>>,
    ) -> Result<Started, OutputError> {
        // The threads that begin here work for it, too.
        let _work = whose::of_output(&self.name);
        let mut output = Output { name: self.name.clone(), ends: Vec::new() };
        let (lanes, inbox) = lanes(self.lane, workers.iter().map(|_| output.end()).collect());
        let gauge = self.gauge(inbox.queue.clone());
        let condition = Arc::clone(&gauge.condition);
        let name = self.name.as_str().into();
        let outlet = |lane: Lane| Outlet { selection: self.selection.clone(), ..Outlet::from(lane.into_output(&name)) };
        let mut outlets: Vec<Outlet> = lanes.into_iter().map(outlet).collect();
        let mut replans = None;
        let thread = match &self.to {
            Destination::Files(plan) => {
                let files = FileSink::open(plan.clone(), Arc::clone(registry), &mut output, workers.to_vec())?;
                replans = Some(files.replans());
                let files = files.tells(Arc::clone(&condition));
                sink::spawn(&self.name, files, inbox, Arc::clone(orders), condition, output.end())?
            }
            Destination::Interface(plan) | Destination::Redirect(plan) => {
                let interface = Interface::open_kept(plan, &front.store)?;
                tracing::debug!(interface = plan.name, created = interface.created(), "interface is open");
                interface.complain();
                let mut feeder: Option<Box<dyn Feeder>> = None;
                let mut marked = None;
                if let Destination::Redirect(_) = &self.to {
                    marked = marks.map(|marks| Arc::clone(marks) as Arc<dyn tap::Marks>);
                    outlets = outlets.into_iter().map(|outlet| outlet.bypassed(output.end())).collect();
                    if let Some(redirect) = front.redirect.take() {
                        redirect.begin(&plan.name)?;
                        feeder = Some(Box::new(redirect));
                    }
                }
                let tap = TapSink::new(plan.clone(), interface, output.end()).kept(Arc::clone(&front.store));
                let tap = tap.tagged(registry).marking(registry, marked);
                let tap = tap.watched(feeder, Arc::clone(&condition))?;
                sink::spawn(&self.name, tap, inbox, Arc::clone(orders), condition, output.end())?
            }
            Destination::Watch(plan) => {
                let watch = WatchSink::new(plan, &mut output);
                for outlet in &mut outlets {
                    outlet.watched = Some(Watched::new(plan.wanted.clone(), Arc::clone(registry)));
                    outlet.redirected = Some(plan.feed.passed_by(&mut output));
                }
                sink::spawn(&self.name, watch, inbox, Arc::clone(orders), condition, output.end())?
            }
            Destination::Stream(plan) => {
                let stream = StreamSink::open(plan, &mut output, Arc::clone(&condition))?;
                sink::spawn(&self.name, stream, inbox, Arc::clone(orders), condition, output.end())?
            }
        };
        Ok(Started {
            output,
            outlets,
            running: Running { name: self.name.clone(), thread, replans, gauge: gauge.into() },
        })
    }
}

/// An output that has begun.
pub(super) struct Started {
    pub(super) output: Output,
    pub(super) outlets: Vec<Outlet>,
    pub(super) running: Running,
}

/// The thread of an output.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: String,
    pub(super) thread: JoinHandle<()>,
    /// The place where another plan for its files can be put.
    pub(super) replans: Option<Arc<Replans>>,
    /// What shows how it does.
    pub(super) gauge: Arc<OutputGauge>,
}
