//! Frames are wrapped as the mirrors do that vxtap takes.

use crate::record::Timestamp;
use crate::wire::layers::Layers;
use crate::wire::{Encapsulation, LinkType, Vni, flow, geneve, vxlan};

/// The way in which frames are wrapped.
///
/// The comments of the variants are the text of `vxtap replay --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Wrap {
    /// VXLAN.
    #[default]
    Vxlan,
    /// GENEVE, port 6081.
    Geneve,
    /// VXLAN-GPE, port 4790.
    Gpe,
    /// GRE in UDP, port 4754, or over IP (--over-ip), with the VNI as its key and sequence numbers.
    Gre,
    /// ERSPAN type II in such GRE, with the low ten bits of the VNI as its session.
    Erspan,
    /// ERSPAN type III in such GRE, also with the time at which it is sent, in units of 100 us.
    Erspan3,
    /// NVGRE: such GRE without sequence numbers, and a key that has the VNI, from 4096 on.
    Nvgre,
    /// TZSP, port 37008, with the VNI in the address of the sensor.
    Tzsp,
    /// VXLAN in GENEVE, as a mirror through an endpoint of AWS Gateway Load Balancer.
    Gwlb,
    /// IP packets in GENEVE, as Google Cloud mirrors them, with the VNI as the network.
    Gcp,
}

/// The longest header, in bytes.
const LONGEST: usize = 96;

/// Id of the endpoint, and addresses of the mirrored host and its target behind it (TEST-NET-1).
const ENDPOINT: [u8; 8] = [0x07, 0x6b, 0xc4, 0x93, 0xb8, 0x22, 0xcd, 0x32];
const MIRRORED: [u8; 4] = [192, 0, 2, 1];
const TARGET: [u8; 4] = [192, 0, 2, 2];

