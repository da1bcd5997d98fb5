//! Which mirror sessions are let in: by VNI, by outer source address, by both, or all.
//!
//! The list can be replaced while the sensor runs. A worker looks once a turn whether it was, which costs an atomic load, and decides each
//! datagram by the list it has. A program in the kernel decides earlier what it can; whatever it lets through comes by the worker.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::Vni;

/// VNIs or sources on a list at most: the program in the kernel has room for that twice.
const MOST: usize = 1 << 16;

/// The sessions that are let in. By default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    vnis: Option<Vec<Vni>>,
    sources: Option<Vec<Ipv6Addr>>,
}

/// A list that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} {1} are too many; at most {MOST} can be listed")]
pub struct TooMany(usize, &'static str);

impl Allowed {
    /// Sessions with one of these VNIs and from one of these sources, IPv4 as IPv4-mapped IPv6; where there is none, from any.
    ///
    /// # Errors
    /// More than 65,536 of a kind.
    pub fn new(vnis: Vec<Vni>, sources: Vec<Ipv6Addr>) -> Result<Self, TooMany> {
        Ok(Self { vnis: listed(vnis, "VNIs")?, sources: listed(sources, "sources")? })
    }

    /// Whether a session is let in.
    #[inline]
    #[must_use]
    pub fn takes(&self, source: Ipv6Addr, vni: Vni) -> bool {
        has(self.vnis.as_deref(), &vni) && has(self.sources.as_deref(), &source)
    }

    /// The VNIs, sorted; `None` stands for all.
    #[must_use]
    pub fn vnis(&self) -> Option<&[Vni]> {
        self.vnis.as_deref()
    }

    /// The sources, sorted; `None` stands for all.
    #[must_use]
    pub fn sources(&self) -> Option<&[Ipv6Addr]> {
        self.sources.as_deref()
    }
}

/// Sorted and without doubles; `None` where there is nothing.
fn listed<T: Ord>(mut list: Vec<T>, what: &'static str) -> Result<Option<Vec<T>>, TooMany> {
    list.sort_unstable();
    list.dedup();
    if list.len() > MOST { Err(TooMany(list.len(), what)) } else { Ok(Some(list).filter(|list| !list.is_empty())) }
}

#[inline]
fn has<T: Ord>(list: Option<&[T]>, wanted: &T) -> bool {
    list.is_none_or(|list| list.binary_search(wanted).is_ok())
}

/// How many, for people.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |list: Option<usize>| list.map_or("all".into(), |n| n.to_string());
        let (vnis, sources) = (count(self.vnis().map(<[_]>::len)), count(self.sources().map(<[_]>::len)));
        write!(f, "VNIs: {vnis}, sources: {sources}")
    }
}

/// What is allowed now, for all workers.
#[derive(Debug, Default)]
pub struct AllowList {
    /// How often it was replaced.
    version: AtomicU64,
    current: Mutex<Arc<Allowed>>,
}

/// A worker's view of it.
#[derive(Debug)]
pub struct AllowListReader {
    list: Arc<AllowList>,
    version: u64,
    allowed: Arc<Allowed>,
}

impl AllowList {
    /// Allows this to begin with.
    #[must_use]
    pub fn new(allowed: Allowed) -> Self {
        Self { version: AtomicU64::new(0), current: Mutex::new(Arc::new(allowed)) }
    }

    /// Allows this from now on.
    pub fn replace(&self, allowed: Allowed) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(allowed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A view of it.
    #[must_use]
    pub fn reader(self: Arc<Self>) -> AllowListReader {
        let mut reader = AllowListReader { version: u64::MAX, allowed: Arc::default(), list: self };
        reader.refresh();
        reader
    }
}

impl AllowListReader {
    /// Looks whether the list was replaced.
    #[inline]
    pub fn refresh(&mut self) {
        let version = self.list.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.allowed = Arc::clone(&self.list.current.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// See [`Allowed::takes`].
    #[inline]
    #[must_use]
    pub fn takes(&self, source: Ipv6Addr, vni: Vni) -> bool {
        self.allowed.takes(source, vni)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(vnis: &[u32], sources: &[&str]) -> Allowed {
        let vnis = vnis.iter().filter_map(|vni| Vni::new(*vni)).collect();
        Allowed::new(vnis, sources.iter().map(|source| source.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn both_lists_decide_and_an_empty_one_does_not() {
        let takes =
            |allowed: &Allowed, source: &str, vni| allowed.takes(source.parse().unwrap(), Vni::new(vni).unwrap());
        let (one, other) = ("::ffff:192.0.2.1", "2001:db8::1");
        assert!(takes(&Allowed::default(), one, 5));
        let vnis = allowed(&[9, 2, 9], &[]);
        assert!(takes(&vnis, one, 9) && takes(&vnis, other, 2) && !takes(&vnis, one, 5));
        let sources = allowed(&[], &[one]);
        assert!(takes(&sources, one, 5) && !takes(&sources, other, 5));
        let both = allowed(&[9], &[other, one]);
        assert!(takes(&both, one, 9) && takes(&both, other, 9) && !takes(&both, one, 5) && !takes(&both, "::1", 9));
        assert_eq!(both.to_string(), "VNIs: 1, sources: 2");
        assert_eq!(Allowed::default().to_string(), "VNIs: all, sources: all");
        let too_many = (0..=MOST as u32).filter_map(Vni::new).collect();
        assert!(Allowed::new(too_many, Vec::new()).is_err());
    }

    #[test]
    fn a_reader_follows_when_it_looks() {
        let list = Arc::new(AllowList::new(allowed(&[1], &[])));
        let mut reader = Arc::clone(&list).reader();
        let takes = |reader: &AllowListReader, vni| reader.takes(Ipv6Addr::LOCALHOST, Vni::new(vni).unwrap());
        assert!(takes(&reader, 1) && !takes(&reader, 2));
        list.replace(allowed(&[2], &[]));
        assert!(takes(&reader, 1) && !takes(&reader, 2));
        reader.refresh();
        assert!(!takes(&reader, 1) && takes(&reader, 2));
    }
}
