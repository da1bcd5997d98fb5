//! A plan that takes the place of another while the sensor runs changes what can change, or
//! nothing.
//!
//! Outputs are told apart by their names. What an output has at its start and cannot get later,
//! another output can have; what workers, sockets and maps are made for stays until the next start.

mod outputs;
mod refused;
mod sessions;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::refused::Refused;
use super::plan::RunPlan;
use crate::pipeline::Changes;
use crate::setting::key::{self, Key};

/// The difference of two plans, which can be made while the sensor runs.
#[derive(Debug)]
pub(crate) struct Diff {
    /// The changes of the pipeline, but for who is allowed.
    pub changes: Changes,
    /// The plan that is in force afterwards. It is the one that was asked for, but for the memory
    /// of the outputs that stay: they keep what they have.
    pub plan: RunPlan,
    /// All that changes, each in a few words. Nothing changes where there is none.
    pub said: Vec<String>,
}

/// Says what changes where the plan `wanted` takes the place of `now`.
///
/// # Errors
/// Something cannot change while the sensor runs.
pub(crate) fn diff(now: &RunPlan, wanted: RunPlan) -> Result<Diff, Refused> {
    let mut restart: Vec<String> = fixed(now, &wanted).into_iter().map(|key| key.path.to_owned()).collect();
    let mut said = Vec::new();
    let outputs = outputs::diff(now, &wanted.pipeline.outputs, &mut restart, &mut said)?;
    if !restart.is_empty() {
        restart.dedup();
        return Err(Refused::Restart(restart));
    }
    if now.session_idle != wanted.session_idle {
        said.push(key::SESSION_IDLE.path.to_owned());
    }
    if now.drain != wanted.drain {
        said.push(key::HEALTH_DRAIN.path.to_owned());
    }
    let mut plan = wanted;
    let mut changes = outputs.changes;
    if now.pipeline.reserved_bits != plan.pipeline.reserved_bits {
        said.push(key::RESERVED_BITS.path.to_owned());
        changes.reserved_bits = Some(plan.pipeline.reserved_bits);
    }
    if now.pipeline.policy != plan.pipeline.policy {
        said.extend(sessions::said(&now.pipeline.policy, &plan.pipeline.policy));
        changes.policy = Some(Arc::clone(&plan.pipeline.policy));
    }
    // What the program drops and makes copies of is as it was at the start.
    let source = std::mem::replace(&mut plan.source, now.source.clone());
    plan.source.bpf.keep_as(&source.bpf);
    let kept = plan.source.bpf.kept();
    changes.kept = (kept != now.source.bpf.kept()).then_some(kept);
    plan.pipeline.outputs = outputs.plans;
    Ok(Diff { changes, plan, said })
}

/// Returns the settings of the whole sensor that differ and are made use of at the start alone.
fn fixed(now: &RunPlan, wanted: &RunPlan) -> Vec<&'static Key> {
    let (udp, to_udp) = (&now.source.udp, &wanted.source.udp);
    let (bpf, to_bpf) = (&now.source.bpf, &wanted.source.bpf);
    let (pipeline, to_pipeline) = (&now.pipeline, &wanted.pipeline);
    let of_all = [
        (&key::SOURCE, now.source.way != wanted.source.way),
        (&key::LISTEN, udp.listen != to_udp.listen || now.source.mirrors != wanted.source.mirrors),
        (&key::WORKERS, udp.workers != to_udp.workers),
        (&key::STEER, udp.steering != to_udp.steering),
        (&key::VNI_MASK, pipeline.vni_mask != to_pipeline.vni_mask),
        (&key::RECEIVE_BUFFER, udp.receive_buffer != to_udp.receive_buffer),
        (&key::TIMESTAMPS, pipeline.timestamps != to_pipeline.timestamps),
        (&key::TAG_MAP, to_pipeline.tags().is_some() && pipeline.tags() != to_pipeline.tags()),
        (&key::MAX_SESSIONS, pipeline.max_sessions != to_pipeline.max_sessions),
        (&key::QUEUE, now.queue != wanted.queue),
        (&key::SANDBOX, now.sandbox.mode != wanted.sandbox.mode),
        (&key::SANDBOX_DIRECTORIES, differ(&now.sandbox.directories, &wanted.sandbox.directories)),
        (&key::DURATION, now.duration != wanted.duration),
        (&key::COUNT, pipeline.count != to_pipeline.count),
    ];
    let of_program = [
        (&key::INTERFACE, bpf.interfaces != to_bpf.interfaces),
        // Redirection decides for itself, and has a name of its own.
        (&key::ATTACH, bpf.attach != to_bpf.attach && bpf.redirect.is_some() == to_bpf.redirect.is_some()),
        (&key::RING, bpf.ring != to_bpf.ring),
        (&key::ANY_ADDRESS, bpf.any_address != to_bpf.any_address),
        (&key::VERIFY_CHECKSUM, bpf.verify_checksum != to_bpf.verify_checksum),
    ];
    // Without the program nobody makes use of its settings.
    let of_program = of_program.into_iter().filter(|_| now.source.way.wants_program());
    let all = of_all.into_iter().chain(of_program).chain(of_control(now, wanted));
    all.filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Returns the settings of where the sensor answers, and whether they differ.
fn of_control(now: &RunPlan, wanted: &RunPlan) -> [(&'static Key, bool); 6] {
    let (now, to) = (&now.control, &wanted.control);
    // Without a port nobody makes use of who may ask there.
    let is_open = !to.http.listen.is_empty();
    let is_checked = !to.health.listen.is_empty();
    [
        (&key::CONTROL, now.socket != to.socket),
        (&key::HTTP, differ(&now.http.listen, &to.http.listen)),
        (&key::HTTP_ALLOW, is_open && differ(&now.http.allow, &to.http.allow)),
        (&key::HTTP_NAMES, is_open && differ(&now.http.names, &to.http.names)),
        (&key::HEALTH, differ(&now.health.listen, &to.health.listen)),
        (&key::HEALTH_ALLOW, is_checked && differ(&now.health.allow, &to.health.allow)),
    ]
}

/// Says whether lists differ in more than their order.
fn differ<T: Ord>(now: &[T], wanted: &[T]) -> bool {
    BTreeSet::from_iter(now) != BTreeSet::from_iter(wanted)
}

#[cfg(test)]
mod tests;
