//! The settings are what the sensor is asked to do, whoever asks: the command line or the
//! demonstration.
//!
//! The tree has the shape of a file. Defaults are here and nowhere else: a flag that has one takes
//! it from here. A [`RunPlan`](super::RunPlan) says what the values mean together, and on this
//! host.

use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::SessionEntry;
use super::hashing::Hashing;
use super::listener::Listener;
use super::origin::Origins;
use super::port::Port;
use super::sessions::{Networks, Vnis};
use super::units::{Free, Size, Span, Wait};
use crate::archive::Sync;
use crate::evidence::Algorithm;
use crate::pipeline::decap::{ReservedBits, Timestamps};
use crate::record::bare_ip::BareIp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::sandbox::Mode;
use crate::sink::interface::DEFAULT_MTU;
use crate::source::Steering;
use crate::source::Way;
use crate::source::bpf::Attach;
use crate::storage::Direct;
use crate::wire::VniMask;

/// The name of the output for capture files on the command line.
pub(crate) const FILES: &str = "pcap";

/// All settings of `vxtap run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The way in.
    pub receive: Receive,
    /// The sessions that are let in.
    pub sessions: Sessions,
    /// What becomes of sessions: the first entry that matches one counts.
    pub session: Vec<SessionEntry>,
    /// The settings that hold for all outputs.
    pub delivery: Delivery,
    /// The outputs, by name.
    pub output: Outputs,
    /// The socket for questions and orders.
    pub control: Control,
    /// The ports for questions.
    pub http: Http,
    /// The ports for checks of its health.
    pub health: Health,
    /// What the sensor gives up.
    pub sandbox: Sandbox,
    /// The end of the sensor.
    pub run: Run,
    /// The place where each value was said.
    #[serde(skip)]
    pub origins: Origins,
}

impl Settings {
    /// Returns the commands that are run for published files, each with the directory of its files.
    pub fn on_publish(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.output.files().filter_map(|(_, files)| Some((files.on_publish.as_deref()?, &*files.directory)))
    }
}

/// The settings for receiving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receive {
    /// Addresses to receive on; none stands for the port of VXLAN on all addresses.
    pub listen: Vec<Listener>,
    /// The kind of source.
    pub source: Way,
    /// Interfaces of the program; none stands for those of the addresses.
    pub interface: Vec<String>,
    /// The place on the interface that the program is attached to.
    pub attach: Option<Attach>,
    /// The size of each ring of the program.
    pub ring: Option<Size>,
    /// Says whether the program takes datagrams whatever address they are for.
    pub any_address: bool,
    /// Says whether UDP checksums of what the program takes are verified.
    pub verify_checksum: bool,
    /// Receiving threads.
    pub workers: Option<u16>,
    /// The rule that decides which worker receives a datagram.
    pub steer: Steering,
    /// The kernel's receive buffer of each socket.
    pub buffer: Size,
    /// The policy for reserved bits.
    pub reserved_bits: ReservedBits,
    /// The bits of a VNI that name the network.
    pub vni_mask: VniMask,
    /// The clock that frames have their times of.
    pub timestamps: Timestamps,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            source: Way::Udp,
            interface: Vec::new(),
            attach: None,
            ring: None,
            any_address: false,
            verify_checksum: false,
            workers: None,
            steer: Steering::Session,
            buffer: Size(32 << 20),
            reserved_bits: ReservedBits::Accept,
            vni_mask: VniMask::ALL,
            timestamps: Timestamps::Arrival,
        }
    }
}

/// The sessions that are let in, and how many are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// The most sessions that are told apart.
    pub max: u32,
    /// The time after which a session that sends nothing is forgotten.
    pub idle: Span,
    /// VNIs that are kept; none stands for all.
    pub vni: Vnis,
    /// Sources that are kept; none stands for all.
    pub from: Networks,
    /// The file that lists what is kept.
    pub allow: Option<PathBuf>,
    /// The file with the tags that sessions have on interfaces.
    pub tag_map: PathBuf,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max: 1024,
            idle: Span::from_secs(24 * 3600),
            vni: Vec::new(),
            from: Vec::new(),
            allow: None,
            tag_map: "./vxtap-tags.json".into(),
        }
    }
}

/// The settings that hold for all outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Memory for frames on their way into an output.
    pub queue: Option<Size>,
    /// The longest time that a frame takes to its file.
    pub flush: Span,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { queue: None, flush: Span::from_secs(1) }
    }
}

/// The socket for questions and orders, which only the sensor's user and root may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Says whether there is one.
    pub enabled: bool,
    /// Its path; none stands for one in the runtime directory, where there is such a directory.
    pub socket: Option<PathBuf>,
}

