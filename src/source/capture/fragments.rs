//! Datagrams that were fragmented on their way are put together again.
//!
//! A mirror's datagrams are larger than what they mirror, so a path whose MTU was not raised
//! fragments them. A capture has the pieces, in whatever order. They are kept until the datagram is
//! whole, within bounds: as many datagrams and bytes as a host would keep, and as long. Where the
//! bounds are met the oldest datagram is given up; how long one has waited is looked at when there
//! is more of it. One whose pieces overlap is given up, too: a host drops such packets (RFC 5722),
//! for each reader would see something else in them. An exact copy of a piece, as captures have it
//! that see a packet twice, adds nothing and does no harm (RFC 8200 section 4.5).
//!
//! Of UDP the first piece alone has the ports. So what a datagram is of is known once that one is
//! there, and where it never comes nobody knows.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;

use crate::wire::captured::Piece;
use crate::wire::layers::protocol;

/// Datagrams that wait for pieces at most: more than those of which [`BYTES`] hold one usual piece.
const DATAGRAMS: usize = 4096;
/// Bytes that all pieces together have at most.
const BYTES: usize = 4 << 20;
/// Nanoseconds that a datagram waits at most, by the times of the capture: as long as Linux keeps
/// the fragments of IPv4. Its number may be that of another datagram then.
const LIFETIME: u64 = 30_000_000_000;
/// Bytes that the fragments of a packet can have together.
const LARGEST: usize = 65_535;

/// Datagrams of which some pieces are there.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: HashMap<Key, Waiting, foldhash::fast::RandomState>,
    /// Their numbers and keys, the oldest in front. Some of these are gone.
    order: VecDeque<(u64, Key)>,
    /// How many have come so far.
    come: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// The number that it has in the order.
    number: u64,
    /// The time of the first piece that came, in nanoseconds.
    since: u64,
    /// Place and bytes of each piece, in the order of the places.
    pieces: Vec<(usize, Box<[u8]>)>,
    /// The length of the whole, once the last piece is there.
    length: Option<usize>,
    bytes: usize,
    /// The frames that the pieces came in, as far as they are not counted.
    frames: u64,
    kind: Kind,
    /// True where it can never become whole: its pieces are not kept.
    is_spoilt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
}

impl Key {
    fn of(piece: &Piece<'_>) -> Key {
        Key { source: piece.source, destination: piece.destination, id: piece.id, protocol: piece.protocol }
    }
}

/// What a datagram is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The first piece did not come.
    Unknown,
    /// Its protocol is that of mirrors, or the first piece goes to a port of theirs.
    Mirror,
    /// The first piece goes to a port that is no mirror's.
    Other,
}

/// Frames that had pieces of datagrams that were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// Those of mirrors.
    pub(super) of_mirrors: u64,
    /// Those of which nobody knows what they are of.
    pub(super) unknown: u64,
}

/// What came of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It waits for others.
    Waits,
    /// The datagram is whole, with the frames before this one that had pieces of it.
    Whole {
        /// The bytes behind the IP header.
        bytes: Vec<u8>,
        /// Frames that had the other pieces.
        others: u64,
    },
    /// It belongs to a datagram that is of no mirror.
    Other,
    /// It is of a mirror's datagram that can never be whole. So many frames are lost with it,
    /// itself included.
    Lost(u64),
}

impl Fragments {
    /// Adds a piece that came at this time, in nanoseconds. One that the capture cut spoils its
    /// datagram, which can never be whole. `given_up` hears how many frames were given up for it.
    pub(super) fn add(&mut self, piece: &Piece<'_>, now: u64, given_up: &mut GivenUp) -> Outcome {
        let key = Key::of(piece);
        self.expire(&key, now, given_up);
        let known = self.waiting.get(&key);
        let is_kept = piece.is_whole && known.is_none_or(|waiting| !waiting.is_spoilt);
        let (datagrams, bytes) = (usize::from(known.is_none()), if is_kept { piece.bytes.len() } else { 0 });
        self.make_room(datagrams, bytes, given_up);
        if !self.waiting.contains_key(&key) {
            self.begin(key, now);
        }
        let Some(waiting) = self.waiting.get_mut(&key) else { return Outcome::Waits };
        // First pieces of others do not come here: see [`Fragments::is_other`].
        let is_first_of_mirror = piece.ports.is_some();
        if waiting.kind == Kind::Other {
            if !is_first_of_mirror {
                return Outcome::Other;
            }
            // Another datagram of the same number. Nothing was kept of the one before.
            *waiting = Waiting::new(waiting.number, &key, now);
        }
        waiting.frames += 1;
        if is_first_of_mirror {
            waiting.kind = Kind::Mirror;
        }
        let before = waiting.bytes;
        let added = !waiting.is_spoilt && piece.is_whole && waiting.add(piece);
        self.bytes = self.bytes + waiting.bytes - before;
        if !added {
            self.bytes -= waiting.spoil();
            return match waiting.kind {
                Kind::Mirror => Outcome::Lost(std::mem::take(&mut waiting.frames)),
                // The first piece may still come.
                Kind::Unknown | Kind::Other => Outcome::Waits,
            };
        }
        if !waiting.is_whole() {
            return Outcome::Waits;
        }
        let Some(waiting) = self.remove(&key) else { return Outcome::Waits };
        let others = waiting.frames - 1;
        Outcome::Whole { bytes: waiting.pieces.into_iter().flat_map(|(_, bytes)| bytes).collect(), others }
    }

