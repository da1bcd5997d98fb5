//! The fast path: a BPF program on the interface takes whole datagrams and puts them into rings, which the workers read in place.
//!
//! ## Two ways for a datagram
//!
//! The program (`bpf/capture.bpf.c`) takes what is simple and common: a whole UDP datagram to a port and address that the sensor listens on. All else
//! goes to the stack and from there to the UDP sockets, which are part of this source: fragments, which the stack puts together, and
//! everything before the program is attached and after it is gone. So a worker has two places to look at, and lends what it finds there in
//! the order in which it was received, as long as the rings are not a thousand records behind. Just after the program was attached it waits for what the stack has queued.
//!
//! ## Which ring
//!
//! With [`Steering::Session`] there is a ring for each worker, and the program chooses by the same hash as the filter on the sockets: a session stays on
//! one worker, whichever CPU received it and whichever way it came, and in order. CPUs that receive for the same worker take turns at its
//! ring's lock, for some 30 ns a datagram. With [`Steering::Flow`] there is a ring for each CPU, which has no lock to wait for, and workers share
//! the rings.
//!
//! ## Waking up
//!
//! A wake-up costs more than a datagram. So the program wakes nobody unless the reader asked for it, and the reader asks when it has found
//! all its rings empty. A record that was committed between the two is seen at the latest when a first, short wait is over.

mod clock;
mod filter;
mod interface;
mod lists;
mod place;
mod program;
mod record;
mod redirect;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use rustix::event::{PollFd, PollFlags, Timespec};

use self::clock::Clock;
use self::program::{Counts, Program};
use self::record::Record;
use super::udp::{Listening, Steering, UdpPlan, UdpSource};
use super::{Allowed, Counted, Datagram, FastPath, Source};
use crate::record::Timestamp;
use crate::sys::receive::BATCH;
use crate::sys::ring::Ring;

/// How late a record is seen at most whose program did not yet know that the reader was about to sleep.
const SHORT_WAIT: Duration = Duration::from_millis(1);
/// A record that is later than now by this much is from before the clock was set back. Now, not when a turn began: a worker can lose its core in
/// between for longer.
const FUTURE: Duration = Duration::from_millis(10);
/// For how long after the program began its rings are held back, except for what is older than a datagram of a socket. What the stack
/// received before can be queued there for longer than the program takes, and would come to the sockets too late.
const SETTLE: Duration = Duration::from_millis(50);
/// How often interfaces and addresses are looked at.
const TEND: Duration = Duration::from_secs(1);

/// Where on an interface the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// At XDP where the driver lets it, else at tc.
    Auto,
    /// In the driver, before the kernel makes a packet of it: the fastest.
    Xdp,
    /// Where the kernel has just made a packet: any driver, any MTU.
    Tc,
}

/// What is particular to this source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfPlan {
    /// Interfaces to attach to; where there is none, those that the listen addresses are on.
    pub interfaces: Vec<String>,
    /// Where on them.
    pub attach: Attach,
    /// Bytes of each ring: a power of two, and at least a page.
    pub ring: u32,
    /// Bytes of a UDP payload that are kept at most.
    pub keep: u32,
    /// Drop sessions that are not allowed in the program.
    pub early: bool,
    /// Take datagrams whatever address they are for.
    pub any_address: bool,
    /// Verify UDP checksums.
    pub verify_checksum: bool,
    /// Redirect frames into an interface.
    pub redirect: Option<RedirectPlan>,
}

/// How frames are redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectPlan {
    /// Sessions told apart at most.
    pub sessions: u32,
    /// Copy what is redirected into the ring.
    pub copy: bool,
    /// Bytes of a UDP payload that such a copy keeps at most.
    pub keep: u32,
}

