//! The verdict of a session's plan on one of its frames, which holds for all outputs.

use super::policy::SessionPlan;
use super::selection::Candidate;
use crate::ledger::Filtered;

/// Says how many bytes of the frame are kept at most, by a plan that is not to drop all.
///
/// # Errors
/// No output gets the frame, for the reason that is returned.
pub(crate) fn verdict(plan: &SessionPlan, candidate: &mut Candidate<'_>) -> Result<usize, Filtered> {
    if let Some(expression) = &plan.expression
        && !candidate.satisfies(expression)
    {
        return Err(Filtered::Expression);
    }
    Ok(plan.snaplen.unwrap_or(usize::MAX))
}
