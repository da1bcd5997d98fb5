//! The bypass is what a program in the kernel does in front of the workers.
//!
//! Such a program can drop what is not allowed, and can redirect frames into an interface, with a
//! copy for the worker or without. The worker does not see all of that. So the worker takes over
//! what the program counted, now and then and once more at its end, as if the datagrams had come by
//! it:
//!
//! - what was dropped as not allowed is received, decapsulated and filtered;
//! - what was redirected without a copy is received and decapsulated, and is offered to every
//!   output. The output that it was redirected into had it; the others had no room for it;
//! - what has entered the interface is written. What was redirected and does not come out of it is
//!   lost.
//!
//! The sessions of the frames without a copy are known at the end only.

use std::error::Error;
use std::io;

use super::step::Step;
use crate::ledger::{NotRedirected, OutputCounters, OutputDrop};
use crate::route::SessionId;
use crate::sink::tap::Feeder;
use crate::source::bpf::Redirect;
use crate::source::{Account, Counted, FastPath, Redirected};

/// The bypass of one worker, and how much of it the worker has taken over.
#[derive(Debug, Default)]
pub struct Bypass {
    /// The program's account; none where nothing goes by.
    account: Option<Box<dyn Account>>,
    /// The account as it was when it was read last.
    before: FastPath,
    /// Redirected frames that are lost, as far as that is known.
    lost: u64,
}

impl Bypass {
    /// Makes the bypass that `account` tells of.
    #[must_use]
    pub(crate) fn new(account: Option<Box<dyn Account>>) -> Self {
        Self { account, ..Self::default() }
    }

    /// Takes over what the program did since the last time. Where that cannot be read, the next
    /// time takes it over.
    ///
    /// # Errors
    /// The program's account cannot be read. Nothing is taken over.
    pub(super) fn take_over(&mut self, step: &mut Step) -> io::Result<()> {
        let Some(account) = &mut self.account else { return Ok(()) };
        let now = account.so_far()?;
        let before = std::mem::replace(&mut self.before, now);
        let unselected = now.unselected.saturating_sub(before.unselected);
        if unselected > 0 {
            step.counters.received.add(unselected);
            step.counters.received_bytes.add(now.unselected_bytes.saturating_sub(before.unselected_bytes));
            step.counters.decapsulated.add(unselected);
            step.unselected(unselected);
        }
        // Frames that were redirected before the last time and have not entered by now are lost.
        // Frames that were redirected since can be on their way.
        self.lost = self.lost.max(before.redirect.redirected.saturating_sub(now.redirect.entered));
        self.redirected(now.redirect.since(before.redirect), step);
        let counters = &step.counters.fast_path;
        counters.taken.raise(now.taken);
        counters.read.raise(now.read);
        counters.ring_full.raise(now.ring_full);
        counters.unselected.raise(now.unselected);
        counters.passed.raise(now.passed);
        counters.martian.raise(now.martian);
        counters.redirected.raise(now.redirect.redirected);
        for (reason, n) in [
            (NotRedirected::Odd, now.redirect.odd),
            (NotRedirected::Failed, now.redirect.failed),
            (NotRedirected::NoInterface, now.redirect.no_interface),
            (NotRedirected::Session, now.redirect.unmarked),
        ] {
            step.counters.not_redirected(reason).raise(n);
        }
        Ok(())
    }

    /// Takes over what became of the redirected frames.
    fn redirected(&self, new: Redirected, step: &mut Step) {
        let counters = &*step.counters;
        if new.uncopied > 0 {
            counters.received.add(new.uncopied);
            counters.received_bytes.add(new.uncopied_bytes);
            counters.decapsulated.add(new.uncopied);
            counters.cut_by_mirror.add(new.uncopied_cut);
            counters.overflow.frames.add(new.overflow);
            counters.overflow.bytes.add(new.overflow_bytes);
        }
        for outlet in &mut step.outlets {
            match &outlet.bypassed {
                None => outlet.miss(new.uncopied),
                Some(counters) => {
                    counters.offered.add(new.uncopied);
                    self.outcome(counters);
                }
            }
        }
    }

    /// Counts what became of the frames that were redirected into this output, and were offered to
    /// it by now.
    ///
    /// A frame may enter the interface before the worker has seen its copy, which is when the frame
    /// is offered. Such a frame is counted as written the next time, so that there is never more
    /// written than offered. A frame that was said to be lost and entered after all is late, and
    /// counted as such instead of once more as written.
    fn outcome(&self, counters: &OutputCounters) {
        let Redirected { entered, entered_bytes, .. } = self.before.redirect;
        let (written, late) = (&counters.written, &counters.redirect_late);
        let lost = counters.dropped(OutputDrop::RedirectLost);
        let open = || counters.offered.get() - written.get() - lost.get();
        let known = lost.get() - late.get();
        late.add(known.saturating_sub(self.lost));
        lost.add(self.lost.saturating_sub(known).min(open()));
        written.add(entered.saturating_sub(written.get() + late.get()).min(open()));
        counters.written_bytes.raise(entered_bytes);
    }

