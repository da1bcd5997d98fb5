//! The sessions that are let in are those that the settings list, or those that a file lists.

use super::super::allow::AllowPlan;
use super::super::error::PlanError;
use super::super::sessions::only;
use super::super::settings::Settings;
use crate::setting::key;
use crate::source::{Allowed, TooMany};

/// Plans which sessions are let in.
///
/// # Errors
/// A list has `all` and something else, or more is listed than the program in the kernel has room
/// for.
pub(super) fn plan(settings: &Settings) -> Result<AllowPlan, PlanError> {
    let (sessions, origins) = (&settings.sessions, &settings.origins);
    if let Some(file) = &sessions.allow {
        return Ok(AllowPlan::File(file.clone()));
    }
    let both = |key| move |error| PlanError::AllAndOthers { said: origins.said(key), error };
    let vnis = only(sessions.vni.iter().copied()).map_err(both(&key::VNI))?;
    let sources = only(sessions.from.iter().copied()).map_err(both(&key::FROM))?;
    let allowed = Allowed::new(vnis.map(FromIterator::from_iter), sources.map(FromIterator::from_iter));
    let long = |error: TooMany| {
        let key = if error.is_of_vnis() { &key::VNI } else { &key::FROM };
        PlanError::Allowed { said: origins.said(key), error }
    };
    allowed.map(AllowPlan::Given).map_err(long)
}
