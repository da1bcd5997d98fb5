//! From arguments as typed to a plan that is valid.

pub mod units;
