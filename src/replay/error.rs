//! The reasons why a replay cannot begin, or cannot go on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::record::read::ReadError;

/// The reason why nothing, or nothing more, can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(ReadError),
    /// An input that is not a regular file is to be played several times, but can be read only
    /// once.
    #[error("{} is not a regular file, so it can be played only once: copy it to a file, or leave out --loop", .0.display())]
    Once(PathBuf),
    /// Source and target address are of different kinds.
    #[error("the source address {from} and the target {to} are not both IPv4 or both IPv6")]
    Family {
        /// The source address asked for.
        from: IpAddr,
        /// The target.
        to: SocketAddr,
    },
    /// What is asked for goes over UDP alone.
    #[error("--over-ip is for GRE: --as gre, --as erspan, --as erspan3 or --as nvgre")]
    OverIp,
    /// There is no port over IP.
    #[error("--over-ip has no port; write --to {}", .0.ip())]
    Port(SocketAddr),
    /// A raw socket needs a privilege.
    #[error("--over-ip sends by a raw socket, which needs CAP_NET_RAW: run as root")]
    Raw,
    /// The source address is not one of this host's.
    #[error("{from} is not an address of this host; `ip address` lists those that --from can have")]
    NotOurs {
        /// The source address asked for.
        from: IpAddr,
    },
    /// An outer source port is not free.
    #[error("cannot bind UDP port {port} of {from}, one of 65408 to 65535 that mirror traffic comes from: {source}{}", advice(.source))]
    Bind {
        /// The source address.
        from: IpAddr,
        /// The port.
        port: u16,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The target cannot be reached from here.
    #[error("cannot send to {to}: {source}{}", advice(.source))]
    Connect {
        /// The target.
        to: SocketAddr,
        /// The error that the system returned.
        source: io::Error,
    },
    /// A socket cannot be made as needed.
    #[error("cannot {action}: {source}{}", advice(.source))]
    Socket {
        /// The step that failed.
        action: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
}

/// Says what to do about an error of the system; the text is appended to the error.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "; another program holds it: `ss -unap` shows which. Replays share ports only if the same user runs them"
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "; there is no route: see `ip route get ADDR`",
        Some(libc::EACCES | libc::EPERM) => {
            "; is it a broadcast address, or does a firewall or a security module forbid it?"
        }
        Some(libc::EINVAL) => {
            "; a link-local target needs its interface as in [fe80::1%2]:4789, and a loopback source reaches only \
             this host"
        }
        Some(libc::EMFILE | libc::ENFILE) => "; replay needs up to 128 sockets: raise the limit, see `ulimit -n`",
        Some(libc::EAFNOSUPPORT) => "; this host has no such addresses, is IPv6 turned off?",
        _ => "",
    }
}
