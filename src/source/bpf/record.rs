//! Reads what the program puts into a ring: `struct record` of `bpf/maps.h`.

use std::net::Ipv6Addr;

/// Bits of the flags.
const REAL: u16 = 1;
const REDIRECTED: u16 = 2;

/// Bytes before the payload.
pub(super) const HEADER_LEN: usize = 56;

/// A datagram in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Receive time by CLOCK_MONOTONIC, in ns; by CLOCK_REALTIME if `real`.
    pub(super) time: u64,
    pub(super) real: bool,
    /// True for a copy: the frame itself was redirected into an interface.
    pub(super) redirected: bool,
    /// Bytes of the UDP payload as it arrived.
    pub(super) length: usize,
    /// The payload, as far as it was kept.
    pub(super) payload: &'a [u8],
    /// Outer addresses. IPv4 is IPv4-mapped IPv6.
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// The UDP checksum; 0 stands for none.
    pub(super) checksum: u16,
}

impl<'a> Record<'a> {
    /// Reads the record in these bytes, which have room for more payload than it has. Returns
    /// `None` for what the program never writes.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, room) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let (time, rest) = header.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (kept, rest) = rest.split_first_chunk::<4>()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (destination, rest) = rest.split_first_chunk::<16>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (destination_port, rest) = rest.split_first_chunk::<2>()?;
        let (checksum, rest) = rest.split_first_chunk::<2>()?;
        let flags = u16::from_ne_bytes(*rest.first_chunk::<2>()?);
        Some(Self {
            time: u64::from_ne_bytes(*time),
            real: flags & REAL != 0,
            redirected: flags & REDIRECTED != 0,
            length: u32::from_ne_bytes(*length) as usize,
            payload: room.get(..u32::from_ne_bytes(*kept) as usize)?,
            source: Ipv6Addr::from(*source),
            destination: Ipv6Addr::from(*destination),
            source_port: u16::from_be_bytes(*source_port),
            destination_port: u16::from_be_bytes(*destination_port),
            checksum: u16::from_be_bytes(*checksum),
        })
    }

    /// Says whether the checksum is that of the datagram (RFC 768, RFC 8200 section 8.1). It passes
    /// for right where there is none, and where a part of the payload was not kept, so that nobody
    /// can tell.
    pub(super) fn checksum_is_right(&self) -> bool {
        if self.checksum == 0 || self.payload.len() < self.length {
            return true;
        }
        let udp_length = (self.length + 8) as u64;
        // The addresses' IPv4-mapped prefix is not part of IPv4's pseudo header.
        let address = |a: &Ipv6Addr| a.to_ipv4_mapped().map_or(sum(&a.octets()), |v4| sum(&v4.octets()));
        let ports = u64::from(self.source_port) + u64::from(self.destination_port);
        let pseudo = address(&self.source) + address(&self.destination) + 17 + udp_length;
        let mut total = pseudo + ports + udp_length + u64::from(self.checksum) + sum(self.payload);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total == 0xffff
    }
}

/// Adds up the bytes as big-endian 16-bit numbers, an odd one at the end followed by zero. The sum
/// is not folded, of at most 64 KiB.
fn sum(bytes: &[u8]) -> u64 {
    // Four numbers are added at a time: the sum modulo 0xffff is the same, since 2^16 is 1 then.
    let (words, rest) = bytes.as_chunks::<4>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    words + u64::from(u32::from_be_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a record of a program on a little-endian machine, with `room` for `payload`.
    fn record(payload: &[u8], room: usize, source: [u8; 16], destination: [u8; 16], checksum: u16) -> Vec<u8> {
        let mut bytes = 1_000_000_007u64.to_ne_bytes().to_vec();
        bytes.extend((payload.len() as u32).to_ne_bytes());
        bytes.extend((payload.len() as u32).to_ne_bytes());
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend([0xff, 0x80, 0x12, 0xb5]);
        bytes.extend(checksum.to_be_bytes());
        bytes.extend([0, 0]);
        assert_eq!(bytes.len(), HEADER_LEN);
        bytes.extend(payload);
        bytes.resize(HEADER_LEN + room, 0xee);
        bytes
    }

    fn mapped(last: u8) -> [u8; 16] {
        std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped().octets()
    }

    #[test]
    fn fields() {
        let bytes = record(b"hello", 128, mapped(1), mapped(2), 0);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!((record.time, record.real, record.redirected), (1_000_000_007, false, false));
        for flags in 0..4u16 {
            let mut bytes = bytes.clone();
            bytes[54..56].copy_from_slice(&flags.to_ne_bytes());
            let record = Record::parse(&bytes).unwrap();
            assert_eq!((record.real, record.redirected), (flags & 1 != 0, flags & 2 != 0));
        }
        assert_eq!((record.length, record.payload), (5, b"hello".as_slice()));
        assert_eq!((record.source_port, record.destination_port), (65_408, 4789));
        assert_eq!(record.source.to_canonical().to_string(), "192.0.2.1");
    }

    #[test]
    fn what_the_program_never_writes_is_none() {
        let bytes = record(b"hello", 5, mapped(1), mapped(2), 0);
        assert!(Record::parse(&bytes).is_some());
        for length in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..length]), None);
        }
    }

    /// Computes the checksum by the book: the ones' complement sum of pseudo header, header and
    /// payload.
    fn checksum(payload: &[u8], addresses: &[u8]) -> u16 {
        let length = payload.len() as u16 + 8;
        let mut all = addresses.to_vec();
        all.extend([0, 17]);
        all.extend(length.to_be_bytes());
        all.extend([0xff, 0x80, 0x12, 0xb5]);
        all.extend(length.to_be_bytes());
        all.extend(payload);
        if all.len() % 2 == 1 {
            all.push(0);
        }
        let mut total: u32 = all.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn checksums() {
        let v6 = |last| std::net::Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, last).octets();
        for length in [0, 1, 2, 3, 8, 21, 1499, 9000] {
            let payload: Vec<u8> = (0..length).map(|n: u32| (n * 7 + 200) as u8).collect();
            for (source, destination, addresses) in
                [(mapped(1), mapped(2), [192, 0, 2, 1, 192, 0, 2, 2].to_vec()), (v6(1), v6(2), [v6(1), v6(2)].concat())]
            {
                let right = checksum(&payload, &addresses);
                for (given, wanted) in [(right, true), (right ^ 1, false), (0, true)] {
                    let bytes = record(&payload, payload.len() + 3, source, destination, given);
                    let is_right = Record::parse(&bytes).unwrap().checksum_is_right();
                    assert_eq!(is_right, wanted, "{length} bytes, {given:#06x}");
                }
            }
        }
        // Nobody can tell without the whole payload.
        let mut bytes = record(b"hello", 128, mapped(1), mapped(2), 0x1234);
        assert!(!Record::parse(&bytes).unwrap().checksum_is_right());
        bytes[8] = 6;
        assert!(Record::parse(&bytes).unwrap().checksum_is_right());
    }
}
