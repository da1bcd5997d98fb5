//! What the sensor is asked to do, and what follows from it.
//!
//! ```text
//! command line ─┐
//! demonstration ├─▶ Settings ─┐
//!               ┘             ├─▶ RunPlan
//!                  HostFacts ─┘
//! ```
//!
//! [`Settings`] are what somebody said, value by value, with where each was said. A [`RunPlan`] is what that means on
//! this host, or why it means nothing.

pub mod address;
pub mod allow;
mod error;
pub mod files;
pub mod hashing;
pub mod interface;
pub mod key;
pub mod origin;
mod plan;
pub mod sessions;
pub mod settings;
mod typed;
pub mod units;

pub use error::PlanError;
pub use plan::RunPlan;
pub use settings::Settings;
