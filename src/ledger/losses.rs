//! The losses are what came and is not where it was to go: the first thing that a sensor says of
//! itself.

use std::cmp::Reverse;
use std::fmt::{self, Write};

use indicatif::HumanCount;

use super::catalogue::Weight;
use super::counters::Totals;
use super::sessions::Upstream;
use super::snapshot::Snapshot;

/// VNIs that are named at most.
const NAMED: usize = 3;

/// A place where something was lost, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Datagrams, before the sensor saw them.
    Kernel,
    /// Frames of a capture that are no whole datagram, for this reason.
    Capture(&'static str),
    /// Datagrams that yielded no frame, for this reason.
    Datagrams(&'static str),
    /// Frames of an output, for this reason.
    Output(String, &'static str),
}

/// All that was lost, by place, and what was kept out as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Datagrams that came to this host.
    arrived: u64,
    /// Datagrams that did not reach the output that lost most.
    missing: u64,
    /// Frames that senders number and that never came: lost before, or here by one of the places.
    upstream: u64,
    /// The losses that are not zero, the largest first.
    lost: Vec<(Place, u64)>,
    /// Counts of what was not to be kept, or not by itself: name and number, the largest first.
    besides: Vec<(String, u64)>,
    /// The VNIs whose frames are not allowed, as far as they are known.
    whose: String,
    /// Fragments of which nobody knows whether something is lost with them.
    unknown: u64,
}

/// The counter of frames that are not allowed, whose VNIs are known.
const UNSELECTED: &str = "unselected";
/// The counter of datagrams that the sensor never saw.
const KERNEL: &str = "kernel_dropped";

impl Losses {
    /// The losses of a ledger, also of one that still grows.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let (mut lost, mut besides) = (Vec::new(), Vec::new());
        let (by_reason, plain): (Vec<_>, Vec<_>) = snapshot.terms().into_iter().partition(|r| r.reason.is_some());
        for reading in plain.into_iter().chain(by_reason) {
            let name = reading.reason.unwrap_or(reading.group.unwrap_or(reading.label));
            match reading.facts.weight {
                Weight::Lost | Weight::Failed if reading.label == KERNEL => lost.push((Place::Kernel, reading.value)),
                Weight::Lost | Weight::Failed => lost.push((Place::Datagrams(name), reading.value)),
                Weight::Besides => besides.push((name.to_owned(), reading.value)),
                Weight::Plain => {}
            }
        }
        let before: u64 = lost.iter().map(|(_, n)| n).sum();
        let mut most = 0;
        for (name, output) in &snapshot.outputs {
            let mut sum = 0;
            for reading in output.shown() {
                let Some(reason) = reading.reason else { continue };
                match reading.facts.weight {
                    Weight::Lost | Weight::Failed => {
                        lost.push((Place::Output(name.clone(), reason), reading.value));
                        sum += reading.value;
                    }
                    Weight::Besides => besides.push((format!("{name} {reason}"), reading.value)),
                    Weight::Plain => {}
                }
            }
            most = most.max(sum);
        }
        lost.retain(|(_, n)| *n > 0);
        besides.retain(|(_, n)| *n > 0);
        lost.sort_unstable_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
        besides.sort_by_key(|(_, n)| Reverse(*n));
        let arrived = snapshot.datagrams.received + snapshot.datagrams.kernel_dropped;
        let (missed, late) = (snapshot.datagrams.upstream_missed, snapshot.datagrams.upstream_late);
        let upstream = Upstream { missed, late }.lost();
        Self { arrived, missing: before + most, upstream, lost, besides, whose: whose(snapshot), unknown: 0 }
    }

    /// Adds frames of a capture that are no whole datagram, by reason. The ledger has none of them.
    #[must_use]
    pub fn with_unwhole(mut self, frames: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        for (reason, frames) in frames.into_iter().filter(|(_, frames)| *frames > 0) {
            self.arrived += frames;
            self.missing += frames;
            self.lost.push((Place::Capture(reason), frames));
        }
        self.lost.sort_unstable_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
        self
    }

    /// Says that there were so many fragments in a capture, of which nobody knows whether they are
    /// of a mirror. The ledger has none of them.
    #[must_use]
    pub fn with_unknown(self, unknown: u64) -> Self {
        Self { unknown, ..self }
    }

    /// Datagrams and frames lost, of all places together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lost.iter().map(|(_, n)| n).sum()
    }

    /// Returns each loss: its output, where it is one's, the reason, and how much. The largest is
    /// first.
    pub(crate) fn list(&self) -> impl Iterator<Item = (Option<&str>, &'static str, u64)> {
        self.lost.iter().map(|(place, n)| match place {
            Place::Kernel => (None, KERNEL, *n),
            Place::Capture(reason) | Place::Datagrams(reason) => (None, *reason, *n),
            Place::Output(name, reason) => (Some(name.as_str()), *reason, *n),
        })
    }

    /// Says in few words how much was lost.
    #[must_use]
    pub(crate) fn share(&self) -> String {
        if self.total() == 0 {
            return match (self.arrived, self.unknown) {
                (0, _) => "nothing was received".into(),
                (_, 0) if self.upstream > 0 => "nothing was lost here".into(),
                (_, 0) => "nothing was lost".into(),
                _ => "nothing is known to be lost".into(),
            };
        }
        let permille = u128::from(self.missing) * 1000 / u128::from(self.arrived.max(1));
        match permille.min(1000) {
            0 => "LOST less than 0.1 %".into(),
            few @ 1..100 => format!("LOST {}.{} %", few / 10, few % 10),
            many => format!("LOST {} %", many / 10),
        }
    }

    /// Each loss with how much of it is new since `before`, the largest first.
    #[must_use]
    pub(crate) fn lost_since(&self, before: &Self) -> String {
        let earlier = |place: &Place| before.lost.iter().find(|(other, _)| other == place).map_or(0, |(_, n)| *n);
        let all = self.lost.iter().map(|(place, n)| grown(&place.to_string(), *n, earlier(place)));
        all.collect::<Vec<_>>().join(", ")
    }

    /// Each number that was kept out as somebody asked for, or is not kept by itself, with how much
    /// of it is new since `before`.
    #[must_use]
    pub(crate) fn besides_since(&self, before: &Self) -> String {
        let earlier = |name: &str| before.besides.iter().find(|(other, _)| other == name).map_or(0, |(_, n)| *n);
        let all = self.besides.iter().map(|(name, n)| {
            let text = grown(name, *n, earlier(name));
            if name == UNSELECTED && !self.whose.is_empty() { format!("{text} {}", self.whose) } else { text }
        });
        all.collect::<Vec<_>>().join(", ")
    }
}

