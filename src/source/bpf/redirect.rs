//! Redirection leads frames into an interface, those of all sessions or of such as are marked, and
//! counts those that have no copy in a ring.

use std::io;
use std::net::Ipv6Addr;

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuHashMap, PerCpuValues};
use parking_lot::Mutex;

use super::attach::Hold;
use super::place;
use crate::record::Timestamp;
use crate::session::{Session, Tag};
use crate::source::fast_path::Counted;
use crate::wire::{Encapsulation, Vni};

/// `struct session`: outer source address, VNI and `IN_GENEVE`.
type RawSession = [u32; 5];
/// `struct total`: frames, bytes, times of the first and the last by CLOCK_REALTIME, 0 where the
/// kernel did not stamp yet.
type Total = [u64; 4];

const IN_GENEVE: u32 = 1 << 24;

/// The interface that the program redirects to.
pub(super) struct Target {
    number: Mutex<Number>,
    sessions: PerCpuHashMap<MapData, RawSession, Total>,
    /// The sessions that are marked, with the VLANs of their tags.
    marked: Mutex<HashMap<MapData, RawSession, u32>>,
    place: Mutex<Option<Place>>,
}

/// The number of the interface, as the program has it.
struct Number {
    map: Array<MapData, u32>,
    /// The number that is wanted; 0 for none.
    wanted: u32,
    blocked: bool,
}

impl Number {
    fn tell(&mut self) -> Result<(), MapError> {
        self.map.set(0, if self.blocked { 0 } else { self.wanted }, 0)
    }
}

/// An interface that frames enter.
pub(super) struct Place {
    pub(super) interface: String,
    pub(super) index: u32,
    /// The attachment of the program there, which counts them.
    pub(super) _hold: Hold,
}

impl Target {
    pub(super) fn new(
        number: Array<MapData, u32>,
        sessions: PerCpuHashMap<MapData, RawSession, Total>,
        marked: HashMap<MapData, RawSession, u32>,
    ) -> Self {
        let number = Number { map: number, wanted: 0, blocked: false };
        Self { number: Mutex::new(number), sessions, marked: Mutex::new(marked), place: Mutex::new(None) }
    }

    /// Marks a session that the program knows, whose frames are to have this tag.
    pub(super) fn mark(&self, session: &Session, tag: Option<Tag>) -> Result<(), MapError> {
        let Some(key) = key_of(session) else { return Ok(()) };
        self.marked.lock().insert(key, vlans(tag), 0)
    }

    /// Takes the mark off a session, where it has one.
    pub(super) fn unmark(&self, session: &Session) -> Result<(), MapError> {
        let Some(key) = key_of(session) else { return Ok(()) };
        match self.marked.lock().remove(&key) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Has frames enter this interface from now on.
    pub(super) fn begin(&self, place: Place) -> Result<(), MapError> {
        let index = place.index;
        *self.place.lock() = Some(place);
        self.resume(index)
    }

    /// Has frames enter the interface again that it was before.
    pub(super) fn resume(&self, index: u32) -> Result<(), MapError> {
        let mut number = self.number.lock();
        number.wanted = index;
        number.tell()
    }

    /// Has frames go into the rings from now on. A frame that is on its way is still counted when
    /// it enters.
    pub(super) fn pause(&self) -> Result<(), MapError> {
        self.resume(0)
    }

    /// Has frames go into the rings as long as this is so: the program does not know which sessions
    /// are allowed.
    pub(super) fn block(&self, blocked: bool) -> Result<(), MapError> {
        let mut number = self.number.lock();
        number.blocked = blocked;
        number.tell()
    }

    /// Returns the last interface that frames entered: name and number.
    pub(super) fn interface(&self) -> Option<(String, u32)> {
        self.place.lock().as_ref().map(|place| (place.interface.clone(), place.index))
    }

    /// Says whether nobody can tell if the program that counts there is still attached: as a filter
    /// it goes with the others of the interface.
    pub(super) fn may_be_gone(&self) -> bool {
        self.place.lock().as_ref().is_some_and(|place| matches!(place._hold, Hold::Clsact { .. }))
    }

    /// Pauses as [`Target::pause`] does, and detaches the program that counts, so that it can be
    /// attached anew.
    pub(super) fn leave(&self) -> Result<(), MapError> {
        self.pause()?;
        *self.place.lock() = None;
        Ok(())
    }

    /// Takes another attachment of the program that counts there.
    pub(super) fn count_by(&self, hold: Hold) {
        if let Some(place) = &mut *self.place.lock() {
            place._hold = hold;
        }
    }

    /// Returns what was redirected without a copy, by session.
    pub(super) fn sessions(&self) -> Result<Vec<Counted>, MapError> {
        let counted = |(key, totals): (RawSession, PerCpuValues<Total>)| add_up(key, totals.iter());
        self.sessions.iter().filter_map(|entry| entry.map(counted).transpose()).collect()
    }
}

/// Says whether the program can redirect frames of a session, by what it knows of sessions.
pub(super) fn is_known(session: &Session) -> bool {
    key_of(session).is_some()
}

/// Returns the key of a session of VXLAN or GENEVE that is told apart by source and VNI alone,
/// which is all that the program knows.
fn key_of(session: &Session) -> Option<RawSession> {
    let wrap = match (session.encapsulation, session.scope) {
        (Encapsulation::Vxlan, None) => 0,
        (Encapsulation::Geneve, None) => IN_GENEVE,
        _ => return None,
    };
    let [a, b, c, d] = place::words(session.source);
    Some([a, b, c, d, session.vni.get() | wrap])
}

/// Returns the VLANs of a tag: that of the outer or only tag, and from bit 16 on the inner one.
fn vlans(tag: Option<Tag>) -> u32 {
    let (outer, inner) = tag.map_or((0, None), Tag::vlans);
    u32::from(outer) | u32::from(inner.unwrap_or(0)) << 16
}

/// Adds up a session, from what each CPU counted of it. Returns none where the number is no VNI,
/// which the program never makes.
fn add_up<'a>(key: RawSession, totals: impl Iterator<Item = &'a Total>) -> Option<Counted> {
    let [a, b, c, d, id] = key;
    let mut octets = [0; 16];
    octets.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d]).for_each(|(to, word)| *to = word.to_ne_bytes());
    let (mut frames, mut bytes, mut first, mut last) = (0, 0, u64::MAX, 0);
    for [n, length, earliest, latest] in totals.copied() {
        frames += n;
        bytes += length;
        if earliest > 0 {
            first = first.min(earliest);
        }
        last = last.max(latest);
    }
    let now = Timestamp::now();
    let time = |ns| if ns == 0 || ns == u64::MAX { now } else { Timestamp::from_ns(ns) };
    let encapsulation = if id & IN_GENEVE == 0 { Encapsulation::Vxlan } else { Encapsulation::Geneve };
    let session = Session { encapsulation, ..Session::vxlan(Ipv6Addr::from(octets), Vni::new(id & !IN_GENEVE)?) };
    Some(Counted { session, frames, bytes, first: time(first), last: time(last) })
}

