//! The sensor is asked by settings, and does what a plan says that follows from them.
//!
//! ```text
//! command line ─┐
//! file          ├─▶ Settings ─┐
//! demonstration ┘             ├─▶ RunPlan
//!                  HostFacts ─┘
//! ```
//!
//! [`Settings`] have what somebody asked for, value by value, and where each was said. A
//! [`RunPlan`] has what that means on this host; a [`PlanError`] tells why it means nothing.

pub(crate) mod address;
pub(crate) mod allow;
pub mod aws;
mod diff;
pub(crate) mod entry;
mod error;
pub mod file;
pub(crate) mod files;
pub(crate) mod hashing;
pub(crate) mod interface;
pub(crate) mod kept;
pub(crate) mod listener;
mod near;
pub mod origin;
mod over_ip;
mod plan;
pub(crate) mod port;
pub(crate) mod rules;
pub(crate) mod sessions;
pub mod settings;
mod typed;
pub(crate) mod units;

pub(crate) use diff::{Diff, diff};
pub use error::PlanError;
pub use plan::RunPlan;
pub(crate) use settings::Settings;