/// A number, and by how much it has grown.
fn grown(name: &str, now: u64, before: u64) -> String {
    let mut text = format!("{name} {}", HumanCount(now));
    if now > before {
        // Writing to a string does not fail.
        let _ = write!(text, " (+{})", HumanCount(now - before));
    }
    text
}

/// The VNIs that have a good part of the frames that are not allowed.
fn whose(snapshot: &Snapshot) -> String {
    let by_program = snapshot.datagrams.fast_path.unselected;
    let known = snapshot.datagrams.unselected.saturating_sub(by_program);
    let vnis = snapshot.unselected_vnis.iter().filter(|vni| vni.frames.saturating_mul(20) >= known);
    let vnis: Vec<String> = vnis.take(NAMED).map(|vni| vni.vni.to_string()).collect();
    match (vnis.is_empty(), by_program > 0) {
        (true, true) => "[by the program]".into(),
        (true, false) => String::new(),
        (false, true) => format!("[VNI {}, and by the program]", vnis.join(", ")),
        (false, false) => format!("[VNI {}]", vnis.join(", ")),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Kernel => f.write_str("kernel"),
            Place::Capture(reason) | Place::Datagrams(reason) => f.write_str(reason),
            Place::Output(name, reason) => write!(f, "{name} {reason}"),
        }
    }
}

