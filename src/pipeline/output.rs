//! The outputs: what each takes, and where it goes.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::lane::{CHUNK_MEMORY, Lane, LanePlan, lanes};
use crate::ledger::{Output, WorkerCounters};
use crate::route::{Registry, Selection};
use crate::sink;
use crate::sink::Orders;
use crate::sink::file::{FileError, FilePlan, FileSink};
use crate::sink::interface::{Interface, InterfaceError, InterfacePlan};
use crate::sink::tap::{Feeder, TapSink};
use crate::source::bpf::{BpfError, Redirect};

/// An output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Its name in the ledger.
    pub name: String,
    /// The frames that it takes.
    pub selection: Selection,
    /// Its lanes.
    pub lane: LanePlan,
    /// Where they lead.
    pub to: Destination,
}

/// Where an output's frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Rotating pcap files.
    Files(FilePlan),
    /// An interface that sniffers watch.
    Interface(InterfacePlan),
    /// The same, but a program in the kernel redirects frames into it; what it leaves is put there.
    Redirect(InterfacePlan),
}

/// Why an output, or what feeds it, could not start.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Not to write files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Not to feed the interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Not to redirect frames into the interface.
    #[error("--tap-mode redirect does not work here: {0}")]
    Redirect(#[from] BpfError),
    /// Not to receive.
    #[error("cannot begin to receive: {0}")]
    Receive(io::Error),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl OutputError {
    /// Whether it may be possible later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Interface(error) => error.may_pass(),
            Self::Redirect(error) => error.may_pass(),
            Self::Files(_) | Self::Receive(_) | Self::Thread(_) => false,
        }
    }
}

impl Feeder for Redirect {
    fn begin(&mut self, interface: &str) -> Result<(), Box<dyn Error>> {
        Ok(Redirect::begin(self, interface)?)
    }

    fn pause(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(Redirect::pause(self)?)
    }
}

impl OutputPlan {
    /// Memory for frames on their way into the output, in bytes, with `workers` workers.
    #[must_use]
    pub fn queue_memory(&self, workers: usize) -> usize {
        let gathered = match &self.to {
            Destination::Files(plan) => plan.buffer_memory,
            Destination::Interface(_) | Destination::Redirect(_) => 0,
        };
        workers * self.lane.chunks * CHUNK_MEMORY + gathered
    }

    /// Starts the output's thread. Returns its place in the ledger and a lane for each worker.
    ///
    /// # Errors
    /// Why it could not; nothing is left behind then.
    pub(super) fn start(
        &self,
        workers: &[Arc<WorkerCounters>],
        registry: &Arc<Registry>,
        orders: &Arc<Orders>,
        redirect: &mut Option<Redirect>,
    ) -> Result<Started, OutputError> {
        let mut output = Output { name: self.name.clone(), ends: Vec::new() };
        let (lanes, inbox) = lanes(self.lane, workers.iter().map(|_| output.end()).collect());
        let thread = match &self.to {
            Destination::Files(plan) => {
                let files = FileSink::open(plan.clone(), Arc::clone(registry), &mut output, workers.to_vec())?;
                sink::spawn(&self.name, files, inbox, Arc::clone(orders))?
            }
            Destination::Interface(plan) | Destination::Redirect(plan) => {
                let interface = Interface::open(plan)?;
                tracing::debug!(interface = plan.name, created = interface.created(), "interface is open");
                interface.complain();
                let mut feeder: Option<Box<dyn Feeder>> = None;
                if let Destination::Redirect(_) = &self.to
                    && let Some(redirect) = redirect.take()
                {
                    redirect.begin(&plan.name)?;
                    feeder = Some(Box::new(redirect));
                }
                let tap = TapSink::new(plan.clone(), interface, output.end()).watched(feeder)?;
                sink::spawn(&self.name, tap, inbox, Arc::clone(orders))?
            }
        };
        Ok(Started { output, lanes, thread })
    }
}

/// An output that runs.
pub(super) struct Started {
    pub(super) output: Output,
    pub(super) lanes: Vec<Lane>,
    pub(super) thread: JoinHandle<()>,
}
