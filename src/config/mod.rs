//! From arguments as typed to a plan that is valid.

pub mod address;
pub mod allow;
pub mod files;
pub mod hashing;
mod plan;
mod queue;
mod redirect;
pub mod sessions;
pub mod units;

pub use plan::{PlanError, RunPlan};