/// Why the program cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// Linux is too old.
    #[error("the fast path needs Linux {major}.{minor} or later; this is {release}")]
    Kernel {
        /// What runs.
        release: String,
        /// What is needed.
        major: u8,
        /// What is needed.
        minor: u8,
    },
    /// The process lacks capabilities.
    #[error("the fast path needs {0}: run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon+ep PATH-OF-VXTAP")]
    Capability(String),
    /// Nothing tells which interface it is.
    #[error("which interface do datagrams come in on? Say it with --interface; there are: {0}")]
    WhichInterface(String),
    /// No interface of that name.
    #[error("there is no interface {name}; there are: {ours}")]
    NoSuchInterface {
        /// The name.
        name: String,
        /// Those that there are.
        ours: String,
    },
    /// Its packets begin with something else.
    #[error("the packets of interface {0} have no Ethernet header, which the fast path needs")]
    NotEthernet(String),
    /// An interface has one XDP program at most.
    #[error("interface {interface} has an XDP program already: {program}; use --attach tc beside it")]
    XdpTaken {
        /// The interface.
        interface: String,
        /// The program.
        program: String,
    },
    /// Before Linux 6.6 the filters of sensors cannot be told apart.
    #[error(
        "another vxtap receives at tc of interface {0}, and before Linux 6.6 there can be one; let it --listen on both \
         addresses"
    )]
    FilterTaken(String),
    /// The driver has no XDP.
    #[error("interface {interface}: its driver ({driver}) has no native XDP; use --attach tc")]
    NoXdp {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
    },
    /// The driver does not want the program as things are.
    #[error(
        "interface {interface}: its driver ({driver}) refuses an XDP program at MTU {mtu}: {error}; use --attach tc, or a \
         smaller MTU (ena: 3498 at most, and half of the queues)"
    )]
    XdpRefused {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// Its MTU.
        mtu: u32,
        /// What the kernel says.
        error: String,
    },
    /// The object that is part of this program is not as expected.
    #[error("the BPF object has no {0}: please report this")]
    Object(&'static str),
    /// Loading failed.
    #[error("cannot load the BPF object: {}", chain(.0))]
    Load(#[from] EbpfError),
    /// A map failed.
    #[error("a BPF map: {}", chain(.0))]
    Map(#[from] MapError),
    /// The kernel refused the program.
    #[error("the BPF program: {}", chain(.0))]
    Program(#[from] ProgramError),
    /// Anything else.
    #[error("{call}: {error}")]
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it returned.
        error: io::Error,
    },
}

impl BpfError {
    /// Whether it may be possible later: an interface, its address or the default route is not
    /// there yet, or another sensor is not gone yet.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::WhichInterface(_) | Self::NoSuchInterface { .. } | Self::FilterTaken(_))
    }
}

/// An error with its causes: those of the loader name them apart.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What the sources of all workers share.
#[derive(Debug)]
struct Shared {
    program: Program,
    /// Sources that have not begun yet.
    to_begin: AtomicUsize,
    refused: Once,
    /// The sessions of what was redirected have been told.
    counted: AtomicBool,
    /// Closed when this is dropped, which ends the thread that tends to the program.
    _tender: Sender<()>,
}

/// A ring and its number.
#[derive(Debug)]
struct Numbered {
    number: u32,
    ring: Ring,
    /// Records read.
    read: u64,
}

/// The rings and sockets of one worker.
#[derive(Debug)]
pub struct BpfSource {
    udp: UdpSource,
    rings: Vec<Numbered>,
    clock: Clock,
    verify_checksum: bool,
    /// Until when the rings are held back.
    settles: Option<Instant>,
    /// What the sockets have may bear the time at which it is read: see [`Source::receive`] below.
    unstamped: bool,
    /// Nothing more comes: what is there is lent, whatever its time.
    drains: bool,
    shared: Arc<Shared>,
}

/// Leads the program to the interface that frames are to enter.
#[derive(Debug)]
pub struct Redirect {
    shared: Weak<Shared>,
}

impl Redirect {
    /// Has frames enter the interface `name` from now on.
    ///
    /// # Errors
    /// Why they cannot: no such interface, or no program may be attached to it.
    pub fn begin(&self, name: &str) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.redirect(name))
    }

    /// Leaves all frames to the workers, for the interface is down or gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pause(&self) -> Result<(), BpfError> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.program.pause())
    }
}