impl Default for Control {
    fn default() -> Self {
        Self { enabled: true, socket: None }
    }
}

/// The ports for questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Addresses to answer on; none is by default.
    pub listen: Vec<Port>,
    /// Clients that may ask; none stands for this host.
    pub allow: Networks,
    /// Names that requests may be sent to, beside addresses and `localhost`.
    pub names: Vec<String>,
}

/// The ports for checks of the sensor's health, as a load balancer makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Addresses to answer on; none is by default.
    pub listen: Vec<Port>,
    /// Clients that may check; none stands for all.
    pub allow: Networks,
    /// The time for which the sensor receives when it is to end, and says so.
    pub drain: Option<Wait>,
}

/// What the sensor gives up once it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Whether it gives up what it does not need.
    pub mode: Mode,
    /// Directories that captures may come to be written to.
    pub directories: Vec<PathBuf>,
}

/// The end of the sensor: when it comes, and what is printed then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// The time after which the sensor ends.
    pub duration: Option<Span>,
    /// The number of datagrams after which the sensor ends.
    pub count: Option<u64>,
    /// The form of the ledger.
    pub ledger: LedgerFormat,
}

impl Default for Run {
    fn default() -> Self {
        Self { duration: None, count: None, ledger: LedgerFormat::Text }
    }
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Output {
    /// Rotating capture files.
    Pcap(Box<Files>),
    /// A tap interface.
    Tap(Interface),
    /// A tun interface.
    Tun(Interface),
}

/// Capture files, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// The directory for the files.
    pub directory: PathBuf,
    /// The format of the files.
    pub format: Format,
    /// The form of packets that came without an Ethernet header.
    pub bare_ip: BareIp,
    /// The compression of the files.
    pub compress: Option<Compression>,
    /// The most bytes of a file, before compression.
    pub rotate_size: Size,
    /// The most frames of a file.
    pub rotate_frames: Option<u64>,
    /// The clock times at which a new file begins are multiples of this.
    pub rotate_time: Span,
    /// The files that are written past the page cache.
    pub direct: Direct,
    /// The part that is sure to survive a loss of power.
    pub sync: Sync,
    /// The hash of the files.
    pub hash: Hashing,
    /// The most bytes of all files together.
    pub keep_bytes: Option<Size>,
    /// The most files.
    pub keep_files: Option<u64>,
    /// The greatest age of a file's last frame.
    pub keep_age: Option<Span>,
    /// Room to leave free on the file system.
    pub min_free: Option<Free>,
    /// The command that is run for each published file.
    pub on_publish: Option<String>,
    /// The most bytes of a frame that are kept.
    pub snaplen: u32,
    /// The expression that the frames satisfy; all do where there is none.
    pub filter: Option<String>,
    /// Says whether a sensor without this output may be sent no traffic.
    pub essential: bool,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            directory: "./captures".into(),
            format: Format::Pcap,
            bare_ip: BareIp::Ethernet,
            compress: None,
            rotate_size: Size(1 << 30),
            rotate_frames: None,
            rotate_time: Span::from_secs(3600),
            direct: Direct::Auto,
            sync: Sync::None,
            hash: Hashing(Some(Algorithm::Sha256)),
            keep_bytes: None,
            keep_files: None,
            keep_age: None,
            min_free: None,
            on_publish: None,
            snaplen: 262_144,
            filter: None,
            essential: true,
        }
    }
}

/// An interface to feed, or several that share what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// The name of the interface, or of the first; the output's name where there is none.
    pub interface: Option<String>,
    /// VNIs that the interface is fed; none stands for all.
    pub vni: Vnis,
    /// The way that frames take into the interface.
    pub mode: TapMode,
    /// The least MTU of the interface.
    pub mtu: u32,
    /// Interfaces that the conversations are spread over.
    pub count: Option<u32>,
    /// The expression that the frames satisfy; all do where there is none.
    pub filter: Option<String>,
    /// The tag that each frame gets.
    pub tag: TapTag,
    /// Says whether a sensor without this output may be sent no traffic.
    pub essential: bool,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            interface: None,
            vni: Vec::new(),
            mode: TapMode::Inject,
            mtu: DEFAULT_MTU,
            count: None,
            filter: None,
            tag: TapTag::None,
            essential: true,
        }
    }
}

/// The way that frames take into an interface.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TapMode {
    /// The sensor puts them there.
    Inject,
    /// With --source bpf, for one --tap: the program takes the outer headers off and redirects the
    /// packet, without a thread of the sensor. What it leaves (fragments, odd datagrams) is
    /// injected.
    Redirect,
}

/// The tag that frames get on an interface.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TapTag {
    /// None: frames enter as they are.
    None,
    /// A VLAN tag for each session, in front of those that a frame has; two tags beyond 4077
    /// sessions.
    Session,
}

