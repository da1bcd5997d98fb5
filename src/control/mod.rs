//! A running sensor answers questions and takes orders: over a socket on its host, and over HTTP.
//!
//! ```text
//!  vxtap status ─┐                        ┌─ questions ─▶ View
//!  curl, top    ─┴─▶ Door ─▶ Face (tables)┤
//!                                         └─ orders ────▶ Request ─▶ the thread that conducts
//!                                                                    the sensor, and its reply
//! ```
//!
//! What the faces show is in the tables of `faces.rs`. Questions read the [`View`](crate::view),
//! without a lock of the way of frames. An order goes to the thread that conducts the sensor, and
//! whoever gave it waits for the reply.

pub mod client;
mod faces;
pub(crate) mod head;
mod kept;
mod ledger;
mod order;
mod plan;
mod request;
pub mod say;
mod server;
mod watch;

pub use self::client::{Client, ClientError};
pub use self::plan::{ControlPlan, Ports, SocketPlan};
pub(crate) use self::request::{Applied, Cut, Ended, Reply, Request, WatchBegun, WatchOrder};
pub(crate) use self::server::{Desk, Doors};
pub use crate::http::DoorError;
pub(crate) use crate::http::LONGEST as LONGEST_SOCKET;
