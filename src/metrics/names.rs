//! The names of counters: they follow from the catalogue.
//!
//! A counter's name is its label and its unit, as `vxtap_received_datagrams_total`. A few have
//! another one, which says more to somebody who does not know the ledger.

use crate::ledger::{Reading, Unit};

/// The beginning of all names.
pub(super) const PREFIX: &str = "vxtap_";

/// Counters with a name of their own, as `output.files` or `fast_path.redirected`.
const RENAMED: &[(&str, &str)] = &[
    ("cut_by_mirror", "truncated_frames"),
    ("decapsulated", "decapsulated_frames"),
    ("reserved_bits", "reserved_flags_datagrams"),
    ("fast_path.redirected", "redirected_frames"),
    ("fast_path.not_redirected", "not_redirected_datagrams"),
    ("overflow.duplicates", "overflow_duplicate_frames"),
    ("expired.duplicates", "expired_duplicate_frames"),
    ("output.filtered_by", "output_filtered_frames"),
    ("output.files", "output_files_published"),
    ("output.hooks_skipped", "output_hooks_skipped"),
    ("output.hooks_left", "output_hooks_left"),
];

/// Counters without a metric: another has them by reason, and is their sum.
const SUMS: &[&str] = &["output.filtered"];

/// Returns the name of the metric of a counter that is in `group`, without `_total`; none where it
/// has none.
pub(super) fn stem(group: Option<&str>, reading: &Reading) -> Option<String> {
    let groups = group.into_iter().chain(reading.group);
    let path = groups.chain([reading.label]).collect::<Vec<_>>().join(".");
    if SUMS.contains(&path.as_str()) {
        return None;
    }
    if let Some((_, name)) = RENAMED.iter().find(|(renamed, _)| *renamed == path) {
        return Some(format!("{PREFIX}{name}"));
    }
    let (unit, label) = (reading.facts.unit, path.replace('.', "_"));
    let name = match unit {
        // How often something happened has no unit.
        Unit::Commands | Unit::Times => label,
        // What became of files, beside each other.
        Unit::Files => label.replacen(reading.label, &format!("files_{}", reading.label), 1),
        _ if label.ends_with(&format!("_{}", unit.label())) => label,
        _ => format!("{label}_{}", unit.label()),
    };
    Some(format!("{PREFIX}{name}"))
}
