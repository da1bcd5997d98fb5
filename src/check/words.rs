//! Numbers are written for people.

use std::fmt;

/// Bytes, as `1.5 GiB`; as they are where they are few.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let Some((unit, shift)) = UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0) else {
            return write!(f, "{} bytes", self.0);
        };
        let tenths = (u128::from(self.0) * 10) >> shift;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole} {unit}"),
            (whole, tenth) => write!(f, "{whole}.{tenth} {unit}"),
        }
    }
}

/// A number of things, as `1 file` or `2 files`.
pub(super) fn count(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(
            [text(7), text(1536), text(256 << 20), text(u64::MAX)].join(", "),
            "7 bytes, 1.5 KiB, 256 MiB, 16777215.9 TiB"
        );
        assert_eq!(count(1, "file") + ", " + &count(2, "file"), "1 file, 2 files");
    }
}
