//! Sensors are configured by files that are written here.

use std::fs;
use std::path::{Path, PathBuf};

/// The ways to receive, as lines of `[receive]`.
pub(crate) const WAYS: [&str; 3] = [
    "source = \"udp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"xdp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"tc\"",
];

/// Writes a file with these lines of `[receive]`, these tables, and an output `evidence` whose
/// captures go to the directory of that name. The last lines are of this output.
pub(crate) fn configuration(directory: &Path, receive: &str, tables: &str, evidence: &str) -> PathBuf {
    let file = directory.join("vxtap.toml");
    let captures = directory.join("evidence");
    let text = format!(
        "[receive]\n{receive}\n{tables}\n[output.evidence]\nkind = \"pcap\"\ndirectory = {captures:?}\n{evidence}\n"
    );
    fs::write(&file, text).unwrap();
    file
}
