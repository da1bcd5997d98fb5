//! Sensors are configured by files that are written here.

use std::fs;
use std::path::{Path, PathBuf};

/// The ways to receive, as lines of `[receive]`.
pub(crate) const WAYS: [&str; 3] = [
    "source = \"udp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"xdp\"",
    "source = \"bpf\"\ninterface = \"eth0\"\nattach = \"tc\"",
];

/// Returns lines of `[receive]` by which a sensor that receives in this way has room for what comes
/// while it has to wait for a core for some seconds.
pub(crate) fn patient(receive: &str) -> &'static str {
    if receive.contains("bpf") { "buffer = \"256MiB\"\nring = \"64MiB\"" } else { "buffer = \"256MiB\"" }
}

/// Writes a file with these lines of `[receive]`, these tables, and an output `evidence` whose
/// captures go to the directory of that name. The last lines are of this output. No file is cut
/// when the clock passes an hour, which a test may just see.
pub(crate) fn configuration(directory: &Path, receive: &str, tables: &str, evidence: &str) -> PathBuf {
    let file = directory.join("vxtap.toml");
    let captures = directory.join("evidence");
    let text = format!(
        "[receive]\n{receive}\n{tables}\n[output.evidence]\nkind = \"pcap\"\ndirectory = {captures:?}\n\
         rotate_time = \"3000d\"\n{evidence}\n"
    );
    fs::write(&file, text).unwrap();
    file
}
