//! The reasons why the fast path cannot run on a host.

use std::io;
use std::time::Duration;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// A reason why the program cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// Linux is too old.
    #[error("the fast path needs Linux {major}.{minor} or later; this is {release}")]
    Kernel {
        /// The release of the kernel that runs.
        release: String,
        /// The oldest that will do: its first number.
        major: u8,
        /// Its second number.
        minor: u8,
    },
    /// Nothing is listened for that the program takes.
    #[error("the fast path takes VXLAN, VXLAN-GPE and GENEVE, and none of these is listened for")]
    NoVni,
    /// The process lacks capabilities.
    #[error("the fast path needs {0}: run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon+ep PATH-OF-VXTAP")]
    Capability(String),
    /// Nothing tells which interface datagrams come in on.
    #[error("which interface do datagrams come in on? Say it with --interface; there are: {0}")]
    WhichInterface(String),
    /// There is no interface of that name.
    #[error("there is no interface {name}; there are: {ours}")]
    NoSuchInterface {
        /// The name.
        name: String,
        /// The interfaces that there are.
        ours: String,
    },
    /// The packets of the interface do not begin with an Ethernet header.
    #[error("the packets of interface {0} have no Ethernet header, which the fast path needs")]
    NotEthernet(String),
    /// An interface has one XDP program at most.
    #[error("interface {interface} has an XDP program already: {program}; use --attach tc beside it")]
    XdpTaken {
        /// The interface.
        interface: String,
        /// The program that has it.
        program: String,
    },
    /// Before Linux 6.6 the filters of sensors cannot be told apart.
    #[error(
        "another vxtap receives at tc of interface {0}, and before Linux 6.6 there can be one; let it --listen on both \
         addresses"
    )]
    FilterTaken(String),
    /// The driver has no XDP.
    #[error("interface {interface}: its driver ({driver}) has no native XDP; use --attach tc")]
    NoXdp {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
    },
    /// The driver does not want the program as things are.
    #[error(
        "interface {interface}: its driver ({driver}) refuses an XDP program at MTU {mtu}: {error}; use --attach tc, or a \
         smaller MTU (ena: 3498 at most, and half of the queues)"
    )]
    XdpRefused {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// Its MTU.
        mtu: u32,
        /// The error that the kernel returns.
        error: String,
    },
    /// The object that is part of this program is not as expected.
    #[error("the BPF object has no {0}: please report this")]
    Object(&'static str),
    /// Loading failed.
    #[error("cannot load the BPF object: {}", chain(.0))]
    Load(#[from] EbpfError),
    /// A map failed.
    #[error("a BPF map: {}", chain(.0))]
    Map(#[from] MapError),
    /// The kernel refused the program.
    #[error("the BPF program: {}", chain(.0))]
    Program(#[from] ProgramError),
    /// A worker does not read its ring.
    #[error("a worker stalls: after {0:?} it has not read what came before")]
    Unread(Duration),
    /// Anything else.
    #[error("{call}: {error}")]
    Os {
        /// The call that failed.
        call: &'static str,
        /// The error that it returned.
        error: io::Error,
    },
}

impl BpfError {
    /// Says whether it may be possible later: an interface, its address or the default route is not
    /// there yet, or another sensor is not gone yet.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::WhichInterface(_) | Self::NoSuchInterface { .. } | Self::FilterTaken(_))
    }
}

/// Writes an error with its causes, which the errors of the loader name apart.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
