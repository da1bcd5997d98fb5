//! The receive buffers hold for a while what comes while nobody reads, as over a restart.

use std::time::Duration;

use super::finding::Finding;
use crate::config::RunPlan;
use crate::view::LastHour;

/// The name of the finding.
pub(super) const RESTART: &str = "restart";
/// The least that a datagram takes of a buffer behind many network cards: a page.
const PAGE: u64 = 4096;
/// What the kernel adds to a datagram for its own bookkeeping.
const ADDED: u64 = 640;
/// The seconds of an hour.
const HOUR: f64 = 3600.0;

/// Says how long a receive buffer holds what comes at the rate of a sensor that runs; none where
/// nothing came.
pub(super) fn hold(plan: &RunPlan, lately: &LastHour) -> Option<Finding> {
    let LastHour { received, received_bytes, .. } = *lately;
    let each = (received_bytes.checked_div(received)? + ADDED).max(PAGE);
    // The kernel doubles what it is asked for.
    let buffer = u64::from(plan.source.udp.receive_buffer) * 2;
    let rate = received as f64 / lately.seconds.max(1.0);
    let holds = buffer as f64 / (each as f64 * rate);
    let when = if lately.seconds >= HOUR {
        "in the last hour".into()
    } else {
        let began = Duration::from_secs_f64(lately.seconds.clamp(1.0, HOUR));
        let ago = humantime::format_duration(Duration::from_secs(began.as_secs()));
        format!("since the sensor began {ago} ago")
    };
    Some(Finding::ok(
        RESTART,
        format!(
            "a receive buffer holds {holds:.1} s of the {rate:.0} datagrams a second that came on average {when}, \
             should all come to one worker: so long may a restart take"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_buffer_holds_what_fits() {
        let said = |seconds, received| {
            let lately = LastHour { seconds, received, received_bytes: 200 * received };
            hold(&plan("--receive-buffer 32MiB"), &lately).map(|found| found.reason)
        };
        let young = said(100.0, 1_000_000).unwrap();
        assert!(young.starts_with("a receive buffer holds 1.6 s of the 10000 datagrams"), "{young}");
        assert!(young.contains("on average since the sensor began 1m 40s ago, should"), "{young}");
        let old = said(3630.0, 3630 * 5000).unwrap();
        assert!(old.starts_with("a receive buffer holds 3.3 s of the 5000 datagrams"), "{old}");
        assert!(old.contains("on average in the last hour, should"), "{old}");
        assert_eq!(said(3630.0, 0), None, "at no rate it holds for ever");
    }
}
