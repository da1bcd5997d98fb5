//! What was read again is made so, all of it or nothing.
//!
//! Outputs that come may be on a disk that does not answer. So a thread opens them, and the sensor
//! goes on as it was and hears signals. What is read meanwhile waits until they are open.

use std::fmt::Display;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, RecvError, bounded, never};

use super::allow_log;
use super::reread::{Answer, Reread, Wanted};
use super::watches::Watches;
use crate::config::file;
use crate::config::{Diff, RunPlan, diff};
use crate::control::{Cut, Request};
use crate::pipeline::{ChangeError, Changes, Opened, Opening, Pipeline};
use crate::source::Allowed;
use crate::storage;
use crate::view::{Facts, View};

/// What was read, while outputs are being opened for it.
#[derive(Debug)]
struct Coming {
    read: Read,
    opened: Receiver<Opened>,
}

/// What was read, and what changes by it.
#[derive(Debug)]
struct Read {
    /// The plan that is in force afterwards, where a configuration file says what it is.
    plan: Option<RunPlan>,
    changes: Changes,
    allowed: Allowed,
    /// What changes, each in a few words, but for who is let in.
    said: Option<Vec<String>>,
}

/// The pipeline that runs, and the plan that it runs by.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pipeline: Pipeline,
    pub(super) plan: RunPlan,
    pub(super) reread: Reread,
    /// What others see.
    view: Arc<View>,
    coming: Option<Coming>,
    pub(super) watches: Watches,
}

impl Running {
    pub(super) fn new(pipeline: Pipeline, plan: RunPlan, reread: Reread, view: Arc<View>) -> Self {
        Self { pipeline, plan, reread, view, coming: None, watches: Watches::default() }
    }

    /// Looks which outputs that were taken away have finished, and takes away those of watches that
    /// are over. Returns whether all of that is done.
    pub(super) fn tend(&mut self) -> bool {
        let is_done = self.watches.tend(&mut self.pipeline);
        self.pipeline.reap() && is_done
    }

    /// Says whether outputs are being opened.
    pub(super) fn is_opening(&self) -> bool {
        self.coming.is_some()
    }

    /// Says whether the file is being read, or what it says is not in force yet.
    pub(super) fn is_reloading(&self) -> bool {
        self.reread.is_reading() || self.is_opening()
    }

    /// Does what somebody asks for.
    pub(super) fn heed(&mut self, request: Request) {
        match request {
            Request::Reload(reply) => self.reread.ask_for(reply),
            Request::Cut(reply) => {
                tracing::info!("vxtap cut: completing the files that are written to");
                self.pipeline.orders.cut();
                reply.send(Ok(Cut { cut: true }));
            }
            Request::Watch(order, reply) => {
                reply.send(self.watches.watch(&mut self.pipeline, &self.plan, order));
            }
            Request::EndWatch(output, reply) => reply.send(self.watches.end(&output)),
        }
    }

    /// Takes what the file says now, and makes it so.
    pub(super) fn take(&mut self, answer: Result<Answer, RecvError>) {
        match self.reread.take(answer) {
            Ok(wanted) => self.reload(wanted),
            Err(error) => self.view.refused(error),
        }
    }

    /// Makes so what was read, at once where no output comes.
    fn reload(&mut self, Wanted { plan, allowed }: Wanted) {
        let (plan, mut changes, said) = match plan.map(|plan| diff(&self.plan, plan)).transpose() {
            Ok(Some(Diff { plan, changes, said })) => (Some(plan), changes, Some(said)),
            Ok(None) => (None, Changes::default(), None),
            Err(refused) => return self.refused(&refused),
        };
        changes.allowed = Some(allowed.clone());
        let read = Read { plan, changes, allowed, said };
        match self.pipeline.prepare(&read.changes) {
            Ok(opening) if opening.is_empty() => self.make(read, opening.open()),
            Ok(opening) => match open(opening) {
                Ok(opened) => {
                    self.reread.opens();
                    self.coming = Some(Coming { read, opened });
                }
                Err(error) => self.refused(&error),
            },
            Err(error) => self.refused(&error),
        }
    }

    /// Returns where the outputs come that are being opened, and where what is read comes.
    pub(super) fn answers(&self) -> (Receiver<Opened>, Receiver<Answer>) {
        match &self.coming {
            Some(coming) => (coming.opened.clone(), never()),
            None => (never(), self.reread.answers().clone()),
        }
    }

    /// Takes the outputs that were opened.
    pub(super) fn opened(&mut self, opened: Result<Opened, RecvError>) {
        let Some(Coming { read, .. }) = self.coming.take() else { return };
        self.reread.has_opened();
        match opened {
            Ok(opened) => self.make(read, opened),
            Err(RecvError) => self.refused(&"outputs cannot be opened: please report this"),
        }
    }

    /// Says that what was read cannot be so.
    fn refused(&mut self, error: &dyn Display) {
        let error = error.to_string();
        let error = self.plan.wording.put(&error);
        self.reread.refused(&error);
        self.view.refused(error.into_owned());
    }

    fn make(&mut self, read: Read, opened: Opened) {
        let Read { plan, changes, allowed, mut said } = read;
        let is_other = *self.pipeline.allowed() != allowed;
        let late = match self.pipeline.make(changes, opened) {
            Ok(()) => None,
            Err(error) if error.is_made() => Some(error),
            Err(error) => return self.refused(&error),
        };
        if let (Some(said), true) = (&mut said, is_other) {
            said.push("sessions that are let in".into());
        }
        self.reread.done(said.as_deref(), late.as_ref());
        self.view.applied();
        if said.is_none() || is_other {
            allow_log::log(&allowed);
        }
        if let Some(plan) = plan {
            warn_of_file_limit(&plan);
            self.view.replan(planned(Facts::clone(&self.view.facts()), &plan));
            self.plan = plan;
        }
    }
}

/// Returns the facts of a sensor that goes by this plan from now on.
pub(super) fn planned(facts: Facts, plan: &RunPlan) -> Facts {
    let text = file::write(&plan.settings).unwrap_or_else(|error| format!("# {error}\n"));
    facts.planned(&plan.pipeline, text.into())
}

/// Has a thread open outputs. It ends when they are open, or with the process.
fn open(opening: Opening) -> Result<Receiver<Opened>, ChangeError> {
    let (sender, opened) = bounded(1);
    let open = move || {
        // Nobody takes them where the sensor has ended.
        let _ = sender.send(opening.open());
    };
    thread::Builder::new().name("vxtap-open".into()).spawn(open).map_err(ChangeError::Thread)?;
    Ok(opened)
}

/// Warns where files meet the limit of the process before they are cut, which costs frames.
pub(super) fn warn_of_file_limit(plan: &RunPlan) {
    let sizes = plan.pipeline.outputs.iter().filter_map(|output| output.to.files()).map(|files| files.rotate_size);
    if let (Some(size), Some(limit)) = (sizes.max(), storage::file_size_limit())
        && size > limit
    {
        let text = format!(
            "a file can have {limit} bytes here (RLIMIT_FSIZE, `ulimit -f`, LimitFSIZE= of a unit), and frames are lost where it is to \
             have more; give a smaller --rotate-size than {size}, or raise the limit"
        );
        tracing::warn!("{}", plan.wording.put(&text));
    }
}
