//! Keeps the program's maps of what is allowed, and of where it listens.

use std::collections::HashSet;
use std::hash::Hash;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};

use super::place::{SourceKey, words};
use crate::source::Allowed;
use crate::wire::{Vni, VniSet};

/// VNIs in an entry of `vnis`.
const VNIS: u32 = 512;
/// The number of entries of `vnis`, which have all VNIs: 2 MiB.
pub(super) const VNI_ENTRIES: u32 = (Vni::MAX.get() + 1) / VNIS;
/// Entries of `sources` and of `networks`: two lists of the longest kind.
pub(super) const ADDRESSES: u32 = 2 << 16;
/// `ONLY_VNIS`, `ONLY_SOURCES` and `NETWORKS`.
const ONLY_VNIS: u32 = 1;
const ONLY_SOURCES: u32 = 2;
const NETWORKS: u32 = 4;

/// `struct vni_bits`.
type VniBits = [u64; VNIS as usize / 64];
/// `struct prefix`: length in bits, and address.
type Prefix = (u32, [u32; 4]);

/// A map whose keys are all that counts.
pub(super) trait Keys {
    type Key: Copy + Eq + Hash;
    fn insert(&mut self, key: Self::Key) -> Result<(), MapError>;
    fn remove(&mut self, key: Self::Key) -> Result<(), MapError>;
}

impl<K: Pod + Eq + Hash> Keys for HashMap<MapData, K, u8> {
    type Key = K;

    fn insert(&mut self, key: K) -> Result<(), MapError> {
        HashMap::insert(self, key, 1, 0)
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        HashMap::remove(self, &key)
    }
}

/// A map in which each key has a number.
impl<K: Pod + Eq + Hash> Keys for HashMap<MapData, K, u32> {
    type Key = (K, u32);

    fn insert(&mut self, (key, number): (K, u32)) -> Result<(), MapError> {
        HashMap::insert(self, key, number, 0)
    }

    fn remove(&mut self, (key, _): (K, u32)) -> Result<(), MapError> {
        HashMap::remove(self, &key)
    }
}

impl Keys for LpmTrie<MapData, [u32; 4], u8> {
    type Key = Prefix;

    fn insert(&mut self, (length, address): Prefix) -> Result<(), MapError> {
        LpmTrie::insert(self, &Key::new(length, address), 1, 0)
    }

    fn remove(&mut self, (length, address): Prefix) -> Result<(), MapError> {
        LpmTrie::remove(self, &Key::new(length, address))
    }
}

/// A map of the program's whose keys are all that counts, and the keys in it.
pub(super) struct List<M: Keys> {
    map: M,
    keys: HashSet<M::Key>,
}

impl<M: Keys> List<M> {
    pub(super) fn new(map: M) -> Self {
        Self { map, keys: HashSet::new() }
    }

    pub(super) fn add(&mut self, wanted: impl IntoIterator<Item = M::Key>) -> Result<(), MapError> {
        for key in wanted {
            if !self.keys.contains(&key) {
                self.map.insert(key)?;
                self.keys.insert(key);
            }
        }
        Ok(())
    }

    /// Removes all but these. Returns whether there were others.
    pub(super) fn keep(&mut self, wanted: &HashSet<M::Key>) -> Result<bool, MapError> {
        let mut others = false;
        for key in self.keys.difference(wanted).copied().collect::<Vec<_>>() {
            self.map.remove(key)?;
            self.keys.remove(&key);
            others = true;
        }
        Ok(others)
    }
}

/// The map that has a bit for each VNI, and what it has. The kernel copies an entry in place, and a
/// bit that stays is never seen to be clear.
struct Bits {
    map: Array<MapData, VniBits>,
    now: Vec<VniBits>,
}

impl Bits {
    fn set(&mut self, set: &VniSet) -> Result<(), MapError> {
        self.now.resize(VNI_ENTRIES as usize, VniBits::default());
        for (index, (now, wanted)) in (0..).zip(self.now.iter_mut().zip(bits(set))) {
            if *now != wanted {
                self.map.set(index, wanted, 0)?;
                *now = wanted;
            }
        }
        Ok(())
    }
}

