//! The host is looked at, and left as it is.

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procfs::Current;
use rustix::fs::{Access, access, statvfs};

use super::directory::{Directory, State};
use super::interface::{Card, Cards};
use super::kernel::Kernel;
use super::memory::Memory;
use super::port::Listen;
use super::speed::{Speed, measure};
use super::tap::Device;
use crate::config::RunPlan;
use crate::evidence::lock;
use crate::host::process::{self, Capabilities};
use crate::host::{HostFacts, least, port_owner};
use crate::source::bpf::interface;
use crate::sys::rtnetlink::{Link, RouteSocket};
use crate::sys::tun::DEVICE;

/// The time in which a file system answers that does so at all.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most names that are looked at below a directory of captures.
const NAMES: usize = 1 << 20;
/// Flags of interfaces (netdevice(7)).
const UP: u32 = libc::IFF_UP.cast_unsigned();
const LOOPBACK: u32 = libc::IFF_LOOPBACK.cast_unsigned();

/// Runs this in a thread, and waits for as long as a file system may take. `None` is returned where
/// it takes longer.
pub(super) fn patiently<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    thread::Builder::new().name("vxtap-check".into()).spawn(move || done.send(run())).ok()?;
    result.recv_timeout(PATIENCE).ok()
}

/// Reads a number from a file of `/proc/sys`.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

/// Lists the interfaces of the host, and its addresses.
pub(super) fn network() -> (Vec<Link>, Vec<IpAddr>) {
    let Ok(route) = RouteSocket::open() else { return Default::default() };
    let links = route.links().unwrap_or_default();
    let addresses = links.iter().filter_map(|link| route.addresses(link.index).ok()).flatten();
    let addresses = addresses.map(|address| address.ip).collect();
    (links, addresses)
}

/// Reads what the kernel says of itself and of this process.
pub(super) fn kernel(links: &[Link]) -> Kernel {
    let port = number("net/ipv4/ip_unprivileged_port_start").and_then(|port| u16::try_from(port).ok());
    Kernel {
        release: process::release(),
        capabilities: Capabilities::effective(),
        unprivileged_port: port.unwrap_or(1024),
        interfaces: links.iter().map(|link| link.name.clone()).collect(),
    }
}

/// Reads how much memory there is, and how much this process may have.
pub(super) fn memory(host: &HostFacts) -> Memory {
    let available = procfs::Meminfo::current().ok().and_then(|memory| memory.mem_available);
    let available = least(available, host.memory);
    Memory {
        total: host.memory,
        available,
        rmem_max: number("net/core/rmem_max"),
        capabilities: Capabilities::effective(),
        possible_cpus: host.possible_cpus,
        descriptors: host.descriptors,
    }
}

/// Finds who has a port to listen on.
pub(super) fn port(address: SocketAddr, links: &[Link]) -> Listen {
    Listen {
        address,
        owner: port_owner::find(address),
        device: links.iter().find(|link| link.vxlan == Some(address.port())).map(|link| link.name.clone()),
    }
}

/// Finds the interfaces that datagrams come in on.
pub(super) fn cards(plan: &RunPlan, links: &[Link]) -> Cards {
    let mut cards = Cards { found: Vec::new(), missing: Vec::new(), unknown: None };
    let addresses: Vec<_> = plan.source.udp.listen.iter().map(|listener| listener.address).collect();
    let wanted = match interface::wanted(&plan.source.bpf.interfaces, &addresses) {
        Ok(wanted) => wanted,
        Err(error) => {
            cards.unknown = Some(error.to_string());
            Vec::new()
        }
    };
    for name in wanted {
        match links.iter().find(|link| link.name == name) {
            Some(link) => cards.found.push(card(link)),
            None => cards.missing.push(name),
        }
    }
    cards
}

fn card(link: &Link) -> Card {
    Card {
        driver: interface::driver(&link.name, link),
        mtu: link.mtu,
        is_up: link.flags & UP != 0,
        is_ethernet: interface::is_ethernet(link),
        is_loopback: link.flags & LOOPBACK != 0,
        xdp: link.xdp.map(interface::program_name),
        name: link.name.clone(),
    }
}

