//! The ledger added up, checked and printed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Busiest, Ledger, Losses, NotRedirected, Output, OutputDrop, VniFrames};
use crate::record::Timestamp;
use crate::session::Session;
use crate::wire::DropReason;

/// Sums over all workers and outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// When the sensor began to receive.
    pub started: Timestamp,
    /// When this was added up.
    pub ended: Timestamp,
    /// Datagrams received.
    pub received: u64,
    /// Bytes of their UDP payloads.
    pub received_bytes: u64,
    /// Datagrams the kernel dropped before the sensor saw them.
    pub kernel_dropped: u64,
    /// Datagrams that came after the decision to stop.
    pub refused_at_stop: u64,
    /// Copies of broadcast and multicast datagrams, of which one is received.
    pub broadcast_copies: u64,
    /// What the program in the kernel did; all zero without one.
    pub fast_path: FastPathTotals,
    /// Datagrams that yielded an inner frame.
    pub decapsulated: u64,
    /// Datagrams that did not, by reason; all reasons are listed.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Accepted datagrams with reserved bits set.
    pub reserved_bits: u64,
    /// Frames that arrived cut.
    pub cut_by_mirror: u64,
    /// Frames of VNIs that were not asked for.
    pub unselected: u64,
    /// The VNIs that most of these have, as far as a program in the kernel did not see to them.
    pub unselected_vnis: Vec<VniFrames>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, OutputTotals>,
    /// The mirror sessions in the order of source and VNI.
    pub sessions: Vec<SessionTotals>,
    /// What came from sessions beyond the limit.
    pub overflow: Overflow,
}

/// Sums of what the program in the kernel did with packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FastPathTotals {
    /// Datagrams put into a ring.
    pub taken: u64,
    /// Datagrams read from the rings.
    pub read: u64,
    /// Datagrams lost for want of room in a ring; part of `kernel_dropped`.
    pub ring_full: u64,
    /// Datagrams of sessions not allowed, dropped on the spot; part of `received` and `unselected`.
    pub unselected: u64,
    /// Packets of any kind left to the stack.
    pub passed: u64,
    /// Of these, datagrams for the sensor from an address that no other host has.
    pub martian: u64,
    /// Datagrams whose frames were redirected into an interface.
    pub redirected: u64,
    /// Datagrams whose frames were not, though that was asked for, by reason; all reasons are listed.
    pub not_redirected: BTreeMap<&'static str, u64>,
}

/// Sums of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputTotals {
    /// Frames offered.
    pub offered: u64,
    /// Frames written.
    pub written: u64,
    /// Bytes of the frames written.
    pub written_bytes: u64,
    /// Frames the configuration keeps out.
    pub filtered: u64,
    /// Frames lost, by reason; all reasons are listed.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Frames cut to the snap length.
    pub snapped: u64,
    /// Files published.
    pub files: u64,
    /// Files left under their `.part` name because they could not be published.
    pub unpublished: u64,
    /// Files that a crash had left behind, salvaged and published.
    pub recovered: u64,
    /// Files that a crash had left behind and that could not be salvaged, moved aside.
    pub set_aside: u64,
    /// Files removed to keep the budget.
    pub pruned: u64,
    /// Manifests that somebody changed while the sensor had them.
    pub manifest_changed: u64,
    /// Commands that were run for a published file.
    pub hooks: u64,
    /// Those of them that failed.
    pub hooks_failed: u64,
    /// Published files for which no command was run.
    pub hooks_skipped: u64,
    /// Commands that still ran when the sensor ended.
    pub hooks_unfinished: u64,
    /// Frames that the host sent into the output's interface, read and discarded.
    pub host_frames: u64,
}

/// One mirror session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionTotals {
    /// Which.
    #[serde(flatten)]
    pub session: Session,
    /// Frames.
    pub frames: u64,
    /// Bytes of the frames as they arrived.
    pub bytes: u64,
    /// Receive time of the first frame.
    pub first: Timestamp,
    /// Receive time of the last frame.
    pub last: Timestamp,
}

/// Frames of sessions beyond the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Overflow {
    /// Frames.
    pub frames: u64,
    /// Bytes of the frames as they arrived.
    pub bytes: u64,
}

