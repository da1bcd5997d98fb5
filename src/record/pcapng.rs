//! This program writes pcapng as one section, little-endian, nanoseconds (draft-ietf-opsawg-pcapng,
//! "PCAP Next Generation (pcapng) Capture File Format").
//!
//! ```text
//! SHB  who captured                 opening
//! IDB  the interface                interface
//! EPB  a frame, once for each       push
//! ISB  the counts at the end        closing
//! ```
//!
//! A session is one interface, or two where it has frames of two link types: an interface has one.
//!
//! A block is type, length, body, and the length once more; the length counts all of it and is a
//! multiple of 4. An option in a body is code, length, and a value padded to 4 bytes; code 0 ends
//! them.

use super::Timestamp;
use super::contents::{Opening, Remarks, Statistics};
use super::pcap::Record;
use crate::wire::{Direction, LinkType};

/// Section Header Block; the same in both byte orders.
pub(crate) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// Interface Description Block.
pub(crate) const INTERFACE_DESCRIPTION: u32 = 1;
/// Interface Statistics Block.
pub(crate) const INTERFACE_STATISTICS: u32 = 5;
/// Enhanced Packet Block.
pub(crate) const ENHANCED_PACKET: u32 = 6;

/// First field of a section header's body.
pub(crate) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type and length in front of a block's body.
pub(crate) const BLOCK_HEADER_LEN: usize = 8;
/// Length behind a block's body.
pub(crate) const BLOCK_TRAILER_LEN: usize = 4;
/// Fields of a packet block's body before the frame: interface, time in two halves, captured and
/// original length.
pub(crate) const PACKET_FIELDS_LEN: usize = 20;

/// The end of options, and a comment, in every block.
pub(super) const END_OF_OPTIONS: u16 = 0;
pub(super) const COMMENT: u16 = 1;
pub(super) const SHB_HARDWARE: u16 = 2;
pub(super) const SHB_OS: u16 = 3;
pub(super) const SHB_USERAPPL: u16 = 4;
pub(super) const IF_NAME: u16 = 2;
pub(super) const IF_DESCRIPTION: u16 = 3;
pub(super) const IF_TSRESOL: u16 = 9;
pub(super) const IF_TSOFFSET: u16 = 14;
/// Value of [`IF_TSRESOL`]: 10 to the power of minus so much, in seconds.
pub(super) const NANOSECONDS: u8 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const EPB_PACKETID: u16 = 5;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

/// Code and length of an option; by themselves the end of options.
pub(crate) const OPTION_HEADER_LEN: usize = 4;
const FLAGS_LEN: usize = OPTION_HEADER_LEN + 4;
const DROPCOUNT_LEN: usize = OPTION_HEADER_LEN + 8;
const PACKETID_LEN: usize = OPTION_HEADER_LEN + 8;

/// Length of [`closing`]: interface and time, then seven options of 8 bytes.
pub(crate) const CLOSING_LEN: usize =
    BLOCK_HEADER_LEN + 12 + 7 * (OPTION_HEADER_LEN + 8) + OPTION_HEADER_LEN + BLOCK_TRAILER_LEN;

/// Returns the section header, and the description of an interface for each link type.
#[must_use]
pub(crate) fn opening(opening: &Opening<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    block(&mut out, SECTION_HEADER, |out| {
        out.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        // Length of the section: unknown until it ends.
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        text(out, SHB_HARDWARE, opening.hardware);
        text(out, SHB_OS, opening.os);
        text(out, SHB_USERAPPL, opening.application);
        end_of_options(out);
    });
    for link_type in opening.link_types {
        interface(&mut out, opening, *link_type);
    }
    out
}

/// Appends the description of an interface of this link type.
pub(crate) fn interface(out: &mut Vec<u8>, opening: &Opening<'_>, link_type: LinkType) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&link_type.number().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&opening.snaplen.to_le_bytes());
        text(out, IF_NAME, opening.interface);
        text(out, IF_DESCRIPTION, opening.description);
        option(out, IF_TSRESOL, &[NANOSECONDS]);
        end_of_options(out);
    });
}

/// Returns the bytes of the packet block of a frame of `frame_len` bytes.
#[inline]
#[must_use]
pub(crate) fn packet_len(frame_len: usize, remarks: Remarks<'_>) -> usize {
    let Remarks { interface: _, notes, direction, lost, packet_id } = remarks;
    let flags = if direction.is_none() { 0 } else { FLAGS_LEN };
    let dropcount = if lost == 0 { 0 } else { DROPCOUNT_LEN };
    let id = if packet_id.is_none() { 0 } else { PACKETID_LEN };
    let options = notes.len() + flags + dropcount + id;
    let end = if options == 0 { 0 } else { OPTION_HEADER_LEN };
    let frame = frame_len.next_multiple_of(4);
    BLOCK_HEADER_LEN + PACKET_FIELDS_LEN + frame + options + end + BLOCK_TRAILER_LEN
}

