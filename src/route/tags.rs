//! Sessions get tags in the order of their first sight, and keep them.

use hashbrown::HashMap;

use crate::session::{Session, Tag};

/// The tags of sessions, those of earlier runs included. A tag that was given is never another's.
#[derive(Debug, Default)]
pub struct Tags {
    given: HashMap<Session, Tag, foldhash::fast::RandomState>,
    /// In the order in which they were given, or listed.
    order: Vec<(Session, Tag)>,
    /// The number of the last.
    last: u32,
    /// True after a session was there for which there was none.
    out: bool,
}

/// Tags that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    /// A session has two tags.
    #[error("{0} is listed twice")]
    Session(Session),
    /// Two sessions have one tag.
    #[error("VLAN {0} is that of two sessions")]
    Tag(Tag),
}

impl Tags {
    /// Makes the tags of a list.
    ///
    /// # Errors
    /// A session or a tag is listed twice.
    pub fn new(list: impl IntoIterator<Item = (Session, Tag)>) -> Result<Self, TagsError> {
        let mut tags = Self::default();
        let mut numbers = std::collections::HashSet::new();
        for (session, tag) in list {
            if !numbers.insert(tag) {
                return Err(TagsError::Tag(tag));
            }
            if tags.given.insert(session, tag).is_some() {
                return Err(TagsError::Session(session));
            }
            tags.order.push((session, tag));
            tags.last = tags.last.max(tag.number());
        }
        Ok(tags)
    }

    /// Returns the tag of a session, a new one where it has none: [`Tag::REST`] where none is left.
    pub(super) fn of(&mut self, session: Session) -> Tag {
        if let Some(tag) = self.given.get(&session) {
            return *tag;
        }
        let Some(tag) = Tag::new(self.last.saturating_add(1)) else {
            self.out = true;
            return Tag::REST;
        };
        self.last = tag.number();
        self.given.insert(session, tag);
        self.order.push((session, tag));
        tag
    }

    /// Says whether a session was there for which no tag was left.
    pub(super) fn are_out(&self) -> bool {
        self.out
    }

    /// Returns all tags, in the order in which they were given.
    pub(super) fn all(&self) -> &[(Session, Tag)] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::Vni;

    fn session(vni: u32) -> Session {
        Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(vni).unwrap())
    }

    fn tag(number: u32) -> Tag {
        Tag::new(number).unwrap()
    }

    #[test]
    fn a_tag_is_kept_and_never_given_twice() {
        let mut tags = Tags::new([(session(5), tag(3)), (session(6), tag(1))]).unwrap();
        assert_eq!([5, 6, 7, 8, 7].map(|vni| tags.of(session(vni))), [3, 1, 4, 5, 4].map(tag));
        let vnis: Vec<u32> = tags.all().iter().map(|(session, _)| session.vni.get()).collect();
        assert_eq!(vnis, [5, 6, 7, 8]);
    }

    #[test]
    fn when_no_tag_is_left_the_rest_has_one_together() {
        let mut tags = Tags::new([(session(5), tag(Tag::MOST - 1))]).unwrap();
        assert_eq!(
            [6, 7, 8, 6].map(|vni| tags.of(session(vni))),
            [tag(Tag::MOST), Tag::REST, Tag::REST, tag(Tag::MOST)]
        );
        assert_eq!(tags.all().len(), 2);
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        assert_eq!(
            Tags::new([(session(5), tag(3)), (session(5), tag(4))]).unwrap_err(),
            TagsError::Session(session(5))
        );
        assert_eq!(Tags::new([(session(5), tag(3)), (session(6), tag(3))]).unwrap_err(), TagsError::Tag(tag(3)));
    }
}