    /// Notes that a first piece, which came at this time in nanoseconds, is of no mirror, so that
    /// the later ones are known to be none. Returns the frames that waited for it, which are of
    /// none either. `given_up` hears how many of others were given up for it.
    pub(super) fn is_other(&mut self, piece: &Piece<'_>, now: u64, given_up: &mut GivenUp) -> u64 {
        let key = Key::of(piece);
        self.expire(&key, now, given_up);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            self.bytes -= waiting.spoil();
            let frames = std::mem::take(&mut waiting.frames);
            if std::mem::replace(&mut waiting.kind, Kind::Other) != Kind::Mirror {
                return frames;
            }
            // Another datagram of the same number, which never became whole.
            given_up.of_mirrors += frames;
            return 0;
        }
        self.make_room(1, 0, given_up);
        self.begin(key, now).kind = Kind::Other;
        0
    }

    /// Gives up all, and returns the frames that had them.
    pub(super) fn give_up(&mut self) -> GivenUp {
        let mut given_up = GivenUp::default();
        self.bytes = 0;
        self.order.clear();
        self.waiting.drain().for_each(|(_, waiting)| given_up.add(&waiting));
        given_up
    }

    /// Has a datagram wait, of which this piece is the first that came.
    fn begin(&mut self, key: Key, now: u64) -> &mut Waiting {
        if self.order.len() >= 2 * DATAGRAMS {
            let is_there = |(number, key): &(u64, Key)| self.waiting.get(key).is_some_and(|of| of.number == *number);
            self.order.retain(is_there);
        }
        self.come += 1;
        self.order.push_back((self.come, key));
        self.waiting.entry(key).insert(Waiting::new(self.come, &key, now)).into_mut()
    }

    fn remove(&mut self, key: &Key) -> Option<Waiting> {
        let waiting = self.waiting.remove(key)?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Gives up the datagram of this key where it has waited too long at this time.
    fn expire(&mut self, key: &Key, now: u64, given_up: &mut GivenUp) {
        // Captures that are read one behind the other can lead back in time.
        let waits = |waiting: &Waiting| waiting.since.abs_diff(now) <= LIFETIME;
        if self.waiting.get(key).is_some_and(|waiting| !waits(waiting)) {
            self.remove(key).iter().for_each(|waiting| given_up.add(waiting));
        }
    }

    /// Gives up the oldest until there is room for so many more datagrams and bytes.
    fn make_room(&mut self, datagrams: usize, bytes: usize, given_up: &mut GivenUp) {
        while self.waiting.len() + datagrams > DATAGRAMS || self.bytes + bytes > BYTES {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.waiting.get(&key).is_some_and(|waiting| waiting.number == number) {
                self.remove(&key).iter().for_each(|oldest| given_up.add(oldest));
            }
        }
    }
}

impl GivenUp {
    fn add(&mut self, datagram: &Waiting) {
        match datagram.kind {
            Kind::Unknown => self.unknown += datagram.frames,
            // Those of others are counted as they come.
            Kind::Mirror | Kind::Other => self.of_mirrors += datagram.frames,
        }
    }
}

impl Waiting {
    fn new(number: u64, key: &Key, since: u64) -> Waiting {
        let kind = if key.protocol == protocol::GRE { Kind::Mirror } else { Kind::Unknown };
        Waiting { number, since, pieces: Vec::new(), length: None, bytes: 0, frames: 0, kind, is_spoilt: false }
    }

