//! An interface to feed is typed by people.

use super::sessions;
use crate::wire::VniSet;

/// An interface to feed, as `mirror0` or `mirror0:vni=100,200`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceArg {
    /// Name of the interface.
    pub name: String,
    /// The VNIs that it is fed; `None` stands for all.
    pub vnis: Option<VniSet>,
}

/// Reads the name of an interface, with or without `:vni=N,...`.
///
/// # Errors
/// The text behind the name is no list of VNIs; the error says how to write one.
pub(crate) fn interface(text: &str) -> Result<InterfaceArg, String> {
    let (name, vnis) = match text.split_once(':') {
        Some((name, more)) => {
            let list =
                more.strip_prefix("vni=").ok_or_else(|| format!("{more:?}: write it as mirror0:vni=100,200-299"))?;
            (name, sessions::vnis(list)?)
        }
        None => (text, None),
    };
    Ok(InterfaceArg { name: name.to_owned(), vnis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        let vnis = |text| sessions::vnis(text).unwrap();
        assert_eq!(interface("mirror0"), Ok(InterfaceArg { name: "mirror0".into(), vnis: None }));
        assert_eq!(interface("m:vni=1-5,200"), Ok(InterfaceArg { name: "m".into(), vnis: vnis("200,1-5") }));
        assert_eq!(interface("m:vni=all"), Ok(InterfaceArg { name: "m".into(), vnis: None }));
        for wrong in ["m:", "m:vni=", "m:vni=x", "m:vlan=1", "m:vni=1,16777216"] {
            assert!(interface(wrong).is_err(), "{wrong}");
        }
    }
}
