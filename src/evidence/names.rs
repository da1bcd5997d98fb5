//! Capture files have names.

use std::path::{Component, Path, PathBuf};

use crate::record::Timestamp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::session::{Session, check_name};

/// Ending of a file that is still written to.
pub(crate) const PART: &str = ".part";

/// Ending of a part file's copy that does not have its name yet.
pub(crate) const COPY: &str = ".salvage";

/// The text that is put before a salvaged file's endings.
const RECOVERED: &str = ".recovered";

const OVERFLOW: &str = "overflow";

/// Returns the name of a session's directory, which is also how its files' names begin; `overflow`
/// for the frames of sessions beyond the limit. `given` is the name that people gave the session.
#[must_use]
pub(crate) fn session(session: Option<&Session>, given: Option<&str>) -> String {
    match (session, given) {
        (None, _) => OVERFLOW.to_owned(),
        (Some(session), None) => session.directory_name(),
        (Some(session), Some(given)) => format!("{given}_{}", session.directory_name()),
    }
}

/// Finds the session that a directory of this name belongs to, the overflow session being `None`.
/// Returns nothing where it is no session's.
#[must_use]
pub(crate) fn parse_session(name: &str) -> Option<Option<Session>> {
    if name == OVERFLOW { Some(None) } else { split(name).map(|(_, session)| Some(session)) }
}

/// Returns the name that people gave the session of a capture at this path, which is relative to
/// the directory of the manifest.
#[must_use]
pub(crate) fn given(path: &str) -> Option<&str> {
    path.split_once('/').and_then(|(directory, _)| split(directory)?.0)
}

/// Splits the name of a session's directory into the name that people gave the session, if any, and
/// the session.
fn split(directory: &str) -> Option<(Option<&str>, Session)> {
    if let Some(session) = Session::from_directory_name(directory) {
        return Some((None, session));
    }
    // What follows the name begins with `vni` or with an encapsulation, and no name ends with one:
    // so it is found at one place at most.
    directory.match_indices('_').find_map(|(at, _)| {
        let (given, rest) = directory.split_at(at);
        check_name(given).ok()?;
        Some((Some(given), Session::from_directory_name(rest.strip_prefix('_')?)?))
    })
}

/// The two names of a capture: while it is written, and when it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The path while it is written to.
    pub part: PathBuf,
    /// The path when it is complete.
    pub published: PathBuf,
}

impl Names {
    /// Makes the names in `directory` for file number `sequence` of `session`, whose first frame
    /// came at `start`. The `ending` says of what kind the file is, as `pcap`.
    #[must_use]
    pub(crate) fn new(directory: &Path, session: &str, start: Timestamp, sequence: u32, ending: &str) -> Self {
        let name = format!("{session}_{}_{sequence:06}.{ending}", start.compact());
        Self { part: directory.join(format!("{name}{PART}")), published: directory.join(name) }
    }

    /// Returns the names of a left-over, by that of its part file; `None` where it is not one.
    #[must_use]
    pub(crate) fn of_part(part: &Path) -> Option<Self> {
        let name = part.file_name()?.to_str()?.strip_suffix(PART)?;
        Some(Self { part: part.to_path_buf(), published: part.with_file_name(name) })
    }

    /// Returns the name under which a salvaged file is published: `X.recovered.pcap` for `X.pcap`,
    /// with a number from the second `attempt` on.
    #[must_use]
    pub(crate) fn recovered(&self, attempt: u32) -> Option<PathBuf> {
        let again = if attempt > 1 { format!("-{attempt}") } else { String::new() };
        self.with(&format!("{RECOVERED}{again}"))
    }

    /// Returns the name under which a file is published where something else has its own:
    /// `X-2.pcap` for `X.pcap`. Attempts begin with the second.
    #[must_use]
    pub(crate) fn another(&self, attempt: u32) -> Option<PathBuf> {
        self.with(&format!("-{attempt}"))
    }

    /// Returns the name with something before its endings.
    fn with(&self, what: &str) -> Option<PathBuf> {
        let name = self.published.file_name()?.to_str()?;
        // The endings begin behind the sequence number, the last part of the name, which holds no
        // dot of an address.
        let (stem, endings) = name.rsplit_once('_').and_then(|(stem, rest)| {
            let (number, endings) = rest.split_once('.')?;
            Some((format!("{stem}_{number}"), endings))
        })?;
        Some(self.published.with_file_name(format!("{stem}{what}.{endings}")))
    }
}

/// Returns the names that a capture may have while its line is written and its own name is not
/// there yet. A salvaged capture has the name of the part file, or of a copy of the part file.
#[must_use]
pub(crate) fn before(published: &str) -> Vec<String> {
    if let Some(name) = unrecovered(published) {
        return vec![format!("{name}{PART}{COPY}"), format!("{name}{PART}")];
    }
    vec![format!("{}{PART}", first(published).as_deref().unwrap_or(published))]
}

