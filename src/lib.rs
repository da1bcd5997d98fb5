//! vxtap is a VXLAN-decapsulating packet sensor. It sits behind a cloud traffic mirror, takes the
//! inner frames out of VXLAN, keeps a rotating capture for each mirror session, feeds an interface
//! that an IDS sniffs, and says of every datagram what became of it.
//!
//! ```text
//!  source         wire             route           lane            sink           archive
//!  ┌───────┐lends ┌────────────┐  ┌────────────┐  ┌────────────┐  ┌───────────┐  ┌──────────┐
//!  │ udp,  │─────▶│ headers -> │─▶│ session of │─▶│ copied     │─▶│ files, or │─▶│ hash,    │
//!  │ bpf   │      │ a frame or │  │ the frame  │  │ once, into │  │ an inter- │  │ line,    │
//!  │       │      │ a reason   │  │            │  │ a chunk    │  │ face      │  │ name     │
//!  └───────┘      └────────────┘  └────────────┘  └────────────┘  └───────────┘  └──────────┘
//!  a worker thread each, which waits for datagrams alone          a thread each  two threads
//! ```
//!
//! The rooms, in the order of the way:
//!
//! - [`source`] receives datagrams and lends them; [`pipeline`] starts the threads, runs the step
//!   from a datagram to the lanes, and ends them.
//! - [`wire`] reads headers, [`route`] tells sessions apart, [`lane`] hands frames over.
//! - [`sink`] writes files and feeds interfaces, [`archive`] publishes files, [`evidence`] is what
//!   proves them, [`storage`] is where they are.
//! - [`record`] has the formats of captures, [`ledger`] the counters and their equations.
//! - [`sys`] has the system calls: the only unsafe code.
//! - [`sandbox`] is what a running sensor gives up.
//! - [`cli`] and [`config`] are what is asked for; [`run`], [`replay`], [`verify`], [`decap`],
//!   [`check`] and [`demo`] do it; [`console`] and `episode` are how they speak.
//!   [`service`] tells a service manager.
//! - `setting` has their names, and puts them into texts.
//! - [`view`] shows a running sensor, [`health`] judges it, [`metrics`] tell of it, and `condition`
//!   is how outputs tell. [`http`] serves what [`control`] answers, and `page` for people. [`top`]
//!   and [`watch`] ask.
//!
//! The library is made for the program of the same name, and for its tests and benches. It promises
//! no stable interface. `ARCHITECTURE.md` is the map, `docs/decisions/` says why it is so.
#![cfg_attr(
    any(test, fuzzing),
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)
)]

pub mod archive;
pub mod check;
pub mod cli;
pub(crate) mod condition;
pub mod config;
pub mod console;
pub mod control;
pub mod decap;
pub mod demo;
pub(crate) mod episode;
pub mod evidence;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
pub mod host;
pub mod http;
pub mod lane;
pub mod ledger;
pub mod metrics;
pub(crate) mod page;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod route;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod session;
pub(crate) mod setting;
pub mod sink;
pub mod source;
pub mod storage;
pub mod sys;
pub mod top;
pub mod verify;
pub mod view;
pub mod watch;
pub(crate) mod whose;
pub mod wire;
