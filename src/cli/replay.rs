//! The arguments of `vxtap replay`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use crate::config::address::target_with_port;
use crate::config::sessions;
use crate::config::units::number;
use crate::replay::{Input, Pace, ReplayPlan, Wrap};
use crate::wire::{Carrier, VniRange};

/// `vxtap replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Captures to send, in this order: pcap or pcapng with Ethernet frames.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The way in which frames are wrapped.
    #[arg(long = "as", value_name = "WRAP", value_enum, default_value_t)]
    pub wrap: Wrap,
    /// Where the mirror traffic goes; the port is 4789 unless given, or what is usual for --as.
    /// IPv6 with a port as `[ADDR]:PORT`.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = target_with_port)]
    pub to: (SocketAddr, bool),
    /// Send GRE, ERSPAN or NVGRE over IP itself (protocol 47), as switches do, by a raw socket.
    /// Needs CAP_NET_RAW.
    #[arg(long)]
    pub over_ip: bool,
    /// VNI of the mirror session; with a range, frames take turns.
    #[arg(long, value_name = "N|A-B", default_value = "1", allow_hyphen_values = true, value_parser = sessions::range)]
    pub vni: VniRange,
    /// Send this many frames a second. [default: as fast as possible]
    #[arg(long, value_name = "PPS", conflicts_with = "realtime", value_parser = number::<u64, 1, { u64::MAX }>)]
    pub rate: Option<u64>,
    /// Keep the time between frames that the capture shows.
    #[arg(long)]
    pub realtime: bool,
    /// Play the files this many times.
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = number::<u64, 1, { u64::MAX }>)]
    pub loops: u64,
    /// Source address of the mirror traffic; one of this host's.
    #[arg(long, value_name = "ADDR")]
    pub from: Option<IpAddr>,
    /// Send with a computed outer UDP checksum. [default: zero, as AWS does]
    #[arg(long)]
    pub checksum: bool,
    /// Show a progress bar.
    #[arg(long)]
    pub progress: bool,
}

impl ReplayArgs {
    /// The plan that the command line asks for.
    #[must_use]
    pub fn plan(&self) -> ReplayPlan {
        ReplayPlan {
            inputs: self.files.iter().cloned().map(Input::File).collect(),
            to: match self.to {
                (to, true) => to,
                (mut to, false) => {
                    to.set_port(if self.over_ip { 0 } else { self.wrap.port() });
                    to
                }
            },
            wrap: self.wrap,
            carrier: if self.over_ip { Carrier::Ip } else { Carrier::Udp },
            vni: self.vni,
            pace: match self.rate {
                Some(rate) => Pace::Rate(rate),
                None if self.realtime => Pace::Realtime,
                None => Pace::AsFast,
            },
            loops: self.loops,
            from: self.from,
            checksum: self.checksum,
            progress: self.progress,
        }
    }
}
