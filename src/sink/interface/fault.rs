//! Settings by which the host would hear what is in an interface, or speak into it.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::complaint::{Complaint, is_denied};
use super::tcx;
use crate::sys::rtnetlink::{Address, Link, RouteSocket};

/// A setting that is not as it should be. No frame is to enter the interface as long as there is
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sink) enum Fault {
    /// Nothing keeps frames from the host.
    Heard,
    /// A program of other software is asked about frames before the filter that keeps them from the
    /// host.
    Preceded(String),
    /// IPv6 is on.
    Ipv6,
    /// The interface has addresses.
    Addressed(Vec<Address>),
    /// The interface speaks ARP.
    Arp,
    /// The interface is not promiscuous.
    NotPromiscuous,
}

impl Fault {
    /// Finds what is wrong with an interface now, the worst first.
    ///
    /// # Errors
    /// The error of netlink.
    pub(in crate::sink) fn find(netlink: &RouteSocket, link: &Link) -> io::Result<Vec<Self>> {
        let lacks = |flag: i32| link.flags & flag.cast_unsigned() == 0;
        let mut found = Vec::new();
        if !netlink.drops_ingress(link.index)? {
            found.push(Self::Heard);
        }
        found.extend(tcx::first(&link.name).map(Self::Preceded));
        // IPv6 is looked at before addresses: those of IPv6 go with it.
        if !is_without_ipv6(&link.name) {
            found.push(Self::Ipv6);
        }
        let addresses = netlink.addresses(link.index)?;
        if !addresses.is_empty() {
            found.push(Self::Addressed(addresses));
        }
        if lacks(libc::IFF_NOARP) {
            found.push(Self::Arp);
        }
        if lacks(libc::IFF_PROMISC) {
            found.push(Self::NotPromiscuous);
        }
        Ok(found)
    }

    /// Sets the setting as it should be.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN, else the error of the kernel.
    pub(in crate::sink) fn mend(&self, netlink: &RouteSocket, link: &Link) -> io::Result<()> {
        match self {
            Self::Heard => {
                netlink.drop_ingress(link.index)?;
                if !netlink.drops_ingress(link.index)? {
                    // Another filter is asked before, and there is no room in front of it.
                    netlink.remove_filters(link.index)?;
                    netlink.drop_ingress(link.index)?;
                }
                Ok(())
            }
            // The program is not the sensor's to remove: whoever attached it may need it, or
            // attaches it again.
            Self::Preceded(_) => Ok(()),
            Self::Ipv6 => switch_off_ipv6(netlink, link),
            Self::Addressed(addresses) => {
                addresses.iter().try_for_each(|address| match netlink.remove_address(link.index, *address) {
                    // The address went with another, or with IPv6.
                    Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
                    other => other,
                })
            }
            Self::Arp | Self::NotPromiscuous => {
                let flags = (libc::IFF_PROMISC | libc::IFF_NOARP).cast_unsigned();
                netlink.set_flags(link.index, flags, flags)
            }
        }
    }

    /// Says what is wrong with `interface`, and which command mends it.
    pub(in crate::sink) fn complaint(&self, interface: &str) -> Complaint {
        let (what, command) = match self {
            Self::Heard => (
                "this host answers and forwards frames in it that carry its addresses".into(),
                format!(
                    "tc qdisc replace dev {interface} clsact && tc filter add dev {interface} ingress bpf direct-action \
                     bytecode '1,6 0 0 2'"
                ),
            ),
            Self::Preceded(program) => (
                format!(
                    "the BPF program {program} is attached to it by tcx and decides before the filter, so this host may hear \
                     frames: have the software that attaches it leave {interface} out"
                ),
                format!("bpftool net show dev {interface}"),
            ),
            Self::Ipv6 => (
                "IPv6 is on: this host sends frames of its own into it".into(),
                format!("sysctl net.ipv6.conf.{}.disable_ipv6=1", interface.replace('.', "/")),
            ),
            Self::Addressed(addresses) => {
                let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                (
                    format!("it has addresses ({}): this host sends frames into it", all.join(", ")),
                    format!("ip address flush dev {interface}"),
                )
            }
            Self::Arp => ("it speaks ARP".into(), format!("ip link set dev {interface} arp off")),
            Self::NotPromiscuous => ("it is not promiscuous".into(), format!("ip link set dev {interface} promisc on")),
        };
        Complaint { what, command, closes: true }
    }
}

fn setting(interface: &str, name: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", interface, name].iter().collect()
}

/// Says whether the host sends no IPv6 into an interface of its own accord: IPv6 is off, or it
/// makes itself no address there, which is what is left where /proc/sys is read-only.
fn is_without_ipv6(interface: &str) -> bool {
    let reads = |name, wanted| match fs::read_to_string(setting(interface, name)) {
        Ok(value) => value.trim() == wanted,
        // This kernel has no IPv6.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    reads("disable_ipv6", "1") || reads("addr_gen_mode", "1")
}

/// Has the host send no IPv6 of its own.
pub(super) fn switch_off_ipv6(netlink: &RouteSocket, link: &Link) -> io::Result<()> {
    let path = setting(&link.name, "disable_ipv6");
    match fs::read_to_string(&path) {
        Ok(value) if value.trim() == "1" => return Ok(()),
        // This kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    match fs::write(&path, "1") {
        // In a container /proc/sys is read-only. This comes close: the interface has no address of
        // its own, so there is nothing to ask routers for.
        Err(error) if is_denied(&error) => netlink.no_link_local(link.index),
        other => other,
    }
}
