//! The kernel knows whether its clock is set by something better.

/// Says whether the clock is synchronised; `None` where the kernel does not tell.
pub(crate) fn is_synchronised() -> Option<bool> {
    // SAFETY: timex is a structure of numbers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex(2) fills the structure, which it has for itself during the call; with no
    // modes it changes nothing else.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => None,
        state => Some(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_asked_and_not_set() {
        let before = std::time::SystemTime::now();
        let first = is_synchronised();
        assert_eq!(is_synchronised(), first);
        assert!(before.elapsed().is_ok_and(|time| time.as_secs() < 60));
    }
}
