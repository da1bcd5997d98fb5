//! Quantities are typed by people: numbers, sizes, durations, shares.

use std::fmt;
use std::time::Duration;

use super::typed::as_typed;
use crate::archive::MinFree;

/// A number of bytes, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Writes a size as it is typed: in the largest unit that it is a multiple of.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match unit(self.0) {
            Some((number, unit)) => write!(f, "{number}{unit}"),
            None => self.0.fmt(f),
        }
    }
}

as_typed!(Size, |text: &str| bytes(text).map(Size));

/// A time span, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Makes a span of so many seconds.
    #[must_use]
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

as_typed!(Span, |text: &str| duration(text).map(Span));

/// A time to wait, as people write it, which may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

as_typed!(Wait, |text: &str| match text.trim() {
    "0" | "0s" => Ok(Wait(Duration::ZERO)),
    text => duration(text).map(Wait),
});

/// Room to leave free on a file system, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free(pub MinFree);

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Without a unit so few bytes are taken for a slip.
            MinFree::Bytes(bytes @ 1..LEAST_BARE) if unit(bytes).is_none() => write!(f, "{bytes}B"),
            MinFree::Bytes(bytes) => Size(bytes).fmt(f),
            MinFree::Permille(share) if share % 10 == 0 => write!(f, "{}%", share / 10),
            MinFree::Permille(share) => write!(f, "{}.{}%", share / 10, share % 10),
            MinFree::Usual => f.write_str("5%"),
        }
    }
}

as_typed!(Free, |text: &str| min_free(text).map(Free));

/// Reads a size in bytes, as `100MiB`, `64k` or `1GB`.
///
/// # Errors
/// The text is no size; the error says how to write one.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    // The crate rounds behind so many digits, which leads from the largest number to 0.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let size = if digits <= MOST_DIGITS { parse_size::parse_size(text).ok() } else { None };
    size.ok_or_else(|| "not a size; write it as 100MiB, 1GB or 65536".into())
}

/// The largest size has so many digits in bytes.
const MOST_DIGITS: usize = u64::MAX.ilog10() as usize + 1;

/// Reads a whole number from `LEAST` to `MOST`.
///
/// # Errors
/// The text is no such number; the error says how to write one.
pub(crate) fn number<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let of = range(LEAST, MOST);
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("not a whole number; write one {}, in digits", of.replace("at least", "that is at least")));
    }
    let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("must be {of}"))
}

/// Returns a range in words, as `from 1 to 256`.
#[must_use]
pub(crate) fn range(least: u64, most: u64) -> String {
    if most == u64::MAX { format!("at least {least}") } else { format!("from {least} to {most}") }
}

/// Counts something in words, as `1 worker` or `2 workers`.
#[must_use]
pub(crate) fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Guesses what is meant by a number of bytes that is far too small: somebody forgot the unit.
#[must_use]
pub(crate) fn meant(bytes: u64) -> String {
    if (1..4096).contains(&bytes) { format!("; do you mean {bytes}MiB?") } else { String::new() }
}

/// Writes a size as people do: in the largest unit that it is a multiple of.
#[must_use]
pub(crate) fn size(bytes: u64) -> String {
    match unit(bytes) {
        Some((number, unit)) => format!("{number}{unit}"),
        None if bytes == 1 => "1 byte".into(),
        None => format!("{bytes} bytes"),
    }
}

/// Finds the largest unit that a number of bytes is a multiple of, and how many of it.
fn unit(bytes: u64) -> Option<(u64, &'static str)> {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let (shift, unit) = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))?;
    Some((bytes >> shift, unit))
}

/// Nobody means less room than this by a number of bytes without a unit.
const LEAST_BARE: u64 = 1 << 20;

/// Reads the room to leave free on a file system, as `10GiB` or as a share of its size, `5%` or
/// `0.5%`. Zero is none.
///
/// # Errors
/// The text is no such room; the error says how to write one.
pub(crate) fn min_free(text: &str) -> Result<MinFree, String> {
    let Some(percent) = text.strip_suffix('%') else {
        let has_unit = text.contains(|c: char| c.is_ascii_alphabetic());
        return match bytes(text)? {
            n @ 1..LEAST_BARE if !has_unit => {
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

/// Reads a duration above zero and up to ten years, as `1s`, `500ms` or `1h 30m`.
///
/// # Errors
/// The text is no duration; the error says how to write one.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(d) if d.is_zero() => Err("must be more than zero".into()),
        Ok(d) if d > LONGEST => Err("must be ten years at most".into()),
        Ok(d) => Ok(d),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("has no unit; write {text}s, {text}m or {text}h"))
        }
        Err(_) => Err("not a duration; write it as 500ms, 10s, 5m, 1h or 30days".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(bytes("100MiB"), Ok(100 << 20));
        assert_eq!(bytes("1GB"), Ok(1_000_000_000));
        // The help says so.
        assert_eq!((bytes("1G"), bytes("1GiB")), (Ok(1_000_000_000), Ok(1 << 30)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert!(duration("1M").unwrap() > Duration::from_secs(30 * 24 * 3600));
        for (number, text) in [(1536 << 20, "1536MiB"), (1 << 40, "1TiB"), (1001, "1001 bytes"), (0, "0 bytes")] {
            assert_eq!(size(number), text);
        }
        assert!(bytes("lots").is_err());
        assert_eq!(bytes("18446744073709551615"), Ok(u64::MAX));
        for behind in ["184467440737095516155", "1.84467440737095516155", "018446744073709551615.9"] {
            assert!(bytes(behind).is_err(), "{behind}");
        }
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
    fn numbers() {
        assert_eq!(number::<u16, 1, 256>("256"), Ok(256));
        for (text, answer) in [
            ("0", "must be from 1 to 256"),
            ("257", "must be from 1 to 256"),
            ("-1", "must be from 1 to 256"),
            ("99999999999999999999", "must be from 1 to 256"),
            ("auto", "not a whole number; write one from 1 to 256"),
            ("1.5", "not a whole number"),
            ("", "not a whole number"),
        ] {
            let said = number::<u16, 1, 256>(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
        assert_eq!(number::<u64, 1, { u64::MAX }>("0").unwrap_err(), "must be at least 1");
        assert_eq!(plural(1, "worker") + &plural(2, "worker"), "1 worker2 workers");
    }

    #[test]
    fn what_is_no_size_or_duration_is_answered_with_what_to_write() {
        for (text, answer) in [("lots", "not a size; write it as 100MiB"), ("-1", "not a size"), ("10ZB", "not a size")]
        {
            let said = bytes(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
        for (text, answer) in [
            ("5", "has no unit; write 5s, 5m or 5h"),
            ("-1s", "not a duration"),
            ("1x", "not a duration"),
            ("0s", "zero"),
        ] {
            let said = duration(text).unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for text in ["1GiB", "1536MiB", "1001", "0"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["1s", "1h", "1m 30s", "500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0s", "20s", "1m 30s"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        assert_eq!("0".parse(), Ok(Wait(Duration::ZERO)));
        assert!("-1s".parse::<Wait>().is_err() && "soon".parse::<Wait>().is_err());
        for text in ["10GiB", "5%", "0.5%", "99.9%", "0", "5000B", "64KiB"] {
            assert_eq!(text.parse::<Free>().unwrap().to_string(), text);
        }
    }
}
