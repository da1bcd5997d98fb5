//! The sensor is asked by settings, and does what a plan says that follows from them.
//!
//! ```text
//! command line ─┐
//! demonstration ├─▶ Settings ─┐
//!               ┘             ├─▶ RunPlan
//!                  HostFacts ─┘
//! ```
//!
//! [`Settings`] have what somebody asked for, value by value, and where each was said. A
//! [`RunPlan`] has what that means on this host; a [`PlanError`] tells why it means nothing.

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
