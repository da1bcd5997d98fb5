//! An interface for sniffers: frames are put into it, and the host leaves them alone.
//!
//! An interface that does not exist is created, and ceases to exist with the [`Interface`]. One
//! that exists, made by `ip tuntap add dev NAME mode tap user USER`, is used: then the sensor needs
//! no privilege, and changes what is not as it should be only if it may. It tells what it may not
//! change, with the command that does (`Interface::complaints`).
//!
//! Set up for sniffing means:
//!
//! - up, with `IFF_PROMISC`, as people expect of a mirror, and without ARP;
//! - an MTU that holds the largest frame. A tap does not check the length of what it receives
//!   against its MTU (`tun_get_user` in drivers/net/tun.c): larger frames pass too. Sniffers size
//!   their buffers by it;
//! - no offloads by which frames would be merged: no vnet header, `TUNSETOFFLOAD` 0, and no
//!   `IFF_NAPI`, without which there is no GRO, whatever `ethtool -k` says: a write goes to
//!   `netif_receive_skb` directly;
//! - no addresses, no IPv6, so that nothing is sent into it;
//! - **deaf**: a filter at ingress drops every frame after packet sockets have seen it. Otherwise
//!   the host would answer and forward what is addressed to it, whose addresses the mirrored frames
//!   carry where a host mirrors itself or addresses repeat.

mod complaint;
pub(super) mod fault;
mod tcx;
pub(super) mod watch;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use self::complaint::is_denied;
use self::fault::Fault;
use crate::service::{self, Store};
use crate::sys::rtnetlink::{Link, RouteSocket};
use crate::sys::tun::{AttachError, DEVICE, NAME_MAX, Tun};

pub(crate) use self::complaint::Complaint;
pub use crate::sys::tun::Kind;

/// MTU of the interface where nothing else is asked for, in bytes: that of AWS's networks.
pub(crate) const DEFAULT_MTU: u32 = 9001;

/// The time to wait for an interface that is attached to. The kernel may take a moment to let go of
/// it after a process was killed, where that process used io_uring.
const BUSY: Duration = Duration::from_secs(1);

/// An interface to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePlan {
    /// Name of the interface, 15 bytes at most.
    pub name: String,
    /// Kind of the interface: with Ethernet headers or without.
    pub kind: Kind,
    /// MTU of the interface at least, in bytes.
    pub mtu: u32,
    /// The file with the tags of sessions, where frames get them.
    pub tags: Option<PathBuf>,
}

impl InterfacePlan {
    /// Says whether there is an interface of this name. Where nobody tells it may be there.
    pub(crate) fn exists(&self) -> bool {
        let found = RouteSocket::open().and_then(|netlink| netlink.link(&self.name));
        !found.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    }
}

/// The reason why there is no such interface.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The name is not one that an interface can have.
    #[error("an interface cannot be named {name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The fault of the name.
        reason: &'static str,
    },
    /// The kernel has no tun driver here.
    #[error("{DEVICE} is missing: load the driver with `modprobe tun`; start a container with `--device {DEVICE}`")]
    NoDevice,
    /// The tun driver must not be used.
    #[error(
        "{DEVICE} cannot be opened: {0}: a container must be started with `--device {DEVICE}`; elsewhere `chmod 0666 {DEVICE}` makes it \
         as it is by default"
    )]
    DeviceDenied(io::Error),
    /// Creating the interface needs CAP_NET_ADMIN.
    #[error(
        "creating {kind} {name} needs CAP_NET_ADMIN: give it to the program with `setcap cap_net_admin+ep {program}`, or create the \
         interface once, as root, with `ip tuntap add dev {name} mode {kind} user {user}`"
    )]
    Privilege {
        /// The interface.
        name: String,
        /// `tap` or `tun`.
        kind: &'static str,
        /// This program's file.
        program: String,
        /// The number of the user that it runs as.
        user: u32,
    },
    /// The interface exists, for another user.
    #[error(
        "{name} belongs to another user: run as that user, or give it away, as root, with `ip link delete {name} && ip tuntap add dev \
         {name} mode {kind} user {user}`"
    )]
    NotYours {
        /// The interface.
        name: String,
        /// `tap` or `tun`.
        kind: &'static str,
        /// The number of the user that the program runs as.
        user: u32,
    },
    /// The name belongs to something else.
    #[error(
        "{name} exists and is {what}, not a {kind} interface: choose another name, or remove it with `ip link delete {name}`"
    )]
    Taken {
        /// The interface.
        name: String,
        /// The kind of thing that has the name.
        what: String,
        /// `tap` or `tun`.
        kind: &'static str,
    },
    /// Another process has the interface.
    #[error("{name} is in use by another process: choose another name, or stop that process")]
    Busy {
        /// The interface.
        name: String,
    },
    /// The interface cannot be made deaf.
    #[error(
        "this host would answer the frames in {name}, for the kernel lacks the filters that keep them from it ({error}): `modprobe -a \
         sch_ingress cls_bpf`, or use a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"
    )]
    NoFilter {
        /// The interface.
        name: String,
        /// The error of the kernel.
        error: io::Error,
    },
    /// Any other step failed.
    #[error("cannot {action} {name}: {error}")]
    Step {
        /// The step that was to be done.
        action: &'static str,
        /// The interface.
        name: String,
        /// The error of the kernel.
        error: io::Error,
    },
}

