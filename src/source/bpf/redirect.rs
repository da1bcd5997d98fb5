//! Redirection: which interface frames enter, and what was counted of those that have no copy in a ring.

use std::net::Ipv6Addr;
use std::sync::Mutex;

use aya::maps::{Array, MapData, MapError, PerCpuHashMap};
use aya::programs::tc::SchedClassifierLink;

use super::program::lock;
use crate::record::Timestamp;
use crate::source::Counted;

/// `struct session`: outer source address, VNI.
type SessionKey = [u32; 5];
/// `struct total`: frames, bytes, times of the first and the last by CLOCK_REALTIME, 0 where the kernel did not stamp yet.
type Total = [u64; 4];

/// Where the program redirects to.
pub(super) struct Target {
    number: Mutex<Array<MapData, u32>>,
    sessions: PerCpuHashMap<MapData, SessionKey, Total>,
    place: Mutex<Option<Place>>,
}

/// An interface that frames enter.
pub(super) struct Place {
    pub(super) interface: String,
    pub(super) index: u32,
    /// Of the program there, which counts them.
    pub(super) _link: SchedClassifierLink,
}

impl Target {
    pub(super) fn new(number: Array<MapData, u32>, sessions: PerCpuHashMap<MapData, SessionKey, Total>) -> Self {
        Self { number: Mutex::new(number), sessions, place: Mutex::new(None) }
    }

    /// Frames enter there from now on.
    pub(super) fn begin(&self, place: Place) -> Result<(), MapError> {
        let index = place.index;
        *lock(&self.place) = Some(place);
        self.resume(index)
    }

    /// Frames enter it again: the interface is the one that it was before.
    pub(super) fn resume(&self, index: u32) -> Result<(), MapError> {
        lock(&self.number).set(0, index, 0)
    }

    /// Frames go into the rings from now on. What is on its way is still counted when it enters.
    pub(super) fn pause(&self) -> Result<(), MapError> {
        lock(&self.number).set(0, 0, 0)
    }

    /// The last interface that frames entered: name and number.
    pub(super) fn interface(&self) -> Option<(String, u32)> {
        lock(&self.place).as_ref().map(|place| (place.interface.clone(), place.index))
    }

    /// Another attachment of the program that counts there.
    pub(super) fn count_by(&self, link: SchedClassifierLink) {
        if let Some(place) = &mut *lock(&self.place) {
            place._link = link;
        }
    }

    /// What was redirected without a copy, by session.
    pub(super) fn sessions(&self) -> Result<Vec<Counted>, MapError> {
        self.sessions.iter().map(|entry| entry.map(|(key, totals)| add_up(key, totals.iter()))).collect()
    }
}

/// A session, from what each CPU counted of it.
fn add_up<'a>(key: SessionKey, totals: impl Iterator<Item = &'a Total>) -> Counted {
    let [a, b, c, d, vni] = key;
    let mut octets = [0; 16];
    octets.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d]).for_each(|(to, word)| *to = word.to_ne_bytes());
    let (mut frames, mut bytes, mut first, mut last) = (0, 0, u64::MAX, 0);
    for [n, length, earliest, latest] in totals.copied() {
        frames += n;
        bytes += length;
        if earliest > 0 {
            first = first.min(earliest);
        }
        last = last.max(latest);
    }
    let now = Timestamp::now();
    let time = |ns| if ns == 0 || ns == u64::MAX { now } else { Timestamp::from_ns(ns) };
    Counted { source: Ipv6Addr::from(octets), vni, frames, bytes, first: time(first), last: time(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_what_all_cpus_counted() {
        let word = |bytes| u32::from_ne_bytes(bytes);
        let key = [0, 0, word([0, 0, 0xff, 0xff]), word([192, 0, 2, 7]), 9];
        let totals = [[3, 180, 50, 70], [0, 0, 0, 0], [1, 60, 40, 40], [2, 120, 0, 0]];
        let counted = add_up(key, totals.iter());
        assert_eq!((counted.source.to_canonical().to_string().as_str(), counted.vni), ("192.0.2.7", 9));
        assert_eq!((counted.frames, counted.bytes), (6, 360));
        assert_eq!((counted.first, counted.last), (Timestamp::from_ns(40), Timestamp::from_ns(70)));
        let before = Timestamp::now();
        let counted = add_up(key, [[2, 120, 0, 0]].iter());
        assert!(counted.first >= before && counted.last >= before, "not stamped");
    }
}
