//! The command line as typed: clap types only, no input or output.
//!
//! The arguments of `vxtap run` become [`Settings`](crate::config::Settings). Their meaning
//! together is decided in [`crate::config`].

mod advice;
mod args;
mod asking;
mod decap;
mod replay;
mod run;
mod settings;
mod watch;
mod way;

pub use advice::{command, parse, wrong};
pub use args::{CheckArgs, Cli, Command, DemoArgs, HelperArgs, SessionsArgs, VerifyArgs};
pub use asking::{AskArgs, LedgerArgs, SocketArgs, TopArgs};
pub use decap::DecapArgs;
pub use replay::ReplayArgs;
pub use run::RunArgs;
pub use watch::{ExtcapArgs, WatchArgs};
