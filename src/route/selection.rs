//! A selection says which frames an output wants.

use crate::ledger::Filtered;
use crate::wire::{Vni, VniSet, flow};

/// The frames that an output takes; by default all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The VNIs that it takes; all where there is none.
    pub vnis: Option<VniSet>,
    /// The share of the conversations that it takes; all where there is none.
    pub share: Option<Share>,
}

/// One of several equal outputs that conversations are spread over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of this output among them, from 0.
    pub index: u32,
    /// The number of these outputs.
    pub of: u32,
}

/// A frame as selections see it. A value that is worth computing once for all of them is computed
/// when the first asks.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    vni: Vni,
    frame: &'a [u8],
    hash: Option<Option<u32>>,
}

impl<'a> Candidate<'a> {
    /// Makes a candidate of a frame of this VNI.
    #[must_use]
    pub(crate) fn new(vni: Vni, frame: &'a [u8]) -> Self {
        Self { vni, frame, hash: None }
    }
}

impl Selection {
    /// Says why the output does not take this frame; nothing where it takes it. Both directions of
    /// a conversation and all its fragments are taken by the same share. A frame that is not IP is
    /// taken by the first.
    #[inline]
    pub(crate) fn refuses(&self, candidate: &mut Candidate<'_>) -> Option<Filtered> {
        if self.vnis.as_ref().is_some_and(|vnis| !vnis.contains(candidate.vni)) {
            return Some(Filtered::Session);
        }
        let is_others = self.share.is_some_and(|share| {
            let frame = candidate.frame;
            let hash = candidate.hash.get_or_insert_with(|| flow::hosts_hash(frame));
            // The high bits of the product are a number below `of`, evenly spread.
            hash.map_or(0, |hash| (u64::from(hash) * u64::from(share.of)) >> 32) != u64::from(share.index)
        });
        is_others.then_some(Filtered::Share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(host: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14..18].copy_from_slice(&[0x45, 0, 0, 46]);
        frame[23] = 17;
        frame[26..34].copy_from_slice(&[10, 0, 0, host, 10, 0, 0, 200]);
        frame
    }

    #[test]
    fn every_frame_has_exactly_one_share_and_all_shares_have_some() {
        let vni = Vni::new(1).unwrap();
        let shares = [0, 1, 2].map(|index| Selection { vnis: None, share: Some(Share { index, of: 3 }) });
        let mut taken = [0; 3];
        for host in 0..100 {
            let frame = frame(host);
            let mut candidate = Candidate::new(vni, &frame);
            let takers: Vec<usize> = (0..3).filter(|i| shares[*i].refuses(&mut candidate).is_none()).collect();
            assert_eq!(takers.len(), 1);
            taken[takers[0]] += 1;
        }
        assert!(taken.iter().all(|n| *n > 15), "{taken:?}");
    }

    #[test]
    fn what_is_not_ip_goes_to_the_first() {
        let mut candidate = Candidate::new(Vni::new(1).unwrap(), &[0; 60]);
        let mut refuses = |index| Selection { vnis: None, share: Some(Share { index, of: 4 }) }.refuses(&mut candidate);
        assert_eq!((refuses(0), refuses(1)), (None, Some(Filtered::Share)));
    }

    #[test]
    fn vnis() {
        let some = Selection { vnis: Some([2, 5].into_iter().filter_map(Vni::new).collect()), share: None };
        for (vni, wanted) in [(2, None), (3, Some(Filtered::Session)), (5, None)] {
            let vni = Vni::new(vni).unwrap();
            assert_eq!(some.refuses(&mut Candidate::new(vni, &[])), wanted);
            assert_eq!(Selection::default().refuses(&mut Candidate::new(vni, &[])), None);
        }
    }
}
