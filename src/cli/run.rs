//! The arguments of `vxtap run`. Those that have a default take it from
//! [`Settings`](crate::config::Settings).

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use ipnet::IpNet;

use super::way::WayParser;
use crate::archive::Sync;
use crate::config::files::{command, directory};
use crate::config::hashing::Hashing;
use crate::config::interface::{InterfaceArg, interface};
use crate::config::listener::Listener;
use crate::config::port::Port;
use crate::config::sessions::{self, Item};
use crate::config::settings::{
    Delivery, Files, Interface, LedgerFormat, Receive, Run, Sandbox, Sessions, TapMode, TapTag,
};
use crate::config::units::{Free, Size, Span, number};
use crate::pipeline::decap::{ReservedBits, Timestamps};
use crate::record::bare_ip::BareIp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::sandbox::Mode;
use crate::source::Steering;
use crate::source::Way;
use crate::source::bpf::Attach;
use crate::storage::Direct;
use crate::wire::{VniMask, VniRange};

const RECEIVING: &str = "Receiving";
const FILES: &str = "Capture files";
const BUDGET: &str = "Budget of capture files";
const INTERFACES: &str = "Interfaces";
const ANSWERS: &str = "Answers";

pub(super) const SIGNALS: &str = "\
Signals:
  SIGINT, SIGTERM   drain what was received, complete the files, end; once more:
                    leave at once
  SIGUSR1           complete the files that are written to, and go on
  SIGUSR2           read the file of --config again, or that of --allow; what
                    cannot be so changes nothing; vxtap reload does this, too,
                    and says what came of it
  SIGHUP            as SIGTERM on a terminal, which has hung up; without one, as
                    in a service, as SIGUSR2; nothing under nohup; with --config
                    it is standard input that is a terminal or not
  SIGXCPU           as SIGTERM: the processor time of `ulimit -t` is used up

Sizes and durations:
  1G, 1GB       10^9 bytes; 1GiB is 2^30; so K, M and T
  10s, 5m, 1h   seconds, minutes, hours; 1d a day, 1w a week
  1m, 1M        a minute, a month";