/// A header under construction.
#[derive(Debug)]
struct Header {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Header {
    /// Appends bytes; what does not fit is left out, which no header here is long enough for.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(to) = self.bytes.get_mut(self.length) {
                *to = *byte;
                self.length += 1;
            }
        }
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Wrap {
    /// Returns what comes to a listener for it.
    fn encapsulation(self) -> Encapsulation {
        match self {
            Wrap::Vxlan => Encapsulation::Vxlan,
            Wrap::Geneve | Wrap::Gwlb | Wrap::Gcp => Encapsulation::Geneve,
            Wrap::Gpe => Encapsulation::Gpe,
            Wrap::Gre | Wrap::Erspan | Wrap::Erspan3 | Wrap::Nvgre => Encapsulation::Gre,
            Wrap::Tzsp => Encapsulation::Tzsp,
        }
    }

    /// Returns the port that it usually goes to.
    #[must_use]
    pub fn port(self) -> u16 {
        self.encapsulation().usual_port().unwrap_or_default()
    }

    /// Says whether it can go over IP itself.
    #[must_use]
    pub fn goes_over_ip(self) -> bool {
        self.encapsulation() == Encapsulation::Gre
    }

    /// Returns the header of the frame with this number, and what stands behind it; nothing where
    /// the frame is no IP packet and only such can be wrapped.
    #[must_use]
    pub fn wrap(self, vni: Vni, number: u32, frame: &[u8]) -> Option<(impl AsRef<[u8]> + use<>, &[u8])> {
        let mut header = Header { bytes: [0; LONGEST], length: 0 };
        let [a, b, c] = vni.to_be_bytes();
        let sequence = number.to_be_bytes();
        match self {
            Wrap::Vxlan => header.add(&vxlan::header(vni)),
            Wrap::Geneve => header.add(&[0, 0, 0x65, 0x58, a, b, c, 0]),
            Wrap::Gpe => header.add(&[0x0c, 0, 0, 3, a, b, c, 0]),
            Wrap::Gre => {
                header.add(&[0x30, 0, 0x65, 0x58, 0, a, b, c]);
                header.add(&sequence);
            }
            Wrap::Erspan => {
                header.add(&[0x10, 0, 0x88, 0xbe]);
                header.add(&sequence);
                header.add(&[0x10, 0, b & 3, c, 0, 0, 0, 0]);
            }
            Wrap::Erspan3 => {
                header.add(&[0x10, 0, 0x22, 0xeb]);
                header.add(&sequence);
                header.add(&[0x20, 0, b & 3, c]);
                // The lower 32 bits of the time, as the kernel's device has it too.
                let [.., e, f, g, h] = (Timestamp::now().ns() / 100_000).to_be_bytes();
                header.add(&[e, f, g, h]);
                // A frame, which came into the switch.
                header.add(&[0, 0, 0x80, 0]);
            }
            Wrap::Nvgre => header.add(&[0x20, 0, 0x65, 0x58, a, b, c, 0]),
            // The tag of the sensor's address, and the end of all tags.
            Wrap::Tzsp => header.add(&[1, 0, 0, 1, 60, 6, 2, 0, 0, a, b, c, 1]),
            Wrap::Gwlb => {
                header.add(&[8, 0, 8, 0, 0, 0, 0, 0]);
                let [high, low] = geneve::CLASS_AWS.to_be_bytes();
                header.add(&[high, low, 1, 2]);
                header.add(&ENDPOINT);
                header.add(&[high, low, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
                header.add(&[high, low, 3, 1]);
                header.add(&flow::symmetric_hash(frame).to_be_bytes());
                add_packet(&mut header, frame.len() + vxlan::HEADER_LEN);
                header.add(&vxlan::header(vni));
            }
            Wrap::Gcp => {
                let layers = Layers::of(frame, LinkType::Ethernet);
                let packet = frame.get(layers.network..layers.ip?.end.min(frame.len()))?;
                let [high, low] = layers.ethertype.to_be_bytes();
                header.add(&[2, 0, high, low, 0, 0, 0, 0]);
                let [high, low] = geneve::CLASS_GOOGLE.to_be_bytes();
                // The network in the upper 28 bits; the lowest says that the packet left.
                let network = (vni.get() << 4 | 1).to_be_bytes();
                header.add(&[high, low, 1, 1]);
                header.add(&network);
                return Some((header, packet));
            }
        }
        Some((header, frame))
    }
}

/// Adds headers of IPv4 and UDP in front of so many bytes, which go to the port of VXLAN.
fn add_packet(header: &mut Header, length: usize) {
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [a, b] = short(20 + 8 + length);
    let mut ip = [0x45, 0, a, b, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let addresses = MIRRORED.into_iter().chain(TARGET);
    ip.iter_mut().skip(12).zip(addresses).for_each(|(to, byte)| *to = byte);
    let (words, _) = ip.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!sum).to_be_bytes();
    ip.iter_mut().skip(10).zip([high, low]).for_each(|(to, byte)| *to = byte);
    header.add(&ip);
    let [a, b] = short(8 + length);
    header.add(&[0xff, 0x80, 0x12, 0xb5, a, b, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Scope, address};
    use clap::ValueEnum;

    #[test]
    fn each_wrap_is_taken_off_again() {
        let mut frame = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.udp(5004, 53).write(&mut frame, &[7; 100]).unwrap();
        let vni = Vni::new(0x12_3456).unwrap();
        for wrap in Wrap::value_variants() {
            let (header, rest) = wrap.wrap(vni, 9, &frame).unwrap();
            let payload = [header.as_ref(), rest].concat();
            let encapsulation = Encapsulation::of_port(wrap.port()).unwrap();
            let inner = encapsulation.decapsulate(&payload, payload.len()).unwrap();
            let found = (inner.encapsulation, inner.vni.get(), inner.scope.map(|Scope(scope)| scope), inner.sequence);
            let wanted = match wrap {
                Wrap::Vxlan => (Encapsulation::Vxlan, 0x12_3456, None, None),
                Wrap::Geneve => (Encapsulation::Geneve, 0x12_3456, None, None),
                Wrap::Gpe => (Encapsulation::Gpe, 0x12_3456, None, None),
                Wrap::Gre => (Encapsulation::Gre, 0, Some(0x12_3456), Some(9)),
                Wrap::Erspan | Wrap::Erspan3 => (Encapsulation::Erspan, 0, Some(0x56), Some(9)),
                Wrap::Nvgre => (Encapsulation::Nvgre, 0x12_3456, None, None),
                Wrap::Tzsp => (Encapsulation::Tzsp, 0, Some(0x0200_0012_3456), None),
                Wrap::Gwlb => (Encapsulation::Geneve, 0x12_3456, Some(u64::from_be_bytes(ENDPOINT)), None),
                Wrap::Gcp => (Encapsulation::Geneve, 0, Some(0x12_3456), None),
            };
            assert_eq!(found, wanted, "{wrap:?}");
            assert!(!inner.reserved_bits, "{wrap:?}");
            let mirrored = (*wrap == Wrap::Gwlb).then(|| address::of(MIRRORED.into()));
            assert_eq!(inner.source, mirrored);
            assert_eq!(inner.frame, if *wrap == Wrap::Gcp { &frame[14..] } else { &frame[..] });
        }
        assert!(Wrap::Gcp.wrap(vni, 0, &[0; 60]).is_none(), "no packet");
    }
}