/// An equation of the ledger that does not hold: an error of the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger does not close: {equation}: {left} is not {right}")]
pub struct Imbalance {
    /// The equation in words.
    pub equation: String,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl OutputTotals {
    fn of(output: &Output) -> Self {
        let sum = |f: &dyn Fn(&super::OutputCounters) -> u64| output.ends.iter().map(|e| f(e)).sum();
        Self {
            offered: sum(&|e| e.offered.get()),
            written: sum(&|e| e.written.get()),
            written_bytes: sum(&|e| e.written_bytes.get()),
            filtered: sum(&|e| e.filtered.get()),
            dropped: OutputDrop::ALL.iter().map(|r| (r.label(), sum(&|e| e.dropped(*r).get()))).collect(),
            snapped: sum(&|e| e.snapped.get()),
            files: sum(&|e| e.files.get()),
            unpublished: sum(&|e| e.unpublished.get()),
            recovered: sum(&|e| e.recovered.get()),
            set_aside: sum(&|e| e.set_aside.get()),
            pruned: sum(&|e| e.pruned.get()),
            manifest_changed: sum(&|e| e.manifest_changed.get()),
            hooks: sum(&|e| e.hooks.get()),
            hooks_failed: sum(&|e| e.hooks_failed.get()),
            hooks_skipped: sum(&|e| e.hooks_skipped.get()),
            hooks_unfinished: sum(&|e| e.hooks_unfinished.get()),
            host_frames: sum(&|e| e.host_frames.get()),
        }
    }
}

impl Snapshot {
    /// Adds up the counters of `ledger`; `sessions` is what the workers counted per session, in the
    /// order of source and VNI.
    #[must_use]
    pub fn of(ledger: &Ledger, started: Timestamp, sessions: Vec<SessionTotals>, overflow: Overflow) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started,
            ended: Timestamp::now(),
            received: ledger.sum(|w| &w.received),
            received_bytes: ledger.sum(|w| &w.received_bytes),
            kernel_dropped: ledger.sum(|w| &w.kernel_dropped),
            refused_at_stop: ledger.sum(|w| &w.refused_at_stop),
            broadcast_copies: ledger.sum(|w| &w.broadcast_copies),
            fast_path: FastPathTotals {
                taken: ledger.sum(|w| &w.ring_taken),
                read: ledger.sum(|w| &w.ring_read),
                ring_full: ledger.sum(|w| &w.ring_full),
                unselected: ledger.sum(|w| &w.ring_unselected),
                passed: ledger.sum(|w| &w.passed),
                martian: ledger.sum(|w| &w.martian),
                redirected: ledger.sum(|w| &w.redirected),
                not_redirected: NotRedirected::ALL
                    .iter()
                    .map(|r| (r.label(), ledger.sum(|w| w.not_redirected(*r))))
                    .collect(),
            },
            decapsulated: ledger.sum(|w| &w.decapsulated),
            dropped: DropReason::ALL.iter().map(|r| (r.label(), ledger.sum(|w| w.dropped(*r)))).collect(),
            reserved_bits: ledger.sum(|w| &w.reserved_bits),
            cut_by_mirror: ledger.sum(|w| &w.cut_by_mirror),
            unselected: ledger.sum(|w| &w.unselected),
            unselected_vnis: Busiest::of(ledger.workers.iter().map(|worker| &worker.unselected_vnis)),
            outputs: ledger.outputs.iter().map(|o| (o.name.clone(), OutputTotals::of(o))).collect(),
            sessions,
            overflow,
        }
    }

    /// Checks the equations.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), Imbalance> {
        let equal = |equation: String, left: u64, right: u64| {
            if left == right { Ok(()) } else { Err(Imbalance { equation, left, right }) }
        };
        let lost: u64 = self.dropped.values().sum();
        equal("received = decapsulated + dropped".into(), self.received, self.decapsulated + lost)?;
        equal("put into rings = read from rings".into(), self.fast_path.taken, self.fast_path.read)?;
        let in_sessions: u64 = self.sessions.iter().map(|s| s.frames).sum();
        equal(
            "decapsulated = frames of sessions + overflow + unselected".into(),
            self.decapsulated,
            in_sessions + self.overflow.frames + self.unselected,
        )?;
        for (name, output) in &self.outputs {
            let lost: u64 = output.dropped.values().sum();
            equal(format!("decapsulated = offered to {name}"), self.decapsulated, output.offered)?;
            equal(
                format!("offered to {name} = written + filtered + dropped"),
                output.offered,
                output.written + output.filtered + lost,
            )?;
        }
        Ok(())
    }

    /// Frames that outputs lost by failing, files not published, and commands that failed or did
    /// not end: not `lane_full` and `redirect_lost`, which are load, nor `not_ip` and
    /// `runt_tagged_frame`, which are the frames' own.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let harmless = [OutputDrop::LaneFull, OutputDrop::RedirectLost, OutputDrop::NotIp, OutputDrop::RuntTaggedFrame]
            .map(OutputDrop::label);
        self.outputs
            .values()
            .flat_map(|o| &o.dropped)
            .filter(|(r, _)| !harmless.contains(r))
            .map(|(_, n)| n)
            .sum::<u64>()
            + self
                .outputs
                .values()
                .map(|o| o.unpublished + o.manifest_changed + o.hooks_failed + o.hooks_skipped + o.hooks_unfinished)
                .sum::<u64>()
    }
}