/// The form in which the ledger is printed.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerFormat {
    /// A table.
    Text,
    /// One JSON object.
    Json,
    /// Not at all.
    None,
}

/// Outputs with their names, in the order in which they were said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs(pub Vec<(String, Output)>);

impl Default for Outputs {
    fn default() -> Self {
        Self(vec![(FILES.into(), Output::Pcap(Box::default()))])
    }
}

impl Outputs {
    /// Returns the outputs that are interfaces, with their names; the flag is true for a tap.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = (&str, &Interface, bool)> {
        self.0.iter().filter_map(|(name, output)| match output {
            Output::Pcap(_) => None,
            Output::Tap(interface) => Some((name.as_str(), interface, true)),
            Output::Tun(interface) => Some((name.as_str(), interface, false)),
        })
    }

    /// Returns the outputs that are capture files, with their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Files)> {
        self.0.iter().filter_map(|(name, output)| match output {
            Output::Pcap(files) => Some((name.as_str(), &**files)),
            Output::Tap(_) | Output::Tun(_) => None,
        })
    }
}

impl Output {
    /// Returns the expression that the output's frames satisfy, if it has one.
    #[must_use]
    pub(crate) fn filter(&self) -> Option<&str> {
        match self {
            Output::Pcap(files) => files.filter.as_deref(),
            Output::Tap(interface) | Output::Tun(interface) => interface.filter.as_deref(),
        }
    }

    /// Returns the number of queues that the output has: each interface of several has its own.
    #[must_use]
    pub fn queues(&self) -> usize {
        match self {
            Output::Pcap(_) => 1,
            Output::Tap(interface) | Output::Tun(interface) => interface.count.unwrap_or(1) as usize,
        }
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, output)| (name, output)))
    }
}

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = Vec<(String, Output)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("outputs by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut outputs = Vec::new();
                while let Some((name, output)) = map.next_entry::<String, Output>()? {
                    if outputs.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format_args!("the output {name} is given twice")));
                    }
                    outputs.push((name, output));
                }
                Ok(outputs)
            }
        }

        deserializer.deserialize_map(Named).map(Outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_said_can_be_written_and_read_again() {
        let text = r#"{
            "receive": {"listen": [4789, "10.0.0.7:8472", "[fe80::1%eth0]:4789"], "source": "auto", "attach": "tc", "ring": "1MiB"},
            "sessions": {"vni": [7, "9-12"], "from": ["10.0.0.0/8", "2001:db8::1"], "max": 16},
            "delivery": {"queue": 1000001, "flush": "1m 30s"},
            "output": {
                "evidence": {"kind": "pcap", "directory": "/data", "compress": "zstd:7", "hash": "none", "min_free": "0.5%"},
                "ids": {"kind": "tap", "interface": "mirror0", "vni": ["all"], "mode": "redirect"},
                "a": {"kind": "tun"}
            },
            "run": {"count": 5, "ledger": "json"}
        }"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.receive.buffer, Receive::default().buffer, "what is not said is as by default");
        let names: Vec<&str> = settings.output.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["evidence", "ids", "a"], "in the order in which they were said");
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&written).unwrap(), settings, "{written}");
        for piece in [
            "\"queue\":\"1000001\"",
            "\"flush\":\"1m 30s\"",
            "\"9-12\"",
            "\"zstd:7\"",
            "\"0.5%\"",
            "[fe80::1%eth0]:4789",
        ] {
            assert!(written.contains(piece), "{piece} in {written}");
        }
        let defaults = Settings::default();
        let written = serde_json::to_string(&defaults).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&written).unwrap(), defaults, "{written}");
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), defaults);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (text, fault) in [
            (r#"{"recieve": {}}"#, "unknown field `recieve`"),
            (r#"{"receive": {"port": 1}}"#, "unknown field `port`"),
            (r#"{"output": {"x": {"kind": "tap", "directory": "/x"}}}"#, "unknown field `directory`"),
            (r#"{"output": {"x": {"kind": "s3"}}}"#, "unknown variant `s3`"),
            (r#"{"output": {"x": {"kind": "tap"}, "x": {"kind": "tun"}}}"#, "the output x is given twice"),
            (r#"{"delivery": {"flush": 5}}"#, "has no unit; write 5s"),
            (r#"{"delivery": {"queue": "lots"}}"#, "not a size"),
            (r#"{"sessions": {"vni": ["5-1"]}}"#, "an empty range"),
            (r#"{"receive": {"listen": ["localhost"]}}"#, "names are not looked up"),
        ] {
            let said = serde_json::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(said.contains(fault), "{text}: {said}");
        }
    }
}
