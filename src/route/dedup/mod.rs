//! Duplicates are packets that two sessions of one group deliver.
//!
//! Who mirrors both ends of a conversation gets each packet twice, from two sources. A group is the
//! sessions of one network among which this happens; packets of different groups never meet.
//!
//! ## What the same packet is
//!
//! All of it from layer 3 on, payload included, but what routers and network cards change: the TTL
//! or hop limit, and the checksums of IP, TCP and UDP. So two packets of an RTP stream differ by
//! sequence number, two segments of TCP by sequence or time stamp, and most of all protocols by the
//! identification of IP.
//!
//! Some packets are alike byte by byte all the same: keep-alives, queries that are asked again. For
//! these the group counts. Each session delivers a packet once, so the n-th of a session is the
//! same packet as the n-th of another, and only that is a duplicate. A session has no duplicates of
//! its own, whatever it delivers.
//!
//! A mirror that cuts packets delivers less of one than another does. A cut copy is compared with
//! others by the headers and as much of the payload as all cut copies of the group have. Copies
//! that are whole are compared whole.
//!
//! ## How long it is looked for
//!
//! Copies of a packet come within a window, 50 ms. The group remembers as many packets as its
//! table holds, and forgets the oldest in a place first.
//!
//! ## How workers share it
//!
//! The sessions of a group may come to several workers. They share the table, whose sets have a
//! lock each. A worker tries it a few times and never waits: the other holds it for some 20 ns,
//! unless the kernel has taken the processor away from it. Then the frame is kept.

use std::hash::{BuildHasher, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use foldhash::quality::{FixedState, RandomState};
use parking_lot::Mutex;

use super::SessionId;
use crate::record::Timestamp;
use crate::wire::LinkType;
use crate::wire::layers::{Fragment, Ip, Layers, protocol};

/// The time within which a copy of a packet counts as one, in nanoseconds. Two ways through a
/// cloud's mirroring differ by some milliseconds. TCP sends again after 200 ms at the earliest
/// (Linux, `TCP_RTO_MIN`), so that of a packet and the like sent later, where each of two mirrors
/// loses another of the two, both are kept.
const WINDOW: u64 = 50_000_000;

/// Nanoseconds by which a worker can be behind another. An earlier time is of a clock that was set
/// back.
const BEHIND: u64 = 10_000_000_000;

/// Sets of packets, each with a lock.
const SETS: usize = 16_384;
/// Packets of a set.
const WAYS: usize = 5;
/// Sessions that can deliver the same packet. What a further one delivers is kept.
const SESSIONS: usize = 4;
/// Bytes of payload below which a cut packet is not looked at: its headers alone do not tell it.
const LEAST: usize = 16;
/// Bytes of a packet that are hashed at a time, as far as some of them are left out.
const WORD: usize = 16;
/// The times that a lock is tried.
const TRIES: usize = 32;

/// What a session does with its duplicates, and among which they are looked for.
#[derive(Debug, Clone)]
pub struct Dedup {
    /// What becomes of them.
    pub mode: Mode,
    /// The group.
    pub group: Arc<Group>,
}

/// Two are equal where the groups have one name: a policy has one group of a name.
impl PartialEq for Dedup {
    fn eq(&self, other: &Self) -> bool {
        self.mode == other.mode && self.group.name == other.group.name
    }
}

impl Eq for Dedup {}

/// What becomes of duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are kept out of all outputs.
    Drop,
    /// They are kept. Records of pcapng have the number of the packet, see [`packet_id`].
    Tag,
}

/// What a packet is among those of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It came first here, or cannot be told.
    New,
    /// The other session delivered it before.
    Again(SessionId),
    /// Another worker held the set too long.
    Busy,
}

/// What the group remembers of a packet, or of several that are alike, beside what is in [`Set`].
#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    /// The time of the earliest copy, in nanoseconds.
    since: u64,
    /// The packets that each session has delivered; 0 where the place is free, and so in the first
    /// place of a packet that never was.
    counts: [u16; SESSIONS],
    sessions: [u32; SESSIONS],
}

/// The place of a time among those of the copies of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A copy that came then can be one of them.
    Within,
    /// It is another packet, from before these, which a worker has come to later.
    Before,
    /// It is another packet, and these are forgotten.
    Apart,
}