/// `vxtap run`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("interfaces").multiple(true))]
pub struct RunArgs {
    /// Take the settings from this file. Beside it go --duration, --count, --ledger, --sandbox,
    /// --log-format and -v.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings as a configuration file that means the same, and end.
    #[arg(long)]
    pub print_config: bool,
    /// Address and UDP port to receive on, or one of them, as 0.0.0.0:8472, 10.0.0.7, 8472 or
    /// [fe80::1%eth0]:4789; repeat for more. What comes there is VXLAN, unless a word in front says
    /// otherwise, as geneve:0.0.0.0:6081: vxlan, geneve, gpe, gre-udp, tzsp, or auto for what is
    /// usual on that port. GRE, NVGRE and ERSPAN over IP have no port: erspan:10.0.0.7, or gre for
    /// all addresses. [default: `[::]:4789`, IPv4 included; `0.0.0.0:4789` where the host has no
    /// IPv6]
    #[arg(help_heading = RECEIVING, long, value_name = "[WHAT:]ADDR:PORT", allow_hyphen_values = true)]
    pub listen: Vec<Listener>,
    /// How datagrams are received. For tests, file:IN reads the outer packets of a capture instead,
    /// pcap or pcapng, also compressed, and the sensor ends with it; of --listen the ports count.
    #[arg(help_heading = RECEIVING, long, value_enum, value_parser = WayParser, default_value_t = Receive::default().source)]
    pub source: Way,
    /// With --source bpf: the interface that datagrams come in on; repeat for more. [default: the
    /// one that has the --listen address, or the default route]
    #[arg(help_heading = RECEIVING, long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// With --source bpf: where on the interface. [default: auto]
    #[arg(help_heading = RECEIVING, long, value_enum)]
    pub attach: Option<Attach>,
    /// With --source bpf: size of each ring, rounded up to a power of two. There is a ring for each
    /// worker, with --steer flow for each CPU. [default: 16MiB]
    #[arg(help_heading = RECEIVING, long, value_name = "BYTES")]
    pub ring: Option<Size>,
    /// With --source bpf: take datagrams to the port whatever address they are for, as on a
    /// switch's mirror port. What is for another host's Ethernet address comes only if the
    /// interface is promiscuous (`ip link set IFACE promisc on`); fragments of it do not come.
    #[arg(help_heading = RECEIVING, long)]
    pub any_address: bool,
    /// With --source bpf: verify UDP checksums that are not zero, as the kernel does for sockets.
    /// Not for cables inside one host, where the sender leaves the checksum to a network card that
    /// is never reached.
    #[arg(help_heading = RECEIVING, long)]
    pub verify_checksum: bool,
    /// Receiving threads, each with a socket of its own. [default: half the cores]
    #[arg(help_heading = RECEIVING, long, value_name = "N", value_parser = number::<u16, 1, 256>)]
    pub workers: Option<u16>,
    /// What decides which worker receives a datagram.
    #[arg(help_heading = RECEIVING, long, value_enum, default_value_t = Receive::default().steer)]
    pub steer: Steering,
    /// Directory for the pcap files; created if missing.
    #[arg(help_heading = FILES, long, value_name = "DIR", default_value_os_t = Files::default().directory, value_parser = PathBufValueParser::new().try_map(directory))]
    pub write: PathBuf,
    /// Write no files: feed interfaces only.
    #[arg(help_heading = FILES, long, requires = "interfaces", conflicts_with_all = ["write", "format", "bare_ip", "compress", "rotate_size", "rotate_frames",
        "rotate_time", "sync", "keep_bytes", "keep_files", "keep_age", "min_free", "on_publish", "direct", "hash", "snaplen", "flush"])]
    pub no_write: bool,
    /// Feed the inner frames into this tap interface, where Suricata, Snort, Zeek or tcpdump sniff
    /// them; repeat for more. With `:vni=N,A-B,...` only these VNIs. An interface that does not
    /// exist is created, and removed at the end.
    #[arg(help_heading = INTERFACES, long, value_name = "NAME[:vni=N,...]", group = "interfaces", value_parser = interface)]
    pub tap: Vec<InterfaceArg>,
    /// The same without Ethernet: inner IP packets into this tun interface.
    #[arg(help_heading = INTERFACES, long, value_name = "NAME[:vni=N,...]", group = "interfaces", value_parser = interface)]
    pub tun: Vec<InterfaceArg>,
    /// How frames enter the interface of --tap.
    #[arg(help_heading = INTERFACES, long, value_enum, default_value_t = Interface::default().mode, requires = "tap")]
    pub tap_mode: TapMode,
    /// MTU of the interfaces of --tap and --tun.
    #[arg(help_heading = INTERFACES, long, value_name = "N", default_value_t = Interface::default().mtu, requires = "interfaces", value_parser = number::<u32, 68, 65_521>)]
    pub tap_mtu: u32,
    /// Spread the conversations over this many interfaces, NAME0, NAME1, ..., for as many readers:
    /// both directions and all fragments of a conversation meet on one.
    #[arg(help_heading = INTERFACES, long, value_name = "N", requires = "interfaces", value_parser = number::<u32, 1, 64>)]
    pub tap_count: Option<u32>,
    /// Tags by which readers tell sessions apart, whose addresses may overlap.
    #[arg(help_heading = INTERFACES, long, value_enum, default_value_t = Interface::default().tag, requires = "tap")]
    pub tap_tag: TapTag,
    /// The file with the tag of each session, which keeps it over restarts.
    #[arg(help_heading = INTERFACES, long, value_name = "FILE", default_value_os_t = Sessions::default().tag_map, requires = "tap_tag")]
    pub tag_map: PathBuf,
    /// What the files look like.
    #[arg(help_heading = FILES, long, value_enum, default_value_t = Files::default().format)]
    pub format: Format,
    /// Form of IP packets that came without an Ethernet header, as of GENEVE.
    #[arg(help_heading = FILES, long, value_enum, default_value_t = Files::default().bare_ip)]
    pub bare_ip: BareIp,
    /// Compress the files: lz4, zstd, or zstd:LEVEL from 1 (fast) to 19 (small).
    #[arg(help_heading = FILES, long, value_name = "lz4|zstd[:LEVEL]")]
    pub compress: Option<Compression>,
    /// Begin a new file before one grows beyond this size (before compression), as 100MiB.
    #[arg(help_heading = FILES, long, value_name = "BYTES", default_value_t = Files::default().rotate_size)]
    pub rotate_size: Size,
    /// Begin a new file after this many frames.
    #[arg(help_heading = FILES, long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    pub rotate_frames: Option<u64>,
    /// Begin a new file when the UTC clock passes a multiple of this, as 5m.
    #[arg(help_heading = FILES, long, value_name = "DURATION", default_value_t = Files::default().rotate_time)]
    pub rotate_time: Span,
    /// Write files past the page cache (O_DIRECT, io_uring).
    #[arg(help_heading = FILES, long, value_enum, default_value_t = Files::default().direct)]
    pub direct: Direct,
    /// What is sure to survive a loss of power. A file that has its final name survives the death
    /// of the program either way.
    #[arg(help_heading = FILES, long, value_enum, default_value_t = Files::default().sync)]
    pub sync: Sync,
    /// By what files are hashed, also those salvaged after a crash, so that `vxtap verify` can tell
    /// changed ones.
    #[arg(help_heading = FILES, long, value_enum, default_value_t = Files::default().hash)]
    pub hash: Hashing,
    /// Remove the oldest published files while all files together have more bytes than this, as
    /// 500GiB.
    #[arg(help_heading = BUDGET, long, value_name = "BYTES")]
    pub keep_bytes: Option<Size>,
    /// Remove the oldest published files while there are more than this.
    #[arg(help_heading = BUDGET, long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    pub keep_files: Option<u64>,
    /// Remove published files whose last frame is older than this, as 30days.
    #[arg(help_heading = BUDGET, long, value_name = "DURATION")]
    pub keep_age: Option<Span>,
    /// Remove the oldest published files while the file system has less room than this, as 10GiB or
    /// 5%; with none left to remove, drop frames (`disk_full`). 0 leaves no room and removes
    /// nothing. [default: nothing is removed, and frames are dropped where less than 5% or 10GiB,
    /// whichever is less, would be left, unless a --keep-bytes that fits sees to it]
    #[arg(help_heading = BUDGET, long, value_name = "BYTES|PERCENT")]
    pub min_free: Option<Free>,
    /// Run this shell command for each published file, in the background, as 'aws s3 cp "$1"
    /// s3://bucket/': "$1" and VXTAP_FILE are the path, which is the last argument of a command
    /// that mentions neither. VXTAP_SOURCE, VXTAP_VNI, VXTAP_FRAMES and more are in its
    /// environment. At the end the sensor waits 3 s for commands.
    #[arg(help_heading = FILES, long, value_name = "CMD", value_parser = command)]
    pub on_publish: Option<String>,
    /// Keep at most this many bytes of a frame.
    #[arg(help_heading = FILES, long, value_name = "N", default_value_t = Files::default().snaplen, value_parser = number::<u32, 1, 262_144>)]
    pub snaplen: u32,
    /// Received frames are in the file at most this much later.
    #[arg(help_heading = FILES, long, value_name = "DURATION", default_value_t = Delivery::default().flush)]
    pub flush: Span,
    /// Kernel receive buffer of each socket.
    #[arg(help_heading = RECEIVING, long, value_name = "BYTES", default_value_t = Receive::default().buffer)]
    pub receive_buffer: Size,
    /// Memory for frames on their way into an output, of which only what is needed is touched; when
    /// it is full, frames are dropped and counted. [default: 256MiB, and less where that were more
    /// than a quarter of this host's memory for all outputs]
    #[arg(long, value_name = "BYTES")]
    pub queue: Option<Size>,
    /// What to do with a VXLAN header whose reserved bits are set (RFC 7348 says to ignore them).
    #[arg(help_heading = RECEIVING, long, value_enum, default_value_t = Receive::default().reserved_bits)]
    pub reserved_bits: ReservedBits,
    /// The bits of a VNI that name the network, for senders that put something else, as the
    /// direction of a frame, into the others: 0x0fffff.
    #[arg(help_heading = RECEIVING, long, value_name = "MASK", default_value_t = Receive::default().vni_mask)]
    pub vni_mask: VniMask,
    /// The clock that frames have their times of.
    #[arg(help_heading = RECEIVING, long, value_enum, value_name = "CLOCK", default_value_t)]
    pub timestamps: Timestamps,
    /// Mirror sessions (source address, VNI) told apart; frames of further ones share one overflow
    /// file.
    #[arg(help_heading = RECEIVING, long, value_name = "N", default_value_t = Sessions::default().max, value_parser = number::<u32, 1, 65_536>)]
    pub max_sessions: u32,
    /// A mirror session that sends nothing for this long is forgotten: its file is completed, and
    /// another can take its place among --max-sessions.
    #[arg(help_heading = RECEIVING, long, value_name = "TIME", default_value_t = Sessions::default().idle)]
    pub session_idle: Span,
    /// Keep only these VNIs, as 100,200-299; others are counted as `unselected`.
    #[arg(help_heading = RECEIVING, long, value_name = "N|A-B,...", value_delimiter = ',', allow_hyphen_values = true, value_parser = sessions::vni)]
    pub vni: Vec<Item<VniRange>>,
    /// Keep only what comes from these outer source addresses or networks, as 10.0.0.7,10.1.0.0/16;
    /// others are counted as `unselected`.
    #[arg(help_heading = RECEIVING, long, value_name = "ADDR[/N],...", value_delimiter = ',', value_parser = sessions::source)]
    pub from: Vec<Item<IpNet>>,
    /// Keep only what this file lists, in lines as `vni 100, 200-299` and `from 10.0.0.7
    /// 10.1.0.0/16`; a kind without a line is not looked at, and `vni all` says that all are
    /// wanted. It is read again on SIGUSR2.
    #[arg(help_heading = RECEIVING, long, value_name = "FILE", conflicts_with_all = ["vni", "from"])]
    pub allow: Option<PathBuf>,
    /// Keep only inner frames that satisfy this expression, in tcpdump's language (pcap-filter(7)),
    /// as 'tcp port 443 and not host 10.0.0.1'; others are counted as `filtered`. It needs libpcap
    /// (Debian: libpcap0.8). Addresses are written as numbers.
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Answer questions and take orders at this socket, to which only the sensor's user and root
    /// may connect: vxtap status, sessions, ledger, config, top, watch, reload, cut. [default:
    /// `control` in the directory of $RUNTIME_DIRECTORY, else in /run/vxtap, where there is one]
    #[arg(help_heading = ANSWERS, long, value_name = "PATH", conflicts_with = "no_control")]
    pub control: Option<PathBuf>,
    /// Have no such socket.
    #[arg(help_heading = ANSWERS, long)]
    pub no_control: bool,
    /// Answer questions over HTTP at this address, to this host alone; repeat for more. For others
    /// and for names see `http` in a configuration file.
    #[arg(help_heading = ANSWERS, long, value_name = "ADDR:PORT")]
    pub http: Vec<Port>,
    /// Give up what a running sensor does not need: to start programs, to read other files, to
    /// reach TCP, to load programs into the kernel. Directories that a reload may bring are under
    /// `sandbox` in a configuration file.
    #[arg(long, value_enum, default_value_t = Sandbox::default().mode)]
    pub sandbox: Mode,
    /// Stop after this time.
    #[arg(long, value_name = "D")]
    pub duration: Option<Span>,
    /// Stop after this many datagrams.
    #[arg(long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    pub count: Option<u64>,
    /// How the ledger is printed on standard output at the end.
    #[arg(long, value_enum, default_value_t = Run::default().ledger)]
    pub ledger: LedgerFormat,
    /// The options that were given, by what clap calls them.
    #[arg(skip)]
    pub given: Vec<String>,
}
