//! The program is loaded into the kernel, told what to do, and stopped.

use std::fmt;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray};
use aya::{Ebpf, EbpfLoader};
use parking_lot::Mutex;

use super::attach::{self, ENTERED, Mode};
use super::attached::Attached;
use super::counts::{Count, Counts};
use super::error::{BpfError, chain};
use super::here::Here;
use super::interface;
use super::lists::{self, AllowLists, List};
use super::place::{self, Endpoint, SourceKey};
use super::plan::{Attach, BpfPlan, Kept};
use super::redirect::{Place, Target};
use super::states::States;
use crate::session::{Session, Tag};
use crate::source::Listener;
use crate::source::allowed::Allowed;
use crate::source::fast_path::{Counted, Redirected};
use crate::sys::ring::{self, Ring};

/// The object is built from `capture.bpf.c` by `./ci.sh bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/capture.bpf.o");

/// The time in which nothing more enters the interface, after which what is missing is lost.
/// Redirected packets wait in a queue of the receiving CPU, for well below a millisecond.
const ENTERING: Duration = Duration::from_millis(200);

/// The parts that change while the sensor runs.
struct Changing {
    ebpf: Ebpf,
    listening: List<HashMap<MapData, Endpoint, u32>>,
    own: List<HashMap<MapData, SourceKey, u8>>,
    lists: AllowLists,
    attached: Vec<Attached>,
}

/// The loaded program, which is detached when this value is dropped.
pub(super) struct Program {
    changing: Mutex<Changing>,
    /// True where it is to redirect. Where it is not, the maps are needed all the same when it is
    /// loaded once more.
    redirects: bool,
    target: Target,
    rings: u32,
    states: Mutex<States>,
    counts: PerCpuArray<MapData, Count>,
    here: Here,
    attach: Attach,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("attached", &self.changing.lock().attached).finish_non_exhaustive()
    }
}

impl Program {
    /// Loads the program with `rings` rings. It picks one of them by session if `by_session`, else
    /// that of the CPU. It is attached nowhere yet, and leaves everything to the stack.
    /// `interfaces` are those that it is going to be attached to.
    pub(super) fn load(
        plan: &BpfPlan,
        listen: &[Listener],
        interfaces: &[String],
        rings: u32,
        by_session: bool,
    ) -> Result<(Self, Vec<Ring>), BpfError> {
        let (listen, any_address, interfaces) = (listen.to_vec(), plan.any_address, interfaces.to_vec());
        let here = Here { listen, any_address, interfaces };
        let (endpoints, addresses) = here.look()?;
        let rings_by_session = if by_session { rings } else { 0 };
        let any_address = u8::from(plan.any_address);
        let vni_mask = plan.vni_mask.bits();
        let redirect = u8::from(plan.redirect.is_some());
        let (sessions, copy) = plan.redirect.map_or((1, 1), |r| (r.sessions, u8::from(r.copy)));
        let entries = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        let room = |entries: u32| if plan.early { entries } else { 1 };
        let mut ebpf = EbpfLoader::new()
            // The types of the kernel are not needed: the program is the same for all kernels.
            .btf(None)
            .map_max_entries("rings", rings)
            .map_max_entries("counts", rings)
            .map_max_entries("states", rings + 1)
            .map_max_entries("listening", entries(endpoints.len() * 2).max(1024))
            .map_max_entries("own", entries(addresses.len() * 2).max(1024))
            .map_max_entries("sessions", sessions)
            .map_max_entries("marked", sessions)
            .map_max_entries("vnis", room(lists::VNI_ENTRIES))
            .map_max_entries("sources", room(lists::ADDRESSES))
            .map_max_entries("networks", room(lists::ADDRESSES))
            .override_global("rings_by_session", &rings_by_session, true)
            .override_global("redirect", &redirect, true)
            .override_global("copy", &copy, true)
            .override_global("any_address", &any_address, true)
            .override_global("vni_mask", &vni_mask, true)
            .load(OBJECT)?;

        let mut take = |name: &'static str| ebpf.take_map(name).ok_or(BpfError::Object(name));
        let mut listening = List::new(take("listening")?.try_into()?);
        let mut own = List::new(take("own")?.try_into()?);
        let lists =
            AllowLists::new(take("vnis")?.try_into()?, take("sources")?.try_into()?, take("networks")?.try_into()?);
        own.add(addresses.iter().copied())?;
        let map = take("states")?.try_into()?;
        let bits = place::own_bits(&addresses);
        let states = Mutex::new(States::begin(map, bits, plan.kept())?);
        let counts = take("counts")?.try_into()?;
        let target =
            Target::new(take("target")?.try_into()?, take("sessions")?.try_into()?, take("marked")?.try_into()?);
        listening.add(endpoints)?;
        let mut outer: ArrayOfMaps<&mut MapData, MapData> =
            ebpf.map_mut("rings").ok_or(BpfError::Object("rings"))?.try_into()?;
        let mut readers = Vec::new();
        for number in 0..rings {
            let (map, reader) = new_ring(plan.ring)?;
            outer.set(number, &map, 0)?;
            readers.push(reader);
        }
        let attached = Vec::new();
        let changing = Mutex::new(Changing { ebpf, listening, own, lists, attached });
        let (redirects, attach) = (plan.redirect.is_some(), plan.attach);
        Ok((Self { changing, redirects, target, rings, states, counts, here, attach }, readers))
    }

