//! The sensor answers where the settings say, and by default at a socket in its runtime directory.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::error::PlanError;
use super::super::key;
use super::super::sessions::only;
use super::super::settings::{Http, Settings};
use crate::control::{ControlPlan, LONGEST_SOCKET, Ports, SocketPlan};
use crate::host::HostFacts;

/// The name of the control socket in a runtime directory.
const NAME: &str = "control";

/// Plans where the sensor answers. What is wrong goes to `wrong`.
pub(super) fn plan(settings: &Settings, host: &HostFacts, wrong: &mut Vec<PlanError>) -> ControlPlan {
    ControlPlan { socket: socket(settings, host, wrong), http: http(settings, wrong) }
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

fn http(settings: &Settings, wrong: &mut Vec<PlanError>) -> Ports {
    let Http { listen, allow, names } = &settings.http;
    let listen: Vec<_> = listen.iter().map(|port| port.0).collect();
    let mut twice = listen.iter().enumerate().filter(|(at, address)| listen[..*at].contains(address));
    if let Some((_, address)) = twice.next() {
        wrong.push(PlanError::PortTwice { said: settings.origins.said(&key::HTTP), address: *address });
    }
    let allow = match only(allow.iter().copied()) {
        _ if allow.is_empty() => loopback().to_vec(),
        Ok(Some(networks)) => networks,
        Ok(None) => everybody().to_vec(),
        Err(error) => {
            wrong.push(PlanError::AllAndOthers { said: settings.origins.said(&key::HTTP_ALLOW), error });
            Vec::new()
        }
    };
    Ports { listen, allow, names: names.clone() }
}

/// The addresses that only this host has.
fn loopback() -> [IpNet; 2] {
    [Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(), Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into()]
}

/// All addresses.
fn everybody() -> [IpNet; 2] {
    [Ipv4Net::default().into(), Ipv6Net::default().into()]
}
