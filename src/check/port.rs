//! The addresses to listen on belong to the host, their ports are free, and not everybody may send
//! there.

use std::net::{IpAddr, SocketAddr};

use super::finding::Finding;
use super::sensor::Sensor;
use crate::config::RunPlan;
use crate::config::allow::AllowPlan;
use crate::host::port_owner::{MANAGER, Owner};
use crate::source::Listener;

/// The names of the findings.
pub(super) const ADDRESS: &str = "address";
pub(super) const PORT: &str = "port";
pub(super) const ALLOW: &str = "allow";

/// An address to listen on, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// The owner of the port; `None` where it is free.
    pub owner: Option<Owner>,
    /// The kernel's device for VXLAN that receives on the port.
    pub device: Option<String>,
}

/// Says whether the host has an address to listen on.
pub(super) fn address(listen: Listener, addresses: &[IpAddr]) -> Finding {
    let ip = listen.address.ip().to_canonical();
    if ip.is_unspecified() {
        return Finding::ok(ADDRESS, format!("{listen} stands for all addresses of this host"));
    }
    if ip.is_loopback() || ip.is_multicast() || addresses.contains(&ip) {
        return Finding::ok(ADDRESS, format!("{listen} is of this host"));
    }
    let ours: Vec<String> = addresses.iter().filter(|ip| !ip.is_loopback()).map(ToString::to_string).collect();
    Finding::error(
        ADDRESS,
        format!("{listen} is no address of this host; it has: {}", ours.join(", ")),
        format!("listen on one of these, or give this one to an interface: ip address add {ip} dev NAME"),
    )
}

/// Says that nobody can take what comes over IP from others.
pub(super) fn over_ip(listen: Listener) -> Finding {
    Finding::ok(PORT, format!("{listen}: each raw socket gets all that comes, whoever else has one"))
}

/// Says whether a port to listen on is free, or who has it.
pub(super) fn port(listen: &Listen, sensor: Option<&Sensor>) -> Finding {
    let (address, port) = (listen.address, listen.address.port());
    if port == 0 {
        return Finding::ok(PORT, format!("{address}: the kernel chooses a port that is free"));
    }
    if let Some(device) = &listen.device {
        return Finding::error(
            PORT,
            format!("UDP {port} belongs to the kernel's vxlan device {device}, which takes what comes there"),
            format!("ip link del {device}, or listen on another port and have mirrors send there"),
        );
    }
    match &listen.owner {
        None => Finding::ok(PORT, format!("UDP {address} is free")),
        Some(owner @ Owner::Process { pid, name }) if Sensor::is(sensor, owner) => {
            Finding::ok(PORT, format!("UDP {address} is the running sensor's own (process {pid}, {name})"))
        }
        Some(Owner::Process { pid, name }) if *pid == MANAGER.unsigned_abs() => Finding::warning(
            PORT,
            format!("UDP {address} is kept by process {pid} ({name}), for a service that takes it when it starts"),
            "see for which: systemctl list-sockets; with vxtap.socket it is for the sensor",
        ),
        Some(Owner::Process { pid, name }) => Finding::error(
            PORT,
            format!("UDP {address} is taken by process {pid} ({name})"),
            format!("stop that process: kill {pid}; or listen on another port"),
        ),
        Some(Owner::Unseen) => Finding::error(
            PORT,
            format!("UDP {address} is taken, by a process of another user or by the kernel"),
            format!("see who has it: sudo ss -lunp sport = :{port}"),
        ),
    }
}

