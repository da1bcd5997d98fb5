//! The program in the kernel: its maps, and where it is attached.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use parking_lot::Mutex;

use super::filter::{self, Filter};
use super::interface;
use super::lists::{self, AllowLists, List};
use super::place::{self, Endpoint, Source};
use super::redirect::{Place, Target};
use super::{Attach, BpfError, BpfPlan};
use crate::source::{Allowed, Counted, Redirected};
use crate::sys::ring::{self, Ring};

/// Built from `capture.bpf.c` by `./ci.sh bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/capture.bpf.o");
/// The programs in it. The names of those at tc are also those of filters on kernels without tcx.
const XDP: &str = "vxtap_xdp";
const TC: &str = "vxtap_tc";
const ENTERED: &str = "vxtap_entered";

/// `struct state`: three words, eight of bits, and padding.
type State = [u32; 16];
/// `struct count`: see [`split`].
type Count = [u64; 17];

/// For how long nothing more must have entered the interface until what is missing is lost. Redirected packets wait in a queue of the receiving
/// CPU, for well below a millisecond.
const ENTERING: Duration = Duration::from_millis(200);

/// What became of packets. Sums over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) ring_full: u64,
    pub(super) unselected: u64,
    pub(super) unselected_bytes: u64,
    pub(super) passed: u64,
    pub(super) martian: u64,
    pub(super) redirect: Redirected,
}

/// Where the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Xdp,
    Tc,
}

impl Mode {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Mode::Xdp => "xdp",
            Mode::Tc => "tc",
        }
    }
}

/// The kernel's end of an attachment: dropping it ends it. Closing the descriptor of a link does, so also where the process is killed.
#[derive(Debug)]
pub(super) enum Hold {
    Xdp { _link: XdpLink },
    Tc { _link: SchedClassifierLink },
    Filter { _filter: Filter },
}

#[derive(Debug)]
struct Attached {
    interface: String,
    /// `None` while the interface is gone.
    hold: Option<(u32, Hold)>,
    /// That it cannot be attached again has been said.
    told: bool,
}

/// The parts that change while the sensor runs.
struct Changing {
    ebpf: Ebpf,
    listening: List<HashMap<MapData, Endpoint, u8>>,
    own: List<HashMap<MapData, Source, u8>>,
    lists: AllowLists,
    attached: Vec<Attached>,
}

/// The map that tells the program and the rings what to do, and what it says to the program.
struct States {
    map: Array<MapData, State>,
    leave_all: bool,
    only: u32,
    /// Not zero, which is what the program knows of at first.
    generation: u32,
    /// A bit for each address of this host.
    own: [u32; 8],
}

impl States {
    fn tell(&mut self) -> Result<(), MapError> {
        let mut state = State::default();
        (state[0], state[1], state[2]) = (u32::from(self.leave_all), self.only, self.generation);
        state[3..11].copy_from_slice(&self.own);
        self.map.set(0, state, 0)
    }

    /// Has the program forget what it found in `listening`.
    fn forget(&mut self) -> Result<(), MapError> {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.tell()
    }

    /// Has the program look these addresses up.
    fn know(&mut self, own: [u32; 8]) -> Result<(), MapError> {
        self.own = own;
        self.tell()
    }

    /// Asks for a wake-up when something comes into the ring.
    fn wake(&mut self, ring: u32) -> Result<(), MapError> {
        let mut state = State::default();
        state[0] = 1;
        self.map.set(ring + 1, state, 0)
    }
}

/// The loaded program. Detached when this is dropped.
pub(super) struct Program {
    changing: Mutex<Changing>,
    /// It is to redirect, and where. Without, the maps are needed all the same when it is loaded once more.
    redirects: bool,
    target: Target,
    rings: u32,
    states: Mutex<States>,
    counts: PerCpuArray<MapData, Count>,
    here: Here,
    attach: Attach,
}

/// What is the sensor's of all that comes to the host.
struct Here {
    listen: Vec<SocketAddr>,
    any_address: bool,
    interfaces: Vec<String>,
}

impl Here {
    /// What the program takes now, and the addresses of the host.
    fn look(&self) -> Result<(HashSet<Endpoint>, HashSet<Source>), BpfError> {
        let interfaces = interface::all();
        let endpoints =
            place::endpoints(&self.listen, self.any_address, &self.interfaces, &interfaces, &interface::links()?);
        Ok((endpoints, place::own(&interfaces)))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("attached", &self.changing.lock().attached).finish_non_exhaustive()
    }
}

