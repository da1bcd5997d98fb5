//! Outputs that come are opened before anything changes.
//!
//! Their disks may not answer. So what is needed for it is apart from the running sensor, and can
//! be had by a thread that nobody waits for.

use std::sync::Arc;

use super::super::outlet::Outlet;
use super::super::output::{OutputPlan, Running, Started};
use super::error::ChangeError;
use crate::ledger::{Ledger, Output};
use crate::route::Registry;
use crate::service::Store;
use crate::sink::Orders;
use crate::source::Front;

/// Outputs that are to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(super) plans: Vec<OutputPlan>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) registry: Arc<Registry>,
    pub(super) orders: Arc<Orders>,
    pub(super) store: Arc<Store>,
}

/// Outputs that are open, and that no worker has yet. Their threads end when this is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Their places in the ledger, and their threads.
    pub(super) outputs: Vec<(Output, Running)>,
    /// The outlets of each worker.
    pub(super) outlets: Vec<Vec<Outlet>>,
    /// The reason for which one cannot be opened.
    pub(super) failure: Option<ChangeError>,
}

impl Opening {
    /// Says whether there is nothing to open.
    pub(crate) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Opens the outputs, up to the first that cannot be opened.
    pub(crate) fn open(self) -> Opened {
        let Self { plans, ledger, registry, orders, store } = self;
        let mut outputs = Vec::with_capacity(plans.len());
        let mut outlets: Vec<Vec<Outlet>> = ledger.workers.iter().map(|_| Vec::new()).collect();
        for plan in plans {
            let mut front = Front { store: Arc::clone(&store), ..Front::default() };
            match plan.start(&ledger.workers, &registry, &orders, &mut front, None) {
                Ok(Started { output, outlets: started, running }) => {
                    outlets.iter_mut().zip(started).for_each(|(worker, outlet)| worker.push(outlet));
                    outputs.push((output, running));
                }
                Err(error) => {
                    let failure = Some(ChangeError::Open { name: plan.name, error: Box::new(error) });
                    return Opened { outputs, outlets, failure };
                }
            }
        }
        Opened { outputs, outlets, failure: None }
    }
}
