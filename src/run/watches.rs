//! Those who watch have an output each, for as long as they do.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::RunPlan;
use crate::control::{Ended, WatchBegun, WatchOrder};
use crate::pipeline::{Changes, Destination, OutputPlan, Pipeline, PipelinePlan};
use crate::route::{Selection, Wanted};
use crate::sink::watch::{Feed, Outcome, Over, WatchPlan, Watching};

/// The most watches at a time.
const MOST: usize = 4;

/// A watch, as long as its output is there.
#[derive(Debug)]
struct Watch {
    output: String,
    feed: Arc<Feed>,
}

/// The watches of a sensor.
#[derive(Debug)]
pub(super) struct Watches {
    all: Vec<Watch>,
    ring: Sender<()>,
    bell: Receiver<()>,
}

impl Default for Watches {
    fn default() -> Self {
        let (ring, bell) = bounded(1);
        Self { all: Vec::new(), ring, bell }
    }
}

impl Watches {
    /// Receives when one is over.
    pub(super) fn bell(&self) -> &Receiver<()> {
        &self.bell
    }

    /// Begins a watch of what `order` says, of a pipeline that runs by `plan`.
    ///
    /// # Errors
    /// The text says why there is none.
    pub(super) fn watch(
        &mut self,
        pipeline: &mut Pipeline,
        plan: &RunPlan,
        order: WatchOrder,
    ) -> Result<WatchBegun, String> {
        if let Wanted::Named(name) = &order.wanted {
            check_name(&plan.pipeline, name)?;
        }
        let expression = order.expression.as_ref().map(|expression| expression.text().to_owned());
        let wanted = order.wanted.to_string();
        let (output, watching) = self.begin(pipeline, order)?;
        tracing::info!(output, session = wanted, filter = expression, "somebody watches");
        Ok(WatchBegun { output, watching, note: note(plan) })
    }

    fn begin(&mut self, pipeline: &mut Pipeline, order: WatchOrder) -> Result<(String, Watching), String> {
        let is_free = |name: &String| self.all.iter().all(|watch| watch.output != *name);
        let output = (1..=MOST).map(|number| format!("watch:{number}")).find(is_free);
        let output = output.ok_or_else(|| format!("{MOST} watch already, and no more can"))?;
        let WatchOrder { wanted, expression, snaplen, limit, duration } = order;
        let feed = Arc::new(Feed::new(snaplen, limit, self.ring.clone()));
        let plan = OutputPlan {
            name: output.clone(),
            essential: false,
            selection: Selection { expression, ..Selection::default() },
            lane: WatchPlan::lane(snaplen as usize, pipeline.ledger.workers.len()),
            to: Destination::Watch(WatchPlan { wanted, feed: Arc::clone(&feed), duration }),
        };
        let changes = Changes { add: vec![plan], ..Changes::default() };
        match pipeline.change(changes) {
            Err(error) if !error.is_made() => return Err(error.to_string()),
            // A worker that stalls has frames for it when it goes on.
            _ => self.all.push(Watch { output: output.clone(), feed: Arc::clone(&feed) }),
        }
        Ok((output, Watching(feed)))
    }

    /// Takes away the outputs of those that are over. Returns whether none is left that is to go.
    pub(super) fn tend(&mut self, pipeline: &mut Pipeline) -> bool {
        let over = self.all.iter().filter(|watch| watch.feed.is_over());
        let remove: Vec<String> = over.map(|watch| watch.output.clone()).collect();
        if remove.is_empty() {
            return true;
        }
        let changes = Changes { remove: remove.clone(), ..Changes::default() };
        match pipeline.change(changes) {
            // A worker that stalls has not taken over the last change. Nothing is lost: what comes
            // for one that is over is counted.
            Err(error) if !error.is_made() => return false,
            _ => {}
        }
        for Watch { output, feed } in self.all.extract_if(.., |watch| remove.contains(&watch.output)) {
            let Outcome { frames, dropped: unwatched, redirected, over } = feed.outcome();
            let why = over.map(|over| over.to_string()).unwrap_or_default();
            let redirected = (redirected > 0).then_some(redirected);
            tracing::info!(output, frames, unwatched, redirected, "nobody watches any more: {why}");
        }
        true
    }

    /// Ends the watch of this output.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn end(&self, output: &str) -> Result<Ended, String> {
        let watch = self.all.iter().find(|watch| watch.output == output);
        let watch = watch.ok_or_else(|| format!("there is no watch {output}"))?;
        watch.feed.end(Over::Asked);
        Ok(Ended { ended: true })
    }
}

/// Says whether sessions can have this name.
fn check_name(plan: &PipelinePlan, name: &str) -> Result<(), String> {
    let labels = plan.policy.entries().iter().map(|entry| &entry.plan.label);
    let mut names: Vec<&str> = labels.filter_map(|label| label.name.as_deref()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    names.sort_by_key(|other| strsim::osa_distance(other, name));
    let advice = match names.first() {
        Some(near) if strsim::osa_distance(near, name) <= 2 => format!("is {near:?} meant?"),
        Some(_) => "vxtap sessions lists them; a session without a name is given as VNI@SOURCE".into(),
        None => "no session has one here; a session is given as VNI@SOURCE: 7@192.0.2.1".into(),
    };
    Err(format!("no session is named {name:?}: {advice}"))
}

/// Returns what whoever watches should know: the program in the kernel may have frames that the
/// sensor never sees.
fn note(plan: &RunPlan) -> Option<String> {
    let outputs = &plan.pipeline.outputs;
    let redirect = outputs.iter().find(|output| matches!(output.to, Destination::Redirect(_)))?;
    // Where there are files, the sensor has copies for them.
    let copies = outputs.iter().any(|output| output.to.files().is_some());
    (!copies).then(|| {
        let interface = redirect.to.name();
        let text = format!(
            "the program in the kernel redirects frames into {interface}, and those do not come here: sniff {interface}, \
             or use --tap-mode inject"
        );
        plan.wording.put(&text).into_owned()
    })
}
