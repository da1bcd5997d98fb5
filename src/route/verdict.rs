//! The verdict of a session's plan on one of its frames, which holds for all outputs.

use std::net::Ipv6Addr;

use super::Rules;
use super::SessionId;
use super::cutoff::{Flows, Part};
use super::dedup::{Dedup, Mode, Sight};
use super::policy::SessionPlan;
use super::selection::Candidate;
use crate::ledger::{Filtered, WorkerCounters};
use crate::record::Timestamp;
use crate::wire::{Direction, address};

/// A frame whose plan is asked.
#[derive(Debug)]
pub(crate) struct Asked<'a, 'f> {
    /// The source of its session, an address of the mirrored interface.
    pub source: Ipv6Addr,
    /// The way that it went, where its encapsulation says it.
    pub direction: Option<Direction>,
    /// Its session.
    pub session: SessionId,
    /// The time at which it was received.
    pub time: Timestamp,
    /// Bytes of it that arrived.
    pub arrived: u32,
    /// The frame itself.
    pub candidate: &'a mut Candidate<'f>,
}

/// What became of a frame by the plan of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Bytes of it that are kept at most, or the reason why no output gets it.
    pub kept: Result<usize, Filtered>,
    /// The session that delivered the packet before.
    pub copy_of: Option<SessionId>,
}

/// Asks a plan that is not to drop all. `flows` are those that the worker knows.
pub(crate) fn verdict(
    plan: &SessionPlan,
    asked: &mut Asked<'_, '_>,
    flows: &mut Flows,
    counters: &WorkerCounters,
) -> Verdict {
    let filtered = |reason| Verdict { kept: Err(reason), copy_of: None };
    if let Some(rules) = &plan.rules
        && !asked.satisfies(rules)
    {
        return filtered(Filtered::Rule);
    }
    if let Some(expression) = &plan.expression
        && !asked.candidate.satisfies(expression)
    {
        return filtered(Filtered::Expression);
    }
    let mut copy_of = None;
    if let Some(dedup) = &plan.dedup {
        copy_of = asked.sight(dedup, counters);
        if copy_of.is_some() && dedup.mode == Mode::Drop {
            return Verdict { copy_of, ..filtered(Filtered::Duplicate) };
        }
    }
    if let Some(cutoff) = &plan.cutoff {
        let frame = asked.candidate.frame();
        let part = match asked.session {
            // Sessions beyond the limit are not told apart, and their flows would be one.
            SessionId::OVERFLOW => Part::Untold,
            session => flows.part(cutoff, session, frame, asked.candidate.layers(), asked.time),
        };
        match part {
            Part::Kept => {}
            Part::Untold => counters.cutoff_table_full.add(1),
            Part::Beyond => {
                counters.beyond_cutoff.frames.add(1);
                counters.beyond_cutoff.bytes.add(u64::from(asked.arrived));
                return Verdict { copy_of, ..filtered(Filtered::Cutoff) };
            }
        }
    }
    let sliced = plan.slice.map_or(usize::MAX, |slice| slice.keep(asked.candidate.layers()));
    Verdict { kept: Ok(plan.snaplen.unwrap_or(usize::MAX).min(sliced)), copy_of }
}

impl Asked<'_, '_> {
    /// Says whether rules keep the frame. The direction is that of the encapsulation, or else
    /// that of the addresses.
    fn satisfies(&mut self, rules: &Rules) -> bool {
        let layers = self.candidate.layers();
        match self.direction {
            None => rules.accepts(address::in_packet(self.source), layers),
            told => rules.accepts_going(told, layers),
        }
    }

    /// Returns the session of the group that delivered the packet before.
    fn sight(&mut self, dedup: &Dedup, counters: &WorkerCounters) -> Option<SessionId> {
        let (frame, _) = self.candidate.frame();
        match dedup.group.see(self.session, frame, self.candidate.layers(), self.time) {
            Sight::New => None,
            Sight::Again(first) => {
                counters.duplicate_frames.add(1);
                match self.session {
                    SessionId::OVERFLOW => counters.overflow.duplicates.add(1),
                    session => counters.sessions.duplicate(session.seat()),
                }
                Some(first)
            }
            Sight::Busy => {
                counters.dedup_busy.add(1);
                None
            }
        }
    }
}