/// Some packets, each with a place. What all of them are asked for lies side by side: with the lock
/// it takes two cache lines, and the rest of a packet is within a third.
#[derive(Debug, Default)]
#[repr(C)]
struct Set {
    tags: [u64; WAYS],
    /// The time of the latest copy, in nanoseconds.
    seen: [u64; WAYS],
    /// The hash of what lies behind the part that is compared with cut copies; 0 where no whole
    /// copy came. Two that differ are two packets.
    rests: [u32; WAYS],
    /// So that no packet is in two lines: behind the lock they begin with one.
    _room: [u32; 5],
    packets: [Packet; WAYS],
}

/// A set and its lock, from the beginning of a cache line on.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Locked(Mutex<Set>);

impl Deref for Locked {
    type Target = Mutex<Set>;

    #[inline]
    fn deref(&self) -> &Mutex<Set> {
        &self.0
    }
}

/// The packets of a group of sessions.
#[derive(Debug)]
pub struct Group {
    name: Arc<str>,
    hash: RandomState,
    /// Made when a packet is looked for: a plan that is only checked needs no memory.
    sets: OnceLock<Box<[Locked]>>,
    /// Bytes of payload that all cut copies had: [`usize::MAX`] until there is one.
    reach: AtomicUsize,
}

impl Group {
    /// Makes the group of this name, which has seen nothing.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            hash: RandomState::default(),
            sets: OnceLock::new(),
            reach: AtomicUsize::new(usize::MAX),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Says what a frame of this session is, which came at `time`. What is not IP is always new.
    #[inline]
    #[must_use]
    pub fn see(&self, session: SessionId, frame: &[u8], layers: &Layers, time: Timestamp) -> Sight {
        let Some((tag, rest)) = layers.ip.as_ref().and_then(|ip| self.hashes(frame, layers.network, ip)) else {
            return Sight::New;
        };
        // The bits of the tag that choose the set.
        let Some(set) = self.sets().get((tag & 0xffff_ffff) as usize % SETS) else { return Sight::New };
        for _ in 0..TRIES {
            if let Some(mut set) = set.try_lock() {
                return set.see(tag, rest, session, time.ns());
            }
            std::hint::spin_loop();
        }
        Sight::Busy
    }

    #[inline]
    fn sets(&self) -> &[Locked] {
        self.sets.get_or_init(|| (0..SETS).map(|_| Locked::default()).collect())
    }

    /// Hashes a packet as far as it is compared with cut copies, and the rest of it; none where too
    /// little of it is there. The rest is 0 for a cut packet, and never for a whole one.
    #[inline]
    fn hashes(&self, frame: &[u8], network: usize, ip: &Ip) -> Option<(u64, u32)> {
        // Without the padding, which one mirror may deliver and another not.
        let packet = frame.get(network..ip.end.min(frame.len()))?;
        let whole = ip.end <= frame.len();
        let headers = ip.payload - network;
        let mut reach = self.reach.load(Ordering::Relaxed);
        if !whole {
            let payload = packet.len().checked_sub(headers).filter(|payload| *payload >= LEAST)?;
            if payload < reach {
                self.reach.fetch_min(payload, Ordering::Relaxed);
                reach = payload;
            }
        }
        let compared = packet.len().min(headers.saturating_add(reach));
        let (compared, rest) = packet.split_at_checked(compared)?;
        let mut hasher = self.hash.build_hasher();
        write_alike(&mut hasher, compared, network, ip);
        let tag = hasher.finish();
        let rest = match (whole, rest) {
            (false, _) => 0,
            (true, []) => 1,
            // As many bits as there is room for.
            (true, rest) => {
                hasher.write(rest);
                ((hasher.finish() & 0xffff_ffff) as u32).max(1)
            }
        };
        Some((tag, rest))
    }
}

/// Returns the number that all copies of a packet have, whichever mirror delivered them and
/// whenever: a hash of the headers and of the first bytes of the payload. There is none where the
/// headers are cut, or for what is not IP.
#[must_use]
pub(crate) fn packet_id(frame: &[u8], link_type: LinkType) -> Option<u64> {
    let layers = Layers::of(frame, link_type);
    let ip = layers.ip.as_ref()?;
    let packet = frame.get(layers.network..ip.end.min(frame.len()))?;
    let headers = ip.payload - layers.network;
    let packet = packet.get(..packet.len().min(headers + LEAST)).filter(|packet| packet.len() >= headers)?;
    let mut hasher = FixedState::with_seed(0).build_hasher();
    write_alike(&mut hasher, packet, layers.network, ip);
    Some(hasher.finish())
}

