//! The pipeline without workers: whoever has the frames takes each step, and waits for the outputs.

use std::sync::Arc;

use super::Outcome;
use super::decap::ReservedBits;
use super::output::{OutputError, OutputPlan, Running};
use super::step::Step;
use crate::condition::Condition;
use crate::ledger::{Ledger, Snapshot};
use crate::record::Timestamp;
use crate::route::{Registry, SessionTable};
use crate::sink::Orders;
use crate::source::{Allowed, Front};

/// Outputs that run, and the step that leads to them.
#[derive(Debug)]
pub(crate) struct Inline {
    /// Takes frames to the outputs.
    pub step: Step,
    ledger: Ledger,
    registry: Arc<Registry>,
    started: Timestamp,
    outputs: Vec<Running>,
}

impl Inline {
    /// Starts the outputs. At most `sessions` sessions are told apart.
    ///
    /// # Errors
    /// An output cannot start.
    pub(crate) fn start(plans: &[OutputPlan], sessions: u32) -> Result<Self, OutputError> {
        let registry = Arc::new(Registry::new(sessions));
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let (orders, mut front) = (Arc::new(Orders::default()), Front::default());
        let (mut outlets, mut outputs) = (Vec::new(), Vec::new());
        for plan in plans {
            let started = plan.start(&[Arc::clone(&counters)], &registry, &orders, &mut front, None)?;
            outlets.extend(started.outlets);
            ledger.outputs.push(started.output);
            outputs.push(started.running);
        }
        let table = SessionTable::new(Arc::clone(&registry));
        let step = Step::new(ReservedBits::Accept, Arc::new(Allowed::default()), table, outlets, counters);
        Ok(Self { step, ledger, registry, started: Timestamp::now(), outputs })
    }

    /// Returns the conditions of the outputs, which say why one takes no more.
    pub(crate) fn conditions(&self) -> Vec<Arc<Condition>> {
        self.outputs.iter().map(|output| Arc::clone(&output.gauge.condition)).collect()
    }

    /// Waits until the outputs have all frames, and adds up the ledger.
    #[must_use]
    pub(crate) fn end(self) -> Outcome {
        let Self { step, ledger, registry, started, outputs } = self;
        drop(step);
        let mut failures = Vec::new();
        for output in outputs {
            if output.thread.join().is_err() {
                failures.push(format!("the output {} panicked: please report this", output.name));
            }
        }
        let sessions = ledger.sessions(registry.sessions());
        let snapshot = Snapshot::of(&ledger, started, sessions).settled();
        Outcome::of(snapshot, failures)
    }
}