    /// Has frames enter this interface from now on.
    pub(super) fn redirect(&self, interface: &str) -> Result<(), BpfError> {
        let target = &self.target;
        let index = interface::ethernet(interface)?.index;
        if target.interface().is_some_and(|known| known == (interface.to_owned(), index)) && !target.may_be_gone() {
            return Ok(target.resume(index)?);
        }
        // Frames would vanish in an interface that is gone.
        target.leave()?;
        let _hold = attach::attach_tc(&mut self.changing.lock().ebpf, ENTERED, interface, index)?;
        Ok(target.begin(Place { interface: interface.to_owned(), index, _hold })?)
    }

    /// Has all frames go into the rings from now on.
    pub(super) fn pause(&self) -> Result<(), BpfError> {
        Ok(self.target.pause()?)
    }

    /// Marks a session to be redirected, with the tag that its frames are to have.
    pub(super) fn mark(&self, session: &Session, tag: Option<Tag>) -> Result<(), MapError> {
        self.target.mark(session, tag)
    }

    /// Takes the mark off a session, where it has one.
    pub(super) fn unmark(&self, session: &Session) -> Result<(), MapError> {
        self.target.unmark(session)
    }

    /// Has the program redirect only sessions that are marked, or all.
    pub(super) fn redirect_only_marked(&self, only: bool) -> Result<(), MapError> {
        self.states.lock().redirect_only_marked(only)
    }

    /// Returns what was redirected without a copy, by session.
    pub(super) fn sessions(&self) -> Result<Vec<Counted>, MapError> {
        if self.redirects { self.target.sessions() } else { Ok(Vec::new()) }
    }

