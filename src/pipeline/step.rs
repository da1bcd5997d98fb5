//! The step of a worker: it decapsulates one datagram, finds its session, and offers the frame to
//! every output.

use std::sync::Arc;
use std::time::Instant;

use super::decap::{ReservedBits, decapsulate};
use super::outlet::Outlet;
use crate::ledger::WorkerCounters;
use crate::route::{Candidate, SessionId, SessionTable};
use crate::session::Session;
use crate::source::{Allowed, Datagram};

/// Takes datagrams to the outputs.
#[derive(Debug)]
pub struct Step {
    policy: ReservedBits,
    pub(super) allowed: Arc<Allowed>,
    pub(super) sessions: SessionTable,
    pub(super) outlets: Vec<Outlet>,
    pub(super) counters: Arc<WorkerCounters>,
}

impl Step {
    /// Makes a step from datagrams of the sessions that are allowed to `outlets`.
    #[must_use]
    pub fn new(
        policy: ReservedBits,
        allowed: Arc<Allowed>,
        mut sessions: SessionTable,
        mut outlets: Vec<Outlet>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        sessions.count_in(Arc::clone(&counters.sessions));
        outlets.iter_mut().for_each(|outlet| outlet.lane().attach(&counters));
        Self { policy, allowed, sessions, outlets, counters }
    }

    /// Decapsulates a datagram, finds its session and offers the frame to every output. Counts the
    /// datagram, whatever it is.
    #[inline]
    pub fn datagram(&mut self, datagram: &Datagram<'_>) {
        let counters = &*self.counters;
        counters.received.add(1);
        counters.received_bytes.add(datagram.length as u64);
        let inner = match decapsulate(datagram, self.policy) {
            Ok(inner) => inner,
            Err(reason) => return counters.dropped(reason).add(1),
        };
        counters.decapsulated.add(1);
        if inner.reserved_bits {
            counters.reserved_bits.add(1);
        }
        // This comes before the session is looked up: a session that is not allowed must not use up
        // a number. A frame that was delivered was allowed at the time.
        if !datagram.delivered && !self.allowed.takes(datagram.source, inner.vni) {
            counters.unselected_vnis.add(inner.vni);
            return self.unselected(1);
        }
        if inner.original > inner.arrived {
            counters.cut_by_mirror.add(1);
        }
        // A capture says the link type once, for all frames of its session.
        debug_assert_eq!(inner.link_type, datagram.encapsulation.link_type());
        let session = Session {
            encapsulation: datagram.encapsulation,
            source: datagram.source,
            scope: inner.scope,
            vni: inner.vni,
        };
        let session = self.sessions.find_and_count(session, inner.arrived as usize, datagram.timestamp);
        if session == SessionId::OVERFLOW {
            counters.overflow.frames.add(1);
            counters.overflow.bytes.add(u64::from(inner.arrived));
        }
        let mut candidate = Candidate::new(&inner);
        for outlet in &mut self.outlets {
            outlet.offer(session, datagram, &inner, &mut candidate);
        }
    }

    /// Counts decapsulated frames of sessions that are not allowed.
    pub(super) fn unselected(&mut self, frames: u64) {
        self.counters.unselected.add(frames);
        for outlet in &mut self.outlets {
            outlet.lane().filter(frames);
        }
    }

    /// Hands over chunks that have lingered, and returns when the next one will have.
    pub(crate) fn tend(&mut self, now: Instant) -> Option<Instant> {
        self.outlets.iter_mut().filter_map(|outlet| outlet.lane().tend(now)).min()
    }
}
