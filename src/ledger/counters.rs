//! The catalogue: every counter of the ledger, each declared once.
//!
//! A line `label: Counter = facts;` with a comment above makes a field in a set of counters, which
//! threads count in, and a field in the set's total. The comment is the counter's help text. JSON,
//! table, equations, warnings and `docs/ledger.md` are made from these lines, so a new counter
//! needs a line here and a call where it is counted.
//!
//! The sets are structs and not arrays by an enum: a counter is then `counters.received`, checked
//! by the compiler, and two sets cannot be mixed up. What an array would give, to go through all of
//! them, [`Totals::readings`] gives.
//!
//! **Order.** A counter is declared after those that are counted before it: `offered` before
//! `written`. Totals are read in the reverse order, which is why a total of a running sensor never
//! has more on the right of an equation than on the left (see `snapshot.rs`).

use std::sync::Arc;

use super::busiest::Busiest;
use super::catalogue::{Cell, Equation, Facts, Object, Reading, Sides, Unit, Weight, settled};
use super::counter::{ByReason, Counter, Elsewhere, Gauge};
use super::durations::Durations;
use super::lost::Lost;
use super::pairs::Pairs;
use super::presence::{Decapsulates, Presence};
use super::reasons::{Filtered, NotRedirected, OutputDrop};
use super::seat::Seat;
use super::sessions::SessionCounts;
use crate::wire::DropReason;

/// The equations of which both sides are in one set of counters, and tell what is on its way.
const BALANCED: [Equation; 2] = [Equation::Datagrams, Equation::Frames];
/// The label of what is on its way.
const IN_FLIGHT: &str = "in_flight";

/// Sums of a set of counters.
pub trait Totals {
    /// All counters of the set in the order of their declaration. None of these values ever falls.
    fn readings(&self) -> Vec<Reading>;

    /// Returns what the ledger shows to people: the readings, with what moved from one counter to
    /// another where it belongs.
    fn shown(&self) -> Vec<Reading> {
        settled(self.readings())
    }

    /// Returns what is counted on the left of the set's equation and not yet on its right: what is
    /// on its way. It is zero when the sensor has ended, and where the set has no equation of its
    /// own.
    fn in_flight(&self) -> i64 {
        let readings = self.readings();
        BALANCED.iter().map(|equation| Sides::of(*equation, &readings).difference()).sum()
    }

    /// [`Totals::in_flight`] as an entry of the catalogue; none where the set has no equation.
    fn gauge(&self) -> Option<Reading> {
        let readings = self.readings();
        let on_left = |reading: &Reading| BALANCED.iter().any(|equation| reading.facts.left.contains(equation));
        let facts = Facts::of(readings.into_iter().find(on_left)?.facts.unit).gauge();
        let help = format!("What is on its way while the sensor runs, in {}: zero at the end.", facts.unit.label());
        let value = self.in_flight().cast_unsigned();
        Some(Reading { group: None, label: IN_FLIGHT, reason: None, whole: help.clone(), help, facts, value })
    }

    /// Returns the value of the counter of this name, as `dropped.write_error`. It never falls
    /// while the sensor runs.
    fn value(&self, name: &str) -> Option<u64> {
        self.readings().into_iter().find(|reading| reading.name() == name).map(|reading| reading.value)
    }
}

/// Adds up one field of several sets.
fn sum_of<Set, C: Cell>(sets: &[&Set], field: fn(&Set) -> &C) -> C::Total {
    C::sum(&sets.iter().map(|set| field(set)).collect::<Vec<_>>())
}