impl Program {
    /// Loads the program with `rings` rings, of which it picks one by session if `by_session`, else that of the CPU. It is attached
    /// nowhere yet, and leaves everything to the stack. `interfaces` are those that it is going to
    /// be attached to.
    pub(super) fn load(
        plan: &BpfPlan,
        listen: &[SocketAddr],
        interfaces: &[String],
        rings: u32,
        by_session: bool,
    ) -> Result<(Self, Vec<Ring>), BpfError> {
        let (listen, any_address, interfaces) = (listen.to_vec(), plan.any_address, interfaces.to_vec());
        let here = Here { listen, any_address, interfaces };
        let (endpoints, addresses) = here.look()?;
        let rings_by_session = if by_session { rings } else { 0 };
        let any_address = u8::from(plan.any_address);
        let redirect = u8::from(plan.redirect.is_some());
        let (sessions, copy, keep_copy) = plan.redirect.map_or((1, 1, 0), |r| (r.sessions, u8::from(r.copy), r.keep));
        let entries = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        let room = |entries: u32| if plan.early { entries } else { 1 };
        let mut ebpf = EbpfLoader::new()
            // It is the same for all kernels.
            .btf(None)
            .map_max_entries("rings", rings)
            .map_max_entries("counts", rings)
            .map_max_entries("states", rings + 1)
            .map_max_entries("listening", entries(endpoints.len() * 2).max(1024))
            .map_max_entries("own", entries(addresses.len() * 2).max(1024))
            .map_max_entries("sessions", sessions)
            .map_max_entries("vnis", room(lists::VNI_ENTRIES))
            .map_max_entries("sources", room(lists::ADDRESSES))
            .map_max_entries("networks", room(lists::ADDRESSES))
            .override_global("rings_by_session", &rings_by_session, true)
            .override_global("redirect", &redirect, true)
            .override_global("copy", &copy, true)
            .override_global("keep_copy", &keep_copy, true)
            .override_global("keep", &plan.keep, true)
            .override_global("any_address", &any_address, true)
            .load(OBJECT)?;

        let mut take = |name: &'static str| ebpf.take_map(name).ok_or(BpfError::Object(name));
        let mut listening = List::new(take("listening")?.try_into()?);
        let mut own = List::new(take("own")?.try_into()?);
        let lists =
            AllowLists::new(take("vnis")?.try_into()?, take("sources")?.try_into()?, take("networks")?.try_into()?);
        own.add(addresses.iter().copied())?;
        let map = take("states")?.try_into()?;
        let bits = place::own_bits(&addresses);
        let mut states = States { map, leave_all: true, only: 0, generation: 1, own: bits };
        states.tell()?;
        let states = Mutex::new(states);
        let counts = take("counts")?.try_into()?;
        let target = Target::new(take("target")?.try_into()?, take("sessions")?.try_into()?);
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
        // Into one that is gone frames would vanish.
        target.leave()?;
        let _hold = attach_tc(&mut self.changing.lock().ebpf, ENTERED, interface, index)?;
        Ok(target.begin(Place { interface: interface.to_owned(), index, _hold })?)
    }

    /// Has all frames go into the rings from now on.
    pub(super) fn pause(&self) -> Result<(), BpfError> {
        Ok(self.target.pause()?)
    }

