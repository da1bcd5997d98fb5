//! The ledger: what became of every datagram.
//!
//! Counters are kept where the work is done, one set per worker and one per end of each output, so that no two threads
//! write the same cache line. Whoever reads them adds them up. Two equations hold once the sensor has stopped, exactly:
//!
//! ```text
//! received = decapsulated + Σ dropped[reason]
//! offered  = written + filtered + Σ dropped[reason]       for each output
//! ```
//!
//! Beside the first stands what the kernel dropped before the sensor saw it (`kernel_dropped`, `refused_at_stop`).

mod busiest;
mod losses;
mod snapshot;

pub use busiest::{Busiest, VniFrames};
pub use losses::{Losses, Place};
pub use snapshot::{FastPathTotals, Imbalance, OutputTotals, Overflow, SessionTotals, Snapshot, thousands};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::DropReason;

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. With a single writer a load and a store do, which costs no locked instruction.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes back `n` that was added before, because it turned out not to be so.
    pub fn take_back(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker received.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Datagrams received.
    pub received: Counter,
    /// Bytes of their UDP payloads.
    pub received_bytes: Counter,
    /// Datagrams that yielded an inner frame.
    pub decapsulated: Counter,
    /// Datagrams that did not, by [`DropReason`].
    dropped: [Counter; DropReason::ALL.len()],
    /// Accepted datagrams with reserved bits set.
    pub reserved_bits: Counter,
    /// Frames that arrived cut: the inner IP header tells of more bytes than came.
    pub cut_by_mirror: Counter,
    /// Frames of sessions that are not allowed; each is also `filtered` in every output.
    pub unselected: Counter,
    /// Whose these are, as far as a program in the kernel did not see to them.
    pub unselected_vnis: Busiest,
    /// Frames of sessions beyond the limit.
    pub overflow: Counter,
    /// Datagrams that the kernel dropped for want of room in the socket's receive buffer or the program's ring, or for a wrong checksum.
    pub kernel_dropped: Counter,
    /// Datagrams that arrived between the decision to stop and the close of the socket.
    pub refused_at_stop: Counter,
    /// Copies of broadcast and multicast datagrams, which the kernel delivers to every worker, and
    /// another worker has received.
    pub broadcast_copies: Counter,
    /// Datagrams that the program in the kernel put into a ring.
    pub ring_taken: Counter,
    /// Of those, read; also those that came too late to be received.
    pub ring_read: Counter,
    /// Datagrams for which its ring had no room; each is also `kernel_dropped`.
    pub ring_full: Counter,
    /// Datagrams of sessions that it saw not to be allowed; each is also received, decapsulated and `unselected`.
    pub ring_unselected: Counter,
    /// Packets of any kind that it left to the stack.
    pub passed: Counter,
    /// Of these, datagrams for the sensor from an address that no other host has: the stack
    /// decides, which takes few of them.
    pub martian: Counter,
    /// Datagrams whose frames it redirected into an interface.
    pub redirected: Counter,
    /// Those that it left to the workers instead, by [`NotRedirected`].
    not_redirected: [Counter; NotRedirected::ALL.len()],
}

/// Why the program in the kernel did not redirect a frame, which then took the way through the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NotRedirected {
    /// The datagram is not one with a faultless VXLAN header and a frame of usual length, and nothing else.
    Odd,
    /// The kernel could not take the outer headers off.
    Failed,
    /// The interface was down, gone, or not there yet.
    NoInterface,
}

impl NotRedirected {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [NotRedirected; 3] = [NotRedirected::Odd, NotRedirected::Failed, NotRedirected::NoInterface];

    /// The stable label used in the ledger.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            NotRedirected::Odd => "odd",
            NotRedirected::Failed => "failed",
            NotRedirected::NoInterface => "no_interface",
        }
    }
}

impl WorkerCounters {
    /// The counter of `reason`.
    #[inline]
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.dropped[reason as usize]
    }

    /// The counter of `reason`.
    #[must_use]
    pub fn not_redirected(&self, reason: NotRedirected) -> &Counter {
        &self.not_redirected[reason as usize]
    }
}

