//! The commands and what they share.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::asking::{AskArgs, LedgerArgs, SocketArgs, TopArgs};
use super::decap::DecapArgs;
use super::replay::ReplayArgs;
use super::run::{RunArgs, SIGNALS};
use super::watch::{ExtcapArgs, WatchArgs};
use crate::config::files::directory;
use crate::config::units::Span;
use crate::console::LogFormat;
use crate::evidence::Digest;
use crate::setting::Wording;

/// A VXLAN-decapsulating packet sensor: cloud mirror traffic in; per-session pcap files and mirror
/// interfaces out; every datagram accounted for.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
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
  10, 11   check has a warning, or an error
  75       could not start, but may later: the port is taken, or an address or
           interface is not there yet; to be tried again
  128 + n  a second signal n, as 130 for SIGINT: left at once, nothing drained";

const CHECK: &str = "\
Beside these, all options of `vxtap run` say what is to be checked.

Exit codes:
  0    all is well
  1    the file cannot be read
  2    the command line is wrong; with --config-only the file, too
  10   there is a warning: the sensor works, and something is worse than it
       could be
  11   there is an error: the sensor does not work, or loses frames";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive VXLAN, decapsulate, and write one rotating pcap per mirror session, or feed
    /// interfaces.
    #[command(after_help = SIGNALS)]
    Run(Box<RunArgs>),
    /// Play captures as mirror traffic: each Ethernet frame becomes the payload of one VXLAN
    /// datagram.
    Replay(ReplayArgs),
    /// Take the wraps of mirrors off captures, into one file or a directory for each session.
    Decap(DecapArgs),
    /// Check captures against the manifest of their directory: that none was changed, removed or
    /// added.
    Verify(VerifyArgs),
    /// Check whether a sensor with this configuration, or with these options of run, can work on
    /// this host; nothing of it is changed.
    #[command(after_help = CHECK)]
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
    /// Watch a running sensor in the terminal: rates, losses, outputs and sessions, once a second.
    Top(TopArgs),
    /// Show the ledger of a running sensor.
    Ledger(LedgerArgs),
    /// Show the configuration of a running sensor as a file.
    Config(SocketArgs),
    /// Watch frames of a running sensor as they come: vxtap watch | wireshark -k -i -
    Watch(WatchArgs),
    /// Be interfaces of Wireshark: it calls this program, where it is linked to from its directory
    /// for such.
    Extcap(Box<ExtcapArgs>),
    /// Run the sensor on built-in sample traffic over loopback and show what comes out.
    Demo(DemoArgs),
    /// Run the commands of --on-publish for the sensor at standard input, which starts this.
    #[command(hide = true)]
    HookHelper(HelperArgs),
}

/// `vxtap hook-helper`: what it may run.
#[derive(Debug, Args)]
pub struct HelperArgs {
    /// The configuration file that has the commands.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Without one: the command, and the directory of its output.
    #[arg(long, requires = "write", conflicts_with = "config", allow_hyphen_values = true)]
    pub on_publish: Option<String>,
    /// The directory.
    #[arg(long, allow_hyphen_values = true)]
    pub write: Option<PathBuf>,
}

impl Command {
    /// Says how settings are called to whoever gave this command.
    #[must_use]
    pub fn wording(&self) -> Wording {
        match self {
            Command::Run(args) if args.config.is_some() => Wording::Keys,
            Command::Decap(_) => Wording::Decap,
            _ => Wording::Flags,
        }
    }
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
///
/// All options of `vxtap run` say what is to be checked; `vxtap run --help` has them.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Check the file alone, as it would be on any host: nothing of this one is looked at.
    #[arg(long, requires = "config")]
    pub config_only: bool,
    /// Watch for this long what comes over the network, as 10s, and say whether mirror traffic
    /// arrives and is whole, and nothing else. --listen says where to, --interface where to look.
    /// No sensor is needed, and nothing is taken from one that runs.
    #[arg(long, value_name = "DURATION", conflicts_with = "config_only")]
    pub watch: Option<Span>,
    /// Print the findings as JSON.
    #[arg(long, conflicts_with = "config_only")]
    pub json: bool,
    /// What is to be checked.
    #[command(flatten)]
    pub run: Box<RunArgs>,
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