/// Makes a bit for each VNI, the lowest of a word first.
fn bits(set: &VniSet) -> Vec<VniBits> {
    let mut words = vec![0; (Vni::MAX.get() as usize + 1) / 64];
    for range in set.ranges() {
        let (first, last) = (range.first.get(), range.last.get());
        let (begin, end) = (first as usize / 64, last as usize / 64);
        for (at, word) in words.iter_mut().enumerate().take(end + 1).skip(begin) {
            let low = if at == begin { u64::MAX << (first % 64) } else { u64::MAX };
            let high = if at == end { u64::MAX >> (63 - last % 64) } else { u64::MAX };
            *word |= low & high;
        }
    }
    words.as_chunks().0.to_vec()
}

/// The allow-lists as the program has them.
pub(super) struct AllowLists {
    vnis: Bits,
    /// The sources that are single addresses.
    sources: List<HashMap<MapData, SourceKey, u8>>,
    networks: List<LpmTrie<MapData, [u32; 4], u8>>,
}

/// Says which lists the program is to look at.
pub(super) fn only(allowed: &Allowed) -> u32 {
    let vnis = if allowed.vnis().is_some() { ONLY_VNIS } else { 0 };
    let sources = if allowed.sources().is_some() { ONLY_SOURCES } else { 0 };
    let networks = if prefixes(allowed, false).next().is_some() { NETWORKS } else { 0 };
    vnis | sources | networks
}

/// Says which lists the program is to look at, so that it lets through what one of these allows.
pub(super) fn only_either(before: &Allowed, after: &Allowed) -> u32 {
    let (before, after) = (only(before), only(after));
    let both = before & after & (ONLY_VNIS | ONLY_SOURCES);
    if both & ONLY_SOURCES == 0 { both } else { both | ((before | after) & NETWORKS) }
}

/// Returns the sources that are single addresses, or those that are networks.
fn prefixes(allowed: &Allowed, single: bool) -> impl Iterator<Item = Prefix> {
    let prefixes = allowed.sources().into_iter().flat_map(|set| set.prefixes());
    prefixes.filter(move |(_, length)| (*length == 128) == single).map(|(address, length)| (length, words(address)))
}

impl AllowLists {
    pub(super) fn new(
        vnis: Array<MapData, VniBits>,
        sources: HashMap<MapData, SourceKey, u8>,
        networks: LpmTrie<MapData, [u32; 4], u8>,
    ) -> Self {
        let vnis = Bits { map: vnis, now: Vec::new() };
        Self { vnis, sources: List::new(sources), networks: List::new(networks) }
    }

    /// Enters what is new. The VNIs are right then. A list of VNIs that is not needed any more
    /// stays as it is, for nobody looks.
    pub(super) fn add(&mut self, allowed: &Allowed) -> Result<(), MapError> {
        self.sources.add(prefixes(allowed, true).map(|(_, address)| address))?;
        self.networks.add(prefixes(allowed, false))?;
        allowed.vnis().map_or(Ok(()), |set| self.vnis.set(set))
    }

    /// Enters what is new, beside what was there `before`.
    pub(super) fn add_to(&mut self, before: &Allowed, after: &Allowed) -> Result<(), MapError> {
        self.sources.add(prefixes(after, true).map(|(_, address)| address))?;
        self.networks.add(prefixes(after, false))?;
        match (before.vnis(), after.vnis()) {
            (Some(before), Some(after)) => {
                self.vnis.set(&before.ranges().iter().chain(after.ranges()).copied().collect())
            }
            // Nobody looks.
            _ => Ok(()),
        }
    }