/// The headline: how much was lost, and where.
impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.share())?;
        for (n, (place, lost)) in self.lost.iter().enumerate() {
            f.write_str(if n == 0 { ": " } else { "; " })?;
            let s = if *lost == 1 { "" } else { "s" };
            let lost = HumanCount(*lost);
            match place {
                Place::Kernel => write!(f, "{lost} datagram{s} in the kernel")?,
                Place::Capture(reason) => write!(f, "{lost} frame{s} without a whole datagram ({reason})")?,
                Place::Datagrams(reason) => write!(f, "{lost} datagram{s} without a frame ({reason})")?,
                Place::Output(name, reason) => write!(f, "{lost} frame{s} of output {name} ({reason})")?,
            }
        }
        if self.unknown > 0 {
            let s = if self.unknown == 1 { "" } else { "s" };
            write!(f, "; unknown: {} fragment{s} whose first piece is not here", HumanCount(self.unknown))?;
        }
        if self.upstream > 0 {
            let s = if self.upstream == 1 { "" } else { "s" };
            write!(f, "; by their numbers {} frame{s} never came", HumanCount(self.upstream))?;
        }
        let besides = self.besides_since(self);
        if besides.is_empty() { Ok(()) } else { write!(f, "; besides: {besides}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, Output, OutputDrop};
    use crate::record::Timestamp;
    use crate::wire::{DropReason, Vni};

    fn losses(ledger: &Ledger) -> Losses {
        Losses::of(&Snapshot::of(ledger, Timestamp::from_ns(0), Vec::new()))
    }

    #[test]
    fn what_was_lost_before_is_told_apart() {
        let mut ledger = ledger(10);
        let worker = ledger.worker();
        worker.upstream_missed.add(3);
        worker.upstream_late.add(2);
        let losses = losses(&ledger);
        assert_eq!((losses.total(), losses.share()), (0, "nothing was lost here".to_owned()));
        assert_eq!(losses.to_string(), "nothing was lost here; by their numbers 1 frame never came");
    }

    fn ledger(received: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.worker().received.add(received);
        for name in ["pcap", "mirror0"] {
            let mut output = Output { name: name.into(), ends: Vec::new() };
            output.end();
            ledger.outputs.push(output);
        }
        ledger
    }

    #[test]
    fn the_headline_is_what_was_lost_the_largest_first() {
        assert_eq!(losses(&ledger(0)).to_string(), "nothing was received");
        assert_eq!(losses(&ledger(5)).to_string(), "nothing was lost");
        let ledger = ledger(16_823);
        ledger.workers[0].kernel_dropped.add(7204);
        ledger.outputs.at(0).ends[0].dropped(OutputDrop::DiskFull).add(3211);
        let text = "LOST 43 %: 7,204 datagrams in the kernel; 3,211 frames of output pcap (disk_full)";
        assert_eq!(losses(&ledger).to_string(), text);
        // Each frame went to both: it is lost once if one lost it.
        ledger.outputs.at(1).ends[0].dropped(OutputDrop::LaneFull).add(1);
        assert_eq!(losses(&ledger).to_string(), format!("{text}; 1 frame of output mirror0 (lane_full)"));
        ledger.workers[0].dropped(DropReason::VniFlagClear).add(8000);
        assert!(
            losses(&ledger)
                .to_string()
                .starts_with("LOST 76 %: 8,000 datagrams without a frame (vni_flag_clear); 7,204 ")
        );
    }

    #[test]
    fn what_is_no_whole_datagram_is_lost_before_the_ledger() {
        let losses = losses(&ledger(8)).with_unwhole([("outer_fragment", 1), ("cut_short", 1), ("ipv4", 0)]);
        let text = "LOST 20 %: 1 frame without a whole datagram (cut_short); 1 frame without a whole datagram \
                    (outer_fragment)";
        assert_eq!((losses.to_string().as_str(), losses.total()), (text, 2));
        assert_eq!(super::tests::losses(&ledger(8)).with_unwhole([]).to_string(), "nothing was lost");
    }

    #[test]
    fn of_what_may_be_lost_is_not_said_that_nothing_was() {
        let said = |received, unknown| losses(&ledger(received)).with_unknown(unknown).to_string();
        assert_eq!(said(8, 0), "nothing was lost");
        assert_eq!(said(8, 1), "nothing is known to be lost; unknown: 1 fragment whose first piece is not here");
        assert_eq!(said(0, 1000), "nothing was received; unknown: 1,000 fragments whose first piece is not here");
        let lost = losses(&ledger(8)).with_unwhole([("cut_short", 2)]).with_unknown(2);
        let text = "LOST 20 %: 2 frames without a whole datagram (cut_short); unknown: 2 fragments whose first piece \
                    is not here";
        assert_eq!((lost.to_string().as_str(), lost.total()), (text, 2));
    }

    #[test]
    fn shares_are_never_said_to_be_nothing() {
        let share = |received, dropped| {
            let ledger = ledger(received);
            ledger.workers[0].dropped(DropReason::RuntInnerFrame).add(dropped);
            losses(&ledger).share()
        };
        assert_eq!(share(1_000_000, 1), "LOST less than 0.1 %");
        assert_eq!(share(1000, 1), "LOST 0.1 %");
        assert_eq!(share(1000, 99), "LOST 9.9 %");
        assert_eq!(share(1000, 999), "LOST 99 %");
        assert_eq!(share(1000, 1000), "LOST 100 %");
    }

    #[test]
    fn every_reason_is_lost_or_besides() {
        let ledger = ledger(1_000_000);
        let worker = &ledger.workers[0];
        DropReason::ALL.iter().for_each(|reason| worker.dropped(*reason).add(1));
        OutputDrop::ALL.iter().for_each(|reason| ledger.outputs.at(0).ends[0].dropped(*reason).add(1));
        worker.unselected.add(100);
        worker.overflow.frames.add(50);
        let losses = losses(&ledger);
        assert_eq!(losses.total(), (DropReason::ALL.len() - 4 + OutputDrop::ALL.len() - 1) as u64);
        let none = Losses::default();
        let besides = "unselected 100 (+100), overflow 50 (+50), control_message 1 (+1), critical_option 1 (+1), \
                       keep_alive 1 (+1), reserved_bits 1 (+1), pcap not_ip 1 (+1)";
        assert_eq!(losses.besides_since(&none), besides);
        let said = losses.lost_since(&none);
        let reasons = DropReason::ALL.map(DropReason::label).into_iter().chain(OutputDrop::ALL.map(OutputDrop::label));
        for reason in reasons {
            assert!(said.contains(reason) || besides.contains(reason), "{reason}: {said}");
        }
    }

    #[test]
    fn what_is_new_is_told_apart_and_those_who_ask_most_are_named() {
        let ledger = ledger(10_000);
        let (worker, output) = (&ledger.workers[0], ledger.outputs.at(0));
        let pcap = &output.ends[0];
        pcap.dropped(OutputDrop::DiskFull).add(5442);
        worker.kernel_dropped.add(12);
        let before = losses(&ledger);
        pcap.dropped(OutputDrop::DiskFull).add(1501);
        assert_eq!(losses(&ledger).lost_since(&before), "pcap disk_full 6,943 (+1,501), kernel 12");
        assert_eq!(losses(&ledger).besides_since(&before), "");

        worker.unselected.add(1000);
        for (vni, frames) in [(7, 900), (9, 70), (8, 30)] {
            (0..frames).for_each(|_| worker.unselected_vnis.add(Vni::new(vni).unwrap()));
        }
        assert_eq!(
            losses(&ledger).besides_since(&before),
            "unselected 1,000 (+1,000) [VNI 7, 9]",
            "8 has less than 5 %"
        );
        worker.unselected.add(1_000_000);
        worker.fast_path.unselected.add(1_000_000);
        let both = "unselected 1,001,000 (+1,001,000) [VNI 7, 9, and by the program]";
        assert_eq!(losses(&ledger).besides_since(&before), both);
        assert!(
            losses(&ledger).to_string().ends_with("; besides: unselected 1,001,000 [VNI 7, 9, and by the program]")
        );
    }

    #[test]
    fn counters_that_are_looked_up_by_label_exist() {
        let snapshot = Snapshot::of(&Ledger::default(), Timestamp::from_ns(0), Vec::new());
        for (label, weight) in [(UNSELECTED, Weight::Besides), (KERNEL, Weight::Lost)] {
            let found = snapshot.terms().into_iter().find(|reading| reading.group.is_none() && reading.label == label);
            assert_eq!(found.map(|reading| reading.facts.weight), Some(weight), "{label}");
        }
    }
}