#[cfg(test)]
mod tests {
    use super::super::clsact;
    use super::super::plan::RedirectPlan;
    use super::super::program::tests::on_loopback;
    use super::*;
    use crate::sink::interface::{Interface, InterfacePlan, Kind};
    use crate::sink::namespace::{Namespace, Sniffer, sh};
    use crate::sys::rtnetlink::RouteSocket;
    use crate::wire::{Scope, vxlan};
    use aya::programs::{SchedClassifier, TcAttachType};
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    use std::net::UdpSocket;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Tests as on kernels before 6.6, where both programs are filters, and that which drops
    /// everything is one of the same kind.
    #[test]
    fn by_filters() {
        let Some(_namespace) = Namespace::enter() else { return };
        let plan = InterfacePlan { name: "mirror0".into(), kind: Kind::Tap, mtu: 9001, tags: None };
        let tap = Interface::open(&plan).unwrap();
        let redirect = RedirectPlan { sessions: 10, copy: false, keep: 128 };
        let (program, mut rings) = on_loopback(Some(redirect));
        let filter = |name, interface, index| Hold::Clsact {
            _clsact: program.with_tc(name, |tc| clsact::attach(tc, name, interface, index)).unwrap(),
        };
        let _capture = filter("vxtap_tc", "lo", 1);
        let _hold = filter("vxtap_entered", "mirror0", tap.index());
        let sniffer = Sniffer::start("mirror0", &[]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x12, 0x34].into_iter().chain(0..60).collect::<Vec<u8>>();
        let datagram = [vxlan::header(Vni::new(7).unwrap()).as_slice(), &frame].concat();
        let send = || assert_eq!(socket.send_to(&datagram, "127.0.0.1:4789").unwrap(), datagram.len());

        send();
        let counts = program.counts(0).unwrap();
        assert_eq!((counts.taken, counts.redirect.no_interface), (1, 1), "into the ring before there is an interface");
        program.target().begin(Place { interface: "mirror0".into(), index: tap.index(), _hold }).unwrap();
        (0..3).for_each(|_| send());
        program.refuse();
        let counts = program.counts(0).unwrap();
        assert_eq!(
            (counts.redirect.redirected, counts.redirect.entered, counts.redirect.entered_bytes),
            (3, 3, 3 * 74)
        );
        assert_eq!(
            (counts.taken, counts.redirect.uncopied),
            (2, 2),
            "and the first of the session is known by its copy"
        );
        let sessions = program.sessions().unwrap();
        assert_eq!((sessions.len(), sessions[0].session.vni.get(), sessions[0].frames), (1, 7, 2));
        assert_eq!(sniffer.wait_for(3), [frame.clone(), frame.clone(), frame]);
        let is_copy = |bytes: &[u8]| super::super::record::Record::parse(bytes).unwrap().redirected;
        assert!(!is_copy(rings[0].peek().unwrap()));
        rings[0].skip();
        assert!(is_copy(rings[0].peek().unwrap()));
    }

