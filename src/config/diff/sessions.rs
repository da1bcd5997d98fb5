//! Entries for sessions come, go, or say something else.

use std::collections::{BTreeMap, BTreeSet};

use crate::route::policy::{Entry, OutputSet, Policy, SessionPlan};

/// The most entries that are named. Of more the log says how many they are.
const NAMED: usize = 5;

/// Says which entries differ, in a few words; none where none does.
pub(super) fn said(now: &Policy, wanted: &Policy) -> Option<String> {
    let (before, after) = (by_name(now), by_name(wanted));
    let what = |name: &String| match (before.get(name), after.get(name)) {
        (Some(was), Some(is)) => (!is_same(now, was, wanted, is)).then_some("changed"),
        (None, _) => Some("added"),
        (_, None) => Some("removed"),
    };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ: Vec<String> =
        names.into_iter().filter_map(|name| Some(format!("[[session]] {name} {}", what(name)?))).collect();
    let order = |policy: &Policy| -> Vec<String> { named_entries(policy).map(|(name, _)| name).collect() };
    match differ.len() {
        0 => (order(now) != order(wanted)).then(|| "[[session]] in another order".to_owned()),
        few if few <= NAMED => Some(differ.join(", ")),
        many => Some(format!("{many} entries of [[session]]")),
    }
}

/// Says whether two entries are the same, of two policies that may have other numbers for outputs.
fn is_same(now: &Policy, was: &Entry, wanted: &Policy, is: &Entry) -> bool {
    let bare = |entry: &Entry| {
        let plan = SessionPlan { outputs: OutputSet::ALL, ..entry.plan.clone() };
        Entry { plan, ..entry.clone() }
    };
    now.outputs_in(&was.plan.outputs) == wanted.outputs_in(&is.plan.outputs) && bare(was) == bare(is)
}

fn by_name(policy: &Policy) -> BTreeMap<String, &Entry> {
    named_entries(policy).collect()
}

/// Returns the entries in their order, each with how people call it.
fn named_entries(policy: &Policy) -> impl Iterator<Item = (String, &Entry)> {
    (1..).zip(policy.entries()).map(|(number, entry)| (name(number, &entry.plan), entry))
}

/// Returns the name of an entry, which is the `number`th from 1.
fn name(number: usize, plan: &SessionPlan) -> String {
    plan.label.name.as_ref().map_or_else(|| format!("number {number}"), ToString::to_string)
}