    /// Waits until what was redirected has entered the interface, or is lost.
    fn wait_for_entering(&self) {
        let counts = || {
            let mut sum = Redirected::default();
            (0..self.rings).for_each(|ring| sum += self.counts(ring).unwrap_or_default().redirect);
            (sum.redirected, sum.entered)
        };
        let (mut before, mut since) = (counts(), Instant::now());
        while before.0 > before.1 && since.elapsed() < ENTERING {
            thread::sleep(Duration::from_millis(1));
            let now = counts();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
    }

    /// Attaches the program to an interface.
    pub(super) fn attach(&self, interface: &str) -> Result<Mode, BpfError> {
        let mut changing = self.changing.lock();
        let (attached, mode) = Attached::new(&mut changing.ebpf, interface, self.attach)?;
        changing.attached.push(attached);
        Ok(mode)
    }

    /// Follows what changes on the host: its addresses, and interfaces that go and come back. This
    /// is to be called now and then.
    pub(super) fn tend(&self) {
        let mut changing = self.changing.lock();
        let Changing { ebpf, listening, own, attached, .. } = &mut *changing;
        // An address that cannot be asked for or changed stays with the stack, or is taken for a
        // little longer.
        if let Ok((now, addresses)) = self.here.look() {
            let _ = own.add(addresses.iter().copied());
            let _ = self.states.lock().know(place::own_bits(&addresses));
            let _ = own.keep(&addresses);
            let _ = listening.add(now.iter().copied());
            if listening.keep(&now).unwrap_or(true) {
                let _ = self.states.lock().forget();
            }
        }
        if let Some((interface, index)) = self.target.interface()
            && interface::ethernet(&interface).is_ok_and(|link| link.index == index)
            && !attach::is_at_tc(ebpf, ENTERED, index)
        {
            tracing::warn!(
                interface,
                "somebody has detached the program that counts what enters the interface; what entered meanwhile is counted as redirect_lost"
            );
            match attach::attach_tc(ebpf, ENTERED, &interface, index) {
                Ok(hold) => self.target.count_by(hold),
                Err(error) => tracing::warn!(%error, "cannot attach it again"),
            }
        }
        attached.iter_mut().for_each(|place| place.tend(ebpf, self.attach));
    }

    /// Has the program drop sessions that are not allowed. Where it cannot be told, it drops none,
    /// and the workers do.
    pub(super) fn allow(&self, allowed: &Allowed) {
        // The order is this one, so that what was allowed and still is is never dropped.
        self.tell(|lists| {
            lists.add(allowed)?;
            self.states.lock().take_only(lists::only(allowed))?;
            lists.remove_others(allowed)
        });
    }

    /// Has the program drop sessions that are allowed neither before a change nor after it.
    pub(super) fn widen(&self, before: &Allowed, after: &Allowed) {
        self.tell(|lists| {
            lists.add_to(before, after)?;
            self.states.lock().take_only(lists::only_either(before, after))
        });
    }

    /// Tells the program what is allowed.
    fn tell(&self, lists: impl FnOnce(&mut AllowLists) -> Result<(), MapError>) {
        let mut changing = self.changing.lock();
        let told = lists(&mut changing.lists).and_then(|()| self.target.block(false));
        if let Err(error) = told {
            tracing::warn!("what is not allowed comes by way of the rings: {}", chain(&error));
            if self.target.block(true).and_then(|()| self.states.lock().take_only(0)).is_err() {
                tracing::error!("the program may drop sessions that are allowed; detaching it");
                changing.attached.clear();
            }
        }
    }

    /// Has the program keep enough for `kept` as well. Returns what it kept before.
    pub(super) fn keep_also(&self, kept: Kept) -> Result<Kept, MapError> {
        let mut states = self.states.lock();
        let before = states.kept();
        states.keep(before.or(kept))?;
        Ok(before)
    }

    /// Has the program keep so much, which may be less.
    pub(super) fn keep(&self, kept: Kept) -> Result<(), MapError> {
        self.states.lock().keep(kept)
    }

    /// Asks the program to wake the reader of this ring with the next record.
    pub(super) fn wake(&self, ring: u32) -> Result<(), MapError> {
        self.states.lock().wake(ring)
    }

    /// Has the program leave everything to the stack. What it has taken is in the rings when this
    /// returns.
    pub(super) fn refuse(&self) {
        if let Err(error) = self.leave_all(true) {
            tracing::warn!(%error, "cannot tell the program to stop; detaching it");
            self.changing.lock().attached.clear();
        }
        wait_for_running();
        if self.redirects {
            self.wait_for_entering();
        }
    }

    /// Has the program leave everything to the stack, or not any more.
    pub(super) fn leave_all(&self, leave: bool) -> Result<(), MapError> {
        self.states.lock().leave_all(leave)
    }

    /// Reads what became of packets for this ring. What was left to the stack is with ring 0.
    pub(super) fn counts(&self, ring: u32) -> Result<Counts, MapError> {
        Counts::read(&self.counts, ring)
    }
}

/// Waits until no program runs that began before this.
pub(super) fn wait_for_running() {
    if ring::wait_for_running_programs().is_err() {
        // The wait is longer than any program takes.
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a ring of this many bytes, a power of two, and its reader.
fn new_ring(bytes: u32) -> Result<(MapData, Ring), BpfError> {
    const BPF_MAP_TYPE_RINGBUF: u32 = 27;
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0);
    let map = MapData::create(map, "vxtap_ring", None)?;
    let os = |error| BpfError::Os { call: "mmap of a ring", error };
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(os)?;
    Ok((map, Ring::new(fd, bytes).map_err(os)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::bpf::plan::RedirectPlan;
    use aya::programs::SchedClassifier;

    pub(in super::super) fn plan(redirect: Option<RedirectPlan>) -> BpfPlan {
        BpfPlan {
            interfaces: vec!["lo".into()],
            attach: Attach::Tc,
            ring: 1 << 17,
            keep: u32::MAX,
            early: true,
            any_address: false,
            verify_checksum: false,
            vni_mask: crate::wire::VniMask::ALL,
            redirect,
        }
    }

    /// Loads a program for datagrams to 127.0.0.1:4789, with one ring, attached nowhere.
    pub(in super::super) fn on_loopback(redirect: Option<RedirectPlan>) -> (Program, Vec<Ring>) {
        let listen = ["127.0.0.1:4789".parse().unwrap()];
        let (program, rings) = Program::load(&plan(redirect), &listen, &["lo".into()], 1, true).unwrap();
        program.leave_all(false).unwrap();
        (program, rings)
    }

    impl Program {
        pub(in super::super) fn target(&self) -> &Target {
            &self.target
        }

        pub(in super::super) fn has_at_tc(&self, name: &str, interface: &str) -> bool {
            attach::is_at_tc(&self.changing.lock().ebpf, name, interface::ethernet(interface).unwrap().index)
        }

        /// Has the program look attached as it was, while it is so at another interface.
        pub(in super::super) fn displace(&self, elsewhere: &str) {
            let changing = &mut *self.changing.lock();
            let [place] = &mut *changing.attached else { panic!("one interface") };
            let (_, _, hold) = attach::attach(&mut changing.ebpf, elsewhere, self.attach).unwrap();
            place.hold.as_mut().unwrap().1 = hold;
        }

        /// Has the program that counts what enters an interface look attached as it was, while it
        /// is so at another.
        pub(in super::super) fn displace_entered(&self, elsewhere: &str) {
            let hold = attach::attach_tc(&mut self.changing.lock().ebpf, ENTERED, elsewhere, 0).unwrap();
            self.target.count_by(hold);
        }

        /// Lends a program for tc.
        pub(in super::super) fn with_tc<T>(&self, name: &'static str, f: impl FnOnce(&mut SchedClassifier) -> T) -> T {
            f(attach::tc_program(&mut self.changing.lock().ebpf, name).unwrap())
        }
    }
}
