//! What is kept of frames, of flows and of duplicates, as people write it.
//!
//! A fault is worded so that it goes on from `"WORD" is` and says what to write instead.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::typed::as_typed;
use super::units::{Size, bytes};
use crate::route::slice::{Layer, Slice};

as_typed!(Slice, slice);

/// Reads a slice, as `l4` or `l4+64`.
///
/// # Errors
/// The text is none; the error says how to write one.
pub(crate) fn slice(text: &str) -> Result<Slice, String> {
    let layer = |text| match text {
        "l2" => Some(Layer::L2),
        "l3" => Some(Layer::L3),
        "l4" => Some(Layer::L4),
        _ => None,
    };
    let slice = match text.split_once('+') {
        Some((front, more)) => layer(front).zip(decimal(more)),
        None => layer(text).zip(Some(0)),
    };
    let slice = slice.map(|(layer, more)| Slice { layer, more });
    slice.ok_or_else(|| "not a slice; write l2, l3 or l4, or with the bytes that are kept behind it, as l4+64".into())
}

/// Reads a number of bytes that a frame can have.
fn decimal(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= usize::from(u16::MAX))
}

/// Bytes that are kept of a TLS flow behind its handshake, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls(pub u64);

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("handshake"),
            more => write!(f, "handshake+{}", Size(more)),
        }
    }
}

as_typed!(Tls, tls);

/// Reads what is kept of a TLS flow, as `handshake` or `handshake+64KiB`.
///
/// # Errors
/// The text is nothing of the kind; the error says how to write it.
pub(crate) fn tls(text: &str) -> Result<Tls, String> {
    let more = text.strip_prefix("handshake").and_then(|more| match more.strip_prefix('+') {
        Some(more) => bytes(more).ok(),
        None => Some(0).filter(|_| more.is_empty()),
    });
    more.map(Tls).ok_or_else(|| {
        "not a part of TLS; write handshake, or with the bytes that are kept behind it, as handshake+64KiB".into()
    })
}

/// What becomes of packets that another session of the group delivered before, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// Nobody looks for them.
    Off,
    /// No output gets them.
    Drop,
    /// All outputs get them, and records say which packets are the same.
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_read_as_they_are_written() {
        for text in ["l2", "l3", "l4", "l4+64", "l2+65535"] {
            assert_eq!(text.parse::<Slice>().map(|slice| slice.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "l1", "l5", "L4", "l4+", "l4+-1", "l4++1", "l4+64KiB", "l4+65536", "+4", "l4 + 4"] {
            let fault = text.parse::<Slice>().unwrap_err();
            assert!(fault.starts_with("not a slice; write l2"), "{text}: {fault}");
        }
    }

    #[test]
    fn parts_of_tls_are_read_as_they_are_written() {
        for (text, more) in [("handshake", 0), ("handshake+64KiB", 65_536), ("handshake+1000", 1000)] {
            assert_eq!(text.parse(), Ok(Tls(more)));
            assert_eq!(Tls(more).to_string(), text);
        }
        assert_eq!("handshake+0".parse(), Ok(Tls(0)));
        for text in ["", "64KiB", "handshake+", "handshake64KiB", "handshake+much", "handshakes"] {
            assert!(text.parse::<Tls>().unwrap_err().starts_with("not a part of TLS; "), "{text}");
        }
    }
}
