//! Wire formats are read by pure functions from bytes to views of those bytes.
//!
//! Nothing here reads, writes, allocates (but for making a [`VniSet`] or a [`SourceSet`]) or
//! panics, whatever the bytes are. The property tests run exactly this code. A view borrows the
//! packet that it was made from, so decapsulation copies nothing.
#![forbid(unsafe_code)]

pub mod address;
pub mod bare;
pub mod captured;
mod carrier;
mod decapsulate;
mod erspan;
pub mod flow;
pub mod geneve;
pub mod gpe;
pub mod gre;
pub mod inner;
pub mod layers;
pub mod outer;
mod reason;
mod source_set;
mod stamp;
mod table;
mod text;
pub(crate) mod tunnel;
pub mod tzsp;
mod vni;
mod vni_set;
pub mod vxlan;

pub use carrier::Carrier;
pub(crate) use reason::{Reason, reasons};
pub use source_set::SourceSet;
pub use stamp::Stamp;
pub(crate) use tunnel::UnknownEncapsulation;
pub use tunnel::{Decapsulated, Direction, DropReason, Encapsulation, LinkType, Options, Scope};
pub use vni::{NotAMask, Vni, VniMask};
pub use vni_set::{VniRange, VniSet};
