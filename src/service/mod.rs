//! The sensor as a service: what a service manager is told, and what it keeps over a restart.
//!
//! Without a manager that listens, which `$NOTIFY_SOCKET` names, nobody is told and nothing is
//! kept.

mod notify;
mod watchdog;

pub use self::notify::Notify;
pub(crate) use self::watchdog::Watchdog;
