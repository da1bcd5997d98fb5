//! The file of `--allow`: which mirror sessions are let in.
//!
//! ```text
//! # Both of these must match; without a line of one kind, it does not matter.
//! vni 100, 200
//! from 10.0.0.7 2001:db8::7
//! ```

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::source::{Allowed, TooMany};
use crate::storage::read_small;
use crate::wire::Vni;

/// Bytes of a file at most: the longest entries, as many as can be listed, and as much again.
const MOST: usize = 8 << 20;

/// Which sessions `vxtap run` lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowPlan {
    /// These, to the end.
    Given(Allowed),
    /// What this file says, which may change.
    File(PathBuf),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// It cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A line of it makes no sense.
    #[error("{path} line {line}: {fault}; expected are lines as \"vni 100, 200\" and \"from 10.0.0.7\"")]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: String,
    },
    /// It has too many lines.
    #[error("{path}: {error}")]
    Long {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        error: TooMany,
    },
}

impl AllowPlan {
    /// What is allowed now. A file system that does not answer is waited for.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn read(&self) -> Result<Allowed, AllowError> {
        let path = match self {
            Self::Given(allowed) => return Ok(allowed.clone()),
            Self::File(path) => path,
        };
        let text = read_small(path, MOST).map_err(|error| AllowError::Read { path: path.clone(), error })?;
        parse(path, &text)
    }
}

fn parse(path: &Path, text: &str) -> Result<Allowed, AllowError> {
    let (mut vnis, mut sources) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let fault = |fault: String| AllowError::Line { path: path.to_owned(), line: number, fault };
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([' ', '\t', '\r', ',']).filter(|word| !word.is_empty());
        let Some(kind) = words.next() else { continue };
        let before = vnis.len() + sources.len();
        for word in words {
            match kind {
                "vni" => {
                    let vni = word.parse().ok().and_then(Vni::new);
                    vnis.push(vni.ok_or_else(|| fault(format!("{word:?} is not a VNI")))?);
                }
                "from" => {
                    let address = word.parse().map_err(|_| fault(format!("{word:?} is not an IP address")))?;
                    sources.push(mapped(address));
                }
                _ => break,
            }
        }
        if vnis.len() + sources.len() == before {
            let known = matches!(kind, "vni" | "from");
            return Err(fault(if known { format!("nothing behind {kind:?}") } else { format!("unknown {kind:?}") }));
        }
    }
    Allowed::new(vnis, sources).map_err(|error| AllowError::Long { path: path.to_owned(), error })
}

/// An address as sources are told apart by: IPv4 as IPv4-mapped IPv6.
pub(super) fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_vnis_and_sources() {
        let text = "# all of the web servers\r\nvni 100,200 , 7 # and one more\n\n\tfrom 10.0.0.7 2001:db8::7\nvni 0\n";
        let vnis = [100, 200, 7, 0].map(|vni| Vni::new(vni).unwrap()).to_vec();
        let sources = ["::ffff:10.0.0.7", "2001:db8::7"].map(|source| source.parse().unwrap()).to_vec();
        assert_eq!(parse(Path::new("f"), text).unwrap(), Allowed::new(vnis, sources).unwrap());
        assert_eq!(parse(Path::new("f"), "# nothing\n").unwrap(), Allowed::default(), "all");
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        for (text, fault) in [
            ("vni 1\nvni 16777216\n", "f line 2: \"16777216\" is not a VNI"),
            ("from 10.0.0.0/8", "f line 1: \"10.0.0.0/8\" is not an IP address"),
            ("vnis 1", "f line 1: unknown \"vnis\""),
            ("vni # 5", "f line 1: nothing behind \"vni\""),
        ] {
            let said = parse(Path::new("f"), text).unwrap_err().to_string();
            assert!(said.starts_with(fault), "{said}");
        }
        let said = AllowPlan::File("/nosuch/file".into()).read().unwrap_err().to_string();
        assert!(said.starts_with("cannot read /nosuch/file: "), "{said}");
    }
}
