//! A worker has an outlet for each output, and its frames leave it by these.

use std::sync::Arc;

use crate::lane::Lane;
use crate::ledger::{Filtered, OutputCounters};
use crate::record::Timestamp;
use crate::route::policy::{OutputNumber, SessionPlan};
use crate::route::{Candidate, Selection, SessionId, Watched};
use crate::source::Datagram;
use crate::wire::Decapsulated;

/// A worker's way into one output.
#[derive(Debug)]
pub struct Outlet {
    /// The number by which the plans of the policy know the output.
    pub number: OutputNumber,
    /// The frames that the output takes, of those that come by the worker.
    pub selection: Selection,
    /// The lane by which they enter it.
    pub lane: Lane,
    /// Where some frames reach the output in front of the worker, which sees a copy of them or
    /// nothing: the counters of what became of these.
    pub bypassed: Option<Arc<OutputCounters>>,
    /// Where the output is a watch: the sessions that are watched, whatever outputs their plans
    /// name.
    pub(super) watched: Option<Watched>,
    /// Where the output is a watch: the counters of frames that were redirected in front of the
    /// worker, which has no copy of them.
    pub(super) redirected: Option<Arc<OutputCounters>>,
}

/// Makes an outlet into a lane that takes every frame.
impl From<Lane> for Outlet {
    fn from(lane: Lane) -> Self {
        let (number, selection) = (OutputNumber::UNKNOWN, Selection::default());
        Self { number, selection, lane, bypassed: None, watched: None, redirected: None }
    }
}

impl Outlet {
    /// Makes it an outlet that some frames go by. `counters` count what became of these.
    #[must_use]
    pub(super) fn bypassed(self, counters: Arc<OutputCounters>) -> Self {
        Self { bypassed: Some(counters), ..self }
    }

    /// Offers a frame to the output, which writes it, or counts why not. A candidate is made when
    /// the first output asks for one.
    #[inline]
    pub(super) fn offer<'a>(
        &mut self,
        session: SessionId,
        datagram: &Datagram<'a>,
        inner: &Decapsulated<'a>,
        candidate: &mut Option<Candidate<'a>>,
    ) {
        if self.has_had(datagram) {
            return;
        }
        if self.selection.is_all() && self.watched.is_none() && !inner.is_bare_ip {
            self.lane.offer(session, datagram.timestamp, inner.frame, inner.original);
            return self.tell_way(inner);
        }
        self.offer_selected(session, datagram.timestamp, *inner, candidate);
    }

    #[inline(never)]
    fn offer_selected<'a>(
        &mut self,
        session: SessionId,
        timestamp: Timestamp,
        inner: Decapsulated<'a>,
        candidate: &mut Option<Candidate<'a>>,
    ) {
        let is_for = self.watched.as_mut().is_none_or(|watched| watched.has(session));
        let mut refuses = || self.selection.refuses(candidate.get_or_insert_with(|| Candidate::new(&inner)));
        match if is_for { refuses() } else { Some(Filtered::Session) } {
            None => {
                let of = (session, inner.is_bare_ip);
                self.lane.offer_cut(of, timestamp, inner.frame, inner.original, usize::MAX);
                self.tell_way(&inner);
            }
            Some(reason) => self.lane.filter(reason, 1),
        }
    }

    /// Offers a frame of a session with this plan, of which `most` bytes are kept at most.
    pub(super) fn offer_by<'a>(
        &mut self,
        (plan, most): (&SessionPlan, usize),
        session: SessionId,
        datagram: &Datagram<'a>,
        inner: &Decapsulated<'a>,
        candidate: &mut Candidate<'a>,
    ) {
        if self.has_had(datagram) {
            return;
        }
        let is_for = match &mut self.watched {
            Some(watched) => watched.has(session),
            None => plan.outputs.contains(self.number),
        };
        let reason = if is_for { self.selection.refuses(candidate) } else { Some(Filtered::Session) };
        match reason {
            None => {
                let of = (session, inner.is_bare_ip);
                self.lane.offer_cut(of, datagram.timestamp, inner.frame, inner.original, most);
                self.tell_way(inner);
            }
            Some(reason) => self.lane.filter(reason, 1),
        }
    }

    /// Says which way the frame went that was offered last, where its mirror told it.
    #[inline(always)]
    fn tell_way(&mut self, inner: &Decapsulated<'_>) {
        if let Some(direction) = inner.direction {
            self.lane.went(direction);
        }
    }

    /// Counts a frame that the configuration keeps out of the output, for this reason.
    pub(super) fn filter(&mut self, datagram: &Datagram<'_>, reason: Filtered) {
        if !self.has_had(datagram) {
            self.lane.filter(reason, 1);
        }
    }

    /// Counts frames that were redirected in front of the worker, which has no copy of them.
    pub(super) fn miss(&mut self, frames: u64) {
        match &self.redirected {
            None => self.lane.no_room(frames),
            Some(counters) => {
                counters.offered.add(frames);
                counters.unwatched.add(frames);
            }
        }
    }

    /// Says whether the frame has reached the output in front of the worker, and if so counts it as
    /// offered.
    #[inline]
    fn has_had(&self, datagram: &Datagram<'_>) -> bool {
        match &self.bypassed {
            Some(counters) if datagram.delivered => {
                counters.offered.add(1);
                true
            }
            _ => false,
        }
    }
}
