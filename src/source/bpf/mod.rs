//! The fast path is a BPF program on the interface. It takes whole datagrams and puts them into
//! rings, which the workers read in place.
//!
//! ## Two ways for a datagram
//!
//! The program (`bpf/capture.bpf.c`) takes what is simple and common: a whole UDP datagram to a
//! port and address that the sensor listens on. All else goes to the stack and from there to the
//! UDP sockets, which are part of this source: fragments, which the stack puts together, and
//! everything before the program is attached and after it is gone. So a worker has two places to
//! look at, and lends what it finds there in the order in which it was received. A datagram of a
//! socket is held until the rings have reached its time. Just after the program was attached the
//! worker waits for what the stack has queued.
//!
//! ## Which ring
//!
//! With [`Steering::Session`](super::Steering::Session) there is a ring for each worker, and
//! the program chooses by the same hash as the filter on the sockets: a session stays on one
//! worker, whichever CPU received it and whichever way it came, and in order. CPUs that receive for
//! the same worker take turns at its ring's lock, for some 30 ns a datagram. With
//! [`Steering::Flow`](super::Steering::Flow) there is a ring for each CPU, which has no lock
//! to wait for, and workers share the rings.
//!
//! ## Waking up
//!
//! A wake-up costs more than a datagram. So the program wakes nobody unless the reader asked for
//! it, and the reader asks when it has found all its rings empty. The reader asks and then looks
//! for records once more. The program looks for a wish before it reserves a record, so that the
//! record itself can wake, and once more after it has submitted the record. So one of both sees the
//! other, and no wait has to be short.

mod account;
mod attach;
mod attached;
mod clock;
mod clsact;
mod counts;
mod error;
mod here;
pub(crate) mod interface;
mod lend;
mod lists;
mod open;
mod place;
mod plan;
mod program;
mod record;
mod redirect;
mod shared;
mod source;
mod states;
#[cfg(test)]
mod tests;

pub(crate) use self::error::BpfError;
pub(crate) use self::open::open;
pub(crate) use self::plan::{Attach, BpfPlan, Kept, RedirectPlan};
pub(crate) use self::shared::{Gate, Marking, Redirect};
pub(crate) use self::source::BpfSource;
