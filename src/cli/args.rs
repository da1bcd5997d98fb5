//! The commands and what they share.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::asking::{AskArgs, LedgerArgs};
use super::replay::ReplayArgs;
use super::run::RunArgs;
use crate::config::address::Listen;
use crate::config::files::directory;
use crate::config::units::Span;
use crate::console::LogFormat;
use crate::evidence::Digest;

/// A VXLAN-decapsulating packet sensor: cloud mirror traffic in; per-session pcap files and mirror
/// interfaces out.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log more: -v for details of the sensor, -vv for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes:
  0        ended as asked; what was dropped is in the ledger
  1        could not start (directory not writable, file unreadable); there is
           no sensor to ask, or it refuses
  2        the command line is wrong, or the configuration file
  3        ended, but something failed on the way: an output lost frames or a
           file could not be published, a worker stopped, the ledger does not
           close or could not be printed, replay could not send every frame,
           verify was interrupted
  4        an input file is damaged, or a directory does not match its
           manifest; what was whole before the damage was used
  75       could not start, but may later: the port is taken, or an address or
           interface is not there yet; to be tried again
  128 + n  a second signal n, as 130 for SIGINT: left at once, nothing drained";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive VXLAN, decapsulate, and write one rotating pcap per mirror session, or feed
    /// interfaces.
    Run(Box<RunArgs>),
    /// Play captures as mirror traffic: each Ethernet frame becomes the payload of one VXLAN
    /// datagram.
    Replay(ReplayArgs),
    /// Check captures against the manifest of their directory: that none was changed, removed or
    /// added.
    Verify(VerifyArgs),
    /// Check a configuration file: every fault is shown with its line and what to write instead.
    Check(CheckArgs),
    /// Show the mirror sessions of a running sensor; or turn what a cloud says of its mirror
    /// sessions into entries of a configuration file.
    Sessions(SessionsArgs),
    /// Show how a running sensor does.
    Status(AskArgs),
    /// Have a running sensor read its configuration file again, and wait until it is in force or
    /// refused.
    Reload(AskArgs),
    /// Have a running sensor complete the files that it writes to, and go on.
    Cut(AskArgs),
    /// Show the ledger of a running sensor.
    Ledger(LedgerArgs),
    /// Show the configuration of a running sensor as a file.
    Config(AskArgs),
    /// Run the sensor on built-in sample traffic over loopback and show what comes out.
    Demo(DemoArgs),
}

/// `vxtap verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Directory with a manifest.jsonl, as that of `vxtap run --write`. A sensor may be writing to
    /// it.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Hash of the last line at an earlier time, noted elsewhere: it must still be there, which
    /// proves that no line up to it was removed.
    #[arg(long, value_name = "HASH")]
    pub head: Option<Digest>,
}

/// `vxtap check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", required_unless_present = "watch")]
    pub config: Option<PathBuf>,
    /// Check the file alone, as it would be on any host: nothing of this one is looked at.
    #[arg(long)]
    pub config_only: bool,
    /// Watch for this long what comes over the network, as 10s, and say whether mirror traffic
    /// arrives and is whole. No sensor is needed, and one that runs loses nothing.
    #[arg(long, value_name = "DURATION", conflicts_with = "config_only")]
    pub watch: Option<Span>,
    /// With --watch and without a file: the address and port that the sensor listens on; can be
    /// repeated.
    #[arg(long, value_name = "ADDR:PORT", requires = "watch", conflicts_with = "config")]
    pub listen: Vec<Listen>,
    /// With --watch: the interface to look at, where it is not that of the address; can be
    /// repeated.
    #[arg(long, value_name = "NAME", requires = "watch")]
    pub interface: Vec<String>,
    /// Print the findings as JSON.
    #[arg(long, conflicts_with = "config_only")]
    pub json: bool,
}

/// `vxtap sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Output of `aws ec2 describe-traffic-mirror-sessions` and of `aws ec2
    /// describe-network-interfaces`, a file each.
    #[arg(long, num_args = 2, value_names = ["SESSIONS", "INTERFACES"], conflicts_with_all = ["control", "json"])]
    pub from_aws: Vec<PathBuf>,
    /// Output of `aws ec2 describe-traffic-mirror-filters`: each session gets the rules of its
    /// filter.
    #[arg(long, value_name = "FILTERS", requires = "from_aws")]
    pub rules: Option<PathBuf>,
    /// Without --from-aws: whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `vxtap demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where a new directory for the captures is made. [default: the temporary directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new().try_map(directory))]
    pub write: Option<PathBuf>,
}