/// Hashes a packet, with zeros in the place of what is not the same in all copies of it.
#[inline]
pub(crate) fn write_alike(hasher: &mut impl Hasher, packet: &[u8], network: usize, ip: &Ip) {
    let bytes = |first: usize, count: u32| ((1u128 << (8 * count)) - 1) << (8 * (first % WORD));
    // TTL and header checksum, or the hop limit.
    let of_ip = if ip.source.is_ipv4() { bytes(8, 1) | bytes(10, 2) } else { bytes(7, 1) };
    let checksum = match ip.protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        _ => None,
    };
    // All headers have an even length, so a checksum is in one word.
    let (last, of_transport) = match checksum.filter(|_| ip.fragment != Fragment::Later) {
        Some(checksum) => {
            let at = ip.transport - network + checksum;
            (at / WORD, bytes(at, 2))
        }
        None => (0, 0),
    };
    // In registers: what was just written in parts is slow to be read in others.
    let blank =
        |n: usize, word: u128| word & if n == 0 { !of_ip } else { !0 } & if n == last { !of_transport } else { !0 };
    let (head, rest) = packet.split_at_checked((last + 1) * WORD).unwrap_or((packet, &[]));
    let (words, cut) = head.as_chunks();
    for (n, word) in words.iter().enumerate() {
        hasher.write_u128(blank(n, u128::from_le_bytes(*word)));
    }
    if !cut.is_empty() {
        hasher.write_u128(blank(words.len(), padded(cut)));
    }
    hasher.write(rest);
}

/// Returns the word of a packet that ends within it.
#[cold]
fn padded(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
}

impl Set {
    #[inline]
    fn see(&mut self, tag: u64, rest: u32, session: SessionId, now: u64) -> Sight {
        let mut places = self.tags.iter().zip(&self.rests);
        let known = places.position(|(known, other)| *known == tag && (rest == 0 || *other == 0 || rest == *other));
        let Some(way) = known else {
            self.begin(self.oldest(now), tag, rest, session, now);
            return Sight::New;
        };
        let packet = &mut self.packets[way];
        match packet.place_of(now, self.seen[way]) {
            Place::Within => {
                packet.since = packet.since.min(now);
                self.seen[way] = self.seen[way].max(now);
                self.rests[way] = self.rests[way].max(rest);
                packet.count(session)
            }
            Place::Before => Sight::New,
            Place::Apart => {
                self.begin(way, tag, rest, session, now);
                Sight::New
            }
        }
    }

    /// Returns the place that never was taken, else the one whose packet came longest ago. A time
    /// ahead of all workers is of a clock that was set back, and comes first.
    #[inline]
    fn oldest(&self, now: u64) -> usize {
        let ages = self.seen.iter().map(|seen| (now + BEHIND).wrapping_sub(*seen)).enumerate();
        ages.fold((0, 0), |oldest, (way, age)| if age > oldest.1 { (way, age) } else { oldest }).0
    }

    /// Gives a place to a packet that this session was the first to deliver.
    #[inline]
    fn begin(&mut self, way: usize, tag: u64, rest: u32, SessionId(session): SessionId, now: u64) {
        self.tags[way] = tag;
        self.seen[way] = now;
        self.rests[way] = rest;
        self.packets[way] = Packet { since: now, counts: [1, 0, 0, 0], sessions: [session, 0, 0, 0] };
    }
}

impl Packet {
    /// Says where a time lies to the copies that came, of which the latest was `seen`. Packets that
    /// are alike and follow each other within the window are told apart by their number alone, so a
    /// worker that is behind may come to the first when another has had the last.
    #[inline]
    fn place_of(&self, now: u64, seen: u64) -> Place {
        if self.counts[0] == 0 || now > seen + WINDOW || now + BEHIND < self.since {
            Place::Apart
        } else if now + WINDOW < self.since {
            Place::Before
        } else {
            Place::Within
        }
    }

    /// Counts a copy that this session delivered.
    #[inline]
    fn count(&mut self, SessionId(session): SessionId) -> Sight {
        let mut most = self.counts.into_iter().fold(0, u16::max);
        if most == u16::MAX {
            (most, self.counts) = (0, [0; SESSIONS]);
        }
        let mut places = self.counts.iter().zip(&self.sessions);
        let Some(own) = places.position(|(count, known)| *count == 0 || *known == session) else {
            return Sight::New;
        };
        let count = self.counts[own] + 1;
        self.counts[own] = count;
        self.sessions[own] = session;
        if count > most {
            return Sight::New;
        }
        let before = self.counts.iter().zip(&self.sessions).find(|(had, other)| **had >= count && **other != session);
        before.map_or(Sight::New, |(_, other)| Sight::Again(SessionId(*other)))
    }
}

#[cfg(test)]
mod tests;
