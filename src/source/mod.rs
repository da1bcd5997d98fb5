//! Datagrams come from sources.

mod allowed;
mod backlog;
mod bind;
pub(crate) mod bpf;
pub mod capture;
mod copies;
mod datagram;
mod drops;
mod fast_path;
mod fit;
mod group;
mod handed;
mod kept;
mod live;
mod open;
mod owner;
mod port;
#[cfg(test)]
pub(crate) mod prepared;
mod raw;
mod steering;
pub mod udp;

pub(crate) use allowed::{Allowed, TooMany};
pub use backlog::Backlog;
pub(crate) use datagram::Received;
pub use datagram::{Datagram, Source};
pub(crate) use fast_path::{Account, Counted, FastPath, Redirected};
pub(crate) use live::Refusing;
pub use live::{LiveSource, Offline};
pub(crate) use open::{FILE, Front, OpenError, Opened, SourcePlan, Sources, Way, open};
pub(crate) use owner::has_vni_as_vxlan;
pub use port::Listener;
pub(crate) use port::Portless;
pub use steering::Steering;
