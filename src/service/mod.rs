//! The sensor as a service: what a service manager is told, and what it keeps over a restart.
//!
//! Without a manager that listens, which `$NOTIFY_SOCKET` names, nobody is told and nothing is
//! kept.

mod manager;
mod notify;
mod state;
mod store;
mod watchdog;

pub(crate) use self::manager::Manager;
pub use self::notify::Notify;
pub(crate) use self::state::{Drops, Page, Record, Records, State, Steered, read};
pub use self::store::Store;
pub(crate) use self::store::name;
pub(crate) use self::watchdog::Watchdog;
