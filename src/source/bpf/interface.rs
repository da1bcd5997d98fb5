//! Chooses the interfaces that the program is for, and asks whether this host lets it be there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;

use pnet::ipnetwork::IpNetwork;

use super::error::BpfError;
use crate::host::process;
use crate::host::routes::default_routes;
use crate::sys::rtnetlink::{Link, RouteSocket};

/// The oldest kernel that has all that the program uses: `bpf_xdp_load_bytes` and `xdp.frags`.
pub(crate) const OLDEST_KERNEL: (u8, u8) = (5, 18);
/// Network hardware whose frames begin with an Ethernet header (netdevice(7)).
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// Says whether the frames of an interface begin with an Ethernet header.
pub(crate) fn is_ethernet(link: &Link) -> bool {
    matches!(link.hardware, ARPHRD_ETHER | ARPHRD_LOOPBACK)
}

/// Checks that the kernel is new enough, and that this process may load and attach programs.
pub(super) fn check_host() -> Result<(), BpfError> {
    let (major, minor) = OLDEST_KERNEL;
    if let Some(release) = process::kernel_before(major, minor) {
        return Err(BpfError::Kernel { release, major, minor });
    }
    let missing = process::missing_capabilities();
    if missing.is_empty() { Ok(()) } else { Err(BpfError::Capability(missing.join(", "))) }
}

/// An interface with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Its addresses, with the size of their networks.
    pub(super) addresses: Vec<IpNetwork>,
    is_up: bool,
    is_loopback: bool,
}

/// Lists all interfaces of the host.
pub(super) fn all() -> Vec<Interface> {
    pnet::datalink::interfaces()
        .into_iter()
        .map(|interface| Interface {
            is_up: interface.is_up(),
            is_loopback: interface.is_loopback(),
            addresses: interface.ips,
            name: interface.name,
        })
        .collect()
}

/// Returns the interfaces that the program is for: those that are named, else those on which
/// datagrams to these addresses come in.
///
/// # Errors
/// None is named, and nothing tells which they are.
pub(crate) fn wanted(named: &[String], listen: &[SocketAddr]) -> Result<Vec<String>, BpfError> {
    match named {
        [] => choose(listen, &all()),
        // An interface that is named twice is one.
        named => Ok(named.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()),
    }
}

/// Chooses the interfaces on which datagrams to these addresses come in: the one that has the
/// address, or the one of the default route.
fn choose(listen: &[SocketAddr], interfaces: &[Interface]) -> Result<Vec<String>, BpfError> {
    choose_among(listen, interfaces, &default_routes())
}

fn choose_among(
    listen: &[SocketAddr],
    interfaces: &[Interface],
    default_routes: &[String],
) -> Result<Vec<String>, BpfError> {
    let mut chosen = Vec::new();
    let mut add = |name: &str| {
        if !chosen.iter().any(|known| known == name) {
            chosen.push(name.to_owned());
        }
    };
    for address in listen.iter().map(|listen| listen.ip().to_canonical()) {
        if address.is_unspecified() {
            // Without a default route there is often just one interface that it could be.
            let up = |i: &&Interface| i.is_up && !i.is_loopback && !i.addresses.is_empty();
            let only: Vec<&Interface> = interfaces.iter().filter(up).collect();
            match (default_routes, &*only) {
                ([], [only]) => add(&only.name),
                ([], _) => return Err(BpfError::WhichInterface(names(interfaces))),
                (routes, _) => routes.iter().for_each(|name| add(name)),
            }
        } else {
            let has = |i: &&Interface| {
                i.addresses.iter().any(|has| has.ip() == address) || (i.is_loopback && address.is_loopback())
            };
            let interface = interfaces.iter().find(has).ok_or_else(|| BpfError::WhichInterface(names(interfaces)))?;
            add(&interface.name);
        }
    }
    Ok(chosen)
}

/// Lists all links of the host, with what they are stacked on.
pub(super) fn links() -> Result<Vec<Link>, BpfError> {
    let links = RouteSocket::open().and_then(|socket| socket.links());
    links.map_err(|error| BpfError::Os { call: "RTM_GETLINK", error })
}

/// Lists the names of interfaces, for people.
pub(super) fn names(interfaces: &[Interface]) -> String {
    interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Returns the link of this name, if its frames are what the program expects.
pub(super) fn ethernet(name: &str) -> Result<Link, BpfError> {
    let link = RouteSocket::open().and_then(|socket| socket.link(name)).map_err(|error| {
        if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ERANGE)) {
            BpfError::NoSuchInterface { name: name.to_owned(), ours: names(&all()) }
        } else {
            BpfError::Os { call: "RTM_GETLINK", error }
        }
    })?;
    if is_ethernet(&link) { Ok(link) } else { Err(BpfError::NotEthernet(name.to_owned())) }
}

/// Names what drives an interface, as `ena` or `veth`, for people.
pub(crate) fn driver(name: &str, link: &Link) -> String {
    let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver"));
    let driver = driver.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    driver.or_else(|| link.kind.clone()).unwrap_or_else(|| "unknown".into())
}

/// Names a loaded program, as far as its name can be told.
pub(crate) fn program_name(id: u32) -> String {
    let programs = aya::programs::loaded_programs().flatten();
    let name = programs.filter(|program| program.id() == id).find_map(|p| p.name_as_str().map(str::to_owned));
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{name} (id {id})"),
        None => format!("id {id}"),
    }
}

/// Finds the cause of an error that has the kernel's number.
pub(super) fn os_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(os) = current.downcast_ref::<io::Error>() {
            return Some(os);
        }
        error = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Interface {
        /// Makes an interface that is up and has these addresses.
        pub(in super::super) fn of(name: &str, addresses: &[&str]) -> Self {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Self { name: name.into(), addresses, is_up: true, is_loopback: name == "lo" }
        }
    }

    fn interface(name: &str, address: &str) -> Interface {
        Interface::of(name, &[address])
    }

    #[test]
    fn the_interface_is_that_of_the_address_or_of_the_default_route() {
        let lo = || interface("lo", "127.0.0.1");
        let host = [lo(), interface("eth0", "10.0.0.1"), interface("eth1", "fd00::1")];
        let route = ["eth0".to_owned()];
        let choose = |listen: &[&str], host: &[Interface], routes: &[String]| {
            let listen: Vec<SocketAddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
            choose_among(&listen, host, routes).ok().map(|names| names.join(" "))
        };
        assert_eq!(choose(&["[::]:4789"], &host, &route).as_deref(), Some("eth0"));
        assert_eq!(choose(&["[fd00::1]:4789"], &host, &route).as_deref(), Some("eth1"));
        assert_eq!(choose(&["127.0.0.9:4789"], &host, &route).as_deref(), Some("lo"));
        assert_eq!(choose(&["0.0.0.0:4789", "[fd00::1]:1", "10.0.0.1:2"], &host, &route).as_deref(), Some("eth0 eth1"));
        assert_eq!(choose(&["[::]:4789"], &host, &[]), None, "two that it could be");
        assert_eq!(choose(&["[::]:4789"], &host[..2], &[]).as_deref(), Some("eth0"), "one that it could be");
        assert_eq!(choose(&["192.0.2.1:4789"], &host, &route), None);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let text = ethernet("nosuch0").unwrap_err().to_string();
        assert!(text.contains("nosuch0") && text.contains("lo"), "{text}");
        assert!(ethernet("lo").is_ok());
    }
}
