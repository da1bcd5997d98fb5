//! `vxtap check --watch` answers whether anything arrives, and whether it is whole.
//!
//! ```text
//!  interfaces ──▶ packet sockets ──▶ Seen: sessions, fragments, flows ──┐
//!  /proc/net  ──▶ counters and sockets, before and after ───────────────┴──▶ judge ──▶ sentences
//! ```
//!
//! It needs no sensor, and takes nothing from one that runs. All tables have a bound, so that a
//! flood of sources or VNIs costs no more memory than they.

mod duplicates;
mod flows;
mod fragments;
mod judge;
mod kernel;
mod report;
mod seen;
mod sentences;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::report::{SessionLine, Traffic};
pub use self::sentences::{SENTENCES, Sentence};

use self::judge::{Evidence, Interface, judge};
use self::kernel::{Counters, Sockets};
use self::seen::{Ours, Seen, Session};
use super::finding::Finding;
use crate::config::RunPlan;
use crate::route::policy::Policy;
use crate::source::{Allowed, Listener};
use crate::sys::packet::PacketSocket;
use crate::sys::rtnetlink::RouteSocket;
use crate::wire::{Carrier, VniMask};

/// The longest that a socket is waited for before the others are looked at.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Packets that are read from a socket before the others are.
const BATCH: usize = 1024;
/// The time that a datagram may take from the interface to its socket.
const SETTLE: Duration = Duration::from_millis(200);
/// The time for which what is on its way is still looked at when somebody ends the watch.
const GRACE: Duration = Duration::from_millis(400);
/// The longest that is spent on what waits in the sockets at the end. It is there by then, so only
/// a clock that was set back takes that long.
const LATE: Duration = Duration::from_secs(10);
/// All interfaces.
const ALL: u32 = 0;

/// What is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchPlan {
    /// The addresses that the sensor listens on, of those over UDP.
    pub listen: Vec<Listener>,
    /// The interfaces; none stands for those that the addresses belong to.
    pub interfaces: Vec<String>,
    /// What the configuration says of sessions.
    pub policy: Arc<Policy>,
    /// The time to watch.
    pub duration: Duration,
    allowed: Allowed,
    /// The bits of a VNI that name the network.
    vni_mask: VniMask,
    /// True where the sensor takes datagrams for its ports whatever address they are for.
    any_address: bool,
}

impl WatchPlan {
    /// Plans to watch what a sensor of this plan would receive.
    ///
    /// # Errors
    /// The list of sessions that are let in cannot be read, or nothing is received over UDP.
    pub fn new(plan: &RunPlan, duration: Duration) -> Result<Self, WatchError> {
        let over_udp = |listener: &&Listener| listener.carrier == Carrier::Udp;
        let listen: Vec<Listener> = plan.source.udp.listen.iter().filter(over_udp).copied().collect();
        if plan.source.way.file().is_some() {
            return Err(WatchError::Capture);
        }
        if listen.is_empty() {
            return Err(WatchError::OverIp);
        }
        Ok(Self {
            listen,
            interfaces: plan.source.bpf.interfaces.clone(),
            policy: Arc::clone(&plan.pipeline.policy),
            allowed: plan.allow.read(plan.pipeline.vni_mask).map_err(|error| WatchError::Allow(error.to_string()))?,
            vni_mask: plan.pipeline.vni_mask,
            any_address: plan.source.bpf.any_address,
            duration,
        })
    }
}

/// The reasons why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel lets nobody watch, or not this process.
    #[error("cannot watch packets: {0}; it needs CAP_NET_RAW, as sudo vxtap check --watch 10s has")]
    Open(io::Error),
    /// The interfaces cannot be listed.
    #[error("cannot list interfaces: {0}")]
    List(io::Error),
    /// There is no such interface.
    #[error("there is no interface {0}; see: ip link")]
    NoInterface(String),
    /// There is no port.
    #[error("only GRE over IP is received, and --watch judges what comes over UDP")]
    OverIp,
    /// Nothing is received.
    #[error("--source file reads a capture, and --watch judges what comes from the network; leave it out")]
    Capture,
    /// The list of sessions that are let in cannot be read.
    #[error("{0}")]
    Allow(String),
}