/// Returns `X.pcap` for `X.recovered.pcap` and `X.recovered-2.pcap`: the reverse of
/// [`Names::recovered`].
fn unrecovered(name: &str) -> Option<String> {
    let (stem, rest) = name.rsplit_once('_')?;
    let (number, rest) = rest.split_once(RECOVERED)?;
    let (again, endings) = rest.split_once('.')?;
    let is_again = again.is_empty() || again.strip_prefix('-').is_some_and(is_number);
    (is_number(number) && is_again).then(|| format!("{stem}_{number}.{endings}"))
}

/// Returns `X.pcap` for `X-2.pcap`: the reverse of [`Names::another`].
fn first(name: &str) -> Option<String> {
    let (stem, rest) = name.rsplit_once('_')?;
    let (number, endings) = rest.split_once('.')?;
    let (number, attempt) = number.split_once('-')?;
    (is_number(number) && is_number(attempt)).then(|| format!("{stem}_{number}.{endings}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says whether a file in the directory of `session` has a name such as is given to a capture that
/// is complete, salvaged captures included.
#[must_use]
pub(crate) fn is_published(session: &str, name: &str) -> bool {
    let plain = unrecovered(name).or_else(|| first(name));
    let name = plain.as_deref().unwrap_or(name);
    let rest = name.strip_prefix(session).and_then(|rest| rest.strip_prefix('_'));
    rest.and_then(|rest| rest.split_once('_')).is_some_and(|(time, rest)| {
        let is_time = time.len() == "20261124T031829Z".len() && time.ends_with('Z');
        let is_sequence = rest.split_once('.').is_some_and(|(number, _)| number.len() >= 6 && is_number(number));
        is_time && is_sequence && is_capture(name) && !name.ends_with(PART)
    })
}

/// Says whether a file of this name is a capture, complete or not: it ends as a format does, then
/// perhaps as a compression, then perhaps in `.part`.
#[must_use]
pub(crate) fn is_capture(name: &str) -> bool {
    let whole = name.strip_suffix(PART).unwrap_or(name);
    let uncompressed = Compression::EXTENSIONS.iter().find_map(|extension| without(whole, extension));
    let plain = uncompressed.unwrap_or(whole);
    Format::ALL.iter().any(|format| without(plain, format.extension()).is_some_and(|stem| !stem.is_empty()))
}

/// Returns what stands in front of `.` and `extension` at the end of `name`.
fn without<'a>(name: &'a str, extension: &str) -> Option<&'a str> {
    name.strip_suffix(extension)?.strip_suffix('.')
}

/// Says whether a path that a manifest names may be touched: a session's directory and a capture in
/// it, and nothing else.
///
/// A manifest may have been tampered with. Its lines must not lead to another file.
#[must_use]
pub(crate) fn is_capture_path(path: &str) -> bool {
    is_inside(path)
        && path.split_once('/').is_some_and(|(directory, name)| {
            !name.contains('/') && parse_session(directory).is_some() && is_capture(name)
        })
}

/// Says whether a path is that of a capture that is complete. No line publishes or removes another.
#[must_use]
pub(crate) fn is_complete_path(path: &str) -> bool {
    is_capture_path(path) && !path.ends_with(PART)
}

/// Says whether a path is that of a complete capture whose name is such as this program gives. A
/// file that a line says was published or removed may be removed if so.
#[must_use]
pub(crate) fn is_removable_path(path: &str) -> bool {
    is_complete_path(path) && path.split_once('/').is_some_and(|(directory, name)| is_published(directory, name))
}

/// Says whether a path leads to something below the directory, and is written in the one way there
/// is to write it.
#[must_use]
pub(crate) fn is_inside(path: &str) -> bool {
    let normal = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    // Components skip `//`, `/./` and a trailing `/`, and the system ends names at NUL.
    normal && path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Vni, address};

    #[test]
    fn names_are_safe_sort_and_can_be_read_back() {
        for (source, name) in [("192.0.2.1", "vni7_192.0.2.1"), ("2001:db8::1", "vni7_2001-db8--1")] {
            let key = Session::vxlan(address::of(source.parse().unwrap()), Vni::new(7).unwrap());
            assert_eq!(session(Some(&key), None), name);
            assert_eq!(parse_session(name), Some(Some(key)));
        }
        assert_eq!((session(None, None), session(None, Some("web"))), ("overflow".into(), "overflow".into()));
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
        for attempt in [1, 2, 30] {
            let recovered = names.recovered(attempt).unwrap();
            assert_eq!(
                before(recovered.to_str().unwrap()),
                [format!("{published}.part.salvage"), format!("{published}.part")]
            );
        }
        let another = names.another(2).unwrap();
        assert!(another.to_str().unwrap().ends_with("_000012-2.pcap.zst"), "{another:?}");
        assert_eq!(before(another.to_str().unwrap()), [format!("{published}.part")]);
        for other in [
            published,
            "x_1-.pcap",
            "x_1-b.pcap",
            "overflow/x.recovered.pcap",
            "x_1.recovered-.pcap",
            "x_1.recovered-b.pcap",
        ] {
            assert_eq!(before(other), [format!("{other}.part")]);
        }
    }

    #[test]
    fn a_given_name_stands_before_the_session_and_is_passed_over() {
        for source in ["192.0.2.1", "2001:db8::1"] {
            let key = Session::vxlan(address::of(source.parse().unwrap()), Vni::new(7).unwrap());
            let keys = [key, Session { scope: Some(crate::session::Scope(100)), ..key }];
            for (key, given) in keys.into_iter().flat_map(|key| {
                ["web-1", "_", "a_vni7", "a_vni7_192.0.2.1", "x_", "9.9", "a__b"].map(|given| (key, given))
            }) {
                let directory = session(Some(&key), Some(given));
                assert_eq!(parse_session(&directory), Some(Some(key)), "{directory}");
                let path = format!("{directory}/{directory}_20261124T031829Z_000012.pcap.zst");
                assert_eq!(super::given(&path), Some(given));
                assert!(is_removable_path(&path) && is_capture_path(&format!("{path}.part")), "{path}");
                assert!(!is_removable_path(&path.replacen("_vni", "-vni", 1)));
                // Its files are not those of the session without a name, nor the other way round.
                let plain = key.directory_name();
                assert!(!is_removable_path(&path.replacen(&directory, &plain, 1)), "{path}");
                assert_eq!(super::given(&format!("{plain}/x.pcap")), None);
            }
        }
        for other in [
            "gtp_vni7_192.0.2.1",
            "web_gtp_vni7_192.0.2.1",
            "vni8_vni7_192.0.2.1",
            "_vni7",
            "web vni7_192.0.2.1",
            "we b_vni7_192.0.2.1",
            ".._vni7_192.0.2.1",
            "overflow_1",
            "overflow_vni7_192.0.2.1",
            "unsalvageable_vni7_192.0.2.1",
            "web_vni07_192.0.2.1",
            "web_vxlan_vni7_192.0.2.1",
        ] {
            assert_eq!(parse_session(other), None, "{other}");
        }
        assert_eq!(super::given("overflow/x.pcap"), None);
    }

    #[test]
    fn only_names_that_are_given_are_ours() {
        let session = "vni7_2001-db8--1";
        let names = Names::new(Path::new("/c"), session, Timestamp::from_ns(0), 1_234_567, "pcapng.lz4");
        let ours = [Some(names.published.clone()), names.recovered(1), names.recovered(2), names.another(3)]
            .map(Option::unwrap);
        for name in &ours {
            assert!(is_published(session, name.file_name().unwrap().to_str().unwrap()), "{name:?}");
        }
        assert!(!is_published(session, names.part.file_name().unwrap().to_str().unwrap()));
        for other in [
            "x.pcap",
            "_mine.pcap",
            "_19700101T000001Z_000001.txt",
            "_19700101T000001Z_1.pcap",
            "_19700101_000001.pcap",
        ] {
            assert!(!is_published(session, &format!("{session}{other}")), "{other}");
        }
        assert!(!is_published("vni8_2001-db8--1", ours[0].file_name().unwrap().to_str().unwrap()));
    }

    #[test]
    fn only_captures_may_be_touched() {
        for fine in [
            "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap",
            "overflow/x.pcapng",
            "vni0_2001-db8--1/b.pcap.lz4",
            "overflow/b.pcapng.zst",
            "overflow/b.pcap.part",
            "overflow/b.pcap.zst.part",
            "overflow/..b.pcap",
        ] {
            assert!(is_capture_path(fine), "{fine}");
        }
        for wrong in [
            "",
            "b.pcap",
            "/a/b.pcap",
            "/b.pcap",
            "../b.pcap",
            "overflow/../b.pcap",
            "overflow/../../b.pcap",
            "./b.pcap",
            "a/b.pcap",
            "vni7_evil/b.pcap",
            "overflow//b.pcap",
            "overflow/b/c.pcap",
            "overflow/b.pcap/",
            "overflow/.pcap",
            "overflow/b.part",
            "overflow/b.pcap.part.part",
            "overflow/b.pcap.gz",
            "overflow/manifest.jsonl",
            "overflow/b.pcap\0",
            "overflow\0/b.pcap",
        ] {
            assert!(!is_capture_path(wrong), "{wrong:?}");
        }
        let name = "vni7_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001";
        assert!(is_removable_path(&format!("{name}.pcap")) && is_removable_path(&format!("{name}.recovered.pcap")));
        for wrong in [
            format!("{name}.pcap.part"),
            format!("x/../{name}.pcap"),
            format!("/{name}.pcap"),
            "vni7_192.0.2.1/mine.pcap".into(),
            "vni8_192.0.2.1/vni7_192.0.2.1_20261124T031829Z_000001.pcap".into(),
            "unsalvageable/vni7_192.0.2.1_20261124T031829Z_000001.pcap".into(),
        ] {
            assert!(!is_removable_path(&wrong), "{wrong}");
        }
        for part in ["overflow/b.pcap.part", "overflow/b.pcap.zst.part"] {
            assert!(!is_complete_path(part) && is_complete_path(part.strip_suffix(".part").unwrap()), "{part}");
        }
        assert!(is_inside("damaged/b.pcap.part.1") && is_inside("b") && !is_inside("../b") && !is_inside(""));
    }
}