/// The table that `run` prints.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, n: u64, note: &str| {
            let line = format!("  {name:<28} {:>17}  {note}", thousands(n));
            writeln!(f, "{}", line.trim_end())
        };
        /// Rows that are worth a line only when they are not zero.
        fn seen<'a>(drops: &'a BTreeMap<&'static str, u64>) -> impl Iterator<Item = (&'static str, u64)> + 'a {
            drops.iter().filter(|(_, n)| **n > 0).map(|(r, n)| (*r, *n))
        }
        let losses = Losses::of(self);
        writeln!(f, "{losses}")?;
        writeln!(f, "datagrams")?;
        row(f, "received", self.received, &format!("{} bytes", thousands(self.received_bytes)))?;
        row(f, "decapsulated", self.decapsulated, "")?;
        for (reason, n) in seen(&self.dropped) {
            row(f, &format!("dropped {reason}"), n, "")?;
        }
        row(f, "kernel_dropped", self.kernel_dropped, "before the sensor saw them")?;
        for (name, n, note) in [
            ("ring_full", self.fast_path.ring_full, "of them for want of room in a ring"),
            ("refused_at_stop", self.refused_at_stop, "came after the decision to stop"),
            ("broadcast_copies", self.broadcast_copies, "of datagrams that were received by another worker"),
            ("fast_path", self.fast_path.taken, "by way of the BPF program"),
            ("redirected", self.fast_path.redirected, "by the BPF program"),
            ("martian", self.fast_path.martian, "from addresses that no other host has: left to the stack"),
            ("reserved_bits", self.reserved_bits, "set in the VXLAN header, accepted"),
            ("cut_by_mirror", self.cut_by_mirror, "frames that arrived truncated"),
            ("unselected", self.unselected, "of sessions not allowed: VNI or source"),
            ("overflow", self.overflow.frames, "of sessions beyond --max-sessions"),
        ] {
            if n > 0 {
                row(f, name, n, note)?;
            }
        }
        for (reason, n) in seen(&self.fast_path.not_redirected) {
            row(f, &format!("not redirected: {reason}"), n, "injected")?;
        }
        for (name, output) in &self.outputs {
            writeln!(f, "output {name}")?;
            row(f, "offered", output.offered, "")?;
            let files = match output.files {
                0 => String::new(),
                1 => " in 1 file".into(),
                n => format!(" in {} files", thousands(n)),
            };
            let bytes = thousands(output.written_bytes);
            row(f, "written", output.written, &format!("{bytes} bytes{files}"))?;
            row(f, "filtered", output.filtered, "")?;
            for (reason, n) in seen(&output.dropped) {
                row(f, &format!("dropped {reason}"), n, "")?;
            }
            if output.snapped > 0 {
                row(f, "snapped", output.snapped, "cut to --snaplen")?;
            }
            for (name, n, note) in [
                ("unpublished", output.unpublished, "files left under their .part name"),
                ("recovered", output.recovered, "files that a crash had left, salvaged"),
                ("set_aside", output.set_aside, "files that a crash had left, beyond salvage"),
                ("pruned", output.pruned, "files removed to keep the budget"),
                ("manifest_changed", output.manifest_changed, "times, by somebody else: see the log"),
                ("hooks", output.hooks, "commands run for published files"),
                ("hooks_failed", output.hooks_failed, "of them"),
                ("hooks_skipped", output.hooks_skipped, "published files without"),
                ("hooks_unfinished", output.hooks_unfinished, "commands that still ran at the end"),
                ("host_frames", output.host_frames, "sent into the interface by this host, discarded"),
            ] {
                if n > 0 {
                    row(f, name, n, note)?;
                }
            }
        }
        writeln!(f, "sessions ({})", thousands(self.sessions.len() as u64))?;
        for s in self.sessions.iter().take(SESSIONS_SHOWN) {
            let seconds = (s.last.ns() - s.first.ns()) as f64 / 1e9;
            let note = format!("{} bytes in {seconds:.3} s from {}", thousands(s.bytes), s.first.compact());
            row(f, &s.session.to_string(), s.frames, &note)?;
        }
        if self.sessions.len() > SESSIONS_SHOWN {
            writeln!(f, "  ... {} more; --ledger json lists all", self.sessions.len() - SESSIONS_SHOWN)?;
        }
        match self.check() {
            Ok(()) => {
                writeln!(f, "{}, and the ledger closes: every datagram received is accounted for", losses.share())
            }
            Err(e) => writeln!(f, "{e}"),
        }
    }
}