    #[test]
    fn a_program_that_somebody_has_detached_is_attached_again() {
        let Some(_namespace) = Namespace::enter() else { return };
        sh("ip link add v0 type veth peer name v1");
        let (program, _rings) = on_loopback(Some(RedirectPlan { sessions: 1, copy: false, keep: 128 }));
        program.attach("lo").unwrap();
        program.redirect("v0").unwrap();
        let both = || [program.has_at_tc("vxtap_tc", "lo"), program.has_at_tc("vxtap_entered", "v0")];
        assert_eq!(both(), [true, true]);
        // Before Linux 6.6 nobody can tell whether it is attached.
        if SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok() {
            program.displace("v1");
            program.displace_entered("v1");
            // Between fork and exec, a child of another test holds a copy of the descriptor, and
            // with it the attachment.
            let end = Instant::now() + Duration::from_secs(10);
            while both() != [false, false] && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(both(), [false, false]);
        }
        // A thread of a sealed process has these capabilities and no others.
        let seen = thread::scope(|scope| {
            let sealed = scope.spawn(|| {
                let few = CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
                let sets = CapabilitySets { effective: few, permitted: few, inheritable: CapabilitySet::empty() };
                set_capabilities(None, sets).unwrap();
                program.tend();
                both()
            });
            sealed.join().unwrap()
        });
        assert_eq!(seen, [true, true]);
        assert_eq!(both(), [true, true]);
    }

    #[test]
    fn a_filter_that_somebody_took_away_is_there_when_redirection_goes_on() {
        let Some(_namespace) = Namespace::enter() else { return };
        let plan = InterfacePlan { name: "mirror0".into(), kind: Kind::Tap, mtu: 9001, tags: None };
        let tap = Interface::open(&plan).unwrap();
        let (program, _rings) = on_loopback(Some(RedirectPlan { sessions: 10, copy: false, keep: 128 }));
        let attach =
            || program.with_tc("vxtap_entered", |tc| clsact::attach(tc, "vxtap_entered", "mirror0", tap.index()));
        let _hold = Hold::Clsact { _clsact: attach().unwrap() };
        program.target().begin(Place { interface: "mirror0".into(), index: tap.index(), _hold }).unwrap();
        assert!(
            RouteSocket::open().unwrap().drops_ingress(tap.index()).unwrap(),
            "it is no filter that lets frames pass"
        );
        sh("tc qdisc del dev mirror0 clsact");
        program.pause().unwrap();
        program.redirect("mirror0").unwrap();
        let is_filter = sh("tc filter show dev mirror0 ingress").contains("vxtap_entered");
        assert!(is_filter || program.has_at_tc("vxtap_entered", "mirror0"));
        assert_eq!(program.target().interface(), Some(("mirror0".into(), tap.index())));
    }

    #[test]
    fn a_session_is_what_all_cpus_counted() {
        let word = |bytes| u32::from_ne_bytes(bytes);
        let key = [0, 0, word([0, 0, 0xff, 0xff]), word([192, 0, 2, 7]), 9];
        let totals = [[3, 180, 50, 70], [0, 0, 0, 0], [1, 60, 40, 40], [2, 120, 0, 0]];
        let counted = add_up(key, totals.iter()).unwrap();
        assert_eq!(counted.session.to_string(), "192.0.2.7 vni 9");
        assert_eq!((counted.frames, counted.bytes), (6, 360));
        assert_eq!((counted.first, counted.last), (Timestamp::from_ns(40), Timestamp::from_ns(70)));
        let geneve = add_up([0, 0, key[2], key[3], 9 | 1 << 24], totals.iter()).unwrap().session;
        assert_eq!(geneve, Session { encapsulation: Encapsulation::Geneve, ..counted.session });
        assert_eq!(
            [counted.session, geneve].map(|session| key_of(&session)),
            [Some(key), Some([key[0], key[1], key[2], key[3], 9 | 1 << 24])]
        );
        let others = [
            Session { scope: Some(Scope(0)), ..geneve },
            Session { encapsulation: Encapsulation::Gpe, ..geneve },
            Session { scope: Some(Scope(7)), ..counted.session },
        ];
        assert_eq!(others.map(|session| is_known(&session)), [false; 3], "the program would take them for these");
        let before = Timestamp::now();
        let counted = add_up(key, [[2, 120, 0, 0]].iter()).unwrap();
        assert!(counted.first >= before && counted.last >= before, "not stamped");
    }
}
