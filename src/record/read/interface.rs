//! An interface of pcapng says what the times of its packets count.

use pcap_file::{DataLink, Endianness};

use super::super::pcapng::{IF_TSOFFSET, IF_TSRESOL};
use super::super::window::field;
use super::error::Damage;
use super::input::{fixed_part, u32_at};
use super::options::{Options, u16_at};

/// The facts about an interface that its packet blocks need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interface {
    pub(super) link_type: DataLink,
    pub(super) snaplen: u32,
    /// True where `ts_digits` counts binary digits of the fraction of a second, not decimal ones.
    ts_binary: bool,
    ts_digits: u8,
    /// Seconds to add to each timestamp.
    ts_offset: i64,
}

impl Interface {
    /// Reads the body of an interface description block.
    pub(super) fn new(body: &[u8], endianness: Endianness) -> Result<Interface, Damage> {
        /// Link type, two reserved bytes, and snapshot length.
        const FIXED: usize = 8;
        /// The bit of a resolution that says that the digits are binary.
        const BINARY: u8 = 0x80;
        fixed_part(body, "interface description", FIXED)?;
        let mut interface = Interface {
            link_type: DataLink::from(u32::from(u16_at(body, 0, endianness))),
            snaplen: u32_at(body, 4, endianness),
            // Microseconds, unless an option says otherwise.
            ts_binary: false,
            ts_digits: 6,
            ts_offset: 0,
        };
        for option in Options::new(body.get(FIXED..).unwrap_or_default(), endianness).all() {
            match option {
                (IF_TSRESOL, Some(&[resolution])) => {
                    interface.ts_binary = resolution & BINARY != 0;
                    interface.ts_digits = resolution & !BINARY;
                }
                (IF_TSOFFSET, Some(value)) if value.len() == 8 => {
                    interface.ts_offset = match endianness {
                        Endianness::Big => i64::from_be_bytes(field(value, 0)),
                        Endianness::Little => i64::from_le_bytes(field(value, 0)),
                    };
                }
                // Without these, times would be wrong.
                (code @ (IF_TSRESOL | IF_TSOFFSET), _) | (code, None) => {
                    return Err(Damage::Block(format!("option {code} of an interface has a wrong length")));
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// Returns nanoseconds since the epoch. A time that does not fit becomes the nearest that does.
    pub(super) fn timestamp(&self, high: u32, low: u32) -> u64 {
        let units = u128::from(high) << 32 | u128::from(low);
        let nanoseconds = if self.ts_binary {
            (units * 1_000_000_000).checked_shr(self.ts_digits.into()).unwrap_or(0)
        } else {
            units * 1_000_000_000 / 10u128.saturating_pow(self.ts_digits.into())
        };
        let offset = u128::from(self.ts_offset.unsigned_abs()) * 1_000_000_000;
        let time = if self.ts_offset < 0 { nanoseconds.saturating_sub(offset) } else { nanoseconds + offset };
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}
