//! What the plan of a sensor says that others want to know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::BudgetPlan;
use crate::pipeline::PipelinePlan;
use crate::route::policy::Policy;
use crate::sandbox;

/// Facts of the plan that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The addresses that the sensor listens on.
    pub listen: Vec<String>,
    /// The source of its datagrams, in words.
    pub source: String,
    /// The most sessions that it tells apart.
    pub max_sessions: u32,
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// The settings that are in force, as a configuration file.
    pub text: Arc<str>,
    /// What becomes of each session's frames, and what people call it.
    pub policy: Arc<Policy>,
    /// What the sensor has given up.
    pub sandbox: sandbox::State,
    /// What the outputs keep that write captures, by name.
    pub budgets: BTreeMap<String, BudgetPlan>,
}

impl Facts {
    /// Returns these facts with those that a pipeline's plan says, which `text` asks for.
    #[must_use]
    pub(crate) fn planned(self, plan: &PipelinePlan, text: Arc<str>) -> Self {
        let budgets = plan.outputs.iter().filter_map(|output| {
            let files = output.to.files()?;
            Some((output.name.clone(), files.archive.budget))
        });
        Self {
            max_sessions: plan.max_sessions,
            text,
            policy: Arc::clone(&plan.policy),
            budgets: budgets.collect(),
            ..self
        }
    }
}
