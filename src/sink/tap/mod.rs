//! The interface output: every frame enters a tap or tun interface that sniffers watch.
//!
//! Frames of a chunk are injected in the order of receipt, in batches by io_uring where the host
//! allows it, else one by one. A write never waits: the kernel hands the frame to the packet
//! sockets there are and is done with it, so a slow sniffer loses frames by its own counter, and
//! one that is gone is not missed.
//!
//! Where frames of several sessions are to be told apart, each gets the tag of its session behind
//! the addresses, in a copy. Without tags no frame is copied.
//!
//! This output has only the frames that a program in the kernel left to it, where such a program
//! redirects frames into the interface.
//!
//! An interface that somebody takes down stays down; frames are counted as `interface_down` until
//! it is up again. One that was deleted is opened again once a second. One that the host would hear
//! is closed until that is mended, which is looked after beside the way of frames
//! (`interface/watch/mod.rs`); frames are counted as `interface_not_deaf` meanwhile.

mod marks;
mod tag_map;
mod tags;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sink;
use super::interface::watch::Watch;
use super::interface::{Interface, InterfacePlan, Kind};
use crate::condition::Condition;
use crate::episode::Episode;
use crate::lane::Lent;
use crate::ledger::{OutputCounters, OutputDrop};
use crate::record::{Timestamp, pcap};
use crate::route::{Registry, SessionId};
use crate::service::Store;
use crate::sys::inject::{BATCH, Ring};
use crate::wire::inner::{ip_packet, is_runt_tagged};

pub(crate) use super::interface::watch::Feeder;
use marks::Marker;
pub(crate) use marks::Marks;
pub(crate) use tag_map::{TagKeeper, TagMap, TagMapError};
use tags::Tagger;

/// Frames that the host sent are taken from the interface once in this time. Its queue holds 1000
/// of them.
const DRAIN: Duration = Duration::from_millis(100);
/// Frames of the host that are taken at a time at most.
const DRAIN_FRAMES: usize = 1000;
/// A deleted interface is opened again once in this time.
const REOPEN: Duration = Duration::from_secs(1);
/// The log has a line at most this often.
const LOG: Duration = Duration::from_secs(1);

/// The way frames take into the interface.
#[derive(Debug)]
enum Way {
    /// The way is not chosen yet: a ring belongs to the thread that makes it, and this is the first
    /// that the output's thread does.
    Undecided,
    Ring(Box<Ring>),
    Write,
}

/// The interface output.
#[derive(Debug)]
pub(crate) struct TapSink {
    plan: InterfacePlan,
    counters: Arc<OutputCounters>,
    /// The way of the frames, which stands before the interface: the ring keeps the interface's
    /// descriptor open.
    way: Way,
    /// The interface, or none while it is deleted.
    interface: Option<Interface>,
    next_drain: Instant,
    next_open: Instant,
    trouble: Trouble,
    watch: Option<Watch>,
    tagger: Option<Tagger>,
    marker: Option<Marker>,
    /// The frames of a batch with their tags.
    copies: Vec<u8>,
    /// What keeps the interface for the process after this one.
    store: Arc<Store>,
}

/// Frames that did not enter, until the log says so.
#[derive(Debug, Default)]
struct Trouble {
    /// Lasts while there are lines about it.
    told: Episode,
    /// Frames that met an interface that was down, since the last line.
    down: u64,
    closed: u64,
    failed: u64,
    last_error: Option<i32>,
    /// Lasts from a line that the interface is down or gone until one that takes it back.
    down_told: Episode,
}

impl TapSink {
    /// Makes an output into `interface`, which was opened by `plan`.
    #[must_use]
    pub(crate) fn new(plan: InterfacePlan, interface: Interface, counters: Arc<OutputCounters>) -> Self {
        let now = Instant::now();
        Self {
            plan,
            counters,
            way: Way::Undecided,
            interface: Some(interface),
            next_drain: now,
            next_open: now,
            trouble: Trouble::default(),
            watch: None,
            tagger: None,
            marker: None,
            copies: Vec::new(),
            store: Arc::default(),
        }
    }

    /// Has an interface that is opened again kept there for the process after this one.
    pub(crate) fn kept(self, store: Arc<Store>) -> Self {
        Self { store, ..self }
    }

