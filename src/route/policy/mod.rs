//! A policy says by which plan the frames of a session are treated.
//!
//! A policy has entries in an order, and the first that matches a session gives its plan. A worker
//! asks once for a session and remembers the answer; a policy never changes, and a worker that gets
//! another asks again. Yet a flood of sessions that nobody has seen must not be dear, so what is
//! asked is looked up rather than tried entry by entry: the entries that have the VNI, and of these
//! the ones that have the source.

mod axis;
mod cover;
mod outputs;
mod plan;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::sync::Arc;

use hashbrown::HashMap;

pub use self::outputs::{OutputNumber, OutputSet};
pub use self::plan::SessionPlan;

use self::axis::{Axis, BITS, Entries};
use crate::session::{Scope, Session};
use crate::wire::{SourceSet, Vni, VniSet};

/// The sessions that an entry is for: all that every condition is true of. A condition that is not
/// there is true of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The outer source addresses.
    pub sources: Option<SourceSet>,
    /// The VNIs.
    pub vnis: Option<VniSet>,
    /// The scope. A session without one does not match.
    pub scope: Option<Scope>,
    /// The UDP port of this host that the datagrams come to.
    pub port: Option<u16>,
}

/// An entry of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The sessions that it is for.
    pub sessions: Match,
    /// What becomes of their frames.
    pub plan: SessionPlan,
}

/// More entries than a policy can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} entries for sessions are too many; at most {most} can be given", most = Policy::MOST)]
pub struct TooManyEntries(pub usize);

/// The place of a plan in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanNumber(u16);

impl PlanNumber {
    /// The plan of a session whose frames go to all outputs as they are.
    pub const PLAIN: PlanNumber = PlanNumber(0);
    /// The plan of a session whose frames go nowhere.
    pub const DROP: PlanNumber = PlanNumber(u16::MAX);
}

/// The conditions that the axes do not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Others {
    scope: Option<Scope>,
    port: Option<u16>,
}

/// Says by which plan the frames of each session are treated. By default it has no entries, and the
/// frames of all sessions go to all outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    entries: Box<[Entry]>,
    /// By what workers treat the frames, by the place of the entry.
    numbers: Box<[PlanNumber]>,
    others: Box<[Others]>,
    vnis: Axis<u32>,
    /// For each set of entries of `vnis` the place of the one that matches whatever the source,
    /// where nothing else can: the number of entries where none matches.
    decided: Box<[Option<usize>]>,
    sources: Axis<u128>,
    /// The ports that entries name.
    ports: Box<[u16]>,
    /// The plan of what no entry matches.
    plain: SessionPlan,
    /// The names of the outputs, in the order of their numbers.
    outputs: Box<[String]>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::of(Box::default(), Box::default())
    }
}

impl Policy {
    /// The most entries that a policy has. The memory for what is looked up grows with their
    /// square.
    pub const MOST: usize = 8192;
    /// The port of what comes to none, and a port that no entry names.
    const NO_PORT: u16 = 0;

    /// Makes a policy of these entries, of which the first that matches counts. `outputs` are the
    /// names of the outputs: their places are the numbers by which plans know them.
    ///
    /// # Errors
    /// There are more than [`Policy::MOST`].
    pub fn new(entries: Vec<Entry>, outputs: Vec<String>) -> Result<Self, TooManyEntries> {
        match entries.len() {
            many if many > Self::MOST => Err(TooManyEntries(many)),
            _ => Ok(Self::of(entries.into(), outputs.into())),
        }
    }

    fn of(entries: Box<[Entry]>, outputs: Box<[String]>) -> Self {
        let vnis = Axis::new(entries.iter().map(|entry| {
            let set = entry.sessions.vnis.as_ref()?;
            Some(set.ranges().iter().map(|range| (range.first.get(), range.last.get())))
        }));
        let sources =
            Axis::new(entries.iter().map(|entry| Some(entry.sessions.sources.as_ref()?.ranges().iter().copied())));
        let decided = vnis.entries().iter().map(|set| match places(set).next() {
            None => Some(entries.len()),
            Some(first) => {
                let Match { sources, scope, port, .. } = &entries[first].sessions;
                (sources.is_none() && scope.is_none() && port.is_none()).then_some(first)
            }
        });
        Self {
            numbers: (1..).zip(&entries).map(|(place, entry)| number(place, &entry.plan)).collect(),
            others: entries
                .iter()
                .map(|Entry { sessions: Match { scope, port, .. }, .. }| Others { scope: *scope, port: *port })
                .collect(),
            decided: decided.collect(),
            ports: entries
                .iter()
                .filter_map(|entry| entry.sessions.port)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            vnis,
            sources,
            entries,
            plain: SessionPlan::default(),
            outputs,
        }
    }

    /// Has groups go on that another policy has by the same name: they know what came before.
    #[must_use]
    pub(crate) fn with_groups_of(self: Arc<Self>, before: &Self) -> Arc<Self> {
        let groups = before.entries.iter().filter_map(|entry| entry.plan.dedup.as_ref()).map(|dedup| &dedup.group);
        let groups: HashMap<_, _> = groups.map(|group| (group.name(), group)).collect();
        if groups.is_empty() {
            return self;
        }
        let mut policy = Arc::unwrap_or_clone(self);
        for dedup in policy.entries.iter_mut().filter_map(|entry| entry.plan.dedup.as_mut()) {
            if let Some(group) = groups.get(dedup.group.name()) {
                dedup.group = Arc::clone(group);
            }
        }
        Arc::new(policy)
    }

