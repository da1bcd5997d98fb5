//! The summary says of every frame of the captures what became of it.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use super::error::Unread;
use super::plan::Others;
use crate::console::printable;
use crate::ledger::{Losses, Snapshot, Table, row};
use crate::source::capture;
use crate::wire::{DropReason, Encapsulation, Vni};

/// Wraps around a frame that are counted one by one; more are counted as so many.
const WRAPS: usize = 8;

/// The counts of frames before the ledger, and of their wraps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// What the frames are of.
    pub(super) packets: capture::Counts,
    /// Frames that are not of a mirror and were kept.
    pub(super) passed: u64,
    refused: BTreeMap<(&'static str, &'static str), u64>,
    wraps: [u64; WRAPS],
}

impl Counts {
    /// Counts a datagram that carries no frame, by its encapsulation.
    pub(super) fn refused(&mut self, encapsulation: Encapsulation, reason: DropReason) {
        *self.refused.entry((encapsulation.label(), reason.label())).or_default() += 1;
    }

    /// Counts a frame that had so many wraps.
    #[inline]
    pub(super) fn wrapped(&mut self, wraps: u32) {
        let at = usize::try_from(wraps).unwrap_or(WRAPS).clamp(1, WRAPS) - 1;
        if let Some(count) = self.wraps.get_mut(at) {
            *count += 1;
        }
    }
}

/// A capture that was read.
#[derive(Debug, Serialize)]
pub struct Read {
    /// Its name.
    pub name: String,
    /// Frames that it yielded.
    pub frames: u64,
    /// Why it was not read to its end, if it was not.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub unread: Option<Unread>,
}

fn as_text<S: serde::Serializer>(unread: &Option<Unread>, serializer: S) -> Result<S::Ok, S::Error> {
    unread.as_ref().map(ToString::to_string).serialize(serializer)
}

/// What became of the frames of all captures.
#[derive(Debug)]
pub struct Report {
    /// The captures.
    pub captures: Vec<Read>,
    pub(super) counts: Counts,
    /// The ledger of what is of a mirror.
    pub ledger: Snapshot,
    /// The failures on the way, each in a sentence.
    pub failures: Vec<String>,
    /// What was to become of frames that are not of a mirror; none where nothing is written.
    pub(super) others: Option<Others>,
}

/// Counts that are not zero, by label.
type ByLabel = BTreeMap<&'static str, u64>;

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    captures: &'a [Read],
    frames: Frames,
    encapsulations: Vec<Encapsulated>,
    ledger: &'a Snapshot,
}

/// Frames of the captures.
#[derive(Serialize)]
struct Frames {
    read: u64,
    received: u64,
    joined: u64,
    others: ByLabel,
    passed: u64,
    outer: ByLabel,
    unknown: u64,
    wraps: BTreeMap<usize, u64>,
}

/// The frames of an encapsulation.
#[derive(Serialize)]
struct Encapsulated {
    encapsulation: &'static str,
    #[serde(skip)]
    has_vni: bool,
    frames: u64,
    bytes: u64,
    refused: ByLabel,
    vnis: Vec<OfVni>,
}

#[derive(Serialize)]
struct OfVni {
    vni: Vni,
    frames: u64,
    bytes: u64,
    sessions: u64,
}

impl Report {
    fn frames(&self) -> Frames {
        let (counts, packets) = (&self.counts, &self.counts.packets);
        let wraps = (1..).zip(counts.wraps);
        Frames {
            read: packets.read,
            received: self.ledger.datagrams.received,
            joined: packets.joined,
            others: packets.others_by_reason().collect(),
            passed: counts.passed,
            outer: packets.outers_by_reason().collect(),
            unknown: packets.unknown,
            wraps: wraps.filter(|(_, n)| *n > 0).collect(),
        }
    }

    fn encapsulations(&self) -> Vec<Encapsulated> {
        let of = |encapsulation: Encapsulation| {
            let label = encapsulation.label();
            let refused = self.counts.refused.iter().filter(|((of, _), _)| *of == label);
            let refused: ByLabel = refused.map(|((_, reason), n)| (*reason, *n)).collect();
            let mut vnis: BTreeMap<Vni, OfVni> = BTreeMap::new();
            let sessions = self.ledger.sessions.iter().filter(|totals| totals.session.encapsulation == encapsulation);
            for totals in sessions {
                let vni = totals.session.vni;
                let of = vnis.entry(vni).or_insert(OfVni { vni, frames: 0, bytes: 0, sessions: 0 });
                of.frames += totals.frames;
                of.bytes += totals.bytes;
                of.sessions += 1;
            }
            let vnis: Vec<OfVni> = vnis.into_values().collect();
            let sum = |of: fn(&OfVni) -> u64| vnis.iter().map(of).sum();
            Encapsulated {
                encapsulation: label,
                has_vni: encapsulation.has_vni(),
                frames: sum(|vni| vni.frames),
                bytes: sum(|vni| vni.bytes),
                refused,
                vnis,
            }
        };
        let all = Encapsulation::ALL.into_iter().map(of);
        all.filter(|of| of.frames > 0 || !of.refused.is_empty()).collect()
    }