    /// Adds a piece. Returns `false` where the whole can never be.
    fn add(&mut self, piece: &Piece<'_>) -> bool {
        let end = piece.offset + piece.bytes.len();
        let is_aligned = piece.bytes.len().is_multiple_of(8) || !piece.more;
        if end > LARGEST || !is_aligned || piece.bytes.is_empty() {
            return false;
        }
        let at = self.pieces.partition_point(|(offset, _)| *offset < piece.offset);
        if self.pieces.get(at).is_some_and(|(offset, bytes)| *offset == piece.offset && **bytes == *piece.bytes) {
            // A copy, unless one of both says that it is the last.
            return piece.more != (self.length == Some(end));
        }
        if !piece.more {
            if self.length.is_some_and(|length| length != end) {
                return false;
            }
            self.length = Some(end);
        }
        let before = at.checked_sub(1).and_then(|before| self.pieces.get(before));
        let overlaps = before.is_some_and(|(offset, bytes)| offset + bytes.len() > piece.offset)
            || self.pieces.get(at).is_some_and(|(offset, _)| *offset < end);
        let reaches = self.length.is_some_and(|length| {
            end > length || self.pieces.last().is_some_and(|(offset, bytes)| offset + bytes.len() > length)
        });
        if overlaps || reaches {
            return false;
        }
        self.bytes += piece.bytes.len();
        self.pieces.insert(at, (piece.offset, piece.bytes.into()));
        true
    }

    fn is_whole(&self) -> bool {
        // Pieces do not overlap, so what they have together is all of it.
        self.length == Some(self.bytes)
    }

    /// Keeps no pieces any more. Returns the bytes that they had.
    fn spoil(&mut self) -> usize {
        self.is_spoilt = true;
        self.pieces.clear();
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [u8; 40] = {
        let mut data = [0; 40];
        let mut at = 0;
        while at < data.len() {
            data[at] = at as u8;
            at += 1;
        }
        data
    };

    /// The time of pieces, where it is of no importance.
    const NOW: u64 = 7;

    fn piece(id: u32, offset: usize, end: usize) -> Piece<'static> {
        let (source, destination) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let (more, bytes) = (end < DATA.len(), &DATA[offset..end]);
        Piece { source, destination, id, protocol: 17, offset, more, ports: None, bytes, is_whole: true }
    }

