//! A mirror session is what one mirror sends, told apart from what all others send.
//!
//! A session is known by four things, and all of them are in its one type, so that what is derived
//! from them (names of directories, lines of manifests, the ledger) need not change its shape when
//! another encapsulation comes:
//!
//! | | plain VXLAN | others |
//! |---|---|---|
//! | encapsulation | not told | its label, as `geneve` |
//! | source | the outer source address | the same |
//! | scope | none | a number that the encapsulation has beside the VNI |
//! | VNI | the VNI | the same |
//!
//! The parts that are not told are left out wherever a session is written down. So a directory of
//! plain VXLAN is `vni7_192.0.2.1`, and its object in JSON is `{"source":"192.0.2.1","vni":7}`.
//! With a scope these are `vni7_192.0.2.1_0x64` and
//! `{"source":"192.0.2.1","scope":"0x64","vni":7}`. Another encapsulation stands in front:
//! `LABEL_vni7_192.0.2.1_0x64`.
//!
//! A session that people gave a name has the name in front of all that, as `web_vni7_192.0.2.1`
//! ([`Label`]). The name tells nothing apart: whoever reads passes it over.
//!
//! An encapsulation that this program does not know is an error wherever it is read. Such a session
//! must not pass for one of plain VXLAN, whose directory has a name that looks alike, and what this
//! program cannot name it must not vouch for or remove.
//!
//! ```
//! use vxtap::session::{Scope, Session};
//! use vxtap::wire::Vni;
//!
//! let source = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
//! let plain = Session::vxlan(source, Vni::new(7).unwrap());
//! assert_eq!(plain.to_string(), "192.0.2.1 vni 7");
//! assert_eq!(plain.directory_name(), "vni7_192.0.2.1");
//! let scoped = Session { scope: Some(Scope(100)), ..plain };
//! assert_eq!(Session::from_directory_name("vni7_192.0.2.1_0x64"), Some(scoped));
//! ```

mod label;
mod tag;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub use self::label::{Label, NameError, check_name};
pub use self::tag::{Tag, TagBytes};
pub use crate::wire::{Encapsulation, Scope};
use crate::wire::{UnknownEncapsulation, Vni, address};

/// A mirror session.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "Fields<'_>", into = "Fields<'_>")]
pub struct Session {
    /// The way in which its frames are wrapped.
    pub encapsulation: Encapsulation,
    /// The outer source address, as [`address`] has it.
    pub source: Ipv6Addr,
    /// The number that tells it apart beside source and VNI, where the encapsulation has one.
    pub scope: Option<Scope>,
    /// The VNI.
    pub vni: Vni,
}

impl Session {
    /// Makes the session of plain VXLAN from `source`, an address as [`address`] has it.
    #[inline]
    #[must_use]
    pub const fn vxlan(source: Ipv6Addr, vni: Vni) -> Self {
        Self { encapsulation: Encapsulation::Vxlan, source, scope: None, vni }
    }

    /// Returns the source address as people write it.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        address::in_packet(self.source)
    }

    /// Returns the name of the session's directory, which is also how its files' names begin.
    #[must_use]
    pub fn directory_name(&self) -> String {
        name(self.encapsulation.label_unless_default(), self.address(), self.scope, self.vni)
    }

    /// Finds the session whose directory has this name; none where the name is no session's.
    #[must_use]
    pub fn from_directory_name(name: &str) -> Option<Self> {
        let (label, address, scope, vni) = parts(name)?;
        let encapsulation = match label {
            None => Encapsulation::default(),
            Some(label) => label.parse().ok()?,
        };
        let session = Self { encapsulation, source: address::of(address), scope, vni };
        // One session has one name: a number may have been read that was written otherwise.
        (session.directory_name() == name).then_some(session)
    }

    /// Returns all of it, in the order in which sessions are listed: IPv4 first, then by address
    /// and VNI.
    fn place(&self) -> (IpAddr, Vni, Encapsulation, Option<Scope>) {
        (self.address(), self.vni, self.encapsulation, self.scope)
    }

    /// All of it in words that are quick to compare, which is done for each frame.
    #[inline]
    #[must_use]
    pub fn words(&self) -> Words {
        let Self { encapsulation, source, scope, vni } = self;
        let (is_scoped, scope) = scope.map_or((0, 0), |Scope(scope)| (1, scope));
        let rest = vni.get() | (*encapsulation as u32) << 24 | is_scoped << 31;
        Words { source: source.octets(), scope: scope.to_ne_bytes(), rest }
    }
}

