//! The sensor answers where the settings say, and by default at a socket in its runtime directory.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::error::PlanError;
use super::super::origin::Said;
use super::super::port::Port;
use super::super::sessions::{Networks, only};
use super::super::settings::{Http, Settings};
use crate::control::{ControlPlan, LONGEST_SOCKET, Ports, SocketPlan};
use crate::host::HostFacts;
use crate::setting::key::{self, Key};

/// The name of the control socket in a runtime directory.
const NAME: &str = "control";
/// The time for which a sensor receives when it is to end, by default where balancers check it.
const DRAIN: Duration = Duration::from_secs(20);

/// Plans where the sensor answers. What is wrong goes to `wrong`.
pub(super) fn plan(settings: &Settings, host: &HostFacts, wrong: &mut Vec<PlanError>) -> ControlPlan {
    let socket = socket(settings, host, wrong);
    let (http, health) = (&settings.http, &settings.health);
    let (at, who, only) = (&key::HTTP, &key::HTTP_ALLOW, PlanError::OnlyHttp);
    let open = Ask { listen: &http.listen, at, allow: &http.allow, who, only };
    let open = Ports { names: http.names.clone(), ..ports(settings, &open, &loopback(), wrong) };
    check_names(settings, wrong);
    let (at, who, only) = (&key::HEALTH, &key::HEALTH_ALLOW, PlanError::OnlyHealth);
    let checks = Ask { listen: &health.listen, at, allow: &health.allow, who, only };
    let checks = ports(settings, &checks, &everybody(), wrong);
    if let Some(address) = checks.listen.iter().find(|address| open.listen.contains(address)) {
        wrong.push(PlanError::PortTwice { said: settings.origins.said(&key::HEALTH), address: *address });
    }
    ControlPlan { socket, http: open, health: checks }
}

/// Returns how long the sensor receives when it is to end. Where balancers check it, that is until
/// the fastest checks of three clouds, two of them 5 s apart, have failed and traffic has moved. No
/// traffic moves from a capture.
pub(super) fn drain(settings: &Settings) -> Duration {
    let is_checked = !settings.health.listen.is_empty() && settings.receive.source.file().is_none();
    let usual = if is_checked { DRAIN } else { Duration::ZERO };
    settings.health.drain.map_or(usual, |drain| drain.0)
}

/// Ports as they are asked for, and the keys that do so.
struct Ask<'a> {
    listen: &'a [Port],
    at: &'a Key,
    allow: &'a Networks,
    who: &'a Key,
    /// What is wrong where clients are named and there is no port.
    only: fn(Said) -> PlanError,
}

fn socket(settings: &Settings, host: &HostFacts, wrong: &mut Vec<PlanError>) -> Option<SocketPlan> {
    let said = |key| settings.origins.said(key);
    let control = &settings.control;
    let Some(path) = &control.socket else {
        let directory = host.runtime_directory.as_ref().filter(|_| control.enabled)?;
        return Some(SocketPlan { path: directory.join(NAME), is_asked: false });
    };
    if !control.enabled {
        wrong.push(PlanError::NoControl { said: said(&key::NO_CONTROL), socket: said(&key::CONTROL) });
    }
    if path.as_os_str().as_bytes().len() > LONGEST_SOCKET {
        wrong.push(PlanError::LongSocket { said: said(&key::CONTROL), most: LONGEST_SOCKET });
    }
    Some(SocketPlan { path: path.clone(), is_asked: true })
}

/// Plans ports, which `usual` clients may ask where nobody says which.
fn ports(settings: &Settings, asked: &Ask<'_>, usual: &[IpNet], wrong: &mut Vec<PlanError>) -> Ports {
    let said = |key: &Key| settings.origins.said(key);
    let listen: Vec<_> = asked.listen.iter().map(|port| port.0).collect();
    let mut twice = listen.iter().enumerate().filter(|(at, address)| listen[..*at].contains(address));
    if let Some((_, address)) = twice.next() {
        wrong.push(PlanError::PortTwice { said: said(asked.at), address: *address });
    }
    if listen.is_empty() && !asked.allow.is_empty() {
        wrong.push((asked.only)(said(asked.who)));
    }
    let allow = match only(asked.allow.iter().copied()) {
        _ if asked.allow.is_empty() => usual.to_vec(),
        Ok(Some(networks)) => networks,
        Ok(None) => everybody().to_vec(),
        Err(error) => {
            wrong.push(PlanError::AllAndOthers { said: said(asked.who), error });
            Vec::new()
        }
    };
    Ports { listen, allow, names: Vec::new() }
}

/// Says whether the names are such that requests can have.
fn check_names(settings: &Settings, wrong: &mut Vec<PlanError>) {
    let Http { listen, names, .. } = &settings.http;
    if listen.is_empty() && !names.is_empty() {
        wrong.push(PlanError::OnlyHttp(settings.origins.said(&key::HTTP_NAMES)));
    }
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_name(name)) {
        let said = settings.origins.said_item(&key::HTTP_NAMES, index);
        wrong.push(PlanError::HostName { said, name: name.clone() });
    }
}

/// Says whether a host can have this name, in the letters that requests have it in.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// The addresses that only this host has.
fn loopback() -> [IpNet; 2] {
    [Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(), Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into()]
}

/// All addresses.
fn everybody() -> [IpNet; 2] {
    [Ipv4Net::default().into(), Ipv6Net::default().into()]
}
