//! What a plan needs is compared with what the host has.

use std::net::IpAddr;
use std::path::Path;

use rustix::process::geteuid;

use super::finding::Finding;
use super::hook::Program;
use super::memory::Memory;
use super::sensor::Sensor;
use super::{capture, clock, directory, hold, hook, interface, kernel, look, memory, port, sensor, speed, tap, unit};
use crate::config::RunPlan;
use crate::host::HostFacts;
use crate::host::unit::Service;
use crate::pipeline::Destination;
use crate::sys;
use crate::sys::rtnetlink::Link;
use crate::wire::Carrier;

/// The name of the finding about the configuration.
const CONFIGURATION: &str = "configuration";

/// The names of all findings about a host, in the order in which they come.
pub const NAMES: [&str; 26] = [
    CONFIGURATION,
    sensor::SENSOR,
    kernel::KERNEL,
    kernel::CAPABILITIES,
    capture::CAPTURE,
    port::ADDRESS,
    port::PORT,
    port::ALLOW,
    interface::INTERFACE,
    interface::MTU,
    memory::RECEIVE_BUFFER,
    hold::RESTART,
    memory::MEMORY,
    memory::DESCRIPTORS,
    directory::DIRECTORY,
    directory::ROOM,
    speed::SPEED,
    directory::PARTS,
    hook::ON_PUBLISH,
    tap::TAP,
    clock::CLOCK,
    unit::UNIT,
    unit::UNIT_CAPABILITIES,
    unit::UNIT_FILES,
    unit::UNIT_PATHS,
    unit::UNIT_RELOAD,
];

/// Finds nothing amiss with the configuration.
#[must_use]
pub fn configured(path: Option<&Path>) -> Finding {
    match path {
        Some(path) => {
            Finding::ok(CONFIGURATION, format!("{} has no fault, and makes sense on this host", path.display()))
        }
        None => Finding::ok(CONFIGURATION, "the options make sense on this host"),
    }
}

/// Finds that the configuration cannot be as it is, for this reason.
#[must_use]
pub fn misconfigured(reason: impl Into<String>) -> Finding {
    Finding::error(CONFIGURATION, reason, "mend it, and check again; docs/configure.md has all keys")
}

/// Compares this host with what a plan needs. Nothing of the host is changed.
#[must_use]
pub fn run(plan: &RunPlan, host: &HostFacts) -> Vec<Finding> {
    let (links, addresses) = look::network();
    let sensor = Sensor::at(plan.control.socket.as_ref().map(|socket| socket.path.as_path()));
    let facts = look::kernel(&links);
    let source = &plan.source;
    let program = std::env::current_exe().map_or_else(|_| "vxtap".into(), |path| path.display().to_string());
    let mut found = vec![
        sensor::sensor(sensor.as_ref()),
        kernel::kernel(&source.way, &facts),
        kernel::capabilities(plan, &facts, &program),
    ];
    let memory = look::memory(host);
    match source.way.file() {
        Some(path) => found.push(capture::capture(path)),
        None => found.extend(network(plan, &links, &addresses, &memory, sensor.as_ref())),
    }
    found.push(memory::memory(plan, &memory));
    found.extend(memory::descriptors(plan, &memory));
    for output in &plan.pipeline.outputs {
        match &output.to {
            Destination::Files(files) => {
                found.extend(captures(&files.directory, &files.archive.budget));
                if let Some(command) = &files.archive.on_publish {
                    found.push(hook::on_publish(&files.directory, &Program::of(command, &hook::path())));
                }
            }
            Destination::Interface(interface) | Destination::Redirect(interface) => {
                let link = links.iter().find(|link| link.name == interface.name);
                found.push(tap::tap(interface, link, look::device()));
            }
            // No file asks for one.
            Destination::Watch(_) | Destination::Stream(_) => {}
        }
    }
    found.push(clock::clock(sys::clock::is_synchronised()));
    found.extend(unit::unit(&Service::read(Path::new("/")), plan, &kernel::needed(plan, &facts)));
    found
}

/// Compares what datagrams come by with the plan.
fn network(
    plan: &RunPlan,
    links: &[Link],
    addresses: &[IpAddr],
    memory: &Memory,
    sensor: Option<&Sensor>,
) -> Vec<Finding> {
    let (source, mut found) = (&plan.source, Vec::new());
    for listener in &source.udp.listen {
        found.push(port::address(*listener, addresses));
        found.push(match listener.carrier {
            Carrier::Udp => port::port(&look::port(listener.address, links), sensor),
            Carrier::Ip => port::over_ip(*listener),
        });
    }
    found.push(port::allow(plan));
    let cards = look::cards(plan, links);
    found.extend(interface::interfaces(&cards, &source.way, source.bpf.attach));
    found.extend(cards.found.iter().map(interface::mtu));
    found.push(memory::receive_buffer(plan, memory));
    found.extend(sensor.and_then(|sensor| hold::hold(plan, &sensor.last_hour)));
    found
}

/// Looks at a directory of captures.
fn captures(path: &Path, budget: &crate::archive::BudgetPlan) -> Vec<Finding> {
    let Some((found, measured)) = look::directory(path) else {
        let reason = format!("{}: the file system does not answer", path.display());
        return vec![Finding::error(directory::DIRECTORY, reason, "see what it waits for: dmesg | tail; mount")];
    };
    vec![
        directory::directory(&found, geteuid().as_raw()),
        directory::room(&found, budget),
        speed::speed(path, &measured),
        directory::parts(&found),
    ]
}