/// A session in words that are quick to compare and to hash. Each session has its own.
///
/// A worker has a table by these, where each frame of another session than the one before touches
/// an entry. So they are kept as small as they can be.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    source: [u8; 16],
    scope: [u8; 8],
    /// The VNI, the encapsulation, and whether there is a scope.
    rest: u32,
}

// No session has the last number, which is for `Words::NONE`.
const _: () = assert!(Encapsulation::ALL.len() < 0x7f);

impl Words {
    /// The words of no session.
    pub const NONE: Words = Words { source: [0; 16], scope: [0; 8], rest: u32::MAX };

    /// Returns them as numbers of the machine.
    #[inline]
    fn numbers(&self) -> (u128, u64, u32) {
        (u128::from_ne_bytes(self.source), u64::from_ne_bytes(self.scope), self.rest)
    }

    /// Returns a place for these words in a table of 256.
    #[inline]
    #[must_use]
    pub(crate) fn slot(&self) -> usize {
        let (source, scope, rest) = self.numbers();
        let mixed =
            ((source & 0xffff_ffff_ffff_ffff) as u64).rotate_left(32) ^ (source >> 64) as u64 ^ scope ^ u64::from(rest);
        usize::from((mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
    }
}

/// All words are compared at once. Sessions rarely differ in the first, so a branch behind each
/// would only cost.
impl PartialEq for Words {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ((source, scope, rest), (a, b, c)) = (self.numbers(), other.numbers());
        (source ^ a) | u128::from((scope ^ b) | u64::from(rest ^ c)) == 0
    }
}

impl Eq for Words {}

impl Hash for Words {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.numbers().hash(state);
    }
}

impl PartialEq for Session {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl Eq for Session {}

impl Hash for Session {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

impl Ord for Session {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Session {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows the session as `192.0.2.1 vni 7`; with what else tells it apart as `geneve 192.0.2.1 scope
/// 0x64 vni 7`.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whence = whence(Some(self.encapsulation.label()), self.address(), self.scope);
        write!(f, "{whence} vni {}", self.vni)
    }
}

/// Returns what tells a session beside its VNI, of its own parts or as JSON has them.
pub(crate) fn whence(label: Option<&str>, source: impl fmt::Display, scope: Option<impl fmt::Display>) -> String {
    let label = label.filter(|label| *label != Encapsulation::default().label());
    let label = label.map(|label| format!("{label} ")).unwrap_or_default();
    let scope = scope.map(|scope| format!(" scope {scope}")).unwrap_or_default();
    format!("{label}{source}{scope}")
}

/// Returns the name of a session's directory.
fn name(label: Option<&str>, address: IpAddr, scope: Option<Scope>, vni: Vni) -> String {
    let label = label.map(|label| format!("{label}_")).unwrap_or_default();
    // Some file systems and tools allow no colons.
    let address = address.to_string().replace(':', "-");
    let scope = scope.map(|scope| format!("_{scope}")).unwrap_or_default();
    format!("{label}vni{vni}_{address}{scope}")
}

/// Returns the parts that [`name`] was made of.
fn parts(name: &str) -> Option<(Option<&str>, IpAddr, Option<Scope>, Vni)> {
    let (label, rest) = match name.strip_prefix("vni") {
        Some(rest) => (None, rest),
        None => name.split_once("_vni").map(|(label, rest)| (Some(label), rest))?,
    };
    let (vni, rest) = rest.split_once('_')?;
    let (address, scope) = match rest.split_once('_') {
        Some((address, scope)) => (address, Some(scope.parse().ok()?)),
        None => (rest, None),
    };
    Some((label, address.replace('-', ":").parse().ok()?, scope, Vni::new(vni.parse().ok()?)?))
}

/// A session as JSON has it.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encapsulation: Option<Cow<'a, str>>,
    source: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    vni: Vni,
}

impl From<Session> for Fields<'_> {
    fn from(session: Session) -> Self {
        let encapsulation = session.encapsulation.label_unless_default().map(Cow::Borrowed);
        Fields { encapsulation, source: session.address(), scope: session.scope, vni: session.vni }
    }
}