/// Sessions listed in the table; JSON has them all.
const SESSIONS_SHOWN: usize = 32;

/// A number with its thousands apart, as 1,234,567.
#[must_use]
pub fn thousands(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Scope;
    use crate::wire::Vni;
    use std::net::Ipv4Addr;

    fn sample() -> (Ledger, Vec<SessionTotals>) {
        let mut ledger = Ledger::default();
        let worker = ledger.worker();
        worker.received.add(12);
        worker.decapsulated.add(10);
        worker.dropped(DropReason::VniFlagClear).add(2);
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let (lane, sink) = (output.end(), output.end());
        lane.offered.add(10);
        lane.dropped(OutputDrop::LaneFull).add(3);
        sink.written.add(7);
        ledger.outputs.push(output);
        let session = SessionTotals {
            session: Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(7).unwrap()),
            frames: 10,
            bytes: 640,
            first: Timestamp::from_ns(1),
            last: Timestamp::from_ns(2),
        };
        (ledger, vec![session])
    }

    #[test]
    fn a_ledger_that_closes_and_one_that_does_not() {
        let (ledger, sessions) = sample();
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions.clone(), Overflow::default());
        assert_eq!(snapshot.check(), Ok(()));
        assert_eq!(snapshot.failed(), 0);
        for worker in &ledger.workers {
            worker.received.add(1);
        }
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions, Overflow::default());
        let imbalance = snapshot.check().unwrap_err();
        assert_eq!((imbalance.left, imbalance.right), (13, 12));
        assert!(snapshot.to_string().contains("does not close"));
    }

    #[test]
    fn what_was_lost_comes_first_and_with_the_last_line() {
        let (ledger, sessions) = sample();
        let text = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions, Overflow::default()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let lost = "LOST 41 %: 3 frames of output pcap (lane_full); 2 datagrams without a frame (vni_flag_clear)";
        assert_eq!(lines.first(), Some(&lost));
        let last = "LOST 41 %, and the ledger closes: every datagram received is accounted for";
        assert_eq!(lines.last(), Some(&last));
    }

    #[test]
    fn every_equation_is_checked() {
        let break_it: [fn(&mut Snapshot); 6] = [
            |s| s.fast_path.taken += 1,
            |s| s.decapsulated += 1,
            |s| s.sessions.clear(),
            |s| s.unselected += 1,
            |s| s.outputs.values_mut().for_each(|o| o.written += 1),
            |s| s.outputs.values_mut().for_each(|o| (o.offered, o.filtered) = (o.offered + 1, o.filtered + 1)),
        ];
        for change in break_it {
            let (ledger, sessions) = sample();
            let mut snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions, Overflow::default());
            change(&mut snapshot);
            assert!(snapshot.check().is_err());
        }
    }

    #[test]
    fn json_has_what_scripts_read() {
        let (ledger, sessions) = sample();
        let snapshot = Snapshot::of(&ledger, Timestamp::from_ns(0), sessions, Overflow::default());
        let json = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(json["received"], 12);
        assert_eq!(json["dropped"]["vni_flag_clear"], 2);
        assert_eq!(json["unselected_vnis"], serde_json::json!([]));
        assert_eq!(json["outputs"]["pcap"]["dropped"]["lane_full"], 3);
        assert_eq!(json["sessions"][0]["source"], "192.0.2.1");
        assert_eq!(json["sessions"][0]["first"], "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn a_session_has_a_scope_in_json_where_it_has_one() {
        let (_, sessions) = sample();
        let plain = sessions[0].clone();
        let scoped = SessionTotals { session: Session { scope: Some(Scope(100)), ..plain.session }, ..plain.clone() };
        let rest = r#""vni":7,"frames":10,"bytes":640,"first":"1970-01-01T00:00:00.000000001Z","last":"1970-01-01T00:00:00.000000002Z"}"#;
        for (totals, source) in [(plain, r#""192.0.2.1""#), (scoped, r#""192.0.2.1","scope":"0x64""#)] {
            let wanted = format!(r#"{{"source":{source},{rest}"#);
            assert_eq!(serde_json::to_string(&totals).unwrap(), wanted);
        }
    }

    #[test]
    fn numbers_are_readable() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(n), text);
        }
    }
}
