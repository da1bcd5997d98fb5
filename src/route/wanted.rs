//! Whoever watches wants the frames of some sessions.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use super::{Registry, SessionId};
use crate::session::{Label, NameError, Session, check_name};
use crate::wire::{Vni, address};

/// The sessions whose frames are wanted; by default all, also those beyond the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// All sessions.
    #[default]
    All,
    /// The sessions of this name.
    Named(Arc<str>),
    /// The session of this VNI from this address.
    One(Vni, Ipv6Addr),
}

/// Text that names no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWanted {
    /// It can be no name.
    #[error("{0}; a session is given by its name, or as VNI@SOURCE: 7@192.0.2.1")]
    Name(#[from] NameError),
    /// What is in front of the `@` is no VNI.
    #[error("{0:?} is no VNI; a session is given by its name, or as VNI@SOURCE: 7@192.0.2.1")]
    Vni(String),
    /// What is behind the `@` is no address.
    #[error("{0:?} is no address; a session is given by its name, or as VNI@SOURCE: 7@192.0.2.1")]
    Source(String),
}

/// Reads a name, or VNI and source as `7@192.0.2.1`.
impl FromStr for Wanted {
    type Err = NotWanted;

    fn from_str(text: &str) -> Result<Self, NotWanted> {
        let Some((vni, source)) = text.split_once('@') else {
            check_name(text)?;
            return Ok(Self::Named(text.into()));
        };
        let number = vni.parse().ok().and_then(Vni::new).ok_or_else(|| NotWanted::Vni(vni.to_owned()))?;
        let source: IpAddr = source.parse().map_err(|_| NotWanted::Source(source.to_owned()))?;
        Ok(Self::One(number, address::of(source)))
    }
}

/// Writes what [`Wanted::from_str`] reads, and `all` for all.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(name) => f.write_str(name),
            Self::One(vni, source) => write!(f, "{}@{}", vni.get(), address::in_packet(*source)),
        }
    }
}

impl Wanted {
    /// Says whether the frames of this session are wanted.
    fn has(&self, session: &Session, label: &Label) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => label.name.as_ref() == Some(name),
            Self::One(vni, source) => session.vni == *vni && session.source == *source,
        }
    }
}

/// What is wanted, with the answer for each session that was asked for.
#[derive(Debug)]
pub(crate) struct Watched {
    wanted: Wanted,
    registry: Arc<Registry>,
    /// How often sessions were given other labels when the answers were found.
    labelled: u32,
    /// The answers by number.
    answers: Vec<Option<bool>>,
}

impl Watched {
    /// Makes the watch of what is `wanted` of the sessions of this registry.
    #[must_use]
    pub(crate) fn new(wanted: Wanted, registry: Arc<Registry>) -> Self {
        Self { wanted, labelled: registry.labelled(), registry, answers: Vec::new() }
    }

    /// Says whether the frames of the session of this number are wanted. The registry is asked when
    /// a session is seen first.
    pub(crate) fn has(&mut self, id: SessionId) -> bool {
        if self.wanted == Wanted::All {
            return true;
        }
        let labelled = self.registry.labelled();
        if labelled != self.labelled {
            self.labelled = labelled;
            self.forget();
        }
        if let Some(Some(answer)) = self.answers.get(id.index()) {
            return *answer;
        }
        let Some(session) = self.registry.session(id) else { return false };
        let answer = self.wanted.has(&session, &self.registry.label(id));
        if self.answers.len() <= id.index() {
            self.answers.resize(id.index() + 1, None);
        }
        self.answers[id.index()] = Some(answer);
        answer
    }

    /// Forgets the answers: numbers may be those of other sessions from now on.
    pub(crate) fn forget(&mut self) {
        self.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Entry, Match, Policy, SessionPlan};
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_typed_is_a_name_or_a_vni_and_a_source() {
        let vni = Vni::new(7).unwrap();
        let v4 = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert_eq!("web-1".parse(), Ok(Wanted::Named("web-1".into())));
        assert_eq!("7@192.0.2.1".parse(), Ok(Wanted::One(vni, v4)));
        assert_eq!("7@2001:db8::1".parse(), Ok(Wanted::One(vni, "2001:db8::1".parse().unwrap())));
        for (wrong, why) in [
            ("", "has from 1 to 64"),
            ("web 1", "' ' cannot be in a name"),
            ("vni7_192.0.2.1", "cannot begin with \"vni\""),
            ("16777216@192.0.2.1", "\"16777216\" is no VNI"),
            ("web@192.0.2.1", "\"web\" is no VNI"),
            ("7@web", "\"web\" is no address"),
        ] {
            let error = wrong.parse::<Wanted>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("VNI@SOURCE"), "{wrong}: {error}");
        }
    }

    #[test]
    fn sessions_are_wanted_by_the_name_that_they_have_now() {
        let registry = Arc::new(Registry::new(2));
        let policy = |vni, name: &str| {
            let label = Label { name: Some(name.into()), ..Label::default() };
            let sessions = Match { vnis: Some(Vni::new(vni).into_iter().collect()), ..Match::default() };
            Policy::new(vec![Entry { sessions, plan: SessionPlan { label, ..SessionPlan::default() } }], vec![])
                .unwrap()
        };
        let before = policy(1, "web");
        let session = |vni| Session::vxlan(Ipv6Addr::LOCALHOST, Vni::new(vni).unwrap());
        let [one, two] = [1, 2].map(|vni| registry.register(session(vni), 4789, &before).unwrap());
        let of = |wanted: &str| Watched::new(wanted.parse().unwrap(), Arc::clone(&registry));
        let mut web = of("web");
        let mut other = of("2@::1");
        let mut all = Watched::new(Wanted::All, Arc::clone(&registry));
        for _ in 0..2 {
            assert_eq!([one, two, SessionId::OVERFLOW].map(|id| web.has(id)), [true, false, false]);
            assert_eq!([one, two, SessionId::OVERFLOW].map(|id| other.has(id)), [false, true, false]);
            assert_eq!([one, two, SessionId::OVERFLOW].map(|id| all.has(id)), [true; 3]);
        }
        registry.relabel(&policy(2, "web"));
        assert_eq!([one, two].map(|id| web.has(id)), [false, true]);
    }
}
