//! A worker has an outlet for each output, and its frames leave it by these.

use std::sync::Arc;

use crate::lane::Lane;
use crate::ledger::OutputCounters;
use crate::route::{Candidate, Selection, SessionId};
use crate::source::Datagram;
use crate::wire::Decapsulated;

/// A worker's way into one output.
#[derive(Debug)]
pub enum Outlet {
    /// Every frame comes by the worker.
    Lane {
        /// The frames that the output takes.
        selection: Selection,
        /// The lane by which they enter it.
        lane: Lane,
    },
    /// Some frames reach the output in front of the worker, which sees a copy of them, or nothing.
    Bypassed {
        /// The frames that the output takes, of those that come by the worker.
        selection: Selection,
        /// The lane by which these enter it.
        lane: Lane,
        /// The counters of what became of the frames that go by.
        counters: Arc<OutputCounters>,
    },
}

/// Makes an outlet into a lane that takes every frame.
impl From<Lane> for Outlet {
    fn from(lane: Lane) -> Self {
        Self::Lane { selection: Selection::default(), lane }
    }
}

impl Outlet {
    /// Makes it an outlet that some frames go by. `counters` count what became of these.
    #[must_use]
    pub(super) fn bypassed(self, counters: Arc<OutputCounters>) -> Self {
        match self {
            Self::Lane { selection, lane } | Self::Bypassed { selection, lane, .. } => {
                Self::Bypassed { selection, lane, counters }
            }
        }
    }

    /// Lends the lane of the outlet, to look at it.
    pub(super) fn lane_ref(&self) -> &Lane {
        match self {
            Self::Lane { lane, .. } | Self::Bypassed { lane, .. } => lane,
        }
    }

    /// Lends the lane of the outlet.
    pub(crate) fn lane(&mut self) -> &mut Lane {
        match self {
            Self::Lane { lane, .. } | Self::Bypassed { lane, .. } => lane,
        }
    }

    /// Offers a frame to the output, which writes it, or counts why not.
    #[inline]
    pub(super) fn offer<'a>(
        &mut self,
        session: SessionId,
        datagram: &Datagram<'a>,
        inner: &Decapsulated<'a>,
        candidate: &mut Candidate<'a>,
    ) {
        let (selection, lane) = match self {
            Self::Bypassed { counters, .. } if datagram.delivered => return counters.offered.add(1),
            Self::Lane { selection, lane } | Self::Bypassed { selection, lane, .. } => (selection, lane),
        };
        if selection.takes(candidate) {
            lane.offer(session, datagram.timestamp, inner.frame, inner.original);
        } else {
            lane.filter(1);
        }
    }
}