    /// What was redirected without a copy, by session.
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
        let (index, mode, hold) = attach(&mut changing.ebpf, interface, self.attach)?;
        changing.attached.push(Attached { interface: interface.to_owned(), hold: Some((index, hold)), told: false });
        Ok(mode)
    }

    /// Follows what changes on the host: its addresses, and interfaces that go and come back. To be called now and then.
    pub(super) fn tend(&self) {
        let mut changing = self.changing.lock();
        let Changing { ebpf, listening, own, attached, .. } = &mut *changing;
        // What cannot be asked or changed stays with the stack, or is taken for a little longer.
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
            && !is_at_tc(ebpf, ENTERED, &interface)
        {
            tracing::warn!(
                interface,
                "somebody has detached the program that counts what enters the interface; what entered meanwhile is counted as redirect_lost"
            );
            match attach_tc(ebpf, ENTERED, &interface, index) {
                Ok(hold) => self.target.count_by(hold),
                Err(error) => tracing::warn!(%error, "cannot attach it again"),
            }
        }
        for place in attached {
            if matches!(place.hold, Some((_, Hold::Tc { .. }))) && !is_at_tc(ebpf, TC, &place.interface) {
                place.hold = None;
                tracing::warn!(interface = place.interface, "somebody has detached the program; attaching it again");
            }
            let link = interface::ethernet(&place.interface);
            // What cannot be asked now is not gone: to detach and attach again resets some drivers.
            if matches!(link, Err(BpfError::Os { .. })) {
                continue;
            }
            let index = link.as_ref().ok().map(|link| link.index);
            if place.hold.as_ref().is_some_and(|(attached_to, _)| index != Some(*attached_to)) {
                place.hold = None;
                let interface = &place.interface;
                tracing::warn!(interface, "the interface is gone; the program goes on when it is back");
            }
            if place.hold.is_none() && link.is_ok() {
                match attach(ebpf, &place.interface, self.attach) {
                    Ok((index, mode, hold)) => {
                        place.hold = Some((index, hold));
                        place.told = false;
                        tracing::info!(interface = place.interface, attached = mode.label(), "the interface is back");
                    }
                    Err(error) if !place.told => {
                        place.told = true;
                        tracing::warn!(%error, "datagrams come through the socket");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Has the program drop sessions that are not allowed. Where it cannot be told, it drops none, and the workers do.
    pub(super) fn allow(&self, allowed: &Allowed) {
        let mut changing = self.changing.lock();
        let lists = &mut changing.lists;
        // In this order, so that what was allowed and still is is never dropped.
        let told = lists
            .add(allowed)
            .and_then(|()| self.take_only(lists::only(allowed)))
            .and_then(|()| lists.remove_others(allowed))
            .and_then(|()| self.target.block(false));
        if let Err(error) = told {
            tracing::warn!("what is not allowed comes by way of the rings: {}", super::chain(&error));
            if self.target.block(true).and_then(|()| self.take_only(0)).is_err() {
                tracing::error!("the program may drop sessions that are allowed; detaching it");
                changing.attached.clear();
            }
        }
    }

    /// Asks the program to wake the reader of this ring with the next record.
    pub(super) fn wake(&self, ring: u32) -> Result<(), MapError> {
        self.states.lock().wake(ring)
    }

    /// Has the program leave everything to the stack. What it has taken is in the rings when this returns.
    pub(super) fn refuse(&self) {
        if let Err(error) = self.leave_all(true) {
            tracing::warn!(%error, "cannot tell the program to stop; detaching it");
            self.changing.lock().attached.clear();
        }
        if ring::wait_for_running_programs().is_err() {
            // Longer than any program takes.
            thread::sleep(Duration::from_millis(20));
        }
        if self.redirects {
            self.wait_for_entering();
        }
    }

    /// Has the program leave everything to the stack, or not any more.
    pub(super) fn leave_all(&self, leave: bool) -> Result<(), MapError> {
        let mut states = self.states.lock();
        states.leave_all = leave;
        states.tell()
    }

    fn take_only(&self, only: u32) -> Result<(), MapError> {
        let mut states = self.states.lock();
        states.only = only;
        states.tell()
    }

    /// What became of packets for this ring; what was left to the stack is with ring 0.
    pub(super) fn counts(&self, ring: u32) -> Result<Counts, MapError> {
        let mut sums = Count::default();
        for cpu in self.counts.get(&ring, 0)?.iter() {
            for (sum, n) in sums.iter_mut().zip(cpu) {
                *sum += n;
            }
        }
        let ([taken, ring_full, unselected, unselected_bytes, passed, martian], redirect) = split(sums);
        Ok(Counts { taken, ring_full, unselected, unselected_bytes, passed, martian, redirect: redirect.into() })
    }
}

/// Counters of all, and those of redirection.
fn split([a, b, c, d, e, f, redirect @ ..]: Count) -> ([u64; 6], [u64; 11]) {
    ([a, b, c, d, e, f], redirect)
}

/// Whether this program is still at tc of the interface. Without tcx nobody can tell.
fn is_at_tc(ebpf: &Ebpf, program: &str, interface: &str) -> bool {
    let Some(Ok(ours)) = ebpf.program(program).map(|program| program.info()) else { return true };
    let there = SchedClassifier::query_tcx(interface, TcAttachType::Ingress);
    there.map_or(true, |(_, programs)| programs.iter().any(|program| program.id() == ours.id()))
}

/// A ring of this many bytes, a power of two, and its reader.
fn new_ring(bytes: u32) -> Result<(MapData, Ring), BpfError> {
    const BPF_MAP_TYPE_RINGBUF: u32 = 27;
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0);
    let map = MapData::create(map, "vxtap_ring", None)?;
    let os = |error| BpfError::Os { call: "mmap of a ring", error };
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(os)?;
    Ok((map, Ring::new(fd, bytes).map_err(os)?))
}

/// Attaches the program where it is wanted; `auto` tries XDP first.
fn attach(ebpf: &mut Ebpf, name: &str, wanted: Attach) -> Result<(u32, Mode, Hold), BpfError> {
    let link = interface::ethernet(name)?;
    let xdp = |ebpf: &mut Ebpf| Ok((link.index, Mode::Xdp, Hold::Xdp { _link: attach_xdp(ebpf, name)? }));
    let tc = |ebpf: &mut Ebpf| Ok((link.index, Mode::Tc, attach_tc(ebpf, TC, name, link.index)?));
    match wanted {
        Attach::Xdp => xdp(ebpf),
        Attach::Tc => tc(ebpf),
        Attach::Auto => match xdp(ebpf) {
            Ok(attached) => Ok(attached),
            Err(why) => {
                tracing::info!("not at XDP but at tc: {why}");
                tc(ebpf)
            }
        },
    }
}

fn attach_xdp(ebpf: &mut Ebpf, name: &str) -> Result<XdpLink, BpfError> {
    let link = interface::ethernet(name)?;
    let taken = |id| BpfError::XdpTaken { interface: name.to_owned(), program: interface::program_name(id) };
    if let Some(id) = link.xdp {
        return Err(taken(id));
    }
    let program: &mut Xdp = ebpf.program_mut(XDP).ok_or(BpfError::Object(XDP))?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let driver = interface::driver(name, &link);
    let id = program.attach(name, XdpMode::Driver).map_err(|error| {
        let interface = name.to_owned();
        match interface::os_error(&error).and_then(std::io::Error::raw_os_error) {
            Some(libc::EOPNOTSUPP) => BpfError::NoXdp { interface, driver },
            Some(libc::EBUSY | libc::EEXIST) => BpfError::XdpTaken { program: "which has just come".into(), interface },
            // Drivers have many reasons and few numbers: too large an MTU, too few queues, no memory.
            Some(_) => BpfError::XdpRefused { interface, driver, mtu: link.mtu, error: super::chain(&error) },
            None => error.into(),
        }
    })?;
    Ok(program.take_link(id)?)
}

fn attach_tc(ebpf: &mut Ebpf, program_name: &'static str, name: &str, index: u32) -> Result<Hold, BpfError> {
    let program = tc_program(ebpf, program_name)?;
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0)) {
        return Ok(Hold::Filter { _filter: filter::attach(program, program_name, name, index)? });
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(name, TcAttachType::Ingress, order)?;
    Ok(Hold::Tc { _link: program.take_link(id)? })
}

/// A program for tc, which the kernel has.
fn tc_program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, BpfError> {
    let program: &mut SchedClassifier = ebpf.program_mut(name).ok_or(BpfError::Object(name))?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::bpf::RedirectPlan;

    pub(in super::super) fn plan(redirect: Option<RedirectPlan>) -> BpfPlan {
        BpfPlan {
            interfaces: vec!["lo".into()],
            attach: Attach::Tc,
            ring: 1 << 17,
            keep: u32::MAX,
            early: true,
            any_address: false,
            verify_checksum: false,
            redirect,
        }
    }

    /// A program for datagrams to 127.0.0.1:4789, with one ring, attached nowhere.
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
            is_at_tc(&self.changing.lock().ebpf, name, interface)
        }

        /// Has both programs look attached as they were, while they are so at another interface.
        pub(in super::super) fn displace(&self, elsewhere: &str) {
            let attach = |name| attach_tc(&mut self.changing.lock().ebpf, name, elsewhere, 0).unwrap();
            let hold = attach("vxtap_tc");
            if let [Attached { hold: Some((_, place)), .. }] = &mut *self.changing.lock().attached {
                *place = hold;
            }
            self.target.count_by(attach("vxtap_entered"));
        }

        /// Lends a program for tc.
        pub(in super::super) fn with_tc<T>(&self, name: &'static str, f: impl FnOnce(&mut SchedClassifier) -> T) -> T {
            f(tc_program(&mut self.changing.lock().ebpf, name).unwrap())
        }
    }
}
