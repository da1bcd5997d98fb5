//! A selection says which frames an output wants.

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
    /// Says whether the output takes this frame. Both directions of a conversation and all its
    /// fragments are taken by the same share. A frame that is not IP is taken by the first.
    #[inline]
    pub(crate) fn takes(&self, candidate: &mut Candidate<'_>) -> bool {
        if self.vnis.as_ref().is_some_and(|vnis| !vnis.contains(candidate.vni)) {
            return false;
        }
        self.share.is_none_or(|share| {
            let frame = candidate.frame;
            let hash = candidate.hash.get_or_insert_with(|| flow::hosts_hash(frame));
            // The high bits of the product are a number below `of`, evenly spread.
            hash.map_or(0, |hash| (u64::from(hash) * u64::from(share.of)) >> 32) == u64::from(share.index)
        })
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
            let takers: Vec<usize> = (0..3).filter(|i| shares[*i].takes(&mut candidate)).collect();
            assert_eq!(takers.len(), 1);
            taken[takers[0]] += 1;
        }
        assert!(taken.iter().all(|n| *n > 15), "{taken:?}");
    }

    #[test]
    fn what_is_not_ip_goes_to_the_first() {
        let mut candidate = Candidate::new(Vni::new(1).unwrap(), &[0; 60]);
        assert!(Selection { vnis: None, share: Some(Share { index: 0, of: 4 }) }.takes(&mut candidate));
        assert!(!Selection { vnis: None, share: Some(Share { index: 1, of: 4 }) }.takes(&mut candidate));
    }

    #[test]
    fn vnis() {
        let some = Selection { vnis: Some([2, 5].into_iter().filter_map(Vni::new).collect()), share: None };
        for (vni, wanted) in [(2, true), (3, false), (5, true)] {
            let vni = Vni::new(vni).unwrap();
            assert_eq!(some.takes(&mut Candidate::new(vni, &[])), wanted);
            assert!(Selection::default().takes(&mut Candidate::new(vni, &[])));
        }
    }
}
