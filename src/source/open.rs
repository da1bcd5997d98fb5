//! Opens the source that was asked for, or the best that works here.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::allowed::Allowed;
use super::bind::BindError;
use super::bpf::{self, BpfError, BpfPlan, BpfSource, Gate, Redirect};
use super::capture::{self, CaptureSource};
use super::fast_path::Account;
use super::live::Offline;
use super::port::Listener;
use super::udp::{self, Listening, UdpPlan, UdpSource};
use crate::service::Store;
use crate::setting::Wording;
use crate::wire::Carrier;
use crate::wire::captured::Ports;

/// The way in which datagrams are received.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// By UDP sockets. Needs no privilege.
    Udp,
    /// By a BPF program on the interface, for a fraction of the CPU. Needs CAP_BPF, CAP_NET_ADMIN
    /// and CAP_PERFMON. Firewall rules of this host do not apply to what it takes.
    Bpf,
    /// By the program if it works here, else by sockets; says which, and why.
    Auto,
    /// Not at all: the outer packets of this capture are read.
    #[value(skip)]
    File(PathBuf),
}

/// The word for a capture, in front of its path.
pub(crate) const FILE: &str = "file:";

impl Way {
    /// Returns the way that `file:` and the path of a capture say. Standard input is no file:
    /// nobody could end a sensor that waits for it.
    #[must_use]
    pub(crate) fn of_file(value: &OsStr) -> Option<Self> {
        let path = value.as_bytes().strip_prefix(FILE.as_bytes()).filter(|path| !matches!(path, [] | [b'-']))?;
        Some(Way::File(OsStr::from_bytes(path).into()))
    }

    /// Says whether the program receives, or may.
    #[must_use]
    pub(crate) fn wants_program(&self) -> bool {
        matches!(self, Way::Bpf | Way::Auto)
    }

    /// Returns the capture that is read instead.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Way::File(path) => Some(path),
            Way::Udp | Way::Bpf | Way::Auto => None,
        }
    }
}

/// The settings of all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlan {
    /// The way in which to receive.
    pub way: Way,
    /// The settings of the sockets, which every way has that receives.
    pub udp: UdpPlan,
    /// What is a mirror's in a capture that is read, by port; nothing where datagrams are received.
    pub mirrors: Vec<Listener>,
    /// The settings of the program.
    pub bpf: BpfPlan,
    /// The names by which the log calls settings.
    pub wording: Wording,
}

/// Sources of one kind, one for each worker.
#[derive(Debug)]
pub(crate) enum Sources {
    /// Sources that are sockets.
    Udp(Vec<UdpSource>),
    /// Sources that are a BPF program with its rings, and sockets.
    Bpf(Vec<BpfSource>),
    /// A capture.
    Capture(Vec<Offline<CaptureSource>>, Arc<capture::Readout>),
}

/// The parts that work in front of the workers; by default there are none.
#[derive(Debug, Default)]
pub(crate) struct Front {
    /// The accounts of what a program does in front of each worker, if there is a program.
    pub accounts: Vec<Box<dyn Account>>,
    /// The lead of the program to the interface that frames are to enter, if that was asked for.
    pub redirect: Option<Redirect>,
    /// The program's part in what is allowed, if there is a program.
    pub gate: Option<Gate>,
    /// What a service manager keeps over a restart.
    pub store: Arc<Store>,
}

/// Sources that receive.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The sources, one for each worker.
    pub sources: Sources,
    /// The addresses where they listen: what was asked for, with the port the kernel chose for port
    /// 0.
    pub addresses: Vec<SocketAddr>,
    /// The smallest receive buffer that a socket got, in bytes.
    pub receive_buffer: u32,
    /// The parts that work in front of the workers.
    pub front: Front,
    /// The way of receiving, for people: `udp`, interfaces with what the program is attached to, as
    /// `eth0:xdp`, or a file.
    pub description: String,
}

/// What the log says where datagrams for other hosts were asked for, and sockets receive.
const NOT_ANY: &str = "sockets receive what is for this host's addresses, and --any-address changes nothing about that";

/// A reason why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The sockets cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The program cannot run here, and was asked for.
    #[error("--source bpf does not work here: {0}")]
    Bpf(#[from] BpfError),
    /// There is no such capture.
    #[error(transparent)]
    Capture(#[from] capture::OpenError),
}

impl OpenError {
    /// Says whether it may be possible later.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Bind(error) => error.may_pass(),
            Self::Bpf(error) => error.may_pass(),
            Self::Capture(_) => false,
        }
    }
}

/// Opens the sources of all workers. The sockets come first: what arrives before the program is
/// there is theirs. With a program, sessions that are not `allowed` are dropped there. `store` has
/// the sockets of the process before this one, if it left some.
///
/// # Errors
/// The way that was asked for does not work here, for the reason that is returned.
pub(crate) fn open(plan: &SourcePlan, allowed: &Allowed, store: &Arc<Store>) -> Result<Opened, OpenError> {
    if let Way::File(path) = &plan.way {
        return read(path, plan, store);
    }
    let mut listening = udp::listen(&plan.udp, store)?;
    let fast = match plan.way {
        Way::Udp | Way::File(_) => None,
        Way::Bpf => Some(bpf::open(&plan.bpf, &plan.udp, allowed, &mut listening)?),
        Way::Auto => match bpf::open(&plan.bpf, &plan.udp, allowed, &mut listening) {
            Ok(fast) => Some(fast),
            Err(why) => {
                tracing::info!("receiving by UDP sockets alone: {}", plan.wording.put(&why.to_string()));
                if plan.bpf.any_address {
                    tracing::warn!("{}", plan.wording.put(NOT_ANY));
                }
                None
            }
        },
    };
    let Listening { sources, addresses, receive_buffer } = listening;
    let mut opened = Opened {
        sources: Sources::Udp(Vec::new()),
        addresses,
        receive_buffer,
        front: Front { store: Arc::clone(store), ..Front::default() },
        description: "udp".into(),
    };
    match fast {
        None => opened.sources = Sources::Udp(sources),
        Some(fast) => {
            let places: Vec<String> = fast.attached.iter().map(|(name, mode)| format!("{name}:{mode}")).collect();
            opened.sources = Sources::Bpf(fast.sources);
            opened.description = format!("bpf {}", places.join(" "));
            opened.front =
                Front { accounts: fast.accounts, redirect: fast.redirect, gate: Some(fast.gate), ..opened.front };
        }
    }
    Ok(opened)
}

/// Opens a capture in place of sockets.
fn read(path: &Path, plan: &SourcePlan, store: &Arc<Store>) -> Result<Opened, OpenError> {
    let mut ports = Ports::none(plan.mirrors.iter().any(|listener| listener.carrier == Carrier::Ip));
    for listener in plan.mirrors.iter().filter(|listener| listener.carrier == Carrier::Udp) {
        ports.add(listener.address.port(), listener.encapsulation);
    }
    let source = CaptureSource::open(path, ports)?;
    let readout = source.readout();
    Ok(Opened {
        sources: Sources::Capture(vec![Offline::new(source)], readout),
        addresses: Vec::new(),
        receive_buffer: plan.udp.receive_buffer,
        front: Front { store: Arc::clone(store), ..Front::default() },
        description: format!("file {}", path.display()),
    })
}
