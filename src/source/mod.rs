//! Datagrams come from sources.

mod allowed;
pub mod bpf;
mod copies;
mod datagram;
mod drops;
mod fast_path;
mod live;
mod open;
mod owner;
#[cfg(test)]
pub(crate) mod prepared;
mod source_set;
mod steering;
pub mod udp;

pub use allowed::{AllowList, AllowListReader, Allowed, TooMany};
pub use datagram::{Datagram, Received, Source};
pub use fast_path::{Account, Counted, FastPath, Redirected};
pub use live::{LiveSource, Offline, Refusing};
pub use open::{Front, OpenError, Opened, SourcePlan, Sources, Way, open};
pub use source_set::SourceSet;
pub use steering::Steering;
