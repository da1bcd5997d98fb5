//! Opens the fast path: loads the program, attaches it, and gives each worker its rings and
//! sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::clock::Clock;
use super::error::BpfError;
use super::interface;
use super::plan::BpfPlan;
use super::program::Program;
use super::shared::{Gate, Redirect, Shared};
use super::source::BpfSource;
use crate::source::Steering;
use crate::source::allowed::Allowed;
use crate::source::fast_path::Account;
use crate::source::udp::{Listening, UdpPlan, UdpSource};
use crate::sys::ring::Ring;

/// Sources for all workers.
#[derive(Debug)]
pub struct Fast {
    /// Where frames are to be redirected.
    pub redirect: Option<Redirect>,
    /// One for each worker.
    pub sources: Vec<BpfSource>,
    /// What the program does in front of each.
    pub accounts: Vec<Box<dyn Account>>,
    /// Interfaces, and where on them the program is attached.
    pub attached: Vec<(String, &'static str)>,
    /// Tells the program what is allowed.
    pub gate: Gate,
}

/// Puts the program in front of these sockets, and takes them. It begins with what is `allowed`.
///
/// # Errors
/// The reason why the program cannot run here. The sockets are where they were then.
pub fn open(plan: &BpfPlan, udp: &UdpPlan, allowed: &Allowed, listening: &mut Listening) -> Result<Fast, BpfError> {
    let (program, rings, attached) = program(plan, udp, allowed, &listening.addresses)?;
    let (sources, shared) = share(plan, program, rings, std::mem::take(&mut listening.sources));
    let redirect = plan.redirect.map(|_| Redirect { shared: Weak::clone(&shared) });
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

/// The program, loaded and attached.
fn program(
    plan: &BpfPlan,
    udp: &UdpPlan,
    allowed: &Allowed,
    addresses: &[SocketAddr],
) -> Result<(Program, Vec<Ring>, Attached), BpfError> {
    interface::check_host()?;
    let interfaces = match &*plan.interfaces {
        [] => interface::choose(addresses, &interface::all())?,
        // One that is named twice is one.
        named => named.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
    };
    for name in &interfaces {
        interface::ethernet(name)?;
    }
    let by_session = udp.steering == Steering::Session;
    let rings = rings(udp.steering, udp.workers)?;
    let (program, rings) = Program::load(plan, addresses, &interfaces, u32::try_from(rings).unwrap_or(1), by_session)?;
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
    let shared = Shared::start(program, udp.len());
    let clock = Clock::new();
    let workers = udp.len().max(1);
    let mut sources: Vec<BpfSource> =
        udp.into_iter().map(|udp| BpfSource::new(udp, clock, plan.verify_checksum, Arc::clone(&shared))).collect();
    for (number, ring) in (0..).zip(rings) {
        if let Some(source) = sources.get_mut(number as usize % workers) {
            source.add_ring(number, ring);
        }
    }
    (sources, Arc::downgrade(&shared))
}
