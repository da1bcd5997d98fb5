//! Timestamps are worth as much as the clock that they come from.

use super::finding::Finding;

/// The name of the finding.
pub(super) const CLOCK: &str = "clock";

/// Says whether something better sets the clock.
pub(super) fn clock(is_synchronised: Option<bool>) -> Finding {
    match is_synchronised {
        Some(true) => Finding::ok(CLOCK, "the clock is synchronised"),
        Some(false) => Finding::warning(
            CLOCK,
            "the clock is not synchronised: timestamps of captures cannot be compared with those of other hosts",
            "timedatectl set-ntp true, or install chrony",
        ),
        None => Finding::ok(CLOCK, "the kernel does not tell whether the clock is synchronised"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_by_itself_is_a_warning() {
        assert_eq!([true, false].map(|set| clock(Some(set)).level), [Level::Ok, Level::Warning]);
        assert_eq!(clock(None).level, Level::Ok);
    }
}
