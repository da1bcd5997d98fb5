//! A slice says how much of each frame is kept.

use std::fmt;

use crate::wire::layers::Layers;

/// Bytes of an ARP packet of Ethernet and IPv4 (RFC 826): two addresses of each, and 8 before them.
const ARP_LEN: usize = 28;
const ETHERTYPE_ARP: u16 = 0x0806;

/// How much of each frame is kept.
///
/// A frame that was sliced says what length it had, as every capture of cut frames does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The layer whose header is the last that is kept whole.
    pub layer: Layer,
    /// Bytes behind that header that are kept too.
    pub more: usize,
}

/// A layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet with its VLAN tags.
    L2,
    /// IP with options and extension headers.
    L3,
    /// TCP with options, UDP, SCTP, ICMP.
    L4,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = match self.layer {
            Layer::L2 => "l2",
            Layer::L3 => "l3",
            Layer::L4 => "l4",
        };
        match self.more {
            0 => f.write_str(layer),
            more => write!(f, "{layer}+{more}"),
        }
    }
}

impl Slice {
    /// Returns how many bytes of a frame with these layers are kept at most; it may have fewer.
    ///
    /// A frame without layer 4 is kept to the end of layer 3: a later fragment, or a protocol that
    /// is not known. Of a frame that is not IP, all of ARP is layer 3, and of others nothing.
    #[inline]
    #[must_use]
    pub fn keep(&self, layers: &Layers) -> usize {
        let end = match (self.layer, &layers.ip) {
            (Layer::L2, _) => layers.network,
            (Layer::L3, Some(ip)) => ip.transport,
            (Layer::L4, Some(ip)) => ip.payload,
            (_, None) if layers.ethertype == ETHERTYPE_ARP => layers.network + ARP_LEN,
            (_, None) => layers.network,
        };
        end + self.more
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::LinkType;

    /// A TCP segment with 12 bytes of options and 100 of payload, in these layers before it.
    fn frame(tags: usize, network: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(if network[0] >> 4 == 4 { [0x08, 0] } else { [0x86, 0xdd] });
        frame.extend(network);
        frame.extend([0, 80, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x18, 0, 0, 0, 0, 0, 0]);
        frame.extend([1; 12]);
        frame.extend([0x5a; 100]);
        frame
    }

    fn v4(options: u8, fragment: u16, protocol: u8) -> Vec<u8> {
        let mut header = vec![0x45 + options, 0, 0x01, 0, 0, 1];
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header.resize(20 + 4 * usize::from(options), 1);
        header
    }

    /// IPv6 with hop-by-hop options and a fragment header of this offset.
    fn v6(fragment: u16, protocol: u8) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 1, 0, 0, 64];
        header.extend([0x20; 32]);
        header.extend([44, 0, 1, 4, 0, 0, 0, 0]);
        header.extend([protocol, 0]);
        header.extend((fragment << 3 | 1).to_be_bytes());
        header.extend([0, 0, 0, 9]);
        header
    }

    /// The slice that is written so.
    fn slice_of(text: &str) -> Slice {
        let slice = |layer| [0, 3, 6, 9, 64].map(|more| Slice { layer, more });
        let mut slices = [Layer::L2, Layer::L3, Layer::L4].into_iter().flat_map(slice);
        slices.find(|slice| slice.to_string() == text).unwrap()
    }

    fn kept(slice: &str, frame: &[u8]) -> usize {
        slice_of(slice).keep(&Layers::of(frame, LinkType::Ethernet))
    }

    #[test]
    fn every_layer_has_its_end() {
        for tags in 0..=3 {
            let l2 = 14 + 4 * tags;
            for (what, network, l4) in [
                ("IPv4", v4(0, 0, 6), 32),
                ("options of IPv4", v4(3, 0, 6), 32),
                ("the first fragment", v4(0, 0x2000, 6), 32),
                ("a later fragment", v4(0, 0x2003, 6), 0),
                ("a protocol that is not known", v4(0, 0, 47), 0),
                ("UDP", v4(0, 0, 17), 8),
                ("the first fragment of IPv6", v6(0, 6), 32),
                ("a later fragment of IPv6", v6(5, 6), 0),
            ] {
                let frame = frame(tags, &network);
                let l3 = l2 + network.len();
                assert_eq!(kept("l2", &frame), l2, "{what}");
                assert_eq!(kept("l3", &frame), l3, "{what}");
                assert_eq!(kept("l4", &frame), l3 + l4, "{what}");
                assert_eq!(kept("l4+64", &frame), l3 + l4 + 64, "{what}");
                assert_eq!(kept("l2+3", &frame), l2 + 3, "{what}");
            }
        }
    }

    #[test]
    fn what_is_not_ip_ends_with_layer_2_but_arp() {
        let mut frame = vec![2; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!([kept("l2", &frame), kept("l3", &frame), kept("l4+6", &frame)], [14, 42, 48]);
        frame[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert_eq!([kept("l2", &frame), kept("l3", &frame), kept("l4+6", &frame)], [14, 14, 20]);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(kept("l4", &frame), 14, "IPv4 by its type, and not by its version");
    }

    proptest! {
        #[test]
        fn more_layers_keep_more(frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3usize) {
            let mut frame = frame;
            if let Some(place) = frame.get_mut(12..15) {
                place.copy_from_slice([&[0x08, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0]][kind]);
            }
            let [l2, l3, l4, more] = ["l2", "l3", "l4", "l4+9"].map(|slice| kept(slice, &frame));
            prop_assert!(14 <= l2 && l2 <= l3 && l3 <= l4 && l4 + 9 == more);
        }
    }
}