impl InterfaceError {
    /// Says whether opening the interface may be possible later: the interface, which may not be
    /// created, is not there yet, or somebody still has it.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Privilege { .. } | Self::Busy { .. })
    }
}

/// An interface that is set up for sniffing.
#[derive(Debug)]
pub struct Interface {
    tun: Tun,
    name: String,
    index: u32,
    created: bool,
    complaints: Vec<Complaint>,
}

impl Interface {
    /// Attaches to the interface, or creates it, in the network namespace of the calling thread,
    /// and sets it up. Waits a second for one that another process has attached to, as one that is
    /// just ending.
    ///
    /// # Errors
    /// The obstacle, and what to do about it.
    pub fn open(plan: &InterfacePlan) -> Result<Self, InterfaceError> {
        let deadline = Instant::now() + BUSY;
        loop {
            match Self::open_now(plan) {
                Err(InterfaceError::Busy { .. }) if Instant::now() < deadline => thread::sleep(BUSY / 20),
                result => return result,
            }
        }
    }

    /// Opens the interface as [`Interface::open`] does, but without waiting.
    ///
    /// # Errors
    /// As [`Interface::open`].
    pub(crate) fn open_now(plan: &InterfacePlan) -> Result<Self, InterfaceError> {
        check_name(&plan.name)?;
        let step = |action| move |error| InterfaceError::Step { action, name: plan.name.clone(), error };
        let netlink = RouteSocket::open().map_err(step("ask the kernel about"))?;
        let existing = match netlink.link(&plan.name) {
            Ok(link) => Some(link),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
            Err(error) => return Err(step("ask the kernel about")(error)),
        };
        if let Some(link) = &existing {
            check_kind(plan, link)?;
        }
        let tun = attach(plan, existing.as_ref())?;
        let link = netlink.link(&plan.name).map_err(step("ask the kernel about"))?;
        let created = existing.is_none();
        let complaints = set_up(plan, &netlink, &link)?;
        Ok(Self { tun, name: plan.name.clone(), index: link.index, created, complaints })
    }

    /// Takes over the interface from the process before this one, where `store` has it, else opens
    /// it as [`Interface::open`] does. The next process is to have it from this one.
    ///
    /// # Errors
    /// As [`Interface::open`].
    pub(crate) fn open_kept(plan: &InterfacePlan, store: &Store) -> Result<Self, InterfaceError> {
        let name = kept_name(&plan.name);
        let Some(descriptor) = store.take(&name) else { return Self::open(plan).inspect(|new| new.keep(store)) };
        match Self::take_over(plan, descriptor) {
            Ok(interface) => Ok(interface),
            Err(error) => {
                tracing::warn!(
                    interface = plan.name,
                    "the interface that the process before this one left is of no use: {error}"
                );
                store.close([&name]);
                Self::open(plan).inspect(|new| new.keep(store))
            }
        }
    }