    /// Adds a thread that looks after the interface, and leads `feeder`, which has begun, if there
    /// is one. Without the thread nobody would notice that the host hears. It notes in `condition`
    /// whether frames enter.
    ///
    /// # Errors
    /// A thread or a socket cannot be created.
    pub(crate) fn watched(self, feeder: Option<Box<dyn Feeder>>, condition: Arc<Condition>) -> io::Result<Self> {
        let start = |interface| Watch::start(interface, feeder, condition);
        let watch = self.interface.as_ref().map(start).transpose()?;
        Ok(Self { watch, ..self })
    }

    /// Has it give frames the tags that `registry` has for their sessions, where the plan says so.
    pub(crate) fn tagged(self, registry: &Arc<Registry>) -> Self {
        let tagger = self.plan.tags.is_some().then(|| Tagger::new(Arc::clone(registry)));
        Self { tagger, ..self }
    }

    /// Has it mark sessions whose frames a program is to redirect, if there is one.
    pub(crate) fn marking(self, registry: &Arc<Registry>, marks: Option<Arc<dyn Marks>>) -> Self {
        let marker = marks.map(|marks| Marker::new(Arc::clone(registry), marks));
        Self { marker, ..self }
    }

    /// Makes an output as [`TapSink::new`] does, but without io_uring.
    #[cfg(test)]
    fn by_write(plan: InterfacePlan, interface: Interface, counters: Arc<OutputCounters>) -> Self {
        Self { way: Way::Write, ..Self::new(plan, interface, counters) }
    }

    /// Injects `frames`, which are of these sessions, and counts each.
    fn inject(&mut self, frames: &[&[u8]], sessions: &[SessionId]) {
        let Some(interface) = &self.interface else { return self.lose(OutputDrop::InterfaceDown, sessions) };
        if self.watch.as_ref().is_some_and(Watch::is_closed) {
            self.trouble.closed += frames.len() as u64;
            return self.lose(OutputDrop::InterfaceNotDeaf, sessions);
        }
        let mut tally = Tally::default();
        if let Way::Undecided = self.way {
            self.way = match Ring::new(interface.tun()) {
                Ok(ring) => Way::Ring(Box::new(ring)),
                Err(error) => {
                    tracing::debug!(interface = self.plan.name, %error, "no io_uring here; frames are written one by one");
                    Way::Write
                }
            };
        }
        let mut count = |n: usize, result| {
            let (length, session) = (frames.get(n).map_or(0, |frame| frame.len()), sessions.get(n));
            if let Some(reason) = tally.add(length, result) {
                self.counters.lose(reason, session.copied().unwrap_or(SessionId::OVERFLOW).seat(), 1);
            }
        };
        let broken = match &mut self.way {
            Way::Ring(ring) => ring.inject(frames, count),
            _ => {
                frames.iter().enumerate().for_each(|(n, frame)| count(n, interface.tun().inject(frame)));
                Ok(())
            }
        };
        if let Err(error) = broken {
            tracing::warn!(interface = self.plan.name, %error, "io_uring fails; frames are written one by one from now on");
            self.way = Way::Write;
        }
        self.settle(&tally);
    }

    /// Counts a frame of each of these sessions as lost.
    fn lose(&self, reason: OutputDrop, sessions: &[SessionId]) {
        sessions.iter().for_each(|session| self.counters.lose(reason, session.seat(), 1));
    }

    /// Enters a batch into the ledger, and the log where something is wrong.
    fn settle(&mut self, tally: &Tally) {
        self.counters.written.add(tally.written);
        self.counters.written_bytes.add(tally.bytes);
        self.trouble.down += tally.down;
        self.trouble.failed += tally.failed;
        self.trouble.last_error = tally.error.or(self.trouble.last_error);
        if tally.deleted {
            self.lose_interface();
        } else if tally.written > 0 && tally.down == 0 && self.trouble.down_told.ends() {
            tracing::info!(interface = self.plan.name, "the interface is up again");
        }
    }

    /// Lets go of the interface, which was deleted.
    fn lose_interface(&mut self) {
        self.release();
        let _ = self.trouble.down_told.begins();
        tracing::warn!(interface = self.plan.name, "the interface was deleted; trying to open it again every second");
    }