    /// Returns the summary as JSON.
    ///
    /// # Errors
    /// It cannot be written down, which does not happen.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            schema: 1,
            captures: &self.captures,
            frames: self.frames(),
            encapsulations: self.encapsulations(),
            ledger: &self.ledger,
        })
    }

    /// Returns why captures were not read to their end, of those that were not.
    pub fn unread(&self) -> impl Iterator<Item = &Unread> {
        self.captures.iter().filter_map(|capture| capture.unread.as_ref())
    }

    /// Says whether a capture is damaged, or has a frame that was to be the end.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.unread().any(|unread| !matches!(unread, Unread::Left { .. }))
    }

    /// Says whether something was left, whatever the captures are: not read, or not written.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        !self.failures.is_empty() || self.unread().any(|unread| matches!(unread, Unread::Left { .. }))
    }

    /// Says whether every frame that was read is accounted for.
    #[must_use]
    pub fn closes(&self) -> bool {
        let packets = &self.counts.packets;
        packets.read == self.ledger.datagrams.received + packets.not_received() && self.ledger.check().is_ok()
    }

    /// Returns what was lost, by the ledger and before it.
    fn losses(&self) -> Losses {
        let packets = &self.counts.packets;
        Losses::of(&self.ledger).with_unwhole(packets.outers_by_reason()).with_unknown(packets.unknown)
    }
}

/// Counts as `not_udp 3, no_tunnel 1`, the largest first.
fn listed(counts: &ByLabel) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(label, n)| (std::cmp::Reverse(**n), **label));
    let counts = counts.iter().map(|(label, n)| format!("{label} {}", HumanCount(**n)));
    counts.collect::<Vec<_>>().join(", ")
}

/// The summary for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.frames();
        writeln!(f, "captures ({})", self.captures.len())?;
        for capture in &self.captures {
            let end = if capture.unread.is_some() { "not to its end" } else { "" };
            row(f, &printable(&capture.name), capture.frames, end)?;
        }
        writeln!(f, "frames")?;
        row(f, "read", frames.read, "")?;
        row(f, "of a mirror", frames.received, "")?;
        if frames.joined > 0 {
            row(f, "joined", frames.joined, "fragments, to the last of their datagram")?;
        }
        let others: u64 = frames.others.values().sum();
        if others > 0 {
            let kept = match (self.others, others - frames.passed) {
                (None, _) => "",
                (Some(Others::Drop), _) => " (left out; --others pass keeps those of Ethernet)",
                (Some(Others::Stop), _) => " (left out)",
                (Some(Others::Pass), 0) => " (kept as they are)",
                (Some(Others::Pass), _) => {
                    " (kept, but link types other than Ethernet, and fragments in front of their first)"
                }
            };
            row(f, "not of a mirror", others, &format!("{}{kept}", listed(&frames.others)))?;
        }
        let outer: u64 = frames.outer.values().sum();
        if outer > 0 {
            row(f, "no whole datagram", outer, &listed(&frames.outer))?;
        }
        if frames.unknown > 0 {
            row(f, "unknown", frames.unknown, "fragments whose first piece, which has the port, is not here")?;
        }
        if frames.wraps.keys().any(|wraps| *wraps > 1) {
            for (wraps, n) in &frames.wraps {
                let s = if *wraps == 1 { "" } else { "s" };
                row(f, &format!("with {wraps} wrap{s}"), *n, "")?;
            }
        }
        for of in self.encapsulations() {
            let refused = match of.refused.is_empty() {
                true => String::new(),
                false => format!(", without a frame: {}", listed(&of.refused)),
            };
            let vnis = match of.vnis.len() {
                _ if !of.has_vni => String::new(),
                1 => " of 1 VNI".into(),
                n => format!(" of {} VNIs", HumanCount(n as u64)),
            };
            let note = format!("{} bytes{vnis}{refused}", HumanCount(of.bytes));
            row(f, of.encapsulation, of.frames, &note)?;
            if of.vnis.len() > 1 {
                for vni in of.vnis.iter().take(VNIS_SHOWN) {
                    row(f, &format!("  vni {}", vni.vni), vni.frames, &format!("{} bytes", HumanCount(vni.bytes)))?;
                }
                if of.vnis.len() > VNIS_SHOWN {
                    writeln!(f, "    ... {} more; --json lists all", of.vnis.len() - VNIS_SHOWN)?;
                }
            }
        }
        write!(f, "{}", Table(&self.ledger, &self.losses()))
    }
}

/// VNIs that are listed of an encapsulation; JSON has them all.
const VNIS_SHOWN: usize = 16;