/// Appends a packet block, with what there is to say of it.
///
/// A frame is at most 64 KiB, a UDP payload, so that lengths fit.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, record: &Record<'_>, remarks: Remarks<'_>) {
    let Remarks { interface, notes, direction, lost, packet_id } = remarks;
    let length = packet_len(record.frame.len(), remarks);
    let total = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let (high, low) = halves(record.timestamp);
    let mut header = [0; BLOCK_HEADER_LEN + PACKET_FIELDS_LEN];
    header[0..4].copy_from_slice(&ENHANCED_PACKET.to_le_bytes());
    header[4..8].copy_from_slice(&total);
    header[8..12].copy_from_slice(&interface.to_le_bytes());
    header[12..16].copy_from_slice(&high.to_le_bytes());
    header[16..20].copy_from_slice(&low.to_le_bytes());
    header[20..24].copy_from_slice(&u32::try_from(record.frame.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[24..28].copy_from_slice(&record.orig_len.to_le_bytes());
    out.reserve(length);
    out.extend_from_slice(&header);
    out.extend_from_slice(record.frame);
    pad(out, record.frame.len());
    out.extend_from_slice(notes);
    // Bits 0 and 1 of the flags are the direction.
    match direction {
        None => {}
        Some(Direction::Inbound) => option(out, EPB_FLAGS, &1u32.to_le_bytes()),
        Some(Direction::Outbound) => option(out, EPB_FLAGS, &2u32.to_le_bytes()),
    }
    if lost > 0 {
        option(out, EPB_DROPCOUNT, &lost.to_le_bytes());
    }
    if let Some(id) = packet_id {
        option(out, EPB_PACKETID, &id.to_le_bytes());
    }
    if remarks != (Remarks { interface, ..Remarks::default() }) {
        end_of_options(out);
    }
    out.extend_from_slice(&total);
}

/// Appends a comment on a frame as an option, for [`Remarks::notes`]. One that is longer than an
/// option can be is cut.
pub(crate) fn comment(options: &mut Vec<u8>, comment: &[u8]) {
    option(options, COMMENT, comment.get(..usize::from(u16::MAX)).unwrap_or(comment));
}

/// Returns the statistics of an interface, [`CLOSING_LEN`] bytes.
#[must_use]
pub(crate) fn closing(statistics: &Statistics) -> Vec<u8> {
    let mut out = Vec::with_capacity(CLOSING_LEN);
    block(&mut out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&statistics.interface.to_le_bytes());
        out.extend_from_slice(&time(statistics.end));
        option(out, ISB_STARTTIME, &time(statistics.start));
        option(out, ISB_ENDTIME, &time(statistics.end));
        option(out, ISB_IFRECV, &statistics.received.to_le_bytes());
        option(out, ISB_IFDROP, &statistics.dropped.to_le_bytes());
        option(out, ISB_FILTERACCEPT, &statistics.accepted.to_le_bytes());
        option(out, ISB_OSDROP, &statistics.kernel_dropped.to_le_bytes());
        option(out, ISB_USRDELIV, &statistics.delivered.to_le_bytes());
        end_of_options(out);
    });
    out
}

/// Appends a block whose body, a multiple of 4 bytes, `body` appends.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let total = u32::try_from(out.len() - start + BLOCK_TRAILER_LEN).unwrap_or(u32::MAX).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&total);
    out.extend_from_slice(&total);
}

/// Appends an option that is a text, if it is not empty; a longer one than the format allows is
/// cut.
fn text(out: &mut Vec<u8>, code: u16, value: &str) {
    let value = &value[..value.floor_char_boundary(usize::from(u16::MAX))];
    if !value.is_empty() {
        option(out, code, value.as_bytes());
    }
}

/// Appends an option. The value is at most 65,535 bytes.
#[inline]
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

#[inline]
fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; OPTION_HEADER_LEN]);
}

/// Appends what is missing to a multiple of 4 behind `length` bytes.
#[inline]
fn pad(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&[0; 3][..length.next_multiple_of(4) - length]);
}

/// Splits a time into two halves of 32 bits, the high one first: not a 64-bit number in
/// little-endian.
#[inline]
fn halves(timestamp: Timestamp) -> (u32, u32) {
    // Each half is 32 bits by construction.
    #[allow(clippy::cast_possible_truncation)]
    ((timestamp.ns() >> 32) as u32, timestamp.ns() as u32)
}

fn time(timestamp: Timestamp) -> [u8; 8] {
    let (high, low) = halves(timestamp);
    let mut bytes = [0; 8];
    bytes[0..4].copy_from_slice(&high.to_le_bytes());
    bytes[4..8].copy_from_slice(&low.to_le_bytes());
    bytes
}
