//! An entry can stand behind another that takes all of its sessions.

use super::{Match, Policy};
use crate::wire::{SourceSet, VniRange, VniSet};

impl Policy {
    /// Returns the places of the entries that no session comes to, each with the place of the first
    /// one that takes all of its sessions.
    pub(crate) fn unreachable(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..).zip(&self.entries).filter_map(|(place, entry)| Some((place, self.covering(place, &entry.sessions)?)))
    }

    /// Returns the place of the first entry before `place` that is for all of these sessions. Only
    /// those are tried that have one of the sessions, whatever their scope and port.
    fn covering(&self, place: usize, sessions: &Match) -> Option<usize> {
        let vni = sessions.vnis.as_ref().map_or(Some(0), |set| Some(set.ranges().first()?.first.get()))?;
        let source = sessions.sources.as_ref().map_or(Some(0), |set| Some(set.ranges().first()?.0))?;
        let mut before =
            self.having(self.vnis.place(vni), self.sources.place(source)).take_while(|before| *before < place);
        let covers = |before: &usize| self.entries.get(*before).is_some_and(|entry| covers(&entry.sessions, sessions));
        before.find(covers)
    }
}

/// Says whether `before` is for all sessions that `entry` is for.
fn covers(before: &Match, entry: &Match) -> bool {
    let scope = before.scope.is_none() || before.scope == entry.scope;
    let port = before.port.is_none() || before.port == entry.port;
    let vnis = || {
        let [before, entry] = [before, entry].map(|of| of.vnis.as_ref().map(VniSet::ranges));
        within(before, entry, |VniRange { first, last }| (*first, *last))
    };
    let sources = || {
        let [before, entry] = [before, entry].map(|of| of.sources.as_ref().map(SourceSet::ranges));
        within(before, entry, |ends| *ends)
    };
    scope && port && vnis() && sources()
}

/// Says whether each range of `entry` lies in one of `before`. Both are sorted, and none stands for
/// all.
fn within<R, T: Ord>(before: Option<&[R]>, entry: Option<&[R]>, ends: impl Fn(&R) -> (T, T)) -> bool {
    let Some(before) = before else { return true };
    entry.is_some_and(|ranges| {
        ranges.iter().all(|range| {
            let (first, last) = ends(range);
            let at = before.partition_point(|range| ends(range).1 < first);
            before.get(at).map(&ends).is_some_and(|(from, to)| from <= first && last <= to)
        })
    })
}
