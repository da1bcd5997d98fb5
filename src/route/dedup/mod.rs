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
/// Bytes from the beginning of IP in which fields are left out of the hash.
pub(crate) const HEAD: usize = 128;
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

/// What the group remembers of a packet, or of several that are alike.
#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    /// The time of the earliest copy, in nanoseconds.
    since: u64,
    /// The time of the latest.
    seen: u64,
    /// The hash of what lies behind the part that is compared with cut copies; 0 where no whole
    /// copy came. Two that differ are two packets.
    rest: u32,
    /// The packets that were delivered: the most that one session has.
    most: u16,
    /// The packets that each session has delivered; 0 where the place is free.
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

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    tags: [u64; WAYS],
    packets: [Packet; WAYS],
}

/// The packets of a group of sessions.
#[derive(Debug)]
pub struct Group {
    name: Arc<str>,
    hash: RandomState,
    /// Made when a packet is looked for: a plan that is only checked needs no memory.
    sets: OnceLock<Box<[Mutex<Set>]>>,
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
    fn sets(&self) -> &[Mutex<Set>] {
        self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect())
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
        let mut head = [0; HEAD];
        let (front, behind) = compared.split_at_checked(HEAD).unwrap_or((compared, &[]));
        head.get_mut(..front.len())?.copy_from_slice(front);
        blank(&mut head, network, ip);
        hasher.write(head.get(..front.len())?);
        if !behind.is_empty() {
            hasher.write(behind);
        }
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
    let mut head = [0; HEAD];
    let (front, behind) = packet.split_at_checked(HEAD).unwrap_or((packet, &[]));
    head.get_mut(..front.len())?.copy_from_slice(front);
    blank(&mut head, layers.network, ip);
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(head.get(..front.len())?);
    hasher.write(behind);
    Some(hasher.finish())
}

/// Blanks what is not the same in all copies of a packet, in the first bytes of it.
#[inline]
pub(crate) fn blank(head: &mut [u8; HEAD], network: usize, ip: &Ip) {
    if ip.source.is_ipv4() {
        // TTL and header checksum.
        head[8] = 0;
        head[10..12].fill(0);
    } else {
        // Hop limit.
        head[7] = 0;
    }
    let checksum = match ip.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return,
    };
    if ip.fragment != Fragment::Later {
        let at = ip.transport - network + checksum;
        if let Some(checksum) = head.get_mut(at..at + 2) {
            checksum.fill(0);
        }
    }
}

impl Set {
    fn see(&mut self, tag: u64, rest: u32, SessionId(session): SessionId, now: u64) -> Sight {
        let known = self
            .tags
            .iter()
            .zip(&mut self.packets)
            .find(|(known, packet)| **known == tag && (rest == 0 || packet.rest == 0 || rest == packet.rest));
        if let Some((_, packet)) = known {
            match packet.place_of(now) {
                Place::Within => {
                    (packet.since, packet.seen) = (packet.since.min(now), packet.seen.max(now));
                    packet.rest = packet.rest.max(rest);
                }
                Place::Before => return Sight::New,
                Place::Apart => *packet = Packet { since: now, seen: now, rest, ..Packet::default() },
            }
            return packet.count(session);
        }
        // The place of what is forgotten, else of what came longest ago.
        let places = self.tags.iter_mut().zip(&mut self.packets);
        let place = places.min_by_key(|(_, packet)| (packet.place_of(now) != Place::Apart, packet.seen));
        if let Some((known, packet)) = place {
            *known = tag;
            *packet = Packet { since: now, seen: now, rest, ..Packet::default() };
            packet.count(session);
        }
        Sight::New
    }
}

impl Packet {
    /// Says where a time lies to the copies that came. Packets that are alike and follow each other
    /// within the window are told apart by their number alone, so a worker that is behind may come
    /// to the first when another has had the last.
    #[inline]
    fn place_of(&self, now: u64) -> Place {
        if self.most == 0 || now > self.seen + WINDOW || now + BEHIND < self.since {
            Place::Apart
        } else if now + WINDOW < self.since {
            Place::Before
        } else {
            Place::Within
        }
    }

    /// Counts a copy that this session delivered.
    fn count(&mut self, session: u32) -> Sight {
        if self.most == u16::MAX {
            (self.most, self.counts) = (0, [0; SESSIONS]);
        }
        let mut places = self.counts.iter().zip(&self.sessions);
        let Some(own) = places.position(|(count, known)| *count == 0 || *known == session) else {
            return Sight::New;
        };
        let count = self.counts[own] + 1;
        self.counts[own] = count;
        self.sessions[own] = session;
        if count > self.most {
            self.most = count;
            return Sight::New;
        }
        let before = self.counts.iter().zip(&self.sessions).find(|(had, other)| **had >= count && **other != session);
        before.map_or(Sight::New, |(_, other)| Sight::Again(SessionId(*other)))
    }
}

#[cfg(test)]
mod tests;
