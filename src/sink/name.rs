//! Names of capture files.

use std::path::{Path, PathBuf};

use crate::record::Timestamp;
use crate::route::SessionKey;

/// Ending of a file that is still written to.
const PART: &str = ".part";

/// `vni<VNI>_<source>`, with the `:` of IPv6 addresses replaced by `-`, as some file systems and tools require; `overflow` for
/// the frames of sessions beyond the limit.
pub(super) fn session(key: Option<SessionKey>) -> String {
    match key {
        Some(key) => format!("vni{}_{}", key.vni, key.source().to_string().replace(':', "-")),
        None => "overflow".into(),
    }
}

/// The name under which a capture is written, and the one under which it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) part: PathBuf,
    pub(super) published: PathBuf,
}

/// Names in `directory` for file number `sequence` of `session`, whose first frame came at `start`.
pub(super) fn names(directory: &Path, session: &str, start: Timestamp, sequence: u32) -> Names {
    let name = format!("{session}_{}_{sequence:06}.pcap", start.compact());
    Names { part: directory.join(format!("{name}{PART}")), published: directory.join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;

    #[test]
    fn names_are_safe_and_sort() {
        let key = |source: &str| SessionKey { source: source.parse().unwrap(), vni: Vni::new(7).unwrap() };
        assert_eq!(session(Some(key("::ffff:192.0.2.1"))), "vni7_192.0.2.1");
        assert_eq!(session(Some(key("2001:db8::1"))), "vni7_2001-db8--1");
        assert_eq!(session(None), "overflow");
        let names =
            names(Path::new("/c/vni7_192.0.2.1"), "vni7_192.0.2.1", Timestamp::from_ns(1_795_490_309_000_000_001), 12);
        assert_eq!(names.published.to_str(), Some("/c/vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000012.pcap"));
        assert_eq!(names.part.to_str(), Some("/c/vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000012.pcap.part"));
    }
}
