//! Outputs come, go, or go on in another way.

use super::super::plan::RunPlan;
use super::refused::Refused;
use crate::pipeline::{Changes, Destination, OutputPlan};
use crate::setting::key::{self, Key};
use crate::sink::file::FilePlan;

/// The difference of the outputs.
pub(super) struct Outputs {
    pub(super) changes: Changes,
    /// The outputs afterwards.
    pub(super) plans: Vec<OutputPlan>,
}

/// Says what becomes of the outputs. Settings that cannot change are added to `restart`, and what
/// changes to `said`.
///
/// # Errors
/// An output would get the directory or the interface of another.
pub(super) fn diff(
    now: &RunPlan,
    wanted: &[OutputPlan],
    restart: &mut Vec<String>,
    said: &mut Vec<String>,
) -> Result<Outputs, Refused> {
    let before = &now.pipeline.outputs;
    let mut changes = Changes::default();
    let mut plans = Vec::with_capacity(wanted.len());
    for plan in before.iter().filter(|plan| wanted.iter().all(|other| other.name != plan.name)) {
        if let Destination::Redirect(_) = plan.to {
            restart.push(key::TAP_MODE.of(&plan.name));
        }
        said.push(format!("output {} removed", plan.name));
        changes.remove.push(plan.name.clone());
    }
    for plan in wanted {
        match before.iter().find(|other| other.name == plan.name) {
            None => {
                if let Destination::Redirect(_) = plan.to {
                    restart.push(key::TAP_MODE.of(&plan.name));
                }
                said.push(format!("output {} added", plan.name));
                changes.add.push(plan.clone());
                plans.push(plan.clone());
            }
            Some(was) => plans.push(goes_on(was, plan, &mut changes, restart, said)),
        }
    }
    copied_by_program(now, wanted, restart);
    match changes.add.iter().find_map(|plan| Some((plan, holder(before, plan)?))) {
        Some((plan, (what, other))) => {
            Err(Refused::Held { what, output: plan.name.clone(), other: other.name.clone() })
        }
        None => Ok(Outputs { changes, plans }),
    }
}

/// Returns the output that has the directory or the interface of this one, and which of these.
fn holder<'a>(before: &'a [OutputPlan], plan: &OutputPlan) -> Option<(&'static str, &'a OutputPlan)> {
    let is_held = |other: &&OutputPlan| match (&other.to, &plan.to) {
        (Destination::Files(other), Destination::Files(files)) => other.directory == files.directory,
        (Destination::Interface(other), Destination::Interface(to)) => other.name == to.name,
        _ => false,
    };
    let what = if plan.to.files().is_some() { "directory" } else { "interface" };
    before.iter().find(is_held).map(|other| (what, other))
}

/// Says how an output goes on that is there before and afterwards. Returns its plan.
fn goes_on(
    was: &OutputPlan,
    plan: &OutputPlan,
    changes: &mut Changes,
    restart: &mut Vec<String>,
    said: &mut Vec<String>,
) -> OutputPlan {
    let (name, mut plan) = (&plan.name, plan.clone());
    let mut differs: Vec<&Key> = Vec::new();
    let mut note = |key, is_other: bool| differs.extend(is_other.then_some(key));
    note(&key::INTERFACE_VNI, was.selection.vnis != plan.selection.vnis);
    note(&key::FILTER, was.selection.expression != plan.selection.expression);
    note(&key::TAP_COUNT, was.selection.share != plan.selection.share);
    note(&key::ESSENTIAL, was.essential != plan.essential);
    match (&was.to, &mut plan.to) {
        (Destination::Files(was), Destination::Files(to)) if was.directory != to.directory => {
            said.push(format!("output {name} in another directory"));
            changes.remove.push(name.clone());
            changes.add.push(plan.clone());
            return plan;
        }
        (Destination::Files(was_files), Destination::Files(to)) => {
            files(was_files, to).into_iter().for_each(|(key, is_other)| note(key, is_other));
            to.buffer_memory = was_files.buffer_memory;
            to.open_files = was_files.open_files;
            plan.lane.chunks = was.lane.chunks;
        }
        (Destination::Interface(was_there), Destination::Interface(to))
        | (Destination::Redirect(was_there), Destination::Redirect(to)) => {
            if was_there.tags.is_some() != to.tags.is_some() {
                restart.push(key::TAP_TAG.of(name));
            } else if was_there.mtu != to.mtu {
                restart.push(key::TAP_MTU.of(name));
            }
            if (&was_there.name, was_there.kind) != (&to.name, to.kind) {
                restart.push(key::TAP.of(name));
            }
            plan.lane.chunks = was.lane.chunks;
        }
        (Destination::Interface(_), Destination::Redirect(_))
        | (Destination::Redirect(_), Destination::Interface(_)) => {
            restart.push(key::TAP_MODE.of(name));
        }
        // No file asks for a watch.
        (Destination::Files(_) | Destination::Watch(_) | Destination::Stream(_), _)
        | (_, Destination::Files(_) | Destination::Watch(_) | Destination::Stream(_)) => {
            restart.push(format!("output.{name}.kind"));
        }
    }
    if *was != plan {
        let keys: Vec<&str> = differs.iter().filter_map(|key| key.path.rsplit('.').next()).collect();
        said.push(format!("output {name} changed: {}", keys.join(", ")));
        changes.change.push(plan.clone());
    }
    plan
}

/// Says which settings of files differ, of those that can change.
fn files(was: &FilePlan, to: &FilePlan) -> Vec<(&'static Key, bool)> {
    let (archive, to_archive) = (&was.archive, &to.archive);
    let (budget, to_budget) = (&archive.budget, &to_archive.budget);
    vec![
        (&key::FLUSH, was.linger != to.linger),
        (&key::FORMAT, was.format != to.format),
        (&key::BARE_IP, was.bare_ip != to.bare_ip),
        (&key::COMPRESS, was.compression != to.compression),
        (&key::ROTATE_SIZE, was.rotate_size != to.rotate_size),
        (&key::ROTATE_FRAMES, was.rotate_frames != to.rotate_frames),
        (&key::ROTATE_TIME, was.rotate_time != to.rotate_time),
        (&key::SNAPLEN, was.snaplen != to.snaplen),
        (&key::DIRECT, was.direct != to.direct),
        (&key::SYNC, archive.sync != to_archive.sync),
        (&key::HASH, archive.hash != to_archive.hash),
        (&key::KEEP_BYTES, budget.keep_bytes != to_budget.keep_bytes),
        (&key::KEEP_FILES, budget.keep_files != to_budget.keep_files),
        (&key::KEEP_AGE, budget.keep_age != to_budget.keep_age),
        (&key::MIN_FREE, (budget.min_free, budget.reserve) != (to_budget.min_free, to_budget.reserve)),
        (&key::ON_PUBLISH, archive.on_publish != to_archive.on_publish),
    ]
}

/// Notes the files that would have no copies of redirected frames: the program in the kernel makes
/// some only where there were files at its start.
fn copied_by_program(now: &RunPlan, outputs: &[OutputPlan], restart: &mut Vec<String>) {
    if now.source.bpf.redirect.is_some_and(|redirect| !redirect.copy) {
        let files = outputs.iter().filter(|plan| plan.to.files().is_some());
        restart.extend(files.map(|plan| format!("output.{}", plan.name)));
    }
}