/// Why an output did not write a frame it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OutputDrop {
    /// The output is behind and its memory is full.
    LaneFull,
    /// No space on the file system, or a quota reached.
    DiskFull,
    /// Any other failure of open or write.
    WriteError,
    /// The output's thread has ended.
    OutputGone,
    /// The interface is down or was deleted.
    InterfaceDown,
    /// The host would hear what enters the interface, or speak there: somebody changed its
    /// settings.
    InterfaceNotDeaf,
    /// Not an IP packet, for an interface that takes nothing else.
    NotIp,
    /// The program in the kernel redirected it, but it did not come out of the interface: the queue to it was full, or the interface had gone
    /// down a moment before.
    RedirectLost,
    /// A VLAN tag and not what it tags: the kernel drops such a frame, which ends within 20 bytes,
    /// before any sniffer sees it.
    RuntTaggedFrame,
}

impl OutputDrop {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [OutputDrop; 9] = [
        OutputDrop::LaneFull,
        OutputDrop::DiskFull,
        OutputDrop::WriteError,
        OutputDrop::OutputGone,
        OutputDrop::InterfaceDown,
        OutputDrop::InterfaceNotDeaf,
        OutputDrop::NotIp,
        OutputDrop::RedirectLost,
        OutputDrop::RuntTaggedFrame,
    ];

    /// The stable label used in the ledger.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            OutputDrop::LaneFull => "lane_full",
            OutputDrop::DiskFull => "disk_full",
            OutputDrop::WriteError => "write_error",
            OutputDrop::OutputGone => "output_gone",
            OutputDrop::InterfaceDown => "interface_down",
            OutputDrop::InterfaceNotDeaf => "interface_not_deaf",
            OutputDrop::NotIp => "not_ip",
            OutputDrop::RedirectLost => "redirect_lost",
            OutputDrop::RuntTaggedFrame => "runt_tagged_frame",
        }
    }
}

/// What happened at one end of an output: in a worker's lane, or in the sink. The ends of an output add up.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct OutputCounters {
    /// Frames offered to the output.
    pub offered: Counter,
    /// Frames that the configuration keeps out of it.
    pub filtered: Counter,
    /// Frames written.
    pub written: Counter,
    /// Bytes of the frames written, as far as they were kept.
    pub written_bytes: Counter,
    /// Frames cut to the snap length.
    pub snapped: Counter,
    /// Files published.
    pub files: Counter,
    /// Files that could not be published under their final name.
    pub unpublished: Counter,
    /// Files that a crash had left behind, salvaged and published.
    pub recovered: Counter,
    /// Files that a crash had left behind and that could not be salvaged, moved aside.
    pub set_aside: Counter,
    /// Files removed to keep the budget.
    pub pruned: Counter,
    /// Manifests that somebody changed while the sensor had them.
    pub manifest_changed: Counter,
    /// Commands that were run for a published file.
    pub hooks: Counter,
    /// Those of them that failed.
    pub hooks_failed: Counter,
    /// Published files for which no command was run: too many were waiting, or the sensor ended first.
    pub hooks_skipped: Counter,
    /// Commands that still ran when the sensor ended.
    pub hooks_unfinished: Counter,
    /// Frames that the host sent into the output's interface, read and discarded.
    pub host_frames: Counter,
    dropped: [Counter; OutputDrop::ALL.len()],
}

impl OutputCounters {
    /// The counter of `reason`.
    #[inline]
    #[must_use]
    pub fn dropped(&self, reason: OutputDrop) -> &Counter {
        &self.dropped[reason as usize]
    }
}

/// The counters of one output: one set per lane, one for the sink.
#[derive(Debug)]
pub struct Output {
    /// The output's name, as `pcap`.
    pub name: String,
    /// Every end's counters.
    pub ends: Vec<Arc<OutputCounters>>,
}

impl Output {
    /// Adds a set of counters for one end of this output.
    pub fn end(&mut self) -> Arc<OutputCounters> {
        let counters = Arc::new(OutputCounters::default());
        self.ends.push(Arc::clone(&counters));
        counters
    }
}

/// All counters of a sensor.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Per worker.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Per output.
    pub outputs: Vec<Output>,
}

impl Ledger {
    /// Adds a worker.
    pub fn worker(&mut self) -> Arc<WorkerCounters> {
        let counters = Arc::new(WorkerCounters::default());
        self.workers.push(Arc::clone(&counters));
        counters
    }

    /// Sum of one counter over the workers.
    pub fn sum(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.workers.iter().map(|w| counter(w).get()).sum()
    }

    /// Frames that outputs dropped for `reason`.
    #[must_use]
    pub fn outputs_dropped(&self, reason: OutputDrop) -> u64 {
        self.outputs.iter().flat_map(|o| &o.ends).map(|e| e.dropped(reason).get()).sum()
    }
}
