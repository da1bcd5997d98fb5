//! A plan says what becomes of a session's frames.

use std::sync::Arc;

use super::super::cutoff::Cutoff;
use super::super::dedup::Dedup;
use super::super::filter::{Expression, Rules};
use super::super::slice::Slice;
use super::outputs::{OutputNumber, OutputSet};
use crate::session::Label;

/// The plan of the sessions that one entry of a policy matches. By default their frames go to all
/// outputs, as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionPlan {
    /// The name and the description that people gave these sessions.
    pub label: Label,
    /// True where their frames are counted and go nowhere. Such sessions use no number.
    pub drop: bool,
    /// The outputs that their frames go to.
    pub outputs: OutputSet,
    /// The rules by which packets are kept; all are where there are none.
    pub rules: Option<Arc<Rules>>,
    /// The expression that frames satisfy which go anywhere; all do where there is none.
    pub expression: Option<Arc<Expression>>,
    /// What becomes of packets that another session of a group delivered before; nothing where
    /// there is none.
    pub dedup: Option<Dedup>,
    /// How much of each flow is kept; all where there is none.
    pub cutoff: Option<Cutoff>,
    /// Bytes of a frame that are kept at most; all where there is none.
    pub snaplen: Option<usize>,
    /// The part of a frame that is kept at most; all where there is none.
    pub slice: Option<Slice>,
}

impl SessionPlan {
    /// Says whether the frames go to all outputs, as they are: then no frame needs a verdict.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.drop && self.outputs == OutputSet::ALL && self.leaves_frames_alone()
    }

    /// Says whether the outputs that the frames go to have all of them, as they are.
    #[must_use]
    pub(crate) fn leaves_frames_alone(&self) -> bool {
        let Self { label: _, drop: _, outputs: _, rules, expression, dedup, cutoff, snaplen, slice } = self;
        let filters = rules.is_some() || expression.is_some() || dedup.is_some() || cutoff.is_some();
        !filters && snaplen.is_none() && slice.is_none()
    }

    /// Says whether frames go to the output of this number.
    #[must_use]
    pub(crate) fn goes_to(&self, output: OutputNumber) -> bool {
        !self.drop && self.outputs.contains(output)
    }
}