/// Says whether interfaces can be made.
pub(super) fn device() -> Device {
    if !Path::new(DEVICE).exists() {
        return Device::Missing;
    }
    if access(DEVICE, Access::READ_OK | Access::WRITE_OK).is_ok() { Device::There } else { Device::Denied }
}

/// Looks at a directory of captures, and measures how fast it can be written to. `None` is returned
/// where the file system does not answer.
pub(super) fn directory(path: &Path) -> Option<(Directory, Speed)> {
    let path = path.to_owned();
    patiently(move || {
        let found = look(path);
        let (place, writable) = match &found.state {
            State::There { writable, .. } => (&found.path, *writable),
            State::Missing { above, writable } => (above, *writable),
            State::Other => (&found.path, false),
        };
        let speed = match found.space {
            _ if !writable => Speed::Not("this user may not write there".into()),
            Some((_, free)) => measure(place, free),
            None => Speed::Not("nobody tells how much room there is".into()),
        };
        (found, speed)
    })
}

fn look(path: PathBuf) -> Directory {
    let may_write = |path: &Path| access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let state = match fs::metadata(&path) {
        Ok(found) if found.is_dir() => {
            State::There { owner: found.uid(), mode: found.mode() & 0o7777, writable: may_write(&path) }
        }
        Ok(_) => State::Other,
        Err(_) => {
            let full = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let above = full.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned();
            State::Missing { writable: above.is_dir() && may_write(&above), above }
        }
    };
    let place = if let State::Missing { above, .. } = &state { above } else { &path };
    let space = statvfs(place).ok().map(|space| {
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        (bytes(space.f_blocks), bytes(space.f_bavail))
    });
    let holder = fs::File::open(&path).ok().and_then(|file| lock::holder(&file));
    Directory { parts: parts(&path), state, holder, space, path }
}

/// Counts the files in a directory, and in those in it, that were not completed, and their bytes.
fn parts(directory: &Path) -> (u64, u64) {
    let mut open = VecDeque::from([(directory.to_owned(), true)]);
    let (mut seen, mut files, mut bytes) = (0, 0, 0);
    while let Some((directory, has_more)) = open.pop_front() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > NAMES {
                return (files, bytes);
            }
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() && has_more {
                open.push_back((path, false));
            } else if kind.is_file() && path.extension().is_some_and(|end| end == "part") {
                files += 1;
                bytes += entry.metadata().map(|found| found.len()).unwrap_or(0);
            }
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let session = dir.path().join("vni7_192.0.2.1");
        fs::create_dir(&session).unwrap();
        fs::write(session.join("a.pcap"), "whole").unwrap();
        fs::write(session.join("b.pcap.part"), "four").unwrap();
        let (found, speed) = directory(dir.path()).unwrap();
        assert!(matches!(found.state, State::There { writable: true, .. }) && found.holder.is_none());
        assert_eq!(found.parts, (1, 4));
        assert!(found.space.is_some_and(|(total, free)| total >= free && free > 0));
        assert!(matches!(speed, Speed::Written(..)), "{speed:?}");
        let (missing, speed) = directory(&dir.path().join("x/y")).unwrap();
        assert_eq!(missing.state, State::Missing { above: dir.path().to_owned(), writable: true });
        assert!(matches!(speed, Speed::Written(..)) && !dir.path().join("x").exists());
        let (other, _) = directory(&session.join("a.pcap")).unwrap();
        assert_eq!(other.state, State::Other);
        assert_eq!(fs::read_dir(&session).unwrap().count(), 2);
    }

    #[test]
    fn this_host_tells() {
        let (links, addresses) = network();
        assert!(links.iter().any(|link| link.name == "lo") && kernel(&links).release.is_some());
        assert!(addresses.iter().any(IpAddr::is_loopback));
        let memory = memory(&HostFacts::read());
        assert!(memory.available <= memory.total && memory.available.is_some());
    }
}
