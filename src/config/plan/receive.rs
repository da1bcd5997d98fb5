//! Datagrams are received by sockets, and by the program in the kernel.

use super::super::error::{LEAST_RING, MOST_RING, PlanError};
use super::super::settings::Settings;
use super::policy::reads_all;
use super::{listen, redirect};
use crate::host::HostFacts;
use crate::pipeline::{OutputPlan, PipelinePlan};
use crate::setting::key;
use crate::source::bpf::{Attach, BpfPlan};
use crate::source::udp::UdpPlan;
use crate::source::{Listener, Steering, Way, has_vni_as_vxlan};
use crate::wire::{Carrier, Encapsulation};

/// The most receiving threads.
pub(super) const MOST_WORKERS: usize = 256;
/// The largest receive buffer. The kernel takes an int and doubles it.
const MOST_RECEIVE_BUFFER: u64 = (1 << 30) - 1;
/// The size of each ring, where nobody says how large.
pub(super) const RING: u64 = 16 << 20;

/// Plans the sockets. Adds to `wrong` why the addresses or the receive buffer cannot be as they are
/// asked for.
pub(super) fn sockets(settings: &Settings, host: &HostFacts, wrong: &mut Vec<PlanError>) -> UdpPlan {
    let receive = &settings.receive;
    let listen = listen::plan(settings, host).unwrap_or_else(|error| {
        wrong.push(error);
        Vec::new()
    });
    let receive_buffer = u32::try_from(receive.buffer.0).ok().filter(|n| u64::from(*n) <= MOST_RECEIVE_BUFFER);
    let receive_buffer = receive_buffer.unwrap_or_else(|| {
        let said = settings.origins.said(&key::RECEIVE_BUFFER);
        wrong.push(PlanError::ReceiveBuffer { said, size: receive.buffer.0 });
        0
    });
    UdpPlan {
        listen,
        workers: workers(settings, host),
        steering: receive.steer,
        vni_mask: receive.vni_mask,
        receive_buffer,
    }
}

/// Returns the number of receiving threads; one where a capture is read.
fn workers(settings: &Settings, host: &HostFacts) -> usize {
    if settings.receive.source.file().is_some() {
        return 1;
    }
    let asked = settings.receive.workers.map(|workers| usize::from(workers).clamp(1, MOST_WORKERS));
    asked.unwrap_or_else(|| default_workers(host.cpus))
}

/// Returns half the CPUs: the kernel's own part of receiving, which is the larger, and the outputs
/// take the rest.
fn default_workers(cpus: usize) -> usize {
    (cpus / 2).clamp(1, MOST_WORKERS)
}

/// Plans the part that a program in the kernel can take for this pipeline. Adds to `wrong` why its
/// rings cannot be as they are asked for, and the settings that only the program has a use for.
pub(super) fn program(
    settings: &Settings,
    host: &HostFacts,
    udp: &UdpPlan,
    pipeline: &PipelinePlan,
    wrong: &mut Vec<PlanError>,
) -> BpfPlan {
    let (receive, sessions) = (&settings.receive, &settings.sessions);
    let ring = ring(settings, host, udp.workers).unwrap_or_else(|error| {
        wrong.push(error);
        0
    });
    only_bpf(settings, wrong);
    // Where the program only may receive, sockets do in its place.
    if receive.source == Way::Bpf
        && !udp.listen.is_empty()
        && !udp.listen.iter().any(|at| has_vni_as_vxlan(at.encapsulation))
    {
        let (said, listen) = (settings.origins.said(&key::SOURCE), settings.origins.said(&key::LISTEN));
        wrong.push(PlanError::NoVni { said, listen });
    }
    // The program keeps as much as the longest that any output keeps. A checksum needs all.
    let snaplen = pipeline.outputs.iter().map(OutputPlan::reads).max().unwrap_or(usize::MAX);
    // What decides on a session's frames can ask for any byte.
    let is_any = pipeline.policy.entries().iter().any(|entry| reads_all(&entry.plan));
    // Other headers than VXLAN's can be long. What comes over IP does not come by the program.
    let is_long =
        |listener: &Listener| listener.carrier == Carrier::Udp && listener.encapsulation != Encapsulation::Vxlan;
    let is_other = udp.listen.iter().any(is_long);
    let snaplen = if is_any || is_other { usize::MAX } else { snaplen };
    let redirect = redirect::plan(settings, pipeline);
    // Without any list there is nothing to drop, and the program needs no memory for lists. What it
    // redirects nobody else can drop, so it has lists for those that come while the sensor runs.
    let listed = sessions.allow.is_some() || !sessions.vni.is_empty() || !sessions.from.is_empty();
    let lists = listed || redirect.is_some();
    BpfPlan {
        interfaces: receive.interface.clone(),
        attach: if redirect.is_some() { Attach::Tc } else { receive.attach.unwrap_or(Attach::Auto) },
        ring,
        keep: if receive.verify_checksum { u32::MAX } else { redirect::kept(snaplen) },
        redirect,
        // A number of datagrams is exact only where each comes by here, and so is a checksum that
        // nobody looked at yet.
        early: lists && settings.run.count.is_none() && !receive.verify_checksum,
        any_address: receive.any_address,
        verify_checksum: receive.verify_checksum,
        vni_mask: receive.vni_mask,
    }
}

/// Returns the bytes of each ring: a power of two.
fn ring(settings: &Settings, host: &HostFacts, workers: usize) -> Result<u32, PlanError> {
    let said = || settings.origins.said(&key::RING);
    let bytes = settings.receive.ring.map_or(RING, |ring| ring.0);
    let bytes = u32::try_from(bytes).ok().filter(|n| (LEAST_RING..=MOST_RING).contains(&u64::from(*n)));
    let bytes = bytes.ok_or_else(|| PlanError::Ring(said()))?.next_power_of_two();
    let rings = match settings.receive.steer {
        Steering::Session => workers,
        Steering::Flow => host.possible_cpus.unwrap_or(workers),
    };
    let asked = u64::from(bytes).saturating_mul(rings as u64);
    match host.memory {
        Some(has) if settings.receive.source.wants_program() && asked > has => {
            Err(PlanError::RingMemory { said: said(), asked, has })
        }
        _ => Ok(bytes),
    }
}

/// Adds to `wrong` the settings that were given and that only the program has a use for.
fn only_bpf(settings: &Settings, wrong: &mut Vec<PlanError>) {
    let receive = &settings.receive;
    if receive.source.wants_program() {
        return;
    }
    let given = [
        (&key::INTERFACE, !receive.interface.is_empty()),
        (&key::ATTACH, receive.attach.is_some()),
        (&key::RING, receive.ring.is_some()),
        (&key::ANY_ADDRESS, receive.any_address),
        (&key::VERIFY_CHECKSUM, receive.verify_checksum),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    wrong.extend(given.map(|(key, _)| PlanError::OnlyBpf(settings.origins.said(key))));
}