    /// Takes over the rest, when the program redirects no more: the sessions of the frames without
    /// a copy, and what is lost of all that it redirected.
    ///
    /// # Errors
    /// The program's account cannot be read, or its sessions. Then nobody knows what it did since
    /// the last time, or to which sessions these frames belong.
    pub(super) fn settle(&mut self, step: &mut Step) -> io::Result<()> {
        let taken_over = self.take_over(step);
        let redirected = self.before.redirect;
        self.lost = redirected.redirected.saturating_sub(redirected.entered);
        for outlet in &mut step.outlets {
            match &outlet.bypassed {
                None => {
                    outlet.lane.expect(redirected.uncopied);
                    outlet.lane.tell(SessionId::OVERFLOW, redirected.overflow);
                }
                Some(counters) => self.outcome(counters),
            }
        }
        let Some(account) = &mut self.account else { return taken_over };
        for Counted { session, frames, bytes, first, last } in account.uncopied_sessions()? {
            let id = step.sessions.add(session, frames, bytes, [first, last]);
            if id == SessionId::OVERFLOW {
                step.counters.overflow.frames.add(frames);
                step.counters.overflow.bytes.add(bytes);
            }
            for outlet in &mut step.outlets {
                if outlet.bypassed.is_none() {
                    outlet.lane.tell(id, frames);
                }
            }
        }
        taken_over
    }
}

impl Feeder for Redirect {
    fn begin(&mut self, interface: &str) -> Result<(), Box<dyn Error>> {
        Ok(Redirect::begin(self, interface)?)
    }

