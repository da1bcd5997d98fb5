//! A program in the kernel that redirects is told of which sessions the frames go into the
//! interface, where these are not all, and by which tags.
//!
//! What has no mark goes to the workers, which do what the policy says and lose nothing by it. So a
//! session is marked late rather than early: when the output has had frames of it, and every policy
//! that a worker may have lets them go there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::episode::Episode;
use crate::route::Registered;
use crate::route::policy::Policy;
use crate::session::Session;
use crate::sink::tap;
use crate::source::bpf::{BpfError, Marking};

/// The marks of the output that the program redirects into.
#[derive(Debug)]
pub(super) struct Marks {
    program: Marking,
    /// The name of the output.
    output: String,
    /// True where each session has a tag.
    tagged: bool,
    /// The number of times that sessions may have come to be marked.
    generation: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The policies that workers may have: the one in force, and the one to come.
    policies: Vec<Arc<Policy>>,
    /// True where the program redirects only what is marked.
    only_marked: bool,
    /// The sessions that are marked.
    marked: HashSet<Session, foldhash::fast::RandomState>,
    /// Lasts from the first session on that the program had no room for.
    full: Episode,
}

impl Marks {
    /// Takes over the marks of a program that redirects all sessions as yet. Where the sessions
    /// have tags, or `policy` keeps some out of the output, it redirects those that are marked from
    /// now on.
    ///
    /// # Errors
    /// The kernel refuses the change of a map.
    pub(super) fn begin(
        program: Marking,
        output: &str,
        tagged: bool,
        policy: &Arc<Policy>,
    ) -> Result<Arc<Self>, BpfError> {
        let policies = vec![Arc::clone(policy)];
        let state = State { policies, only_marked: false, marked: HashSet::default(), full: Episode::default() };
        let (output, generation) = (output.to_owned(), AtomicU32::new(0));
        let marks = Self { program, output, tagged, generation, state: Mutex::new(state) };
        if marks.are_needed(policy) {
            marks.state.lock().only_marked = true;
            marks.program.only_marked(true)?;
        }
        Ok(Arc::new(marks))
    }

    /// Says whether not all sessions are redirected alike.
    fn are_needed(&self, policy: &Policy) -> bool {
        let output = policy.number_of_output(&self.output);
        self.tagged || policy.entries().iter().any(|entry| !entry.plan.goes_to(output))
    }

    /// Says whether the program may redirect all frames of a session. It does not look at ports, so
    /// a session that goes into the interface by one port and not by another is left to workers.
    fn takes(&self, policy: &Policy, session: &Session) -> bool {
        policy.always_goes_to(session, policy.number_of_output(&self.output))
    }

    /// Takes the marks off sessions that `policy` keeps out of the interface, before a worker has
    /// it. When this returns, workers have read what was redirected of them.
    ///
    /// # Errors
    /// The kernel refuses the change of a map, or a worker does not read its ring. The policy is
    /// not to be in force.
    pub(super) fn prepare(&self, policy: &Arc<Policy>) -> Result<(), BpfError> {
        let told =
            self.take_off(policy).and_then(|is_less| if is_less { self.program.wait_for_readers() } else { Ok(()) });
        if told.is_err() {
            self.withdraw();
        }
        told
    }

    /// Hears that the policy that was prepared last is not to be in force after all.
    pub(super) fn withdraw(&self) {
        self.state.lock().policies.pop();
        self.settle();
    }

    /// Returns whether the program redirects less from now on.
    fn take_off(&self, policy: &Arc<Policy>) -> Result<bool, BpfError> {
        let mut state = self.state.lock();
        state.policies.push(Arc::clone(policy));
        if !state.only_marked {
            state.only_marked = self.are_needed(policy);
            if state.only_marked {
                self.program.only_marked(true)?;
            }
            return Ok(state.only_marked);
        }
        let gone: Vec<Session> = state.marked.extract_if(|session| !self.takes(policy, session)).collect();
        gone.iter().try_for_each(|session| self.program.unmark(session))?;
        Ok(!gone.is_empty())
    }

    /// Hears that all workers have the last policy.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        let last = state.policies.len().saturating_sub(1);
        state.policies.drain(..last);
        let is_needed = state.policies.first().is_some_and(|policy| self.are_needed(policy));
        if state.only_marked && !is_needed {
            match self.program.only_marked(false) {
                Ok(()) => state.only_marked = false,
                Err(error) => tracing::warn!(%error, "the program on the interface leaves some sessions to user space"),
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl tap::Marks for Marks {
    fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    fn mark(&self, Registered { session, tag }: &Registered) {
        let mut state = self.state.lock();
        let takes = |policy: &Arc<Policy>| self.takes(policy, session);
        if !state.only_marked || !Marking::knows(session) || !state.policies.iter().all(takes) {
            return;
        }
        match self.program.mark(session, *tag) {
            Ok(()) => {
                state.marked.insert(*session);
            }
            Err(error) => {
                if state.full.begins() {
                    let (source, vni) = (session.address(), session.vni.get());
                    tracing::warn!(%source, vni, %error, "the program on the interface cannot take another session: its frames go by user space");
                }
            }
        }
    }

    fn unmark(&self, session: &Session) {
        let mut state = self.state.lock();
        if state.marked.remove(session) {
            // One that stays is redirected with the same tag.
            let _ = self.program.unmark(session);
        }
    }
}
