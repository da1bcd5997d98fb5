//! Decides which mirror sessions are let in: by VNI, by outer source address, by both, or all.
//!
//! The list can be replaced while the sensor runs. A worker has one, and gets another between two
//! batches. A program in the kernel decides earlier what it can; whatever it lets through comes by
//! the worker.

use std::net::Ipv6Addr;

use crate::wire::{SourceSet, Vni, VniSet};

/// The most ranges of VNIs, or prefixes of sources, that a list has. It is logged in full, and the
/// program in the kernel has room for two.
const MOST: usize = 1 << 16;

/// The sessions that are let in. By default these are all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    vnis: Option<VniSet>,
    sources: Option<SourceSet>,
}

/// A list that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} {1} are too many; at most {MOST} can be listed, and neighbours as a range or prefix count once")]
pub struct TooMany(usize, &'static str);

/// The list of VNIs, in words.
const VNIS: &str = "VNIs";

impl TooMany {
    /// Says whether the list of VNIs is too long, and not that of sources.
    #[must_use]
    pub(crate) fn is_of_vnis(&self) -> bool {
        self.1 == VNIS
    }
}

impl Allowed {
    /// Lets in sessions with one of these VNIs and from one of these sources. `None` stands for
    /// all, an empty set for none.
    ///
    /// # Errors
    /// A list has more than 65,536 ranges or prefixes.
    pub(crate) fn new(vnis: Option<VniSet>, sources: Option<SourceSet>) -> Result<Self, TooMany> {
        let lengths = [
            (vnis.as_ref().map_or(0, |set| set.ranges().len()), VNIS),
            (sources.as_ref().map_or(0, |set| set.networks().len()), "sources"),
        ];
        match lengths.into_iter().find(|(length, _)| *length > MOST) {
            Some((length, what)) => Err(TooMany(length, what)),
            None => Ok(Self { vnis, sources }),
        }
    }

    /// Says whether a session is let in.
    #[inline]
    #[must_use]
    pub(crate) fn takes(&self, source: Ipv6Addr, vni: Vni) -> bool {
        self.vnis.as_ref().is_none_or(|set| set.contains(vni))
            && self.sources.as_ref().is_none_or(|set| set.contains(source))
    }

    /// Returns the VNIs; `None` stands for all.
    #[must_use]
    pub(crate) fn vnis(&self) -> Option<&VniSet> {
        self.vnis.as_ref()
    }

    /// Returns the sources; `None` stands for all.
    #[must_use]
    pub(crate) fn sources(&self) -> Option<&SourceSet> {
        self.sources.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(vnis: &[u32], sources: &[&str]) -> Allowed {
        let vnis = (!vnis.is_empty()).then(|| vnis.iter().filter_map(|vni| Vni::new(*vni)).collect());
        let networks = sources.iter().map(|source| source.parse().unwrap());
        Allowed::new(vnis, (!sources.is_empty()).then(|| networks.collect())).unwrap()
    }

    #[test]
    fn both_lists_decide_and_one_that_is_not_there_does_not() {
        let takes =
            |allowed: &Allowed, source: &str, vni| allowed.takes(source.parse().unwrap(), Vni::new(vni).unwrap());
        let (one, other) = ("::ffff:192.0.2.1", "2001:db8::1");
        assert!(takes(&Allowed::default(), one, 5));
        let vnis = allowed(&[9, 2, 9], &[]);
        assert!(takes(&vnis, one, 9) && takes(&vnis, other, 2) && !takes(&vnis, one, 5));
        let sources = allowed(&[], &["192.0.2.0/24"]);
        assert!(takes(&sources, one, 5) && !takes(&sources, other, 5));
        let both = allowed(&[9], &["2001:db8::1/128", "192.0.2.1/32"]);
        assert!(takes(&both, one, 9) && takes(&both, other, 9) && !takes(&both, one, 5) && !takes(&both, "::1", 9));
        let nobody = Allowed::new(Some(VniSet::default()), None).unwrap();
        assert!(!takes(&nobody, one, 9), "an empty list is not all");
    }

    #[test]
    fn a_list_has_a_limit_and_a_range_counts_once() {
        let every_second = (0..=2 * MOST as u32).step_by(2).filter_map(Vni::new);
        assert!(Allowed::new(Some(every_second.clone().take(MOST).collect()), None).is_ok());
        let error = Allowed::new(Some(every_second.collect()), None).unwrap_err().to_string();
        assert!(error.starts_with("65537 VNIs are too many"), "{error}");
        assert!(Allowed::new(Some((0..=MOST as u32).filter_map(Vni::new).collect()), None).is_ok());
    }
}
