//! The receive buffers hold for a while what comes while nobody reads, as over a restart.

use std::path::Path;

use serde_json::Value;

use super::finding::Finding;
use crate::config::RunPlan;
use crate::control::Client;
use crate::view::Status;

/// The name of the finding.
pub(super) const RESTART: &str = "restart";
/// The least that a datagram takes of a buffer behind many network cards: a page.
const PAGE: u64 = 4096;
/// What the kernel adds to a datagram for its own bookkeeping.
const ADDED: u64 = 640;

/// What a sensor has received since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    datagrams: u64,
    bytes: u64,
    seconds: f64,
}

impl Flow {
    /// Asks the sensor at this control socket; `None` where nobody answers, or nothing has come.
    pub(super) fn at(socket: Option<&Path>) -> Option<Self> {
        let client = Client::local(socket);
        let status: Status = serde_json::from_str(&client.get("/status").ok()?).ok()?;
        let ledger: Value = serde_json::from_str(&client.get("/ledger?top=0").ok()?).ok()?;
        let number = |name: &str| ledger.get(name).and_then(Value::as_u64);
        let (datagrams, bytes) = (number("received")?, number("received_bytes")?);
        (datagrams > 0).then_some(Self { datagrams, bytes, seconds: status.uptime_seconds.max(1.0) })
    }
}

/// Says how long a receive buffer holds what comes at the rate of a sensor that runs.
pub(super) fn hold(plan: &RunPlan, flow: &Flow) -> Finding {
    // The kernel doubles what it is asked for.
    let buffer = u64::from(plan.source.udp.receive_buffer) * 2;
    let each = (flow.bytes / flow.datagrams.max(1) + ADDED).max(PAGE);
    let rate = flow.datagrams as f64 / flow.seconds;
    let seconds = buffer as f64 / (each as f64 * rate);
    Finding::ok(
        RESTART,
        format!(
            "a receive buffer holds {seconds:.1} s of the {rate:.0} datagrams a second that came on average since the sensor began, \
             should all come to one worker: so long may a restart take"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_buffer_holds_what_fits() {
        let flow = Flow { datagrams: 1_000_000, bytes: 200_000_000, seconds: 100.0 };
        let found = hold(&plan("--receive-buffer 32MiB"), &flow);
        assert!(found.reason.starts_with("a receive buffer holds 1.6 s of the 10000 datagrams"), "{}", found.reason);
    }
}