    /// Removes what is not allowed any more.
    pub(super) fn remove_others(&mut self, allowed: &Allowed) -> Result<(), MapError> {
        self.sources.keep(&prefixes(allowed, true).map(|(_, address)| address).collect())?;
        self.networks.keep(&prefixes(allowed, false).collect())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::on_loopback;
    use super::*;
    use crate::sink::namespace::Namespace;
    use crate::wire::{SourceSet, VniRange, vxlan};
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    fn allowed(vnis: Option<&[(u32, u32)]>, sources: Option<&[&str]>) -> Allowed {
        let range =
            |(first, last): &(u32, u32)| VniRange { first: Vni::new(*first).unwrap(), last: Vni::new(*last).unwrap() };
        let sources = sources.map(|all| all.iter().map(|one| one.parse().unwrap()).collect::<SourceSet>());
        Allowed::new(vnis.map(|all| all.iter().map(range).collect()), sources).unwrap()
    }

    fn payload(vni: u32) -> Vec<u8> {
        [vxlan::header(Vni::new(vni).unwrap()).as_slice(), &[0; 60]].concat()
    }

    #[test]
    fn the_program_decides_as_the_workers_do() {
        let Some(_namespace) = Namespace::enter() else { return };
        let (program, _rings) = on_loopback(None);
        program.attach("lo").unwrap();
        let hosts = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 1, 1], [127, 1, 0, 1]].map(Ipv4Addr::from);
        let sockets = hosts.map(|host| (host, UdpSocket::bind((host, 0)).unwrap()));
        let mut refused = 0;
        for (step, (vnis, sources)) in [
            (Some(&[(5, 5)][..]), None),
            (Some(&[(1, 600), (0xff_ffff, 0xff_ffff)]), Some(&["127.0.0.1/32"][..])),
            (None, Some(&["127.0.0.0/24", "10.0.0.0/8", "2001:db8::/32"])),
            (Some(&[(0, 0xff_ffff)]), Some(&["127.0.0.0/16", "127.1.0.1/32"])),
            (Some(&[(6, 511)]), Some(&["0.0.0.0/0"])),
            (Some(&[(512, 512)]), Some(&["2001:db8::1/128", "127.0.0.2/32"])),
            (None, None),
            (Some(&[]), None),
            (None, Some(&[])),
        ]
        .into_iter()
        .enumerate()
        {
            let allowed = allowed(vnis, sources);
            program.allow(&allowed);
            for (host, socket) in &sockets {
                for vni in [0, 5, 6, 511, 512, 600, 601, 0xff_fffe, 0xff_ffff] {
                    socket.send_to(&payload(vni), "127.0.0.1:4789").unwrap();
                    let so_far = program.counts(0).unwrap().unselected;
                    let takes = allowed.takes(host.to_ipv6_mapped(), Vni::new(vni).unwrap());
                    assert_eq!(so_far == refused, takes, "step {step}: {host} vni {vni}");
                    refused = so_far;
                }
            }
        }
    }

    #[test]
    fn two_lists_of_as_many_networks_as_can_be_listed_take_turns() {
        let Some(_namespace) = Namespace::enter() else { return };
        let (program, _rings) = on_loopback(None);
        program.attach("lo").unwrap();
        let hosts = [[127, 0, 0, 1], [127, 0, 1, 1], [127, 255, 254, 1], [127, 255, 255, 1]].map(Ipv4Addr::from);
        let sockets = hosts.map(|host| (host, UdpSocket::bind((host, 0)).unwrap()));
        // Every second network from 127.0.0.0/24 on, so that none goes with its neighbour.
        let list = |first: u32| {
            let network = |n: u32| format!("{}/24", Ipv4Addr::from((0x7f_0000 + first + 2 * n) << 8));
            let networks: Vec<String> = (0..65_536).map(network).collect();
            allowed(None, Some(&networks.iter().map(String::as_str).collect::<Vec<_>>()))
        };
        let lists = [list(0), list(1)];
        let mut refused = 0;
        for turn in [0, 1, 0] {
            program.allow(&lists[turn]);
            for (at, (host, socket)) in sockets.iter().enumerate() {
                socket.send_to(&payload(7), "127.0.0.1:4789").unwrap();
                let so_far = program.counts(0).unwrap().unselected;
                assert_eq!(so_far == refused, at % 2 == turn, "{host}");
                refused = so_far;
            }
        }
    }

    #[test]
    fn between_two_lists_the_program_lets_through_what_either_allows() {
        let Some(_namespace) = Namespace::enter() else { return };
        let (program, _rings) = on_loopback(None);
        program.attach("lo").unwrap();
        let hosts = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 1, 1]].map(Ipv4Addr::from);
        let sockets = hosts.map(|host| (host, UdpSocket::bind((host, 0)).unwrap()));
        let lists = [
            allowed(Some(&[(5, 5)]), None),
            allowed(Some(&[(600, 700)]), Some(&["127.0.0.1/32"])),
            allowed(None, Some(&["127.0.0.0/24"])),
            allowed(None, Some(&["127.0.1.1/32"])),
            allowed(Some(&[]), None),
            Allowed::default(),
        ];
        let mut refused = 0;
        for (before, after) in lists.iter().flat_map(|before| lists.iter().map(move |after| (before, after))) {
            program.allow(before);
            program.widen(before, after);
            for (host, socket) in &sockets {
                for vni in [0, 5, 600, 701] {
                    socket.send_to(&payload(vni), "127.0.0.1:4789").unwrap();
                    let so_far = program.counts(0).unwrap().unselected;
                    let (host, vni) = (host.to_ipv6_mapped(), Vni::new(vni).unwrap());
                    let takes = before.takes(host, vni) || after.takes(host, vni);
                    assert!(so_far == refused || !takes, "{before:?} {after:?}: {host} vni {vni}");
                    refused = so_far;
                }
            }
        }
        assert!(refused > 0, "and not simply all");
    }

    #[test]
    fn what_is_allowed_before_and_after_is_never_refused_in_between() {
        let Some(_namespace) = Namespace::enter() else { return };
        let (program, mut rings) = on_loopback(None);
        program.attach("lo").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let payload = payload(1000);
        // All of these have VNI 1000 and the source 127.0.0.1, each in another way.
        let lists = [
            allowed(Some(&[(1000, 1000)]), Some(&["127.0.0.1/32"])),
            allowed(Some(&[(0, 0xff_ffff)]), Some(&["127.0.0.0/8"])),
            allowed(None, Some(&["127.0.0.0/30", "10.0.0.0/8"])),
            allowed(Some(&[(512, 1023)]), None),
            allowed(Some(&[(3, 3), (900, 1000)]), Some(&["0.0.0.0/0"])),
            allowed(Some(&[(1000, 5000)]), Some(&["127.0.0.1/32", "127.0.0.3/32"])),
            Allowed::default(),
        ];
        program.allow(&lists[0]);
        let over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let sends = scope.spawn(|| {
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(socket.send_to(&payload, "127.0.0.1:4789").unwrap(), payload.len());
                    sent += 1;
                    while rings[0].peek().is_some() {
                        rings[0].skip();
                    }
                    rings[0].release();
                }
                sent
            });
            for step in 0..60 {
                // Each list follows each other list sooner or later.
                program.allow(&lists[step * step % lists.len()]);
                program.allow(&lists[step % lists.len()]);
            }
            over.store(true, Ordering::Relaxed);
            sends.join().unwrap()
        });
        let counts = program.counts(0).unwrap();
        assert!(sent > 0);
        assert_eq!((counts.taken, counts.unselected), (sent, 0));
    }

    #[test]
    fn a_bit_for_each_vni() {
        let range = |first, last| VniRange { first: Vni::new(first).unwrap(), last: Vni::new(last).unwrap() };
        let ranges =
            [range(0, 0), range(3, 5), range(60, 70), range(100, 300), range(511, 512), range(0xff_fffe, 0xff_ffff)];
        let set: VniSet = ranges.into_iter().collect();
        let bits = bits(&set);
        assert_eq!(bits.len(), VNI_ENTRIES as usize);
        let words: Vec<u64> = bits.into_iter().flatten().collect();
        for vni in (0..2000).chain(0xff_fc00..=0xff_ffff) {
            let bit = words[vni as usize / 64] >> (vni % 64) & 1 == 1;
            assert_eq!(bit, set.contains(Vni::new(vni).unwrap()), "{vni}");
        }
        assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 1 + 3 + 11 + 201 + 2 + 2);
    }
}