impl TryFrom<Fields<'_>> for Session {
    type Error = UnknownEncapsulation;

    fn try_from(fields: Fields<'_>) -> Result<Self, UnknownEncapsulation> {
        let encapsulation = match fields.encapsulation {
            Some(label) => label.parse()?,
            None => Encapsulation::default(),
        };
        Ok(Self { encapsulation, source: address::of(fields.source), scope: fields.scope, vni: fields.vni })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{option, prelude::*, sample};
    use serde_json::{from_str, to_string};

    fn plain(source: &str) -> Session {
        Session::vxlan(address::of(source.parse().unwrap()), Vni::new(7).unwrap())
    }

    #[test]
    fn plain_vxlan_is_written_without_what_goes_without_saying() {
        for (source, name) in [
            ("192.0.2.1", "vni7_192.0.2.1"),
            ("2001:db8::1", "vni7_2001-db8--1"),
            ("::ffff:192.0.2.1", "vni7_--ffff-192.0.2.1"),
        ] {
            let session = plain(source);
            assert_eq!(session.directory_name(), name);
            assert_eq!(Session::from_directory_name(name), Some(session));
            assert_eq!(session.to_string(), format!("{source} vni 7"));
            let json = format!(r#"{{"source":"{source}","vni":7}}"#);
            assert_eq!(to_string(&session).unwrap(), json);
            assert_eq!(from_str::<Session>(&json).unwrap(), session);
            let told = json.replacen('{', r#"{"encapsulation":"vxlan","#, 1);
            assert_eq!(from_str::<Session>(&told).unwrap(), session);
        }
    }

    #[test]
    fn a_scope_is_written_behind_the_source() {
        for (source, scope, name) in [
            ("192.0.2.1", "0x76bc493b822cd32", "vni7_192.0.2.1_0x76bc493b822cd32"),
            ("2001:db8::1", "0x0", "vni7_2001-db8--1_0x0"),
            ("192.0.2.1", "0xffffffffffffffff", "vni7_192.0.2.1_0xffffffffffffffff"),
        ] {
            let session = Session { scope: Some(scope.parse().unwrap()), ..plain(source) };
            assert_eq!(session.directory_name(), name);
            assert_eq!(Session::from_directory_name(name), Some(session));
            assert_eq!(session.to_string(), format!("{source} scope {scope} vni 7"));
            let json = format!(r#"{{"source":"{source}","scope":"{scope}","vni":7}}"#);
            assert_eq!(to_string(&session).unwrap(), json);
            assert_eq!(from_str::<Session>(&json).unwrap(), session);
        }
    }

    #[test]
    fn another_encapsulation_has_its_place_and_is_an_error_until_it_is_known() {
        let (address, vni) = ("192.0.2.1".parse().unwrap(), Vni::new(7).unwrap());
        for (scope, wanted, json) in [
            (None, "gtp_vni7_192.0.2.1", r#"{"encapsulation":"gtp","source":"192.0.2.1","vni":7}"#),
            (
                Some(Scope(100)),
                "gtp_vni7_192.0.2.1_0x64",
                r#"{"encapsulation":"gtp","source":"192.0.2.1","scope":"0x64","vni":7}"#,
            ),
        ] {
            assert_eq!(name(Some("gtp"), address, scope, vni), wanted);
            assert_eq!(parts(wanted), Some((Some("gtp"), address, scope, vni)));
            let fields = Fields { encapsulation: Some("gtp".into()), source: address, scope, vni };
            assert_eq!(to_string(&fields).unwrap(), json);
            assert_eq!(Session::from_directory_name(wanted), None);
            let error = from_str::<Session>(json).unwrap_err().to_string();
            assert!(error.contains("unknown encapsulation \"gtp\": this vxtap knows vxlan, "), "{error}");
        }
    }

    #[test]
    fn a_session_has_one_name() {
        for other in [
            "vxlan_vni7_192.0.2.1",
            "_vni7_192.0.2.1",
            "vni7_192.0.2.1_",
            "vni7_192.0.2.1_64",
            "vni7_192.0.2.1_0x",
            "vni7_192.0.2.1_0x064",
            "vni7_192.0.2.1_0xA",
            "vni7_192.0.2.1_0x+1",
            "vni7_192.0.2.1_0x10000000000000000",
            "vni7_192.0.2.1_0x1_0x2",
            "vni007_192.0.2.1",
            "vni+7_192.0.2.1",
            "vni7_2001-DB8--1",
            "vni7_2001-db8-0--1",
            "vni7_2001-0db8--1",
            "vni16777216_192.0.2.1",
            "vni7",
            "vnix_192.0.2.1",
            "vni7_192.0.2",
            "lost+found",
        ] {
            assert_eq!(Session::from_directory_name(other), None, "{other}");
        }
        for wrong in [
            r#"{"source":"192.0.2.1","vni":16777216}"#,
            r#"{"source":"192.0.2.1","scope":100,"vni":7}"#,
            r#"{"source":"192.0.2.1","scope":"100","vni":7}"#,
            r#"{"source":"192.0.2","vni":7}"#,
            r#"{"vni":7}"#,
        ] {
            assert!(from_str::<Session>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sessions_are_listed_by_address_and_vni() {
        let other = |source: &str, vni| Session { vni: Vni::new(vni).unwrap(), ..plain(source) };
        let sorted = [
            other("9.0.0.1", 8),
            other("192.0.2.1", 7),
            Session { scope: Some(Scope(0)), ..other("192.0.2.1", 7) },
            Session { scope: Some(Scope(1)), ..other("192.0.2.1", 7) },
            other("192.0.2.1", 9),
            other("::ffff:1.2.3.4", 1),
            other("2001:db8::1", 1),
        ];
        assert!(sorted.is_sorted(), "{sorted:?}");
    }

    fn any_session() -> impl Strategy<Value = Session> {
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 4]>().prop_map(|host| IpAddr::V6(std::net::Ipv4Addr::from(host).to_ipv6_mapped())),
        ];
        let vni = (0..=Vni::MAX.get()).prop_map(|vni| Vni::new(vni).unwrap());
        let scope = option::of(any::<u64>().prop_map(Scope));
        (sample::select(&Encapsulation::ALL[..]), address, scope, vni).prop_map(
            |(encapsulation, address, scope, vni)| Session { encapsulation, source: address::of(address), scope, vni },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(session in any_session()) {
            prop_assert_eq!(Session::from_directory_name(&session.directory_name()), Some(session));
            prop_assert_eq!(from_str::<Session>(&to_string(&session).unwrap()).unwrap(), session);
        }

        #[test]
        fn only_one_is_equal(a in any_session(), b in any_session()) {
            let scoped = Session { scope: a.scope.xor(Some(Scope(0))), ..a };
            let moved = Session { source: b.source, ..a };
            let other = Session { vni: b.vni, ..a };
            for (a, b) in [(a, b), (a, scoped), (a, moved), (a, other), (scoped, a), (a, a)] {
                let fields = |s: Session| (s.encapsulation, s.source, s.scope, s.vni);
                prop_assert_eq!(a == b, fields(a) == fields(b));
                prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
                prop_assert_eq!(a == b, a.directory_name() == b.directory_name());
                prop_assert!(a != b || hash(a) == hash(b));
            }
        }
    }

    fn hash(session: Session) -> u64 {
        use std::hash::BuildHasher;
        foldhash::fast::FixedState::default().hash_one(session)
    }
}