    fn take_over(plan: &InterfacePlan, descriptor: OwnedFd) -> Result<Self, InterfaceError> {
        check_name(&plan.name)?;
        let step = |action| move |error| InterfaceError::Step { action, name: plan.name.clone(), error };
        let name = CString::new(plan.name.as_bytes()).map_err(io::Error::other).map_err(step("name"))?;
        let tun = Tun::take_over(descriptor, &name, plan.kind).map_err(step("take over"))?;
        let netlink = RouteSocket::open().map_err(step("ask the kernel about"))?;
        let link = netlink.link(&plan.name).map_err(step("ask the kernel about"))?;
        let complaints = set_up(plan, &netlink, &link)?;
        Ok(Self { tun, name: plan.name.clone(), index: link.index, created: false, complaints })
    }

    /// Has the service manager keep the interface for the next process.
    pub(crate) fn keep(&self, store: &Store) {
        store.keep_while_it_lives(&kept_name(&self.name), &self.tun);
    }

    /// Says whether the interface was created here, and will cease to exist with this value.
    #[must_use]
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// Returns the number of the interface.
    #[cfg(test)]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Returns what is not as it should be, for want of privilege.
    #[cfg(test)]
    pub(crate) fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// Says what the interface lacks. The watch says what closes it for frames.
    pub(crate) fn complain(&self) {
        for complaint in self.complaints.iter().filter(|complaint| !complaint.closes) {
            tracing::warn!(interface = self.name, "{complaint}");
        }
    }

    /// Says whether no frame is to enter the interface as it is: the host would hear the frame.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.complaints.iter().any(|complaint| complaint.closes)
    }

    /// Returns the descriptor through which frames enter the interface.
    #[must_use]
    pub fn tun(&self) -> &Tun {
        &self.tun
    }
}

/// Returns the name by which a service manager keeps the interface `name`.
pub(crate) fn kept_name(name: &str) -> String {
    service::name("tap", name)
}

/// Says why the kernel does not take `name` (`dev_valid_name` in net/core/dev.c), or not as a name
/// but as a pattern.
pub(crate) fn fault_of_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > NAME_MAX {
        Some("it is longer than 15 bytes")
    } else if matches!(name, "." | ".." | "all" | "default") {
        Some("the kernel uses it for something else")
    } else if name.chars().any(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()) {
        Some("it has a space, a control character, or one of / : %")
    } else {
        None
    }
}

/// Says whether the kernel takes `name`.
fn check_name(name: &str) -> Result<(), InterfaceError> {
    match fault_of_name(name) {
        Some(reason) => Err(InterfaceError::Name { name: name.into(), reason }),
        None => Ok(()),
    }
}

/// Says whether an interface that exists is of the kind asked for, as far as the kernel tells.
pub(crate) fn fits(plan: &InterfacePlan, link: &Link) -> bool {
    match link.tun {
        Some(tun) => tun.tap == (plan.kind == Kind::Tap),
        // This kernel does not tell which. Attaching will.
        None => link.kind.as_deref() == Some("tun"),
    }
}

/// Refuses an interface that exists and is of another kind than asked for.
fn check_kind(plan: &InterfacePlan, link: &Link) -> Result<(), InterfaceError> {
    if fits(plan, link) {
        return Ok(());
    }
    let what = match (&link.kind, link.tun) {
        (_, Some(tun)) => format!("a {} interface", if tun.tap { "tap" } else { "tun" }),
        (Some(kind), None) => format!("a {kind} interface"),
        (None, None) if link.flags & libc::IFF_LOOPBACK.cast_unsigned() != 0 => "the loopback interface".into(),
        (None, None) => "a network card".into(),
    };
    Err(InterfaceError::Taken { name: plan.name.clone(), what, kind: plan.kind.label() })
}

/// Attaches to the interface.
fn attach(plan: &InterfacePlan, existing: Option<&Link>) -> Result<Tun, InterfaceError> {
    let name = CString::new(plan.name.as_bytes())
        .map_err(|_| InterfaceError::Name { name: plan.name.clone(), reason: "it has a zero byte" })?;
    let multi_queue = existing.and_then(|link| link.tun).is_some_and(|tun| tun.multi_queue);
    Tun::attach(&name, plan.kind, multi_queue).map_err(|error| explain(plan, existing.is_some(), error))
}