    /// Says whether there are no entries.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the number of the output of this name.
    #[must_use]
    pub(crate) fn number_of_output(&self, name: &str) -> OutputNumber {
        let place = self.outputs.iter().position(|output| output == name);
        place.and_then(OutputNumber::new).unwrap_or(OutputNumber::UNKNOWN)
    }

    /// Returns the names of the outputs in a set; none where it is all, also those that come.
    pub(crate) fn outputs_in(&self, set: &OutputSet) -> Option<Vec<&str>> {
        let is_in = |place: usize| OutputNumber::new(place).is_some_and(|number| set.contains(number));
        let named = || self.outputs.iter().enumerate().filter(|(place, _)| is_in(*place));
        (*set != OutputSet::ALL).then(|| named().map(|(_, name)| name.as_str()).collect())
    }

    /// Returns the bits of a local port that the plan of a session depends on: none of them where
    /// no entry names a port.
    #[inline]
    #[must_use]
    pub(crate) fn port_mask(&self) -> u16 {
        if self.ports.is_empty() { 0 } else { u16::MAX }
    }

    /// Returns the plan of a session whose datagrams come to `port`.
    #[must_use]
    pub fn plan_of(&self, session: &Session, port: u16) -> &SessionPlan {
        self.entries.get(self.place_of(session, port)).map_or(&self.plain, |entry| &entry.plan)
    }

    /// Says whether the frames of a session go to an output whatever port its datagrams come to.
    #[must_use]
    pub(crate) fn always_goes_to(&self, session: &Session, output: OutputNumber) -> bool {
        let mut ports = self.ports.iter().chain([&Self::NO_PORT]);
        ports.all(|port| self.plan_of(session, *port).goes_to(output))
    }

    /// Returns by what a worker treats the frames of a session whose datagrams come to `port`.
    /// Plans that differ in nothing but the name have one number.
    #[must_use]
    pub(crate) fn number_of(&self, session: &Session, port: u16) -> PlanNumber {
        self.numbers.get(self.place_of(session, port)).copied().unwrap_or(PlanNumber::PLAIN)
    }

    /// Returns by what a worker treats the frames of all sessions of this VNI, where that depends
    /// on nothing else.
    #[inline]
    #[must_use]
    pub(crate) fn decided_by_vni(&self, vni: Vni) -> Option<PlanNumber> {
        let place = self.decided.get(self.vnis.place(vni.get())).copied().flatten()?;
        Some(self.numbers.get(place).copied().unwrap_or(PlanNumber::PLAIN))
    }

    /// Returns the plan of this number.
    #[inline]
    #[must_use]
    pub(crate) fn plan(&self, PlanNumber(number): PlanNumber) -> &SessionPlan {
        let place = usize::from(number).checked_sub(1);
        place.and_then(|place| self.entries.get(place)).map_or(&self.plain, |entry| &entry.plan)
    }

    /// Returns the place of the entry that matches; the number of entries where none does.
    fn place_of(&self, session: &Session, port: u16) -> usize {
        let Session { source, vni, scope, .. } = *session;
        self.first(source, vni, |others| {
            others.scope.is_none_or(|wanted| scope == Some(wanted)) && others.port.is_none_or(|wanted| port == wanted)
        })
    }

    fn first(&self, source: Ipv6Addr, vni: Vni, fits: impl Fn(&Others) -> bool) -> usize {
        let none = self.entries.len();
        let at = self.vnis.place(vni.get());
        if let Some(Some(decided)) = self.decided.get(at) {
            return *decided;
        }
        let mut both = self.having(at, self.sources.place(source.to_bits()));
        both.find(|place| self.others.get(*place).is_some_and(&fits)).unwrap_or(none)
    }

    /// Returns the places of the entries that have both a VNI and a source, by the places of these
    /// on their axes.
    fn having(&self, vni: usize, source: usize) -> impl Iterator<Item = usize> {
        let (a, b) = (self.vnis.entries().get(vni), self.sources.entries().get(source));
        let (a, b) = (a.map(|set| &**set).unwrap_or_default(), b.map(|set| &**set).unwrap_or_default());
        let words = a.iter().zip(b).map(|(a, b)| a & b).enumerate();
        words.filter(|(_, bits)| *bits != 0).flat_map(|(word, bits)| in_word(word, bits))
    }
}

/// Returns by what workers treat the frames of this plan, whose entry is the `place`th from 1.
fn number(place: u16, plan: &SessionPlan) -> PlanNumber {
    match (plan.drop, plan.is_plain()) {
        (true, _) => PlanNumber::DROP,
        (false, true) => PlanNumber::PLAIN,
        (false, false) => PlanNumber(place),
    }
}

/// Returns the places of the entries in a set, in their order.
fn places(set: &Entries) -> impl Iterator<Item = usize> {
    set.iter().enumerate().flat_map(|(word, bits)| in_word(word, *bits))
}

fn in_word(word: usize, bits: u64) -> impl Iterator<Item = usize> {
    let others = |bits: &u64| Some(bits & (bits - 1)).filter(|bits| *bits != 0);
    let bits = std::iter::successors(Some(bits).filter(|bits| *bits != 0), others);
    bits.map(move |bits| word * BITS + bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests;
