//! `vxtap check` looks at what the sensor stands on, and says what is amiss and how to mend it.

pub mod finding;
pub mod report;
pub mod watch;

pub use finding::{Finding, Level};
pub use report::Report;
