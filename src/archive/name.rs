//! Names of capture files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::manifest::Session;
use crate::record::Timestamp;

/// Ending of a file that is still written to.
pub const PART: &str = ".part";

/// What is put before a salvaged file's endings.
const RECOVERED: &str = ".recovered";

const OVERFLOW: &str = "overflow";

/// The name of a session's directory, and how its files' names begin: `vni<VNI>_<source>`, with the `:` of IPv6 addresses replaced by
/// `-`, as some file systems and tools require; `overflow` for the frames of sessions beyond the limit.
#[must_use]
pub fn session(session: Option<&Session>) -> String {
    match session {
        Some(Session { source, vni }) => format!("vni{vni}_{}", source.to_string().replace(':', "-")),
        None => OVERFLOW.into(),
    }
}

/// The session that a directory of this name belongs to, the overflow session being `None`; nothing where it is no session's.
#[must_use]
pub fn parse_session(name: &str) -> Option<Option<Session>> {
    if name == OVERFLOW {
        return Some(None);
    }
    let (vni, source) = name.strip_prefix("vni")?.split_once('_')?;
    let source: IpAddr = source.replace('-', ":").parse().ok()?;
    Some(Some(Session { source, vni: vni.parse().ok()? }))
}

/// The name under which a capture is written, and the one under which it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// While it is written to.
    pub part: PathBuf,
    /// When it is complete.
    pub published: PathBuf,
}

impl Names {
    /// Names in `directory` for file number `sequence` of `session`, whose first frame came at `start`; `ending` says of what kind it
    /// is, as `pcap`.
    #[must_use]
    pub fn new(directory: &Path, session: &str, start: Timestamp, sequence: u32, ending: &str) -> Self {
        let name = format!("{session}_{}_{sequence:06}.{ending}", start.compact());
        Self { part: directory.join(format!("{name}{PART}")), published: directory.join(name) }
    }

    /// The names of a left-over, by that of its part file; `None` where it is not one.
    #[must_use]
    pub fn of_part(part: &Path) -> Option<Self> {
        let name = part.file_name()?.to_str()?.strip_suffix(PART)?;
        Some(Self { part: part.to_path_buf(), published: part.with_file_name(name) })
    }

    /// The name under which a salvaged file is published: `X.recovered.pcap` for `X.pcap`, with a number from the second `attempt` on.
    #[must_use]
    pub fn recovered(&self, attempt: u32) -> Option<PathBuf> {
        let name = self.published.file_name()?.to_str()?;
        // The endings begin behind the last part of the name that holds no dot of an address: the sequence number.
        let (stem, endings) = name.rsplit_once('_').and_then(|(stem, rest)| {
            let (number, endings) = rest.split_once('.')?;
            Some((format!("{stem}_{number}"), endings))
        })?;
        let again = if attempt > 1 { format!("-{attempt}") } else { String::new() };
        Some(self.published.with_file_name(format!("{stem}{RECOVERED}{again}.{endings}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_sort_and_can_be_read_back() {
        for (source, name) in [("192.0.2.1", "vni7_192.0.2.1"), ("2001:db8::1", "vni7_2001-db8--1")] {
            let key = Session { source: source.parse().unwrap(), vni: 7 };
            assert_eq!(session(Some(&key)), name);
            assert_eq!(parse_session(name), Some(Some(key)));
        }
        assert_eq!(session(None), "overflow");
        assert_eq!(parse_session("overflow"), Some(None));
        for other in ["lost+found", "vni7", "vnix_192.0.2.1", "vni7_192.0.2", "manifest.jsonl"] {
            assert_eq!(parse_session(other), None, "{other}");
        }
        let start = Timestamp::from_ns(1_795_490_309_000_000_001);
        let names = Names::new(Path::new("/c/vni7_192.0.2.1"), "vni7_192.0.2.1", start, 12, "pcap.zst");
        let published = "/c/vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000012.pcap.zst";
        assert_eq!(names.published.to_str(), Some(published));
        assert_eq!(names.part.to_str(), Some(format!("{published}.part").as_str()));
        assert_eq!(Names::of_part(&names.part), Some(names.clone()));
        assert_eq!(Names::of_part(&names.published), None);
        let recovered = "/c/vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000012.recovered";
        assert_eq!(names.recovered(1).unwrap().to_str(), Some(format!("{recovered}.pcap.zst").as_str()));
        assert_eq!(names.recovered(2).unwrap().to_str(), Some(format!("{recovered}-2.pcap.zst").as_str()));
    }
}