/// Watches until the time is over, or until `stop`.
///
/// # Errors
/// Packets cannot be watched, or an interface is not there.
pub fn run(plan: &WatchPlan, stop: &AtomicBool) -> Result<(Vec<Finding>, Traffic), WatchError> {
    let interfaces = interfaces()?;
    let numbers = watched(plan, &interfaces)?;
    let before = (Counters::read(), Sockets::read());
    let mut sockets = Vec::new();
    for number in &numbers {
        sockets.push(PacketSocket::open(*number).map_err(WatchError::Open)?);
    }
    let addresses = interfaces.values().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
    let mut seen = Seen::new(Ours {
        listen: plan.listen.clone(),
        addresses,
        any_address: plan.any_address,
        allowed: plan.allowed.clone(),
        vni_mask: plan.vni_mask,
    });
    tracing::info!(seconds = plan.duration.as_secs_f64(), "watching");
    let begin = Instant::now();
    let end = begin + plan.duration;
    let mut last = end;
    let mut looked = Duration::ZERO;
    while Instant::now() < last {
        looked = read(&mut sockets, &mut seen);
        if last == end && stop.load(Ordering::Relaxed) {
            last = end.min(Instant::now() + GRACE);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    // Where this process was late, some of what passed still waits in the sockets.
    let (passed, late) = (since_epoch(), Instant::now() + LATE);
    while looked < passed && Instant::now() < late {
        looked = read(&mut sockets, &mut seen);
    }
    // What passes from now on is not looked at, and what has passed comes to its socket.
    let missed = sockets.iter().filter_map(|socket| socket.missed().ok()).map(u64::from).sum();
    drop(sockets);
    thread::sleep(SETTLE);
    seen.fragments.expire(looked + SETTLE);
    // What still waited in a socket is known to wait, should it be read and counted meanwhile.
    let waiting = Sockets::read();
    let after = (Counters::read(), waiting);
    let known = interfaces
        .into_iter()
        .filter(|(number, _)| numbers.contains(&ALL) || numbers.contains(number))
        .map(|(number, (interface, _))| (number, interface))
        .collect();
    let evidence = Evidence {
        sessions: &once(&seen.sessions),
        seen: &seen,
        counted: after.0.since(before.0),
        sockets: [&before.1, &after.1],
        policy: &plan.policy,
        interfaces: &known,
        missed,
        seconds,
    };
    Ok((judge(&evidence), evidence.traffic()))
}

/// Waits for packets and takes those that are there. It returns the time, since the epoch, up to
/// which all that passed has been taken: times are those at which packets passed, and where this
/// process is late, what follows them waits in the sockets.
fn read(sockets: &mut [PacketSocket], seen: &mut Seen) -> Duration {
    let mut ready: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
    let _ = poll(&mut ready, Some(&TURN));
    let now = since_epoch();
    let mut looked = now;
    for socket in sockets {
        let mut passed = now;
        for _ in 0..BATCH {
            match socket.receive() {
                Ok(Some(packet)) => {
                    passed = packet.timestamp.map_or(now, Duration::from_nanos);
                    seen.packet(&packet, passed);
                }
                // An interface that goes down says so once.
                Ok(None) | Err(_) => {
                    passed = now;
                    break;
                }
            }
        }
        looked = looked.min(passed);
    }
    seen.fragments.expire(looked);
    looked
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Says whether there is a program at tc by tcx, or may be: a kernel that has tcx does not tell
/// everybody.
fn has_tcx(interface: &str) -> bool {
    match SchedClassifier::query_tcx(interface, TcAttachType::Ingress) {
        Ok((_, programs)) => !programs.is_empty(),
        Err(ProgramError::SyscallError(error)) => error.io_error.kind() == io::ErrorKind::PermissionDenied,
        Err(_) => false,
    }
}

/// Returns the interfaces by number, with their addresses.
fn interfaces() -> Result<HashMap<u32, (Interface, Vec<IpAddr>)>, WatchError> {
    let route = RouteSocket::open().map_err(WatchError::List)?;
    let links = route.links().map_err(WatchError::List)?;
    let mut found = HashMap::new();
    for link in links {
        let addresses = route.addresses(link.index).map_err(WatchError::List)?;
        let tc = has_tcx(&link.name) || route.has_ingress_filters(link.index).unwrap_or(false);
        let interface = Interface { xdp: link.xdp.is_some(), tc, name: link.name };
        found.insert(link.index, (interface, addresses.into_iter().map(|address| address.ip).collect()));
    }
    Ok(found)
}

/// Returns the numbers of the interfaces to watch: those that are named, or those that have the
/// addresses; all where one of these is unspecified or of a group.
fn watched(plan: &WatchPlan, interfaces: &HashMap<u32, (Interface, Vec<IpAddr>)>) -> Result<Vec<u32>, WatchError> {
    if !plan.interfaces.is_empty() {
        let number = |name: &String| {
            let found = interfaces.iter().find(|(_, (interface, _))| interface.name == *name);
            found.map(|(number, _)| *number).ok_or_else(|| WatchError::NoInterface(name.clone()))
        };
        return plan.interfaces.iter().map(number).collect();
    }
    let mut numbers = Vec::new();
    for listen in &plan.listen {
        let has = |(_, addresses): &(Interface, Vec<IpAddr>)| addresses.contains(&listen.address.ip());
        match interfaces.iter().find(|(_, found)| has(found)) {
            Some((number, _)) => numbers.push(*number),
            None => return Ok(vec![ALL]),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Returns each session once, as it came over the interface that brought the most of it, those with
/// the most frames first.
fn once(sessions: &[Session]) -> Vec<Session> {
    let mut sorted = sessions.to_vec();
    sorted.sort_by_key(|session| std::cmp::Reverse(session.frames));
    let mut known = std::collections::HashSet::new();
    sorted.retain(|session| known.insert((session.source, session.vni)));
    sorted
}

#[cfg(test)]
mod tests;