/// Says what a failure to attach means.
fn explain(plan: &InterfacePlan, exists: bool, error: AttachError) -> InterfaceError {
    let (name, kind) = (plan.name.clone(), plan.kind.label());
    let user = rustix::process::getuid().as_raw();
    match error {
        AttachError::Device(error) => match error.raw_os_error() {
            // The file is missing, or nothing stands behind it.
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => InterfaceError::NoDevice,
            Some(libc::EACCES | libc::EPERM) => InterfaceError::DeviceDenied(error),
            _ => InterfaceError::Step { action: "open /dev/net/tun for", name, error },
        },
        AttachError::Attach(error) => match error.raw_os_error() {
            Some(libc::EPERM) if exists => InterfaceError::NotYours { name, kind, user },
            Some(libc::EPERM) => {
                let program =
                    std::env::current_exe().map_or_else(|_| "vxtap".into(), |path| path.display().to_string());
                InterfaceError::Privilege { name, kind, program, user }
            }
            Some(libc::EBUSY) => InterfaceError::Busy { name },
            Some(libc::EINVAL) if exists => InterfaceError::Taken { name, what: "of another kind".into(), kind },
            _ => InterfaceError::Step { action: "attach to", name, error },
        },
        AttachError::Configure(error) => InterfaceError::Step { action: "switch off the offloads of", name, error },
    }
}

/// Makes an interface as it should be. Returns complaints about what the process may not change.
fn set_up(plan: &InterfacePlan, netlink: &RouteSocket, link: &Link) -> Result<Vec<Complaint>, InterfaceError> {
    let name = &plan.name;
    let mut complaints = Vec::new();
    let mut settle = |action, result: io::Result<()>, complaint: Complaint| match result {
        Ok(()) => Ok(()),
        Err(error) if is_denied(&error) => {
            complaints.push(complaint);
            Ok(())
        }
        Err(error) => Err(InterfaceError::Step { action, name: name.clone(), error }),
    };

    // IPv6 goes before the interface is up: then it has no addresses yet, and nobody is asked for
    // routers.
    settle("switch off IPv6 on", fault::switch_off_ipv6(netlink, link), Fault::Ipv6.complaint(name))?;
    // The interface is deaf before it is up: there is no moment in which the host hears.
    let deaf = match netlink.drops_ingress(link.index) {
        Ok(true) => Ok(()),
        Ok(false) => Fault::Heard.mend(netlink, link),
        Err(error) => Err(error),
    };
    match deaf {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
            return Err(InterfaceError::NoFilter { name: name.clone(), error });
        }
        deaf => settle("filter what this host sees of", deaf, Fault::Heard.complaint(name))?,
    }
    let addresses = netlink.addresses(link.index);
    let addresses = addresses.map_err(|error| InterfaceError::Step {
        action: "ask for the addresses of",
        name: name.clone(),
        error,
    })?;
    if !addresses.is_empty() {
        let fault = Fault::Addressed(addresses);
        settle("take the addresses of", fault.mend(netlink, link), fault.complaint(name))?;
    }
    let mtu = if link.mtu < plan.mtu { netlink.set_mtu(link.index, plan.mtu) } else { Ok(()) };
    let complaint = |what: &str, command, closes| Complaint { what: what.into(), command, closes };
    settle(
        "set the MTU of",
        mtu,
        complaint(
            "its MTU is smaller than asked for: sniffers may cut frames",
            format!("ip link set dev {name} mtu {}", plan.mtu),
            false,
        ),
    )?;
    let flags = (libc::IFF_UP | libc::IFF_PROMISC | libc::IFF_NOARP).cast_unsigned();
    let up = if link.flags & flags == flags { Ok(()) } else { netlink.set_flags(link.index, flags, flags) };
    let is_down = link.flags & libc::IFF_UP.cast_unsigned() == 0;
    let what = if is_down { "it is down: all frames are dropped" } else { "it is not promiscuous, or speaks ARP" };
    settle("bring up", up, complaint(what, format!("ip link set dev {name} up promisc on arp off"), !is_down))?;
    Ok(complaints)
}

#[cfg(test)]
mod tests;
