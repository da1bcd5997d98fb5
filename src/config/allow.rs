//! The file of `--allow` says which mirror sessions are let in.
//!
//! ```text
//! # Both of these must match. A kind that has no line does not matter, but a file that has no
//! # line at all is refused.
//! vni 100, 200-299
//! from 10.0.0.7 10.1.0.0/16 2001:db8::/32
//! ```
//!
//! `vni all` and `from all` let in whatever comes, in so many words.

use std::io;
use std::path::{Path, PathBuf};

use super::sessions::{self, AllAndOthers, Item};
use crate::sandbox::Sandbox;
use crate::source::{Allowed, TooMany};
use crate::storage::read_small;
use crate::wire::{VniMask, VniRange};

/// The most bytes of a file: the longest entries, as many as can be listed, and as much again.
const MOST: usize = 8 << 20;

/// The sessions that `vxtap run` lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowPlan {
    /// These sessions, to the end.
    Given(Allowed),
    /// The sessions that this file lists, which may change.
    File(PathBuf),
}

/// The reasons why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// A line of the file makes no sense.
    #[error("{path} line {line}: {fault} (lines are as \"vni 100, 200-299\" or \"from 10.0.0.7, 10.1.0.0/16\")")]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The fault of the line.
        fault: String,
    },
    /// The file has no line that says anything: an emptied file must not let everybody in.
    #[error("{path} names no VNI and no source; to let all sessions in, let it say so: \"vni all\"")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file has `all` and something else.
    #[error("{path}: \"{kind}\": {error}")]
    AllAndOthers {
        /// The file.
        path: PathBuf,
        /// The kind of line of which it has both.
        kind: &'static str,
        /// The fault of the list.
        error: AllAndOthers,
    },
    /// The file has too many lines.
    #[error("{path}: {error}")]
    Long {
        /// The file.
        path: PathBuf,
        /// The list that is too long.
        error: TooMany,
    },
}

impl AllowError {
    /// Says what to do where a sandbox is in the way.
    #[must_use]
    pub(crate) fn advised(self, sandbox: &Sandbox) -> Self {
        match self {
            Self::Read { path, error } => Self::Read { error: sandbox.advised(&path, error), path },
            error => error,
        }
    }
}

impl AllowPlan {
    /// Reads what is allowed now, where this mask says which bits of a VNI are looked at. A file
    /// system that does not answer is waited for.
    ///
    /// # Errors
    /// The file cannot be read, a line of it makes no sense or never counts for the mask, or it
    /// names too few or too many.
    pub(crate) fn read(&self, vni_mask: VniMask) -> Result<Allowed, AllowError> {
        let path = match self {
            Self::Given(allowed) => return Ok(allowed.clone()),
            Self::File(path) => path,
        };
        let text = read_small(path, MOST).map_err(|error| AllowError::Read { path: path.clone(), error })?;
        parse(path, &text, vni_mask)
    }
}

fn parse(path: &Path, text: &str, vni_mask: VniMask) -> Result<Allowed, AllowError> {
    let (mut vnis, mut sources) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let fault = |fault: String| AllowError::Line { path: path.to_owned(), line: number, fault };
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([' ', '\t', '\r', ',']).filter(|word| !word.is_empty());
        let Some(kind) = words.next() else { continue };
        let before = vnis.len() + sources.len();
        for word in words {
            let wrong = |what: String| fault(format!("{word:?} is {what}"));
            match kind {
                "vni" => vnis.push(unmasked(sessions::vni(word).map_err(wrong)?, vni_mask).map_err(wrong)?),
                "from" => sources.push(sessions::source(word).map_err(wrong)?),
                _ => break,
            }
        }
        if vnis.len() + sources.len() == before {
            let known = matches!(kind, "vni" | "from");
            return Err(fault(if known { format!("nothing behind {kind:?}") } else { format!("unknown {kind:?}") }));
        }
    }
    if vnis.is_empty() && sources.is_empty() {
        return Err(AllowError::Empty { path: path.to_owned() });
    }
    let both = |kind| move |error| AllowError::AllAndOthers { path: path.to_owned(), kind, error };
    let vnis = sessions::only(vnis).map_err(both("vni"))?.map(FromIterator::from_iter);
    let sources = sessions::only(sources).map_err(both("from"))?.map(FromIterator::from_iter);
    Allowed::new(vnis, sources).map_err(|error| AllowError::Long { path: path.to_owned(), error })
}