    /// Makes the first piece of a datagram to a port of mirrors.
    fn first(id: u32, end: usize) -> Piece<'static> {
        Piece { ports: Some([50_000, 4789]), ..piece(id, 0, end) }
    }

    /// Makes it one that the capture cut.
    fn cut(piece: Piece<'_>) -> Piece<'_> {
        Piece { is_whole: false, ..piece }
    }

    fn sum(given_up: GivenUp) -> u64 {
        given_up.of_mirrors + given_up.unknown
    }

    /// Adds pieces of datagram 1, and returns what came of each.
    fn add(fragments: &mut Fragments, pieces: &[(usize, usize)]) -> Vec<Outcome> {
        let add = |&(offset, end): &(usize, usize)| fragments.add(&piece(1, offset, end), NOW, &mut GivenUp::default());
        pieces.iter().map(add).collect()
    }

    #[test]
    fn pieces_become_whole_in_any_order() {
        for order in [[(0, 16), (16, 32), (32, 40)], [(32, 40), (0, 16), (16, 32)], [(16, 32), (32, 40), (0, 16)]] {
            let mut fragments = Fragments::default();
            let whole = Outcome::Whole { bytes: DATA.to_vec(), others: 2 };
            assert_eq!(add(&mut fragments, &order), [Outcome::Waits, Outcome::Waits, whole], "{order:?}");
            assert_eq!((fragments.bytes, sum(fragments.give_up())), (0, 0), "nothing is left");
        }
    }

    #[test]
    fn pieces_that_contradict_each_other_are_given_up() {
        for order in [
            [(0, 16), (8, 24), (24, 40)],
            [(0, 16), (0, 8), (16, 40)],
            [(32, 40), (16, 24), (0, 24)],
            // Only the last may have another length than a multiple of 8.
            [(16, 40), (0, 8), (8, 15)],
        ] {
            let mut fragments = Fragments::default();
            let came = add(&mut fragments, &order);
            let lost: u64 = came.iter().map(|came| if let Outcome::Lost(frames) = came { *frames } else { 0 }).sum();
            let whole = came.iter().any(|came| matches!(came, Outcome::Whole { .. }));
            assert!(!whole, "{came:?}");
            assert_eq!(lost + sum(fragments.give_up()), 3, "{order:?}");
            assert_eq!(fragments.bytes, 0);
        }
    }

    #[test]
    fn copies_of_pieces_do_no_harm() {
        for (order, others) in [
            (&[(0, 16), (0, 16), (16, 32), (16, 32), (32, 40)][..], 4),
            (&[(32, 40), (32, 40), (0, 16), (16, 32)], 3),
            (&[(0, 16), (16, 32), (0, 16), (16, 32), (32, 40)], 4),
        ] {
            let mut fragments = Fragments::default();
            let came = add(&mut fragments, order);
            let (last, before) = came.split_last().unwrap();
            assert!(before.iter().all(|came| *came == Outcome::Waits), "{came:?}");
            assert_eq!(*last, Outcome::Whole { bytes: DATA.to_vec(), others });
            assert_eq!((fragments.bytes, sum(fragments.give_up())), (0, 0));
        }
        // Another piece at the same place, and one of which only one says that it is the last.
        for other in [Piece { bytes: &DATA[8..16], ..piece(1, 16, 24) }, Piece { more: false, ..piece(1, 16, 24) }] {
            let (mut fragments, mut given_up) = (Fragments::default(), GivenUp::default());
            add(&mut fragments, &[(0, 16), (16, 24)]);
            assert_eq!(fragments.add(&other, NOW, &mut given_up), Outcome::Waits);
            assert_eq!(add(&mut fragments, &[(24, 40)]), [Outcome::Waits]);
            assert_eq!((fragments.bytes, sum(fragments.give_up()), sum(given_up)), (0, 4, 0));
        }
    }

    #[test]
    fn what_has_waited_too_long_is_not_put_together_with_what_comes_then() {
        for (before, after, lives) in [
            (7, 7 + LIFETIME, true),
            (7, 8 + LIFETIME, false),
            // The capture behind it is older.
            (8 + LIFETIME, 7, false),
        ] {
            let (mut fragments, mut given_up) = (Fragments::default(), GivenUp::default());
            assert_eq!(fragments.add(&first(1, 16), before, &mut given_up), Outcome::Waits);
            fragments.is_other(&piece(2, 0, 16), before, &mut given_up);
            let rest = fragments.add(&piece(1, 16, 40), after, &mut given_up);
            let other = fragments.add(&piece(2, 16, 40), after, &mut given_up);
            if lives {
                assert_eq!(rest, Outcome::Whole { bytes: DATA.to_vec(), others: 1 });
                assert_eq!((other, given_up), (Outcome::Other, GivenUp::default()));
            } else {
                assert_eq!((rest, other), (Outcome::Waits, Outcome::Waits));
                assert_eq!(given_up, GivenUp { of_mirrors: 1, unknown: 0 });
                assert_eq!((fragments.bytes, fragments.give_up().unknown, fragments.bytes), (48, 2, 0));
            }
        }
    }

    #[test]
    fn those_of_others_are_known_by_the_first() {
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, &[(16, 32)]), [Outcome::Waits]);
        let mut given_up = GivenUp::default();
        assert_eq!(fragments.is_other(&piece(1, 0, 16), NOW, &mut given_up), 1, "the one that waited");
        assert_eq!(add(&mut fragments, &[(32, 40)]), [Outcome::Other]);
        assert_eq!(fragments.is_other(&piece(2, 0, 16), NOW, &mut given_up), 0);
        assert_eq!((fragments.bytes, sum(fragments.give_up()), sum(given_up)), (0, 0, 0));
        assert_eq!(add(&mut fragments, &[(16, 32)]), [Outcome::Waits]);
        let others = (2..).take(DATAGRAMS).map(|id| fragments.is_other(&piece(id, 0, 16), NOW, &mut given_up));
        assert_eq!((others.sum::<u64>(), sum(given_up)), (0, 1), "given up for others is not one of them");
    }

    #[test]
    fn what_a_datagram_is_of_is_known_by_the_first_piece_or_by_nobody() {
        let (mut fragments, mut given_up) = (Fragments::default(), GivenUp::default());
        // Pieces that overlap, of which the first comes last, and one more behind it.
        let overlapping = [(16, 32), (24, 40)];
        assert_eq!(add(&mut fragments, &overlapping), [Outcome::Waits, Outcome::Waits]);
        assert_eq!(fragments.add(&first(1, 16), NOW, &mut given_up), Outcome::Lost(3));
        assert_eq!(add(&mut fragments, &[(32, 40)]), [Outcome::Lost(1)]);
        // One that the capture cut, and the first that it cut as well.
        assert_eq!(fragments.add(&cut(piece(2, 16, 40)), NOW, &mut given_up), Outcome::Waits);
        assert_eq!(fragments.add(&cut(first(2, 16)), NOW, &mut given_up), Outcome::Lost(2));
        // Such of others.
        assert_eq!(fragments.add(&cut(piece(3, 16, 40)), NOW, &mut given_up), Outcome::Waits);
        assert_eq!(fragments.is_other(&piece(3, 0, 16), NOW, &mut given_up), 1);
        // Another datagram of the same number was of a mirror.
        assert_eq!(fragments.add(&first(4, 16), NOW, &mut given_up), Outcome::Waits);
        assert_eq!(fragments.is_other(&piece(4, 0, 16), NOW, &mut given_up), 0);
        assert_eq!(std::mem::take(&mut given_up), GivenUp { of_mirrors: 1, unknown: 0 });
        // And of others, and then of a mirror.
        assert_eq!(fragments.add(&piece(4, 16, 40), NOW, &mut given_up), Outcome::Other);
        assert_eq!(fragments.add(&first(4, 16), NOW, &mut given_up), Outcome::Waits);
        let whole = Outcome::Whole { bytes: DATA.to_vec(), others: 1 };
        assert_eq!(fragments.add(&piece(4, 16, 40), NOW, &mut given_up), whole);
        // What has no first piece, what has one, and GRE, which has no ports.
        assert_eq!(fragments.add(&piece(5, 16, 32), NOW, &mut given_up), Outcome::Waits);
        assert_eq!(fragments.add(&cut(piece(5, 32, 40)), NOW, &mut given_up), Outcome::Waits);
        assert_eq!(fragments.add(&first(6, 16), NOW, &mut given_up), Outcome::Waits);
        let gre = Piece { protocol: protocol::GRE, ..piece(7, 16, 32) };
        assert_eq!(fragments.add(&gre, NOW, &mut given_up), Outcome::Waits);
        assert_eq!((fragments.give_up(), fragments.bytes), (GivenUp { of_mirrors: 2, unknown: 2 }, 0));
        assert_eq!(given_up, GivenUp::default());
    }

    #[test]
    fn the_oldest_is_given_up_for_more() {
        let (mut fragments, mut given_up) = (Fragments::default(), GivenUp::default());
        let all = 3 * DATAGRAMS;
        let pieces = |offset, end| (0..all).map(move |id| piece(id as u32, offset, end));
        for piece in pieces(0, 16) {
            assert_eq!(fragments.add(&piece, NOW, &mut given_up), Outcome::Waits);
        }
        assert_eq!(sum(given_up) as usize, all - DATAGRAMS);
        // What completes a datagram needs no other's place.
        for piece in pieces(16, 40).skip(all - DATAGRAMS) {
            let whole = fragments.add(&piece, NOW, &mut given_up);
            assert!(matches!(whole, Outcome::Whole { others: 1, .. }), "{whole:?}");
        }
        assert_eq!((sum(given_up) as usize, fragments.bytes), (all - DATAGRAMS, 0));
        assert_eq!(sum(fragments.give_up()), 0);
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_and_the_order_is_theirs_that_are_there() {
        let (mut fragments, mut given_up) = (Fragments::default(), GivenUp::default());
        fragments.add(&first(0, 16), NOW, &mut given_up);
        for id in 1..20 * DATAGRAMS as u32 {
            // A number that comes again is of a datagram behind the others.
            let id = 1 + id % 7;
            fragments.add(&piece(id, 0, 16), NOW, &mut given_up);
            let whole = fragments.add(&piece(id, 16, 40), NOW, &mut given_up);
            assert!(matches!(whole, Outcome::Whole { others: 1, .. }), "{whole:?}");
            assert!(fragments.order.len() <= 2 * DATAGRAMS);
        }
        for id in 100..100 + DATAGRAMS as u32 {
            assert_eq!(given_up, GivenUp::default(), "{id}");
            fragments.add(&piece(id, 0, 16), NOW, &mut given_up);
        }
        assert_eq!(given_up, GivenUp { of_mirrors: 1, unknown: 0 }, "the one that came first");
    }
}
