//! The verdict of a session's plan on one of its frames, which holds for all outputs.

use std::net::Ipv6Addr;

use super::policy::SessionPlan;
use super::selection::Candidate;
use crate::ledger::Filtered;
use crate::wire::address;

/// Says how many bytes of the frame are kept at most, by a plan that is not to drop all. `source`
/// is that of the session, an address of the mirrored interface.
///
/// # Errors
/// No output gets the frame, for the reason that is returned.
pub(crate) fn verdict(plan: &SessionPlan, source: Ipv6Addr, candidate: &mut Candidate<'_>) -> Result<usize, Filtered> {
    if let Some(rules) = &plan.rules
        && !rules.accepts(address::in_packet(source), candidate.layers())
    {
        return Err(Filtered::Rule);
    }
    if let Some(expression) = &plan.expression
        && !candidate.satisfies(expression)
    {
        return Err(Filtered::Expression);
    }
    Ok(plan.snaplen.unwrap_or(usize::MAX))
}
