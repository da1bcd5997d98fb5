//! Values as people type them: sizes, durations, addresses, VNIs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::sessions;
use crate::archive::MinFree;
use crate::cli::InterfaceArg;

/// The IANA port of VXLAN (RFC 7348 section 8).
pub const VXLAN_PORT: u16 = 4789;

/// A size in bytes, as `100MiB`, `64k` or `1GB`.
///
/// # Errors
/// A text that says what is wrong.
pub fn bytes(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|e| format!("{e}; write it as 100MiB, 1GB or 65536"))
}

/// A size as people write it: in the largest unit that it is a multiple of.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// Room to leave free on a file system, as `10GiB` or as a share of its size, `5%` or `0.5%`. Zero
/// is none.
///
/// # Errors
/// A text that says what is wrong.
pub fn min_free(text: &str) -> Result<MinFree, String> {
    /// Nobody means less than this by a number without a unit.
    const LEAST: u64 = 1 << 20;
    let Some(percent) = text.strip_suffix('%') else {
        let has_unit = text.contains(|c: char| c.is_ascii_alphabetic());
        return match bytes(text)? {
            n @ 1..LEAST if !has_unit => {
                let share = if n < 100 { n } else { 5 };
                Err(format!(
                    "that is {n} bytes; {share}%? Write it as {share}% or 10GiB, or 0 to use all of the file system"
                ))
            }
            n => Ok(MinFree::Bytes(n)),
        };
    };
    let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str, most: usize| {
        let fits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse::<u16>().ok()).flatten()
    };
    match (digits(whole.trim(), 3), digits(tenth.trim(), 1)) {
        (Some(whole), Some(tenth)) if (1..1000).contains(&(whole * 10 + tenth)) => {
            Ok(MinFree::Permille(whole * 10 + tenth))
        }
        (Some(_), Some(_)) => Err("must be more than 0% and less than 100%; 0 uses all of the file system".into()),
        _ => Err("not a share; write it as 5% or 0.5%, or in bytes as 10GiB".into()),
    }
}

/// The longest duration: ten years. More is a slip, and could not be added to the time of day.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A duration above zero and up to ten years, as `1s`, `500ms` or `1h 30m`.
///
/// # Errors
/// A text that says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(d) if d.is_zero() => Err("must be more than zero".into()),
        Ok(d) if d > LONGEST => Err("must be ten years at most".into()),
        Ok(d) => Ok(d),
        Err(e) => Err(format!("{e}; write it as 500ms, 10s, 5m or 1h")),
    }
}

/// An address with or without a port; the port is [`VXLAN_PORT`] unless given.
///
/// # Errors
/// A text that says what is wrong.
pub fn target(text: &str) -> Result<SocketAddr, String> {
    if let Ok(full) = text.parse::<SocketAddr>() {
        return Ok(full);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, VXLAN_PORT))
        .map_err(|_| "not an address; write 192.0.2.1, 192.0.2.1:4789, 2001:db8::1 or [2001:db8::1]:4789".into())
}

/// The name of an interface, with or without `:vni=N,...`.
///
/// # Errors
/// A text that says what is wrong.
pub fn interface(text: &str) -> Result<InterfaceArg, String> {
    let (name, vnis) = match text.split_once(':') {
        Some((name, more)) => {
            let list =
                more.strip_prefix("vni=").ok_or_else(|| format!("{more:?}: write it as mirror0:vni=100,200-299"))?;
            (name, sessions::vnis(list)?)
        }
        None => (text, None),
    };
    Ok(InterfaceArg { name: name.to_owned(), vnis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(bytes("100MiB"), Ok(100 << 20));
        assert_eq!(bytes("1GB"), Ok(1_000_000_000));
        // As --help says.
        assert_eq!((bytes("1G"), bytes("1GiB")), (Ok(1_000_000_000), Ok(1 << 30)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert!(duration("1M").unwrap() > Duration::from_secs(30 * 24 * 3600));
        for (number, text) in [(1536 << 20, "1536MiB"), (1 << 40, "1TiB"), (1001, "1001 bytes"), (0, "0 bytes")] {
            assert_eq!(size(number), text);
        }
        assert!(bytes("lots").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("0s").is_err());
        assert!(duration("10000000000000000000s").is_err());
        assert!(duration("5").is_err());
    }

    #[test]
    fn room_to_leave_free() {
        assert_eq!(min_free("10GiB"), Ok(MinFree::Bytes(10 << 30)));
        assert_eq!(min_free("5%"), Ok(MinFree::Permille(50)));
        assert_eq!(min_free("0.5 %"), Ok(MinFree::Permille(5)));
        assert_eq!(min_free("99.9%"), Ok(MinFree::Permille(999)));
        assert_eq!(min_free("0"), Ok(MinFree::Bytes(0)));
        assert_eq!(min_free("1048576"), Ok(MinFree::Bytes(1 << 20)));
        assert_eq!(min_free("5k"), Ok(MinFree::Bytes(5000)), "who writes a unit means it");
        for (bytes, share) in [("5", "5%?"), ("99", "99%?"), ("100", "5%?"), ("1048575", "5%?"), ("5_0", "50%?")] {
            let said = min_free(bytes).unwrap_err();
            assert!(said.contains(share) && said.contains("bytes"), "{said}");
        }
        for wrong in ["", "%", "0%", "0.0%", "100%", "-5%", "+5%", "5.%", ".5%", "5.55%", "9999%", "much"] {
            assert!(min_free(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn targets() {
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1:4789"),
            ("192.0.2.1:8472", "192.0.2.1:8472"),
            ("2001:db8::1", "[2001:db8::1]:4789"),
            ("[2001:db8::1]", "[2001:db8::1]:4789"),
            ("[2001:db8::1]:8472", "[2001:db8::1]:8472"),
        ] {
            assert_eq!(target(text).as_ref().map(ToString::to_string).as_deref(), Ok(want));
        }
        assert!(target("bastion").is_err());
    }

    #[test]
    fn interfaces() {
        let vnis = |text| sessions::vnis(text).unwrap();
        assert_eq!(interface("mirror0"), Ok(InterfaceArg { name: "mirror0".into(), vnis: None }));
        assert_eq!(interface("m:vni=1-5,200"), Ok(InterfaceArg { name: "m".into(), vnis: vnis("200,1-5") }));
        assert_eq!(interface("m:vni=all"), Ok(InterfaceArg { name: "m".into(), vnis: None }));
        for wrong in ["m:", "m:vni=", "m:vni=x", "m:vlan=1", "m:vni=1,16777216"] {
            assert!(interface(wrong).is_err(), "{wrong}");
        }
    }
}
