//! The sessions that have series of their own are those that the configuration names.
//!
//! Whoever reaches the port chooses how many sessions there are, so all others are one series.
//! What sessions count is not what a name counts: a session can be forgotten, and a file that is
//! read again can give it another name. A name's counter must not fall by either. So a name is
//! credited with what its sessions counted from one look to the next, and what was counted under no
//! name, or when nobody looked, is the rest of all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::family::{Families, Labels};
use crate::ledger::{SessionTotals, Snapshot};
use crate::record::Timestamp;
use crate::route::policy::{Match, Policy};
use crate::session::Session;

/// The label of all sessions that have no series of their own.
const OTHER: &str = "other";
/// Networks or ranges of VNIs that are told one by one.
const TOLD: usize = 4;

/// A name of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) description: String,
    pub(super) vni: String,
    pub(super) source: String,
}

/// Returns the names of a policy.
pub(super) fn named(policy: &Policy) -> Vec<Named> {
    let entries = policy.entries().iter().filter(|entry| !entry.plan.drop);
    let named = entries.filter_map(|entry| {
        let Match { sources, vnis, .. } = &entry.sessions;
        Some(Named {
            name: entry.plan.label.name.clone()?,
            description: entry.plan.label.description.as_deref().unwrap_or_default().into(),
            vni: vnis.as_ref().map_or_else(|| "all".into(), |vnis| some_of(vnis.ranges())),
            source: sources.as_ref().map_or_else(|| "all".into(), |sources| some_of(sources.networks())),
        })
    });
    named.collect()
}

/// Returns the items in words: the first few where there are many.
fn some_of<T: ToString>(items: &[T]) -> String {
    let told: Vec<String> = items.iter().take(TOLD).map(ToString::to_string).collect();
    match items.len().saturating_sub(TOLD) {
        0 => told.join(","),
        more => format!("{} and {more} more", told.join(",")),
    }
}

/// What was counted under a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    frames: u64,
    bytes: u64,
    lost: u64,
    duplicates: u64,
    missed: u64,
    late: u64,
    last: Timestamp,
}

/// What is counted under names, from one look to the next. It grows with the sessions that there
/// are, and with the names that there ever were.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// What the sessions had counted at the last look.
    seen: HashMap<Session, SessionTotals>,
    names: BTreeMap<Arc<str>, Tally>,
    other: Tally,
}

impl Accounts {
    /// Takes a look.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        let before = std::mem::take(&mut self.seen);
        for totals in &snapshot.sessions {
            // One that was forgotten and came again begins later.
            let seen = before.get(&totals.session).filter(|seen| totals.first <= seen.first);
            self.seen.insert(totals.session, totals.clone());
            let Some(name) = &totals.label.name else {
                self.other.last = self.other.last.max(totals.last);
                continue;
            };
            let more = |of: fn(&SessionTotals) -> u64| of(totals).saturating_sub(seen.map_or(0, of));
            let tally = self.names.entry(Arc::clone(name)).or_default();
            tally.frames += more(|totals| totals.frames);
            tally.bytes += more(|totals| totals.bytes);
            tally.lost += more(|totals| totals.lost);
            tally.duplicates += more(|totals| totals.duplicates);
            tally.missed += more(|totals| totals.upstream.missed);
            tally.late += more(|totals| totals.upstream.late);
            tally.last = tally.last.max(totals.last);
        }
        self.rest(snapshot);
    }

    /// What is under no name is the rest of all.
    fn rest(&mut self, snapshot: &Snapshot) {
        let (overflow, expired) = (&snapshot.overflow, &snapshot.expired);
        let frames: u64 = snapshot.sessions.iter().map(|totals| totals.frames).sum();
        let bytes: u64 = snapshot.sessions.iter().map(|totals| totals.bytes).sum();
        let named = |of: fn(&Tally) -> u64| self.names.values().map(of).sum();
        let rest = |all: u64, named: u64, before: u64| all.saturating_sub(named).max(before);
        let other = self.other;
        self.other.frames = rest(frames + overflow.frames + expired.frames, named(|tally| tally.frames), other.frames);
        self.other.bytes = rest(bytes + overflow.bytes + expired.bytes, named(|tally| tally.bytes), other.bytes);
        self.other.lost = rest(snapshot.lost_of_sessions(), named(|tally| tally.lost), other.lost);
        let duplicates = snapshot.datagrams.duplicate_frames;
        self.other.duplicates = rest(duplicates, named(|tally| tally.duplicates), other.duplicates);
        let (missed, late) = (snapshot.datagrams.upstream_missed, snapshot.datagrams.upstream_late);
        self.other.missed = rest(missed, named(|tally| tally.missed), other.missed);
        self.other.late = rest(late, named(|tally| tally.late), other.late);
    }

    /// Adds the series of these names, and of all others together.
    pub(super) fn add_to(&self, families: &mut Families, named: &[Named]) {
        for Named { name, description, vni, source } in named {
            let labels = [("session", &**name), ("vni", vni), ("source", source), ("description", description)];
            let labels = labels.map(|(label, value)| (label, value.to_owned())).to_vec();
            families.info("vxtap_session", "Says which sessions the configuration names.", labels);
        }
        let of = |name: &Arc<str>| self.names.get(name).copied().unwrap_or_default();
        let tallies = named.iter().map(|named| (&*named.name, of(&named.name))).chain([(OTHER, self.other)]);
        for (name, tally) in tallies {
            let labels = || -> Labels { vec![("session", name.to_owned())] };
            families.counter(
                "vxtap_session_received_frames",
                "Frames of the sessions that have the name; those of all others are under `other`.",
                labels(),
                tally.frames,
            );
            families.counter(
                "vxtap_session_received_bytes",
                "Bytes of these frames as they arrived.",
                labels(),
                tally.bytes,
            );
            families.counter(
                "vxtap_session_lost_frames",
                "Frames of these that outputs lost; one that two of them lost counts twice.",
                labels(),
                tally.lost,
            );
            families.counter(
                "vxtap_session_duplicate_frames",
                "Frames whose packet another session of the group had delivered before (`dedup`).",
                labels(),
                tally.duplicates,
            );
            families.counter(
                "vxtap_session_upstream_missed_frames",
                "Frames that had not come when later ones did, by the numbers of their senders (GRE, ERSPAN).",
                labels(),
                tally.missed,
            );
            families.counter(
                "vxtap_session_upstream_late_frames",
                "Frames of these that came later; the rest was lost on the way, or yielded no frame.",
                labels(),
                tally.late,
            );
            families.number(
                "vxtap_session_last_frame_timestamp_seconds",
                "The time at which the last frame was received; 0 where none was.",
                labels(),
                tally.last.seconds(),
            );
        }
    }
}
