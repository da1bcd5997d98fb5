//! A plan says what becomes of a session's frames.

use std::sync::Arc;

use super::super::filter::{Expression, Rules};
use super::outputs::OutputSet;
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
    /// Bytes of a frame that are kept at most; all where there is none.
    pub snaplen: Option<usize>,
}

impl SessionPlan {
    /// Says whether the frames go to all outputs, as they are: then no frame needs a verdict.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self { label: _, drop, outputs, rules, expression, snaplen } = self;
        !drop && *outputs == OutputSet::ALL && rules.is_none() && expression.is_none() && snaplen.is_none()
    }
}
