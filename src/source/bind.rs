//! An address that cannot be listened on has a reason, which people can do something about.

use std::io;

use super::port::Listener;
use crate::host::port_owner;

/// A reason why listening failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has the port.
    #[error("cannot listen on {listener}: the port is taken by {owner}")]
    PortTaken {
        /// The listener asked for.
        listener: Listener,
        /// The owner of the port, and how to see it.
        owner: String,
    },
    /// The address is not one of this host's.
    #[error("cannot listen on {listener}: this host does not have that address; it has {ours}")]
    NotOurAddress {
        /// The listener asked for.
        listener: Listener,
        /// The host's addresses.
        ours: String,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "cannot listen on {listener}: ports below {first} need CAP_NET_BIND_SERVICE; \
         see sysctl net.ipv4.ip_unprivileged_port_start"
    )]
    Privileged {
        /// The listener asked for.
        listener: Listener,
        /// The first port that needs no privilege.
        first: u16,
    },
    /// A raw socket without the privilege.
    #[error(
        "cannot listen on {listener}: what comes over IP and not over UDP needs CAP_NET_RAW; run as root, or: \
         setcap cap_net_raw+ep PATH-OF-VXTAP"
    )]
    Raw {
        /// The listener asked for.
        listener: Listener,
    },
    /// A unit of the service manager has opened a socket that is of no use.
    #[error("cannot listen on {listener}: the socket that {unit} has opened is of no use: {why}")]
    Handed {
        /// The listener asked for.
        listener: Listener,
        /// The name of the socket, which is that of the unit unless the unit says another.
        unit: String,
        /// What is wrong with it.
        why: String,
    },
    /// Anything else.
    #[error("cannot listen on {listener}: {call}: {error}")]
    Os {
        /// The listener asked for.
        listener: Listener,
        /// The call that failed.
        call: &'static str,
        /// The error that it returned.
        error: io::Error,
    },
}

impl BindError {
    /// Says whether it may be possible later: the address or its interface is not there yet, or
    /// somebody still has the port.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::PortTaken { .. } | Self::NotOurAddress { .. } => true,
            Self::Privileged { .. } | Self::Raw { .. } | Self::Handed { .. } => false,
            // The missing thing is the interface that a link-local address names.
            Self::Os { error, .. } => error.raw_os_error() == Some(libc::ENODEV),
        }
    }
}

/// Says why binding to the address failed.
pub(super) fn explain(listener: Listener, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::PortTaken { listener, owner: port_owner::describe(listener.address) },
        io::ErrorKind::AddrNotAvailable => {
            let ours: Vec<String> =
                pnet::datalink::interfaces().iter().flat_map(|i| &i.ips).map(|n| n.ip().to_string()).collect();
            BindError::NotOurAddress { listener, ours: ours.join(", ") }
        }
        io::ErrorKind::PermissionDenied => BindError::Privileged {
            listener,
            first: std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(1024),
        },
        _ => BindError::Os { listener, call: "bind", error },
    }
}
