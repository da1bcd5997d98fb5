//! The commands that ask a running sensor.

use std::path::PathBuf;

use clap::Args;

/// Whom to ask, and how to show the answer.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The control socket of the sensor. [default: /run/vxtap/control]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `vxtap ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Leave out all sessions but the N with the most frames.
    #[arg(long, value_name = "N")]
    pub top: Option<u32>,
}
