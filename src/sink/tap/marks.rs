//! A program in the kernel redirects only sessions that are marked, where not all go into the
//! interface, or each has a tag. A session is marked when its first frames have been injected: what
//! the program redirects then comes behind them.

use std::fmt::Debug;
use std::sync::Arc;

use crate::route::{Registered, Registry, SessionId};
use crate::session::Session;

/// The marks of sessions in the program.
pub(crate) trait Marks: Send + Sync + Debug {
    /// Returns a number that is another when sessions may be marked that could not before.
    fn generation(&self) -> u32;

    /// Has the program redirect the frames of a session, if it may.
    fn mark(&self, session: &Registered);

    /// Has the program redirect no more frames of a session.
    fn unmark(&self, session: &Session);
}

/// Marks the sessions whose frames come.
#[derive(Debug)]
pub(super) struct Marker {
    registry: Arc<Registry>,
    marks: Arc<dyn Marks>,
    /// The generation of which `known` is.
    generation: u32,
    /// The numbers of the sessions that were asked for.
    known: Vec<bool>,
}

impl Marker {
    pub(super) fn new(registry: Arc<Registry>, marks: Arc<dyn Marks>) -> Self {
        Self { registry, marks, generation: 0, known: Vec::new() }
    }

    /// Marks these sessions, whose frames have been injected.
    pub(super) fn mark(&mut self, sessions: impl Iterator<Item = SessionId>) {
        let generation = self.marks.generation();
        if self.generation != generation {
            self.generation = generation;
            self.known.clear();
        }
        for session in sessions {
            if self.known.get(session.index()) != Some(&true) {
                self.learn(session);
            }
        }
    }

    #[cold]
    fn learn(&mut self, session: SessionId) {
        if let Some(registered) = self.registry.registered(session) {
            self.marks.mark(&registered);
        }
        if self.known.len() <= session.index() {
            self.known.resize(session.index() + 1, false);
        }
        if let Some(known) = self.known.get_mut(session.index()) {
            *known = true;
        }
    }

    /// Takes the marks off these sessions: they are forgotten, and their numbers may be given to
    /// others. One that is seen again is marked again.
    pub(super) fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(known) = self.known.get_mut(session.index()) {
                *known = false;
            }
            if let Some(session) = self.registry.session(*session) {
                self.marks.unmark(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;
    use crate::route::{SessionTable, Tags};
    use crate::wire::Vni;
    use parking_lot::Mutex;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Marks that remember what was asked for: VNIs with their tags, 0 for what was taken off.
    #[derive(Debug, Default)]
    struct Told(AtomicU32, Mutex<Vec<(u32, u32)>>);

    impl Marks for Told {
        fn generation(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
        fn mark(&self, Registered { session, tag }: &Registered) {
            self.1.lock().push((session.vni.get(), tag.map_or(99, |tag| tag.number())));
        }
        fn unmark(&self, session: &Session) {
            self.1.lock().push((session.vni.get(), 0));
        }
    }

    #[test]
    fn each_session_is_marked_once_in_a_generation_and_after_it_was_forgotten() {
        let registry = Arc::new(Registry::new(9).tagged(Tags::default()));
        let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let mut table = SessionTable::new(Arc::clone(&registry));
        let mut see =
            |vni| table.see(&Session::vxlan(source, Vni::new(vni).unwrap()), 4789, 60, Timestamp::from_ns(1)).id;
        let all = [see(7), see(8), SessionId::OVERFLOW];
        let told = Arc::new(Told::default());
        let mut marker = Marker::new(registry, Arc::clone(&told) as Arc<dyn Marks>);
        let said = || std::mem::take(&mut *told.1.lock());
        marker.mark([all[0], all[1], all[0]].into_iter());
        marker.mark(all.into_iter());
        assert_eq!(said(), [(7, 1), (8, 2)], "what has no number has no mark");
        marker.forget(&all[1..]);
        marker.mark(all.into_iter());
        assert_eq!(said(), [(8, 0), (8, 2)]);
        told.0.store(1, Ordering::Relaxed);
        marker.mark(all.into_iter());
        assert_eq!(said(), [(7, 1), (8, 2)]);
    }
}
