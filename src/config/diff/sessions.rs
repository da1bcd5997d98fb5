//! Entries for sessions come, go, or say something else.

use super::super::plan::{RunPlan, kept};
use crate::route::policy::{Policy, SessionPlan};
use crate::source::Way;

/// Returns the keys of entries that can ask for any byte of a frame, where the program in the
/// kernel does not keep all of them.
pub(super) fn beyond_program(now: &RunPlan, wanted: &Policy) -> Vec<String> {
    if now.source.way == Way::Udp || now.source.bpf.keep >= kept(usize::MAX) {
        return Vec::new();
    }
    let plans = (1..).zip(wanted.entries()).map(|(number, entry)| (number, &entry.plan));
    plans.filter_map(|(number, plan)| Some(format!("{} of {}", reads_all(plan)?, named(number, plan)))).collect()
}

/// Returns the key by which what becomes of a frame can depend on any of its bytes.
fn reads_all(plan: &SessionPlan) -> Option<&'static str> {
    let keys = [
        ("filter", plan.expression.is_some()),
        ("rules", plan.rules.is_some()),
        ("dedup", plan.dedup.is_some()),
        ("tls", plan.cutoff.is_some_and(|cutoff| cutoff.tls.is_some())),
    ];
    keys.into_iter().find_map(|(key, is_asked)| is_asked.then_some(key))
}

/// Names an entry, which is the `number`th from 1.
fn named(number: usize, plan: &SessionPlan) -> String {
    match &plan.label.name {
        Some(name) => format!("[[session]] {name}"),
        None => format!("[[session]] number {number}"),
    }
}
