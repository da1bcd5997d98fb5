//! Frames of sessions get tags: those that the registry has for them.

use std::sync::Arc;

use crate::route::{Registry, SessionId};
use crate::session::TagBytes;

/// Knows the tags of the sessions whose frames come.
#[derive(Debug)]
pub(super) struct Tagger {
    registry: Arc<Registry>,
    /// The tags by the number of the session, as far as they were asked for.
    known: Vec<Option<TagBytes>>,
}

impl Tagger {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, known: Vec::new() }
    }

    /// Returns the tag of a session.
    #[inline]
    pub(super) fn of(&mut self, session: SessionId) -> TagBytes {
        match self.known.get(session.index()) {
            Some(Some(tag)) => *tag,
            _ => self.learn(session),
        }
    }

    /// Asks again for the tags of these sessions: their numbers may be given to others.
    pub(super) fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(tag) = self.known.get_mut(session.index()) {
                *tag = None;
            }
        }
    }

    #[cold]
    fn learn(&mut self, session: SessionId) -> TagBytes {
        let tag = self.registry.tag(session).bytes();
        if self.known.len() <= session.index() {
            self.known.resize(session.index() + 1, None);
        }
        if let Some(known) = self.known.get_mut(session.index()) {
            *known = Some(tag);
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;
    use crate::route::{SessionTable, Tags};
    use crate::session::{Session, Tag};
    use crate::wire::Vni;

    #[test]
    fn a_number_that_becomes_another_sessions_has_that_ones_tag() {
        let registry = Arc::new(Registry::new(1).tagged(Tags::default()));
        let mut tagger = Tagger::new(Arc::clone(&registry));
        let source = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let number = |vni| {
            let session = Session::vxlan(source, Vni::new(vni).unwrap());
            SessionTable::new(Arc::clone(&registry)).see(&session, 4789, 60, Timestamp::from_ns(1)).id
        };
        let tag = |number| Tag::new(number).unwrap().bytes();
        let first = number(7);
        assert_eq!(tagger.of(first), tag(1));
        let leaving = registry.let_go(Timestamp::from_ns(u64::MAX), |_| true);
        tagger.forget(&leaving);
        assert_eq!(tagger.of(first), tag(1), "another lane has some still");
        tagger.forget(&leaving);
        assert_eq!(registry.free(&leaving, registry.given(), |_| ()), 1);
        assert_eq!(number(8), first);
        assert_eq!(tagger.of(first), tag(2));
        assert_eq!(tagger.of(SessionId::OVERFLOW), Tag::REST.bytes());
    }
}
