//! The log has all that is allowed, so that the log alone tells who was let in when.

use ipnet::IpNet;

use super::lines;
use crate::source::Allowed;

/// Logs what is allowed from now on.
pub(super) fn log(allowed: &Allowed) {
    let vnis = allowed.vnis().map(|set| set.ranges().iter().map(ToString::to_string));
    list("VNIs", vnis);
    let sources = allowed.sources().map(|set| set.networks().iter().map(network));
    list("sources", sources);
}

/// Writes a network as people do: a single address without its length.
fn network(network: &IpNet) -> String {
    let is_single = network.prefix_len() == network.max_prefix_len();
    if is_single { network.addr().to_string() } else { network.to_string() }
}

fn list(what: &str, items: Option<impl Iterator<Item = String>>) {
    let Some(items) = items else { return tracing::info!("allowed {what}: all") };
    for (number, line) in lines::of(items).iter().enumerate() {
        let goes_on = if number > 0 { " (continued)" } else { "" };
        tracing::info!("allowed {what}{goes_on}: {line}");
    }
}