    /// Closes the descriptor, and the ring that keeps it open.
    fn release(&mut self) {
        if let Way::Ring(_) = self.way {
            self.way = Way::Undecided;
        }
        self.interface = None;
        self.follow();
    }

    /// Has the interface looked after that there is now.
    fn follow(&self) {
        if let Some(watch) = &self.watch {
            watch.follow(self.interface.as_ref());
        }
    }

    /// Opens a deleted interface again, once a second.
    fn reopen(&mut self, now: Instant) {
        if self.interface.is_some() || now < self.next_open {
            return;
        }
        self.next_open = now + REOPEN;
        match Interface::open_now(&self.plan) {
            Ok(interface) => {
                interface.complain();
                interface.keep(&self.store);
                self.trouble.down_told.ends();
                tracing::info!(interface = self.plan.name, "the interface is there again");
                self.interface = Some(interface);
                self.follow();
            }
            Err(error) => tracing::warn!(interface = self.plan.name, "{error}"),
        }
    }

    /// Takes and counts the frames that the host sent into the interface.
    fn drain(&mut self) {
        let Some(interface) = &self.interface else { return };
        // Only the number counts: what does not fit is cut off.
        let mut buffer = [0; 64];
        for _ in 0..DRAIN_FRAMES {
            match interface.tun().take(&mut buffer) {
                Ok(_) => self.counters.host_frames.add(1),
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return self.lose_interface(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EAGAIN: there is no more.
                Err(_) => return,
            }
        }
    }

    /// Says what went wrong since the last time, once a second.
    fn report(&mut self) {
        let Trouble { down, closed, failed, .. } = self.trouble;
        if down + closed + failed == 0 || !self.trouble.told.every(LOG) {
            return;
        }
        if down > 0 && self.interface.is_some() {
            let command = format!("ip link set dev {} up", self.plan.name);
            tracing::warn!(
                interface = self.plan.name,
                frames = down,
                reason = OutputDrop::InterfaceDown.label(),
                command,
                "the interface is down; frames are dropped until it is up"
            );
            let _ = self.trouble.down_told.begins();
        }
        if closed > 0 {
            tracing::warn!(
                interface = self.plan.name,
                frames = closed,
                reason = OutputDrop::InterfaceNotDeaf.label(),
                "frames are dropped: this host would hear them (interface_not_deaf)"
            );
        }
        if failed > 0 {
            let error = io::Error::from_raw_os_error(self.trouble.last_error.unwrap_or(libc::EIO));
            let reason = OutputDrop::WriteError.label();
            tracing::warn!(interface = self.plan.name, frames = failed, reason, %error, "frames were not taken");
        }
        (self.trouble.down, self.trouble.closed, self.trouble.failed) = (0, 0, 0);
        self.trouble.last_error = None;
    }
}

/// Counts of what became of the frames of a batch.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    bytes: u64,
    down: u64,
    failed: u64,
    deleted: bool,
    error: Option<i32>,
}

impl Tally {
    /// Counts a frame of `length` bytes by what writing it returned. Returns the reason where it is
    /// lost.
    fn add(&mut self, length: usize, result: io::Result<usize>) -> Option<OutputDrop> {
        let is_down = match result {
            Ok(taken) if taken == length => {
                self.written += 1;
                self.bytes += length as u64;
                return None;
            }
            // A tap takes all or nothing. Half a frame is not a frame.
            Ok(_) => false,
            // tun_get_user returns EIO while the interface is down; tun_chr_write_iter EBADFD when
            // it is gone.
            Err(error) => match error.raw_os_error() {
                Some(libc::EIO | libc::ENETDOWN) => true,
                Some(libc::EBADFD | libc::ENODEV) => {
                    self.deleted = true;
                    true
                }
                other => {
                    self.error = other;
                    false
                }
            },
        };
        if is_down {
            self.down += 1;
            return Some(OutputDrop::InterfaceDown);
        }
        self.failed += 1;
        Some(OutputDrop::WriteError)
    }
}