/// Declares a set of counters and its total. `also` has fields that are no counters of the
/// catalogue.
macro_rules! counters {
    (
        $(#[$meta:meta])* pub struct $Set:ident, added up: $Total:ident {
            $($(#[doc = $help:literal])+ $label:ident: $Cell:ty = $facts:expr;)+
        }
        $(also { $($(#[$also_meta:meta])* $also:ident: $Also:ty;)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $Set {
            $($(#[doc = $help])+ pub $label: $Cell,)+
            $($($(#[$also_meta])* pub $also: $Also,)+)?
        }

        #[doc = concat!("The counters of several [`", stringify!($Set), "`], added up.")]
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $Total { $($(#[doc = $help])+ pub $label: <$Cell as Cell>::Total,)+ }

        impl Cell for $Set {
            type Total = $Total;

            fn sum(sets: &[&Self]) -> $Total {
                let mut total = $Total::default();
                let read: &[fn(&[&Self], &mut $Total)] =
                    &[$(|sets, total| total.$label = sum_of(sets, |set| &set.$label)),+];
                read.iter().rev().for_each(|read| read(sets, &mut total));
                total
            }

            fn take_over(&self, other: &Self) {
                $(self.$label.take_over(&other.$label);)+
            }

            fn readings(total: &$Total, declared: Reading) -> Vec<Reading> {
                let group = Some(declared.label);
                total.readings().into_iter().map(|reading| Reading { group, ..reading }).collect()
            }
        }

        impl Totals for $Total {
            fn readings(&self) -> Vec<Reading> {
                let declared = |label, help: &str, facts| {
                    let help = help.trim().to_owned();
                    Reading { group: None, label, reason: None, whole: help.clone(), help, facts, value: 0 }
                };
                let all = [$(<$Cell>::readings(&self.$label, declared(stringify!($label), concat!($($help),+), $facts))),+];
                all.into_iter().flatten().collect()
            }
        }
    };
}

const DATAGRAMS: Facts = Facts::of(Unit::Datagrams);
const PACKETS: Facts = Facts::of(Unit::Packets);
const FRAMES: Facts = Facts::of(Unit::Frames);
const BYTES: Facts = Facts::of(Unit::Bytes);
const FILES: Facts = Facts::of(Unit::Files);
const COMMANDS: Facts = Facts::of(Unit::Commands);
const TIMES: Facts = Facts::of(Unit::Times);

counters! {
    /// The counters of one worker.
    #[repr(align(128))]
    pub struct WorkerCounters, added up: WorkerTotals {
        /// Datagrams that the sensor took from its sockets and rings, or that its program in the
        /// kernel redirected or found not allowed.
        received: Counter = DATAGRAMS.left(&[Equation::Datagrams]).row(10, "received", "");
        /// Bytes of their UDP payloads.
        received_bytes: Counter = BYTES;
        /// Datagrams that the kernel dropped before the sensor saw them: no room in the socket's
        /// receive buffer or in the program's ring, or a wrong UDP checksum.
        kernel_dropped: Counter = DATAGRAMS
            .weight(Weight::Lost)
            .row(40, "kernel_dropped", "before the sensor saw them")
            .warning("the kernel dropped datagrams: the sensor is too slow, or --receive-buffer too small for the burst");
        /// Datagrams that came after the decision to stop.
        refused_at_stop: Counter = DATAGRAMS.row_if_any(60, "refused_at_stop", "came after the decision to stop");
        /// Bytes of the kernel's memory with what came before the end and was not read, where
        /// sockets are kept for the process after this one (`VXTAP_KEEP_SOCKETS`), which reads it.
        left_queued: Counter =
            BYTES.sparse().row_if_any(65, "left_queued", "bytes in the sockets that are kept, for the next start");
        /// The kernel delivers a broadcast or multicast datagram to every worker: one receives it,
        /// and these are the others' copies.
        broadcast_copies: Counter = DATAGRAMS
            .row_if_any(70, "broadcast_copies", "of datagrams that were received by another worker");
        /// The counters of the program in the kernel; all zero without one.
        fast_path: FastPathCounters = PACKETS;
        /// Datagrams that yielded an inner frame.
        decapsulated: Counter = DATAGRAMS
            .right(&[Equation::Datagrams])
            .left(&[Equation::Sessions, Equation::Offers])
            .row(20, "decapsulated", "");
        /// Frames of a capture that no mirror wrapped, and that were kept as they are
        /// (`vxtap decap --others pass`).
        passed: Counter =
            FRAMES.sparse().left(&[Equation::Offers]).row_if_any(25, "passed", "as they are: no mirror wrapped them");
        /// Datagrams that yielded none, by reason.
        dropped: ByReason<DropReason, { DropReason::ALL.len() }> =
            DATAGRAMS.right(&[Equation::Datagrams]).row_if_any(30, "dropped ", "");
        /// Frames of accepted datagrams with reserved bits set.
        reserved_bits: Counter = FRAMES.row_if_any(110, "reserved_bits", "set in the VXLAN header, accepted");
        /// Frames whose header has an option that is unknown, which was passed over.
        unknown_options: Counter =
            FRAMES.sparse().row_if_any(115, "unknown_options", "in the GENEVE header, passed over");
        /// Frames that arrived cut: the inner IP header tells of more bytes than came, or a switch
        /// says so (ERSPAN).
        cut_by_mirror: Counter = FRAMES.row_if_any(120, "cut_by_mirror", "frames that arrived truncated");
        /// Frames of ERSPAN III that have the time at which they came, although the switch's is
        /// wanted (`--timestamps switch`): the header tells none within a second of that.
        switch_time_unknown: Counter =
            FRAMES.sparse().row_if_any(125, "switch_time_unknown", "have the time at which they came");
        /// Frames of sessions that are not let in (`--vni`, `--from`, `--allow`), or whose entry in
        /// the configuration file has `drop = true`; each is also `filtered` in every output.
        unselected: Counter = FRAMES
            .weight(Weight::Besides)
            .right(&[Equation::Sessions])
            .row_if_any(130, "unselected", "of sessions not let in, or with drop = true");
        /// Frames whose packet another session of the group had delivered before; with
        /// `dedup = "drop"` each is also `filtered` in every output.
        duplicate_frames: Counter =
            FRAMES.sparse().left(&[Equation::Duplicates]).row_if_any(131, "duplicate_frames", "delivered by another session of the group before");
        /// Frames that were not compared with others and kept, because another worker had that
        /// place of the group's table.
        dedup_busy: Counter = FRAMES.sparse().row_if_any(132, "dedup_busy", "not compared: another worker was there");
        /// What was beyond the part of a flow that is kept (`flow_limit`, `tls`); each frame is
        /// also `filtered` in every output.
        beyond_cutoff: CutoffCounters = FRAMES;
        /// Frames of flows that were kept whole because the table of flows was full, or because
        /// their session is beyond the limit.
        cutoff_table_full: Counter =
            FRAMES.sparse().row_if_any(135, "cutoff_table_full", "kept: no place for the flow");
        /// Frames that had not come when later ones of their sender did, by the numbers that it
        /// gives them (GRE, ERSPAN). Less `upstream_late` they were lost on the way, or are
        /// `kernel_dropped` or `dropped`. They are in no equation.
        upstream_missed: Counter = FRAMES
            .sparse()
            .row_if_any(136, "upstream_missed", "missing by the numbers of their senders");
        /// Of these, frames that came later.
        upstream_late: Counter = FRAMES.sparse().row_if_any(137, "upstream_late", "of them, came later");
        /// Times that a sender began to number anew. What it had sent last is not known to be lost.
        upstream_restarts: Counter =
            TIMES.sparse().row_if_any(138, "upstream_restarts", "times that a sender numbers anew");
    }
    also {
        /// The VNIs of the `unselected` frames, as far as a program in the kernel did not see to
        /// them.
        unselected_vnis: Busiest;
        /// The counters of sessions beyond the limit.
        overflow: OverflowCounters;
        /// The counters of each other session.
        sessions: Arc<SessionCounts>;
        /// The counters of sessions that have expired.
        expired: ExpiredCounters;
        /// The counters of duplicates by their pair of sessions.
        duplicates: Pairs;
    }
}

counters! {
    /// The counters of what one worker received beyond the part of a flow that is kept.
    pub struct CutoffCounters, added up: BeyondCutoff {
        /// Frames beyond what is kept of their flows.
        frames: Counter = FRAMES.sparse().row_if_any(133, "beyond_cutoff", "beyond what is kept of their flows");
        /// Bytes of these frames as they arrived.
        bytes: Counter = BYTES.sparse();
    }
}

counters! {
    /// The counters of the program in the kernel, for the packets that one worker is to receive.
    pub struct FastPathCounters, added up: FastPathTotals {
        /// Datagrams put into a ring.
        taken: Counter = DATAGRAMS.left(&[Equation::Rings]).row_if_any(80, "fast_path", "by way of the BPF program");
        /// Datagrams read from the rings, also those that came too late to be received.
        read: Counter = DATAGRAMS.right(&[Equation::Rings]);
        /// Datagrams lost for want of room in a ring; each is also `kernel_dropped`.
        ring_full: Counter = DATAGRAMS.row_if_any(50, "ring_full", "of them for want of room in a ring");
        /// Datagrams of sessions not allowed, dropped on the spot; each is also received,
        /// decapsulated and `unselected`.
        unselected: Counter = DATAGRAMS;
        /// Packets of any kind left to the stack, which decides about them and counts what it
        /// refuses.
        passed: Counter = PACKETS;
        /// Of these, datagrams for the sensor from an address that no other host has: the stack
        /// takes few of them.
        martian: Counter = DATAGRAMS
            .row_if_any(100, "martian", "from addresses that no other host has: left to the stack");
        /// Datagrams whose frames were redirected into an interface (`--tap-mode redirect`).
        redirected: Counter = DATAGRAMS.row_if_any(90, "redirected", "by the BPF program");
        /// Datagrams whose frames were left to the workers instead, by reason.
        not_redirected: ByReason<NotRedirected, { NotRedirected::ALL.len() }> =
            DATAGRAMS.row_if_any(150, "not redirected: ", "injected");
    }
}

counters! {
    /// The counters of what one worker received from sessions beyond the limit (`--max-sessions`).
    pub struct OverflowCounters, added up: Overflow {
        /// Frames of sessions beyond the limit.
        frames: Counter = FRAMES
            .weight(Weight::Besides)
            .right(&[Equation::Sessions])
            .row_if_any(140, "overflow", "of sessions beyond --max-sessions")
            .warning("frames of sessions beyond --max-sessions go to the overflow file");
        /// Bytes of these frames as they arrived.
        bytes: Counter = BYTES;
        /// Of these frames, such that another session of the group had delivered before.
        duplicates: Counter = FRAMES.sparse().right(&[Equation::Duplicates]);
        /// Frames of sessions beyond the limit that outputs lost, and such whose session is not
        /// known.
        lost: Elsewhere = FRAMES.sparse().right(&[Equation::Lost]);
    }
}

counters! {
    /// The counters of what one worker received from sessions that have expired since
    /// (`--session-idle`).
    pub struct ExpiredCounters, added up: Expired {
        /// Frames of sessions that sent none for so long that they were forgotten.
        frames: Counter = FRAMES
            .sparse()
            .right(&[Equation::Sessions])
            .row_if_any(145, "expired", "of sessions that sent no more (--session-idle)");
        /// Bytes of these frames as they arrived.
        bytes: Counter = BYTES.sparse();
        /// Of these frames, such that another session of the group had delivered before.
        duplicates: Counter = FRAMES.sparse().right(&[Equation::Duplicates]);
        /// Frames of sessions that have expired that outputs lost.
        lost: Elsewhere = FRAMES.sparse().right(&[Equation::Lost]);
    }
}

counters! {
    /// The counters of one end of an output: in a worker's lane, or in the sink. The ends of an
    /// output add up.
    #[repr(align(128))]
    pub struct OutputCounters, added up: OutputTotals {
        /// Frames offered to the output.
        offered: Counter = FRAMES.left(&[Equation::Frames]).right(&[Equation::Offers]).row(10, "offered", "");
        /// Frames written.
        written: Counter = FRAMES.right(&[Equation::Frames]).row(20, "written", "");
        /// Bytes of the frames written, as far as they were kept.
        written_bytes: Counter = BYTES;
        /// Frames that the configuration keeps out of the output.
        filtered: Counter =
            FRAMES.right(&[Equation::Frames]).left(&[Equation::Filtered]).row(30, "filtered", "");
        /// Frames that the configuration keeps out of the output, by reason.
        filtered_by: ByReason<Filtered, { Filtered::ALL.len() }> =
            FRAMES.right(&[Equation::Filtered]).sparse().row_if_any(31, "filtered ", "of them");
        /// Frames that the output lost, by reason.
        dropped: ByReason<OutputDrop, { OutputDrop::ALL.len() }> =
            FRAMES.right(&[Equation::Frames]).row_if_any(40, "dropped ", "");
        /// Frames that whoever watches did not take: the queue of the watch was full, the watch was
        /// over, or the sensor had no copy of what was redirected. Only a watch has such frames,
        /// and they are where they were to go.
        unwatched: Counter = FRAMES
            .right(&[Equation::Frames])
            .weight(Weight::Besides)
            .sparse()
            .row_if_any(45, "unwatched", "not taken by who watched");
        /// Frames that were written to a capture which is gone or changed: no longer `written`, but
        /// `write_error`.
        gone: Counter = FRAMES.moves("written", Some("dropped.write_error"));
        /// Bytes of the frames that are gone.
        gone_bytes: Counter = BYTES.moves("written_bytes", None);
        /// Frames that were counted as `redirect_lost` and had only been late.
        redirect_late: Counter = FRAMES.moves("dropped.redirect_lost", Some("written"));
        /// Frames of which the output keeps less than arrived: by its `snaplen` (`--snaplen`), or
        /// by `snaplen` or `slice` of the session's entry.
        snapped: Counter = FRAMES.row_if_any(50, "snapped", "cut, by snaplen or slice");
        /// Files published.
        files: Counter = FILES;
        /// Files left under their `.part` name because they could not be published.
        unpublished: Counter =
            FILES.weight(Weight::Failed).row_if_any(60, "unpublished", "files left under their .part name");
        /// Files that a crash had left behind, salvaged and published.
        recovered: Counter = FILES.row_if_any(70, "recovered", "files that a crash had left, salvaged");
        /// Files that a crash had left behind and that could not be salvaged, moved aside.
        set_aside: Counter = FILES.row_if_any(80, "set_aside", "files that a crash had left, beyond salvage");
        /// Files removed to keep the budget.
        pruned: Counter = FILES.row_if_any(90, "pruned", "files removed to keep the budget");
        /// Times that somebody changed the manifest while the sensor had it.
        manifest_changed: Counter =
            TIMES.weight(Weight::Failed).row_if_any(100, "manifest_changed", "times, by somebody else: see the log");
        /// Commands that were run for a published file.
        hooks: Counter = COMMANDS.row_if_any(110, "hooks", "commands run for published files");
        /// Of these, commands that failed.
        hooks_failed: Counter = COMMANDS.weight(Weight::Failed).row_if_any(120, "hooks_failed", "of them");
        /// Published files for which no command was run: they were removed before their turn, or
        /// the sensor ended first.
        hooks_skipped: Counter =
            FILES.weight(Weight::Failed).row_if_any(130, "hooks_skipped", "published files without");
        /// Commands that still ran when the sensor ended.
        hooks_unfinished: Counter = COMMANDS
            .weight(Weight::Failed)
            .row_if_any(140, "hooks_unfinished", "commands that still ran at the end");
        /// Published files whose command is left to the next start, which comes at once: sockets
        /// are kept for it (`VXTAP_KEEP_SOCKETS`). It runs the command, once more where it ran.
        hooks_left: Counter =
            FILES.sparse().row_if_any(145, "hooks_left", "published files, to the next start");
        /// Frames that this host sent into the output's interface, read and discarded.
        host_frames: Counter =
            FRAMES.row_if_any(150, "host_frames", "sent into the interface by this host, discarded");
    }
    also {
        /// The time for which the end has a worker, in the worker's datagrams.
        presence: Presence;
        /// The time that the output takes for what comes at once.
        durations: Durations;
        /// Bytes of the captures in the output's directory, those that are written to included.
        archive_bytes: Gauge;
        /// The frames that the end lost, by session.
        lost: Lost;
    }
}

impl WorkerCounters {
    /// The counter of datagrams dropped for `reason`.
    #[inline]
    #[must_use]
    pub(crate) fn dropped(&self, reason: DropReason) -> &Counter {
        self.dropped.of(reason)
    }

    /// The counter of datagrams not redirected for `reason`.
    #[must_use]
    pub(crate) fn not_redirected(&self, reason: NotRedirected) -> &Counter {
        self.fast_path.not_redirected.of(reason)
    }
}

impl Decapsulates for WorkerCounters {
    fn decapsulated(&self) -> u64 {
        self.decapsulated.get()
    }
}

impl OutputCounters {
    /// The counter of frames filtered for `reason`.
    #[inline]
    #[must_use]
    pub(crate) fn filtered_by(&self, reason: Filtered) -> &Counter {
        self.filtered_by.of(reason)
    }

    /// The counter of frames dropped for `reason`.
    #[inline]
    #[must_use]
    pub fn dropped(&self, reason: OutputDrop) -> &Counter {
        self.dropped.of(reason)
    }

    /// Counts frames of the session in this seat as lost for `reason`.
    pub(crate) fn lose(&self, reason: OutputDrop, seat: Seat, frames: u64) {
        self.dropped(reason).add(frames);
        if reason.is_by_session() {
            self.lost.add(seat, frames);
        }
    }

    /// Counts what the end of an output has counted that runs no more.
    pub(super) fn take_over_all(&self, ended: &Self) {
        self.take_over(ended);
        self.presence.take_over(&ended.presence);
        self.durations.take_over(&ended.durations);
        self.lost.take_over(&ended.lost);
    }
}

impl OutputTotals {
    /// Moves what moved from one counter to another to where it belongs. Only the totals of a
    /// sensor that has ended are settled, since some of these counters fall by it.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let gone = std::mem::take(&mut self.gone);
        let late = std::mem::take(&mut self.redirect_late);
        self.written = (self.written + late).wrapping_sub(gone);
        self.written_bytes = self.written_bytes.wrapping_sub(std::mem::take(&mut self.gone_bytes));
        *self.dropped.entry(OutputDrop::WriteError.label()).or_default() += gone;
        let lost = self.dropped.entry(OutputDrop::RedirectLost.label()).or_default();
        *lost = lost.wrapping_sub(late);
        self
    }
}

impl serde::Serialize for WorkerTotals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object { readings: &self.readings(), in_flight: self.in_flight() }.serialize(serializer)
    }
}

impl serde::Serialize for OutputTotals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object { readings: &self.readings(), in_flight: self.in_flight() }.serialize(serializer)
    }
}

impl serde::Serialize for Expired {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object { readings: &self.readings(), in_flight: 0 }.serialize(serializer)
    }
}

impl serde::Serialize for Overflow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object { readings: &self.readings(), in_flight: 0 }.serialize(serializer)
    }
}
