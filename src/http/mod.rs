//! A small HTTP/1.1 server answers questions about the program, and takes a few orders.
//!
//! It knows nothing of what it tells. It is handed doors to listen at, and a [`Face`] for each: a
//! table of routes. One thread serves all of them, and it never waits for anything but the
//! network: what an answer needs is at hand, or comes from another thread later.
//!
//! ```text
//!  Door ─ who may connect ─▶ a slot of the face ─ 8 KiB of head, Host, method ─▶ Route ─▶ Answer
//!  AF_UNIX: user             32 of them; the one                                 now, later, or
//!  TCP: address              that dawdles goes                                   as a stream
//! ```
//!
//! A connection is for one request. It must come within seconds and its answer be taken within
//! seconds, so that whoever dawdles holds up nobody.

mod answer;
mod connection;
mod door;
mod error;
mod face;
mod query;
mod server;
mod slots;
mod socket_file;
mod times;

pub use self::answer::Answer;
pub use self::door::Door;
pub use self::error::DoorError;
pub use self::error::LONGEST;
pub use self::face::{Face, Hosts, Later, Route};
pub use self::query::Query;
pub use self::server::Server;

#[cfg(test)]
mod tests;