/// Says whether anybody who reaches the port may fill the sensor's disk.
pub(super) fn allow(plan: &RunPlan) -> Finding {
    let everywhere: Vec<String> =
        plan.source.udp.listen.iter().filter(|at| at.address.ip().is_unspecified()).map(ToString::to_string).collect();
    let is_listed = match &plan.allow {
        AllowPlan::Given(allowed) => allowed.vnis().is_some() || allowed.sources().is_some(),
        AllowPlan::File(_) => true,
    };
    if is_listed {
        return Finding::ok(ALLOW, "a list says which sessions are let in");
    }
    if everywhere.is_empty() {
        return Finding::ok(ALLOW, "all sessions are let in, at addresses that are named");
    }
    Finding::warning(
        ALLOW,
        format!(
            "{} takes what anybody sends to any address of this host, and no list says who may",
            everywhere.join(", ")
        ),
        "say who sends: --from 10.0.0.0/16 (from in [sessions]), or where to listen: --listen ADDR:PORT",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn an_address_is_of_this_host_or_not() {
        let ours = ["127.0.0.1".parse().unwrap(), "10.0.0.7".parse().unwrap()];
        let found = |listen: &str| address(listen.parse().unwrap(), &ours);
        let gre = |address: &str| Listener::over_ip(address.parse().unwrap());
        assert_eq!(address(gre("10.0.0.7:0"), &ours).reason, "gre:10.0.0.7 is of this host");
        assert_eq!(address(gre("[2001:db8::1]:0"), &ours).level, Level::Error);
        assert!(over_ip(gre("[::]:0")).reason.starts_with("gre:[::]: each raw socket"));
        for listen in ["[::]:4789", "0.0.0.0:4789", "10.0.0.7:4789", "[::ffff:10.0.0.7]:4789", "127.0.0.9:1"] {
            assert_eq!(found(listen).level, Level::Ok, "{listen}");
        }
        let error = found("10.0.0.8:4789");
        assert_eq!(error.level, Level::Error);
        assert!(error.reason.ends_with("it has: 10.0.0.7"), "{error}");
    }

    #[test]
    fn a_port_is_free_or_its_own_or_somebody_elses() {
        let found = |owner: Option<Owner>, device: Option<&str>, sensor: Option<&Sensor>| {
            let address = "[::]:4789".parse().unwrap();
            port(&Listen { address, owner, device: device.map(Into::into) }, sensor)
        };
        let process = |pid, name: &str| Some(Owner::Process { pid, name: name.into() });
        assert_eq!(found(None, None, None).reason, "UDP [::]:4789 is free");
        let ours = found(process(7, "vxtap"), None, None);
        assert_eq!(
            (ours.level, ours.reason.contains("its own") || ours.reason.contains("sensor's own")),
            (Level::Ok, true)
        );
        let sensor = Sensor { pid: 8, unready: Vec::new(), sandbox: Default::default(), last_hour: Default::default() };
        assert_eq!(found(process(8, "other"), None, Some(&sensor)).level, Level::Ok);
        let taken = found(process(9, "dnsmasq"), None, Some(&sensor));
        assert_eq!(
            (taken.level, taken.reason.as_str()),
            (Level::Error, "UDP [::]:4789 is taken by process 9 (dnsmasq)")
        );
        let kept = found(process(1, "systemd"), None, Some(&sensor));
        assert_eq!(kept.level, Level::Warning);
        assert!(!kept.remedy.unwrap().contains("kill"), "nobody is told to end the manager");
        assert_eq!(found(process(1, "vxtap"), None, None).level, Level::Ok, "in a container");
        assert_eq!(found(Some(Owner::Unseen), None, Some(&sensor)).level, Level::Error);
        let device = found(Some(Owner::Unseen), Some("vxlan7"), None);
        assert!(device.reason.contains("vxlan device vxlan7"), "{device}");
        assert!(device.remedy.unwrap().starts_with("ip link del vxlan7"));
    }

    #[test]
    fn all_addresses_ask_for_a_list() {
        let level = |words: &str| allow(&plan(words)).level;
        assert_eq!(level(""), Level::Warning);
        assert_eq!([level("--vni 7"), level("--from 10.0.0.0/8"), level("--allow list")], [Level::Ok; 3]);
        assert_eq!(level("--listen 127.0.0.1"), Level::Ok);
    }
}
