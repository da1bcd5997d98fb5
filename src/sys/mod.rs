//! System calls that no crate wraps as the data path needs them are here: the only unsafe code of
//! the project.
//!
//! Each type here is safe to use: what a caller could get wrong is checked, and every `unsafe`
//! block says which invariant holds and who upholds it. Nothing here imports another module of the
//! crate.
#![allow(unsafe_code, reason = "system calls live here, and only here")]

pub(crate) mod clock;
pub mod direct;
pub(crate) mod everywhere;
pub(crate) mod heap;
pub(crate) mod inherited;
pub mod inject;
pub(crate) mod packet;
pub(crate) mod pcap;
pub(crate) mod receive;
pub(crate) mod ring;
pub mod rings;
pub(crate) mod rtnetlink;
pub(crate) mod seccomp;
pub(crate) mod send;
pub(crate) mod socket;
pub(crate) mod tcx;
pub mod tun;
mod uring;
pub(crate) mod written;
