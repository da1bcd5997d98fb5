//! Numbers are shown in few columns.

use indicatif::HumanCount;

/// Writes a rate in six columns at most: `0`, `12.3`, `12345`, `1.23 M`.
pub(super) fn rate(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".into(),
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 99_999.5 => format!("{v:.0}"),
        v if v < 9_995_000.0 => format!("{:.2} M", v / 1e6),
        v => format!("{:.0} M", v / 1e6),
    }
}

/// Writes a count with a comma between thousands.
pub(super) fn count(value: u64) -> String {
    HumanCount(value).to_string()
}

/// Writes bytes in units of 1024: `900 B`, `1.2 GiB`.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 || scaled >= 99.95 {
        format!("{scaled:.0} {}", UNITS[unit])
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

/// Writes a time that has passed in one unit: `now`, `12 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 2.0 => "now".into(),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_few_columns() {
        for (value, text) in
            [(-1.0, "0"), (0.04, "0.0"), (12.34, "12.3"), (99.96, "100"), (99_999.0, "99999"), (1_234_567.0, "1.23 M")]
        {
            assert_eq!(rate(value), text);
            assert!(text.len() <= 6);
        }
        for (value, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1 << 30, "1.0 GiB"), (150 << 20, "150 MiB")]
        {
            assert_eq!(bytes(value), text);
        }
        assert!(bytes(u64::MAX).ends_with("PiB"));
        for (value, text) in [(-5.0, "now"), (12.0, "12 s"), (300.0, "5 min"), (7200.0, "2 h"), (864_000.0, "10 d")] {
            assert_eq!(ago(value), text);
        }
    }
}