    fn pause(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(Redirect::pause(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decap::ReservedBits;
    use super::super::outlet::Outlet;
    use super::super::worker::Worker;
    use super::super::worker::tests::payload;
    use super::*;
    use crate::lane::{LanePlan, lanes};
    use crate::ledger::{Ledger, Output, Snapshot};
    use crate::record::Timestamp;
    use crate::route::{Registry, SessionTable};
    use crate::session::Session;
    use crate::source::Allowed;
    use crate::source::prepared::Prepared;
    use crate::wire::Vni;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// The account of a program that has done all of this.
    #[derive(Debug)]
    struct Done(Redirected, Vec<Counted>);

    impl Account for Done {
        fn so_far(&mut self) -> io::Result<FastPath> {
            Ok(FastPath { redirect: self.0, ..FastPath::default() })
        }
        fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
            Ok(std::mem::take(&mut self.1))
        }
    }

    #[test]
    fn no_more_is_written_than_was_offered_and_what_was_late_is_not_lost() {
        let counters = OutputCounters::default();
        let mut bypass = Bypass::default();
        let mut outcome = |offered, entered, lost| {
            bypass.before.redirect = Redirected { redirected: 40, entered, ..Redirected::default() };
            bypass.lost = lost;
            counters.offered.add(offered);
            bypass.outcome(&counters);
            let lost = counters.dropped(OutputDrop::RedirectLost).get();
            (counters.written.get(), lost, counters.redirect_late.get())
        };
        assert_eq!(outcome(10, 33, 5), (5, 5, 0), "the others' copies have not been read");
        assert_eq!(outcome(30, 33, 5), (33, 5, 0));
        assert_eq!(outcome(0, 37, 3), (35, 5, 2), "two were late: 37 are written, 3 lost");
    }

    /// An account of so many datagrams at each attempt; none where it cannot be read.
    #[derive(Debug)]
    struct Failing(Vec<Option<u64>>);

    impl Account for Failing {
        fn so_far(&mut self) -> io::Result<FastPath> {
            let unselected = self.0.remove(0).ok_or(io::ErrorKind::Other)?;
            Ok(FastPath { unselected, unselected_bytes: unselected * 68, ..FastPath::default() })
        }
        fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn what_cannot_be_read_once_is_not_taken_over_twice() {
        let counters = Ledger::default().worker();
        let list = Arc::new(Allowed::default());
        let table = SessionTable::new(Arc::new(Registry::new(1)));
        let mut step = Step::new(ReservedBits::Accept, list, table, Vec::new(), Arc::clone(&counters));
        let account = Failing(vec![Some(10), None, Some(12), None]);
        let mut bypass = Bypass::new(Some(Box::new(account)));
        let counted = || (counters.received.get(), counters.received_bytes.get(), counters.fast_path.unselected.get());
        bypass.take_over(&mut step).unwrap();
        assert_eq!(counted(), (10, 680, 10));
        bypass.take_over(&mut step).unwrap_err();
        bypass.take_over(&mut step).unwrap();
        assert_eq!(counted(), (12, 816, 12));
        bypass.settle(&mut step).unwrap_err();
        assert_eq!(counted(), (12, 816, 12));
    }

    #[test]
    fn redirected_frames_are_in_the_ledger_with_a_copy_and_without() {
        let mut ledger = Ledger::default();
        let counters = ledger.worker();
        let path = |name: &str| {
            let mut output = Output { name: name.into(), ends: Vec::new() };
            let (mut lanes, inbox) = lanes(LanePlan { chunks: 2, ..LanePlan::default() }, vec![output.end()]);
            let ends = (output.end(), output.end());
            ledger.outputs.push(output);
            (lanes.remove(0), inbox, ends)
        };
        let ((files, inbox, (sink, _)), (tap, tap_inbox, (_, entered))) = (path("pcap"), path("mirror0"));
        let tap = Outlet::from(tap).bypassed(entered);
        let source = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let at = Timestamp::from_ns;
        // Two of the five copies are of a VNI that is no longer allowed.
        let copies = Prepared { delivered: true, ..Prepared::new([1, 7, 1, 7, 1].map(|vni| payload(vni, 60))) };
        let sessions = [(1, 20), (2, 5), (3, 6)].map(|(vni, frames)| Counted {
            session: Session::vxlan(source, Vni::new(vni).unwrap()),
            frames,
            bytes: frames * 60,
            first: at(5),
            last: at(9),
        });
        // Beside these the program met four of sessions beyond its own limit.
        let redirect = Redirected {
            redirected: 40,
            entered: 33,
            entered_bytes: 33 * 60,
            uncopied: 35,
            uncopied_bytes: 35 * 68,
            uncopied_cut: 2,
            overflow: 4,
            overflow_bytes: 4 * 60,
            odd: 8,
            ..Redirected::default()
        };
        let list = Arc::new(Allowed::new(Some(Vni::new(1).into_iter().collect()), None).unwrap());
        let registry = Arc::new(Registry::new(3));
        let table = SessionTable::new(Arc::clone(&registry));
        let step = Step::new(ReservedBits::Accept, list, table, vec![files.into(), tap], counters);
        let bypass = Bypass::new(Some(Box::new(Done(redirect, sessions.to_vec()))));
        let worker = Worker::new(copies, step, bypass, None);
        let ended = worker.run(&AtomicBool::new(true));
        assert!(ended.failure.is_none());
        let chunks: Vec<_> = inbox.full.try_iter().collect();
        let lost: u64 = chunks.iter().flat_map(|chunk| chunk.losses()).map(|loss| loss.frames).sum();
        assert_eq!(lost, 35, "whose frames the files lack is told");
        sink.written.add(chunks.iter().map(|chunk| u64::from(chunk.frames())).sum());
        assert!(tap_inbox.full.is_empty(), "nothing is to be injected");
        let snapshot = Snapshot::of(&ledger, at(0), ledger.sessions(registry.sessions()));
        snapshot.check().unwrap();
        assert_eq!(
            (snapshot.datagrams.received, snapshot.datagrams.decapsulated, snapshot.datagrams.unselected),
            (40, 40, 0)
        );
        assert_eq!(snapshot.datagrams.received_bytes, 40 * 68);
        let tap = &snapshot.outputs["mirror0"];
        assert_eq!((tap.written, tap.written_bytes, tap.dropped["redirect_lost"]), (33, 33 * 60, 7));
        let pcap = &snapshot.outputs["pcap"];
        assert_eq!((pcap.written, pcap.dropped["lane_full"]), (5, 35));
        // VNIs 1 and 7 came first, then one more had room.
        assert_eq!(snapshot.sessions.len(), 3);
        assert_eq!(snapshot.overflow.frames, 4 + 6);
        let lost = snapshot.sessions.iter().map(|session| (session.session.vni.get(), session.lost));
        assert_eq!(lost.collect::<Vec<_>>(), [(1, 20), (2, 5), (7, 0)], "by those files, as the manifest has it");
        assert_eq!((snapshot.overflow.lost, snapshot.lost_of_sessions()), (4 + 6, 35));
        assert_eq!((snapshot.datagrams.cut_by_mirror, snapshot.datagrams.fast_path.redirected), (2, 40));
        assert_eq!(snapshot.datagrams.fast_path.not_redirected["odd"], 8);
        assert_eq!(snapshot.failed(), 0, "load");
    }
}