/// Returns what enters the interface of a frame.
///
/// # Errors
/// The reason why the frame cannot enter.
fn fit(kind: Kind, frame: &[u8]) -> Result<&[u8], OutputDrop> {
    match kind {
        Kind::Tap if is_runt_tagged(frame) => Err(OutputDrop::RuntTaggedFrame),
        Kind::Tap => Ok(frame),
        Kind::Tun => ip_packet(frame).ok_or(OutputDrop::NotIp),
    }
}

impl TapSink {
    /// Injects the frames of a chunk, each with the tag of its session.
    fn consume_tagged(&mut self, chunk: &Lent, tagger: &mut Tagger) {
        let mut copies = std::mem::take(&mut self.copies);
        let mut ends = [0; BATCH];
        let mut sessions = [SessionId::OVERFLOW; BATCH];
        let mut length = 0;
        for (run, records) in chunk.runs() {
            let tag = tagger.of(run.session);
            for record in pcap::records(records) {
                match fit(self.plan.kind, record.frame) {
                    Ok(frame) => {
                        tag.append(frame, &mut copies);
                        if let Some((end, session)) = ends.get_mut(length).zip(sessions.get_mut(length)) {
                            (*end, *session) = (copies.len(), run.session);
                            length += 1;
                        }
                    }
                    Err(reason) => self.counters.lose(reason, run.session.seat(), 1),
                }
                if length == BATCH {
                    self.inject_copies(&mut copies, &ends, &sessions);
                    length = 0;
                }
            }
        }
        self.inject_copies(
            &mut copies,
            ends.get(..length).unwrap_or_default(),
            sessions.get(..length).unwrap_or_default(),
        );
        self.copies = copies;
    }

    /// Injects the frames that lie one after another, up to these ends, and are of these sessions.
    fn inject_copies(&mut self, copies: &mut Vec<u8>, ends: &[usize], sessions: &[SessionId]) {
        let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
        let mut start = 0;
        for (slot, end) in batch.iter_mut().zip(ends) {
            *slot = copies.get(start..*end).unwrap_or_default();
            start = *end;
        }
        self.inject(batch.get(..ends.len()).unwrap_or_default(), sessions);
        copies.clear();
    }
}

impl TapSink {
    /// Injects the frames of a chunk as they are.
    fn consume_bare(&mut self, chunk: &Lent) {
        let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
        let mut sessions = [SessionId::OVERFLOW; BATCH];
        let mut length = 0;
        let all = chunk.runs().flat_map(|(run, records)| pcap::records(records).map(|record| (run.session, record)));
        for (session, record) in all {
            let frame = match fit(self.plan.kind, record.frame) {
                Ok(frame) => frame,
                Err(reason) => {
                    self.counters.lose(reason, session.seat(), 1);
                    continue;
                }
            };
            if let Some((slot, whose)) = batch.get_mut(length).zip(sessions.get_mut(length)) {
                (*slot, *whose) = (frame, session);
                length += 1;
            }
            if length == BATCH {
                self.inject(&batch, &sessions);
                length = 0;
            }
        }
        self.inject(batch.get(..length).unwrap_or_default(), sessions.get(..length).unwrap_or_default());
    }
}

impl Sink for TapSink {
    fn consume(&mut self, chunk: &Arc<Lent>) {
        match self.tagger.take() {
            None => self.consume_bare(chunk),
            Some(mut tagger) => {
                self.consume_tagged(chunk, &mut tagger);
                self.tagger = Some(tagger);
            }
        }
        if let Some(marker) = &mut self.marker {
            marker.mark(chunk.runs().map(|(run, _)| run.session));
        }
    }

    fn forget(&mut self, sessions: &[SessionId]) {
        if let Some(tagger) = &mut self.tagger {
            tagger.forget(sessions);
        }
        if let Some(marker) = &mut self.marker {
            marker.forget(sessions);
        }
    }

    fn tick(&mut self, now: Instant, _: Timestamp) -> Instant {
        if now >= self.next_drain {
            self.next_drain = now + DRAIN;
            self.drain();
            self.report();
            self.reopen(now);
        }
        self.next_drain
    }

    fn finish(&mut self) {
        self.drain();
        // What came since the last line is told now.
        self.trouble.told.ends();
        self.report();
        self.watch = None;
        self.release();
    }
}

#[cfg(test)]
mod tests;