/// Takes VNIs of which some can come with this mask.
///
/// # Errors
/// All have bits that it leaves out; the text says what to write.
fn unmasked(item: Item<VniRange>, mask: VniMask) -> Result<Item<VniRange>, String> {
    let left = match item {
        Item::One(range) => sessions::masked(range, mask),
        Item::All => None,
    };
    let fault =
        |left| format!("what never comes, for it has bits that the mask of VNIs, {mask}, leaves out; write {left}");
    left.map_or(Ok(item), |left| Err(fault(left)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;

    fn read(text: &str) -> Result<Allowed, AllowError> {
        parse(Path::new("f"), text, VniMask::ALL)
    }

    #[test]
    fn vnis_that_never_come_under_the_mask_are_refused() {
        let masked = |text: &str| parse(Path::new("f"), text, "0x0fffff".parse().unwrap());
        for text in ["vni 7", "vni 1048575-1048576", "vni 0-16777215", "vni all"] {
            assert!(masked(text).is_ok(), "{text}");
        }
        for (text, answer) in [
            ("vni 1048583", "f line 1: \"1048583\" is what never comes, "),
            ("vni 7\nvni 1048577-1048579", "f line 2: \"1048577-1048579\" is what never comes, "),
            ("vni 1048577-1048579", "the mask of VNIs, 0x0fffff, leaves out; write 1-3"),
        ] {
            let said = masked(text).unwrap_err().to_string();
            assert!(said.contains(answer), "{said}");
        }
    }

    #[test]
    fn a_file_has_vnis_and_sources() {
        let text =
            "# all of the web servers\r\nvni 100,200-299 , 7 # and one more\n\n\tfrom 10.0.0.7 2001:db8::/32\nvni 0\n";
        let vnis = [(100, 100), (200, 299), (7, 7), (0, 0)]
            .map(|(first, last)| VniRange { first: Vni::new(first).unwrap(), last: Vni::new(last).unwrap() });
        let sources = ["10.0.0.7/32", "2001:db8::/32"].map(|source| source.parse().unwrap());
        let wanted = Allowed::new(Some(vnis.into_iter().collect()), Some(sources.into_iter().collect())).unwrap();
        assert_eq!(read(text).unwrap(), wanted);
    }

    #[test]
    fn a_kind_without_a_line_does_not_matter() {
        let vnis = read("vni 5").unwrap();
        assert!(vnis.vnis().is_some() && vnis.sources().is_none());
        let sources = read("from ::1").unwrap();
        assert!(sources.vnis().is_none() && sources.sources().is_some());
    }

    #[test]
    fn a_file_that_names_nothing_is_refused_and_all_is_said() {
        for text in ["", "\n\n", "# vni 100\n#from 10.0.0.7\n", " \t\r\n", "#"] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with("f names no VNI and no source; ") && said.contains("vni all"), "{text:?}: {said}");
        }
        for text in ["vni all", "from all", "vni all\nfrom all", "vni all all"] {
            assert_eq!(read(text).unwrap(), Allowed::default(), "{text}");
        }
        for text in ["vni all\nvni 5", "from 10.0.0.7, all\n"] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains("\"all\" is listed beside others"), "{said}");
        }
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        for (text, fault) in [
            ("vni 1\nvni 16777216\n", "f line 2: \"16777216\" is not a VNI; the largest is 16777215"),
            ("from 10.0.0.1/8", "f line 1: \"10.0.0.1/8\" is not a network"),
            ("vnis 1", "f line 1: unknown \"vnis\""),
            ("vni # 5", "f line 1: nothing behind \"vni\""),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with(fault), "{said}");
        }
        let said = AllowPlan::File("/nosuch/file".into()).read(VniMask::ALL).unwrap_err().to_string();
        assert!(said.starts_with("cannot read /nosuch/file: "), "{said}");
    }
}
