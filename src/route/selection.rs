//! A selection says which frames an output wants.

use std::sync::Arc;

use super::filter::Expression;
use crate::ledger::Filtered;
use crate::wire::layers::Layers;
use crate::wire::{Decapsulated, LinkType, Vni, VniSet, flow};

/// The frames that an output takes; by default all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The VNIs that it takes; all where there is none.
    pub vnis: Option<VniSet>,
    /// The share of the conversations that it takes; all where there is none.
    pub share: Option<Share>,
    /// The expression that its frames satisfy; all do where there is none.
    pub expression: Option<Arc<Expression>>,
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
    link_type: LinkType,
    original: u32,
    /// The answer of the expression that was asked last: outputs often have one in common.
    answer: Option<(*const Expression, bool)>,
    layers: Option<Layers>,
}

impl<'a> Candidate<'a> {
    /// Makes a candidate of what a datagram yields.
    #[must_use]
    pub(crate) fn new(inner: &Decapsulated<'a>) -> Self {
        let Decapsulated { vni, frame, link_type, original, .. } = *inner;
        Self { vni, frame, hash: None, link_type, original, answer: None, layers: None }
    }

    /// Returns the layers of the frame.
    pub(super) fn layers(&mut self) -> &Layers {
        self.layers.get_or_insert_with(|| Layers::of(self.frame, self.link_type))
    }

    /// Returns the hash of the two hosts that it goes between; none where it is not IP.
    fn hosts_hash(&mut self) -> Option<u32> {
        if let Some(hash) = self.hash {
            return hash;
        }
        let hash = flow::hosts_hash(self.frame, self.layers());
        self.hash = Some(hash);
        hash
    }

    /// Returns the frame, as far as it was kept, and its length before it was cut.
    pub(super) fn frame(&self) -> (&'a [u8], u32) {
        (self.frame, self.original)
    }

    /// Says whether `expression` takes the frame.
    pub(super) fn satisfies(&mut self, expression: &Arc<Expression>) -> bool {
        let asked = Arc::as_ptr(expression);
        match self.answer {
            Some((known, answer)) if known == asked => answer,
            _ => {
                let answer = expression.takes(self.link_type, self.frame, self.original);
                self.answer = Some((asked, answer));
                answer
            }
        }
    }
}

impl Selection {
    /// Says whether it takes every frame.
    #[inline]
    pub(crate) fn is_all(&self) -> bool {
        self.vnis.is_none() && self.share.is_none() && self.expression.is_none()
    }

    /// Says why the output does not take this frame; nothing where it takes it. Both directions of
    /// a conversation and all its fragments are taken by the same share. A frame that is not IP is
    /// taken by the first.
    #[inline]
    pub(crate) fn refuses(&self, candidate: &mut Candidate<'_>) -> Option<Filtered> {
        if self.vnis.as_ref().is_some_and(|vnis| !vnis.contains(candidate.vni)) {
            return Some(Filtered::Session);
        }
        let is_others = self.share.is_some_and(|share| {
            let hash = candidate.hosts_hash();
            // The high bits of the product are a number below `of`, evenly spread.
            hash.map_or(0, |hash| (u64::from(hash) * u64::from(share.of)) >> 32) != u64::from(share.index)
        });
        if is_others {
            return Some(Filtered::Share);
        }
        let is_unwanted = self.expression.as_ref().is_some_and(|expression| !candidate.satisfies(expression));
        is_unwanted.then_some(Filtered::Expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(vni: u32, frame: &[u8]) -> Candidate<'_> {
        // Nothing that a header tells is of concern here.
        const PAYLOAD: &[u8] = &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let any = crate::wire::vxlan::decapsulate(PAYLOAD, PAYLOAD.len()).unwrap();
        let length = frame.len() as u32;
        Candidate::new(&Decapsulated { vni: Vni::new(vni).unwrap(), frame, arrived: length, original: length, ..any })
    }

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
        let shares = [0, 1, 2].map(|index| Selection { share: Some(Share { index, of: 3 }), ..Selection::default() });
        let mut taken = [0; 3];
        for host in 0..100 {
            let frame = frame(host);
            let mut asked = candidate(1, &frame);
            let takers: Vec<usize> = (0..3).filter(|i| shares[*i].refuses(&mut asked).is_none()).collect();
            assert_eq!(takers.len(), 1);
            taken[takers[0]] += 1;
        }
        assert!(taken.iter().all(|n| *n > 15), "{taken:?}");
    }

    #[test]
    fn what_is_not_ip_goes_to_the_first() {
        let mut asked = candidate(1, &[0; 60]);
        let mut refuses =
            |index| Selection { share: Some(Share { index, of: 4 }), ..Selection::default() }.refuses(&mut asked);
        assert_eq!((refuses(0), refuses(1)), (None, Some(Filtered::Share)));
    }

    #[test]
    fn an_expression_is_asked_of_the_frame() {
        let of =
            |text| Selection { expression: Some(Arc::new(Expression::new(text).unwrap())), ..Selection::default() };
        let (one, other) = (of("ip host 10.0.0.1"), of("ip host 10.0.0.2"));
        for host in [1, 2, 3] {
            let frame = frame(host);
            let mut asked = candidate(1, &frame);
            let answers = [&one, &other, &one, &one.clone()].map(|selection| selection.refuses(&mut asked));
            let answer = |wanted| if host == wanted { None } else { Some(Filtered::Expression) };
            assert_eq!(answers, [answer(1), answer(2), answer(1), answer(1)]);
        }
    }

    #[test]
    fn vnis() {
        let some = Selection { vnis: Some([2, 5].into_iter().filter_map(Vni::new).collect()), ..Selection::default() };
        for (vni, wanted) in [(2, None), (3, Some(Filtered::Session)), (5, None)] {
            assert_eq!(some.refuses(&mut candidate(vni, &[])), wanted);
            assert_eq!(Selection::default().refuses(&mut candidate(vni, &[])), None);
        }
    }
}
