//! vxtap, a VXLAN-decapsulating packet sensor.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation))]

pub mod archive;
pub mod cli;
pub mod config;
pub mod console;
pub mod demo;
pub mod episode;
pub mod evidence;
pub mod lane;
pub mod ledger;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod route;
pub mod run;
pub mod session;
pub mod sink;
pub mod source;
pub mod storage;
pub mod sys;
pub mod verify;
pub mod wire;