/// Sources for all workers.
#[derive(Debug)]
pub struct Fast {
    /// Where frames are to be redirected.
    pub redirect: Option<Redirect>,
    /// One for each worker.
    pub sources: Vec<BpfSource>,
    /// Interfaces, and where on them the program is attached.
    pub attached: Vec<(String, &'static str)>,
    /// Tells the program what is allowed.
    pub gate: Gate,
}

/// Tells the program which sessions are allowed, while it runs.
#[derive(Debug)]
pub struct Gate {
    early: bool,
    shared: Weak<Shared>,
}

impl Gate {
    /// Allows these sessions. What the program cannot be told it leaves to the workers.
    pub fn allow(&self, allowed: &Allowed) {
        if let Some(shared) = self.shared.upgrade().filter(|_| self.early) {
            shared.program.allow(allowed);
        }
    }
}

/// Puts the program in front of these sockets, and takes them. It begins with what is `allowed`.
///
/// # Errors
/// Why it cannot be. The sockets are where they were then.
pub fn open(plan: &BpfPlan, udp: &UdpPlan, allowed: &Allowed, listening: &mut Listening) -> Result<Fast, BpfError> {
    let (program, rings, attached) = program(plan, udp, allowed, &listening.addresses)?;
    let (sources, shared) = share(plan, program, rings, std::mem::take(&mut listening.sources));
    let redirect = plan.redirect.map(|_| Redirect { shared: Weak::clone(&shared) });
    Ok(Fast { redirect, sources, attached, gate: Gate { early: plan.early, shared } })
}

/// How many rings there are: one for each worker, or for each CPU that the host can have.
///
/// # Errors
/// The kernel does not say how many CPUs that is.
pub fn rings(steering: Steering, workers: usize) -> Result<usize, BpfError> {
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

/// A source for each worker, and what they share.
fn share(plan: &BpfPlan, program: Program, rings: Vec<Ring>, udp: Vec<UdpSource>) -> (Vec<BpfSource>, Weak<Shared>) {
    let (tender, told) = channel();
    let (to_begin, refused, counted) = (AtomicUsize::new(udp.len()), Once::new(), AtomicBool::new(false));
    let shared = Arc::new(Shared { program, to_begin, refused, counted, _tender: tender });
    let weak = Arc::downgrade(&shared);
    let of_tender = Weak::clone(&weak);
    let tend = move || {
        while told.recv_timeout(TEND) == Err(RecvTimeoutError::Timeout) {
            let Some(shared) = of_tender.upgrade() else { break };
            shared.program.tend();
        }
    };
    if let Err(error) = thread::Builder::new().name("vxtap-bpf".into()).spawn(tend) {
        tracing::warn!(%error, "nobody looks after the interfaces of the fast path");
    }
    let clock = Clock::new();
    let workers = udp.len().max(1);
    let mut sources: Vec<BpfSource> = udp
        .into_iter()
        .map(|udp| BpfSource {
            udp,
            rings: Vec::new(),
            clock,
            verify_checksum: plan.verify_checksum,
            settles: None,
            unstamped: true,
            drains: false,
            shared: Arc::clone(&shared),
        })
        .collect();
    for (number, ring) in (0..).zip(rings) {
        if let Some(source) = sources.get_mut(number as usize % workers) {
            source.rings.push(Numbered { number, ring, read: 0 });
        }
    }
    (sources, weak)
}

impl Numbered {
    /// Lends records up to this time of day, and those of the far future, which only a clock that was set back explains; at most `limit`, and returns how many.
    #[inline]
    fn lend(
        &mut self,
        limit: usize,
        until: Timestamp,
        clock: Clock,
        verify: bool,
        deliver: &mut impl FnMut(&Datagram<'_>),
    ) -> usize {
        let mut lent = 0;
        while lent < limit {
            let Some(bytes) = self.ring.peek() else { break };
            if let Some(record) = Record::parse(bytes) {
                let timestamp =
                    if record.real { Timestamp::from_ns(record.time) } else { clock.time_of_day(record.time) };
                if timestamp > until && timestamp < Timestamp::now().saturating_add(FUTURE) {
                    break;
                }
                deliver(&Datagram {
                    payload: record.payload,
                    length: record.length,
                    truncated: false,
                    wrong_checksum: verify && !record.checksum_is_right(),
                    redirected: record.redirected,
                    source: record.source,
                    timestamp,
                });
                lent += 1;
            }
            self.ring.skip();
        }
        self.read += lent as u64;
        lent
    }
}

impl BpfSource {
    fn counts(&self, ring: u32) -> Counts {
        self.shared.program.counts(ring).unwrap_or_default()
    }

    fn has_records(&self) -> bool {
        self.rings.iter().any(|numbered| !numbered.ring.is_empty())
    }

    /// Whether the rings are held back, which they are for a moment at the beginning, as long as they have room.
    #[inline]
    fn is_settling(&mut self) -> bool {
        let has_room = |numbered: &Numbered| numbered.ring.used() < numbered.ring.size() / 2;
        let is = self.settles.is_some_and(|end| Instant::now() < end) && self.rings.iter().all(has_room);
        if !is {
            self.settles = None;
        }
        is
    }

    fn poll(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let rings = self.rings.iter().map(|numbered| PollFd::new(&numbered.ring, PollFlags::IN));
        let mut ready: Vec<PollFd<'_>> = rings.chain(self.udp.poll_fds()).collect();
        match rustix::event::poll(&mut ready, Some(&timeout)) {
            Ok(n) => Ok(n > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Source for BpfSource {
    fn begin(&mut self) -> io::Result<()> {
        self.udp.begin()?;
        self.settles = Some(Instant::now() + SETTLE);
        // The program is the last, so that what it leaves finds all sockets open.
        if self.shared.to_begin.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.program.leave_all(false).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
        let held_back = self.settles.is_some() && self.is_settling();
        // Records that come while the sockets are read wait for the next time: what came to a socket before them has not been read.
        let until = if self.drains { Timestamp::from_ns(u64::MAX) } else { self.clock.now() };
        // Where there is more than a turn can take, each ring is the first in its turn.
        let next = usize::from(self.rings.len() > 1);
        self.rings.rotate_left(next);
        let Self { udp, rings, clock, verify_checksum, unstamped, .. } = self;
        let (clock, verify) = (*clock, *verify_checksum);
        let of_sockets = limit.min(BATCH);
        let mut room = limit - of_sockets;
        let mut lent = 0;
        let received = udp.receive(of_sockets, &mut |datagram: &Datagram<'_>| {
            // The kernel begins to stamp what arrives a moment after the first socket on the host has asked for it. What came before gets its
            // time when it is read; all of it is older than the program and at the head of the sockets' queues.
            *unstamped &= datagram.timestamp >= until;
            for numbered in rings.iter_mut().filter(|_| !*unstamped) {
                let n = numbered.lend(room, datagram.timestamp, clock, verify, deliver);
                room -= n;
                lent += n;
            }
            deliver(datagram);
        })?;
        *unstamped &= udp.has_more();
        // With more in the sockets than was asked for, what is next in the rings may have come later than that.
        if !udp.has_more() && !held_back {
            room += of_sockets - received;
            for numbered in rings.iter_mut() {
                let n = numbered.lend(room, until, clock, verify, deliver);
                room -= n;
                lent += n;
            }
        }
        for numbered in rings {
            numbered.ring.release();
        }
        Ok(received + lent)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if self.settles.is_some() {
            return self.udp.wait(timeout.min(SHORT_WAIT));
        }
        for numbered in &self.rings {
            if let Err(error) = self.shared.program.wake(numbered.number) {
                return Err(io::Error::other(error));
            }
        }
        if self.has_records() || self.poll(timeout.min(SHORT_WAIT))? || self.has_records() {
            return Ok(());
        }
        if let Some(rest) = timeout.checked_sub(SHORT_WAIT) {
            self.poll(rest)?;
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        let smallest = self.rings.iter().map(|numbered| numbered.ring.size()).min().unwrap_or(usize::MAX);
        // As with a receive buffer: 10 Gbit/s of small datagrams fill it by some 2.5 bytes a nanosecond. Half of the time that takes.
        Duration::from_nanos(smallest as u64 / 5).min(self.udp.patience())
    }

    fn kernel_dropped(&mut self) -> u64 {
        let full: u64 = self.rings.iter().map(|numbered| self.counts(numbered.number).ring_full).sum();
        self.udp.kernel_dropped() + full
    }

    fn copies(&self) -> u64 {
        self.udp.copies()
    }

    fn refuse_further(&mut self) {
        // From here on all comes to the sockets, where it is counted. What is in the rings is to be drained.
        self.settles = None;
        self.drains = true;
        self.shared.refused.call_once(|| self.shared.program.refuse());
        self.udp.refuse_further();
    }

    fn refused(&mut self) -> u64 {
        Source::refused(&mut self.udp)
    }

    fn fast_path(&mut self) -> FastPath {
        let mut sum = FastPath::default();
        for numbered in &self.rings {
            let counts = self.counts(numbered.number);
            sum.taken += counts.taken;
            sum.read += numbered.read;
            sum.ring_full += counts.ring_full;
            sum.unselected += counts.unselected;
            sum.unselected_bytes += counts.unselected_bytes;
            sum.passed += counts.passed;
            sum.martian += counts.martian;
            sum.redirect += counts.redirect;
        }
        sum
    }

    fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
        if self.shared.counted.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        self.shared.program.sessions().map_err(io::Error::other)
    }
}
