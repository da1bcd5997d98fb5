//! Opens the fast path: loads the program, attaches it, and gives each worker its rings and
//! sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::clock::Clock;
use super::error::BpfError;
use super::interface;
use super::lend::Numbered;
use super::plan::BpfPlan;
use super::program::Program;
use super::shared::{Gate, Redirect, Shared};
use super::source::BpfSource;
use crate::source::allowed::Allowed;
use crate::source::fast_path::Account;
use crate::source::owner::has_vni_as_vxlan;
use crate::source::udp::{Listening, UdpPlan, UdpSource};
use crate::source::{Listener, Steering};
use crate::sys::ring::Ring;

/// The sources of all workers, and what goes with them.
#[derive(Debug)]
pub(crate) struct Fast {
    /// The way to lead frames into an interface, where they are to be redirected.
    pub redirect: Option<Redirect>,
    /// The sources, one for each worker.
    pub sources: Vec<BpfSource>,
    /// The accounts of what the program does in front of each.
    pub accounts: Vec<Box<dyn Account>>,
    /// The interfaces, and the places on them where the program is attached.
    pub attached: Vec<(String, &'static str)>,
    /// The gate, which tells the program what is allowed.
    pub gate: Gate,
}

/// Puts the program in front of these sockets, and takes them. It begins with what is `allowed`.
///
/// # Errors
/// The program cannot run here, for the reason that is returned. The sockets are where they were
/// then.
pub(crate) fn open(
    plan: &BpfPlan,
    udp: &UdpPlan,
    allowed: &Allowed,
    listening: &mut Listening,
) -> Result<Fast, BpfError> {
    // The program picks the ring by the VNI where VXLAN has it. What has none there comes by the
    // sockets.
    let bound = udp.listen.iter().zip(&listening.addresses);
    let bound = bound.map(|(listener, address)| Listener { address: *address, ..*listener });
    let taken: Vec<Listener> = bound.filter(|listener| has_vni_as_vxlan(listener.encapsulation)).collect();
    if taken.is_empty() {
        return Err(BpfError::NoVni);
    }
    let (program, rings, attached) = program(plan, udp, allowed, &taken)?;
    let (sources, shared) = share(plan, program, rings, std::mem::take(&mut listening.sources));
    let redirect = plan.redirect.map(|plan| Redirect { shared: Weak::clone(&shared), copies: plan.copy });
    let accounts = sources.iter().map(|source| Box::new(source.account()) as Box<dyn Account>).collect();
    Ok(Fast { redirect, sources, accounts, attached, gate: Gate { early: plan.early, shared } })
}

/// Returns how many rings there are: one for each worker, or for each CPU that the host can have.
///
/// # Errors
/// The kernel does not say how many CPUs the host can have.
fn rings(steering: Steering, workers: usize) -> Result<usize, BpfError> {
    match steering {
        Steering::Session => Ok(workers),
        Steering::Flow => {
            aya::util::nr_cpus().map_err(|(_, error)| BpfError::Os { call: "/sys/devices/system/cpu/possible", error })
        }
    }
}

type Attached = Vec<(String, &'static str)>;

/// Loads the program and attaches it.
fn program(
    plan: &BpfPlan,
    udp: &UdpPlan,
    allowed: &Allowed,
    listen: &[Listener],
) -> Result<(Program, Vec<Ring>, Attached), BpfError> {
    interface::check_host()?;
    let addresses: Vec<SocketAddr> = listen.iter().map(|listener| listener.address).collect();
    let interfaces = interface::wanted(&plan.interfaces, &addresses)?;
    for name in &interfaces {
        interface::ethernet(name)?;
    }
    let by_session = udp.steering == Steering::Session;
    let rings = rings(udp.steering, udp.workers)?;
    let (program, rings) = Program::load(plan, listen, &interfaces, u32::try_from(rings).unwrap_or(1), by_session)?;
    if plan.early {
        program.allow(allowed);
    }
    let mut attached = Vec::new();
    for name in interfaces {
        let mode = program.attach(&name)?;
        attached.push((name, mode.label()));
    }
    Ok((program, rings, attached))
}

/// Makes a source for each worker, and what they share.
fn share(plan: &BpfPlan, program: Program, rings: Vec<Ring>, udp: Vec<UdpSource>) -> (Vec<BpfSource>, Weak<Shared>) {
    // All workers listen on the same ports.
    let ports = udp.first().map(UdpSource::ports).unwrap_or_default();
    let rings: Vec<Numbered> = (0..).zip(rings).map(|(number, ring)| Numbered::new(number, ring, &ports)).collect();
    let read = rings.iter().map(|numbered| Arc::clone(&numbered.read)).collect();
    let shared = Shared::start(program, udp.len(), read);
    let clock = Clock::new();
    let workers = udp.len().max(1);
    let mut sources: Vec<BpfSource> =
        udp.into_iter().map(|udp| BpfSource::new(udp, clock, plan.verify_checksum, Arc::clone(&shared))).collect();
    for ring in rings {
        if let Some(source) = sources.get_mut(ring.number as usize % workers) {
            source.add_ring(ring);
        }
    }
    (sources, Arc::downgrade(&shared))
}
