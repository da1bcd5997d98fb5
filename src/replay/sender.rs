//! Frames become datagrams here: the sockets, the batch, and what to do when the kernel says no.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::error::ReplayError;
use super::plan::ReplayPlan;
use super::report::Report;
use super::wrap::Wrap;
use crate::record::read::Frame;
use crate::sys::send::{SendBatch, Sent};
use crate::sys::socket;
use crate::wire::flow::{FIRST_SOURCE_PORT, outer_source_port};
use crate::wire::layers::protocol;
use crate::wire::{Carrier, Vni, VniRange};

/// There are so many outer source ports, and so many sockets.
const PORTS: usize = 128;

/// Hop limit of the datagrams, as AWS sets it.
const HOP_LIMIT: u32 = 255;

/// The largest UDP payload: 65,535 less the UDP header, for IPv4 also less the IP header (RFC 768,
/// RFC 791, RFC 8200).
const PAYLOAD_V4: usize = 65_507;
const PAYLOAD_V6: usize = 65_527;

/// The largest payload of IP, without extension headers.
const RAW_PAYLOAD_V4: usize = 65_515;
const RAW_PAYLOAD_V6: usize = 65_535;

/// Kernel buffers of each socket, in bytes. Nothing is received but error reports.
const SEND_BUFFER: usize = 1 << 20;
const RECEIVE_BUFFER: usize = 16 << 10;

/// The longest that a call blocks on a full send buffer.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// One frame is tried so often when the kernel says that it does not fit, reports that an earlier
/// one was refused, has no room, or says anything else.
const TOO_LARGE_TRIES: u32 = 2;
const REFUSED_TRIES: u32 = 10;
const NO_ROOM_TRIES: u32 = 50;
const OTHER_TRIES: u32 = 2;

/// The sleep before a frame is tried again for want of room. It is doubled from the first to the
/// second.
const NO_ROOM_SLEEP: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(10)];

/// The end waits this long for errors of the last datagrams, if there was none before: about a
/// round trip.
const LATE_ERRORS: Duration = Duration::from_millis(50);

/// The end waits this long after datagrams that this host had to hold back are gone, which means
/// that they have left or were given up. The kernel's report takes the way of a packet over
/// loopback, by a thread of low priority where the host is busy.
const GIVEN_UP_ERRORS: Duration = Duration::from_millis(500);

/// The end waits at most this long while this host holds datagrams back. Linux asks three times, a
/// second apart, for the link address of a neighbour before it gives up and says so
/// (`mcast_solicit` and `retrans_time_ms`, arp(7)).
const HELD_MOST: Duration = Duration::from_secs(5);

/// The end looks for errors this often meanwhile.
const ERROR_CHECK: Duration = Duration::from_millis(5);

/// Sends frames in the order in which they are offered.
pub(super) struct Sender<'a> {
    from: IpAddr,
    to: SocketAddr,
    carrier: Carrier,
    checksum: bool,
    vnis: VniRange,
    stop: &'a AtomicBool,
    /// The VNI of the next frame.
    vni: Vni,
    wrap: Wrap,
    /// The number of the next frame.
    number: u32,
    /// The most bytes of a datagram.
    largest: usize,
    /// The sockets, by outer source port less [`FIRST_SOURCE_PORT`].
    sockets: Vec<Option<Socket>>,
    batch: SendBatch,
    /// Outer source port of the batch.
    port: u16,
    report: Report,
}

impl<'a> Sender<'a> {
    /// # Errors
    /// The target cannot be reached from the source address, or not in this way. The mistake thus
    /// shows before anything is sent.
    pub(super) fn new(plan: &ReplayPlan, stop: &'a AtomicBool) -> Result<Sender<'a>, ReplayError> {
        // An IPv4 address in IPv6 notation is sent to over IPv4, where it would go anyway.
        let to = match plan.to.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), plan.to.port()),
            IpAddr::V6(_) => plan.to,
        };
        let unspecified = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = plan.from.map_or(unspecified, |from| from.to_canonical());
        if from.is_ipv4() != to.is_ipv4() {
            return Err(ReplayError::Family { from, to });
        }
        if plan.carrier == Carrier::Ip {
            if !plan.wrap.goes_over_ip() {
                return Err(ReplayError::OverIp);
            }
            if to.port() != 0 {
                return Err(ReplayError::Port(to));
            }
        }
        let sender = Sender {
            from,
            to,
            carrier: plan.carrier,
            checksum: plan.checksum,
            vnis: plan.vni,
            stop,
            vni: plan.vni.first,
            wrap: plan.wrap,
            number: 0,
            largest: match (plan.carrier, to.is_ipv4()) {
                (Carrier::Udp, true) => PAYLOAD_V4,
                (Carrier::Udp, false) => PAYLOAD_V6,
                (Carrier::Ip, true) => RAW_PAYLOAD_V4,
                (Carrier::Ip, false) => RAW_PAYLOAD_V6,
            },
            sockets: (0..PORTS).map(|_| None).collect(),
            batch: SendBatch::default(),
            port: FIRST_SOURCE_PORT,
            report: Report::default(),
        };
        // Any free port shows whether the addresses are good.
        sender.open(0)?;
        Ok(sender)
    }

    /// Takes a frame, to be sent at the latest by the next [`Sender::flush`].
    pub(super) fn offer(&mut self, frame: &Frame<'_>) -> Result<(), ReplayError> {
        let vni = self.next_vni();
        let Some((header, wrapped)) = self.wrap.wrap(vni, self.number, frame.data) else {
            self.report.not_ip += 1;
            return Ok(());
        };
        let length = header.as_ref().len() + wrapped.len();
        if length > self.largest {
            self.report.too_large += 1;
            return Ok(());
        }
        self.number = self.number.wrapping_add(1);
        if usize::try_from(frame.orig_len).is_ok_and(|length| length > frame.data.len()) {
            self.report.cut += 1;
        }
        let port = match self.carrier {
            Carrier::Udp => outer_source_port(frame.data),
            // There is one socket, which this stands for.
            Carrier::Ip => FIRST_SOURCE_PORT,
        };
        if port != self.port || !self.batch.has_room(length) {
            self.flush()?;
        }
        self.port = port;
        if !self.batch.push(header, wrapped) {
            self.report.unsent += 1;
        }
        Ok(())
    }

    fn next_vni(&mut self) -> Vni {
        let vni = self.vni;
        let next = if vni < self.vnis.last { Vni::new(vni.get() + 1) } else { None };
        self.vni = next.unwrap_or(self.vnis.first);
        vni
    }

    /// Sends what was taken. Afterwards nothing waits: each frame is sent or counted.
    ///
    /// # Errors
    /// A socket cannot be opened and there is nothing to report so far. Later that costs the frames
    /// in hand, which are counted; the next frames of that port try again.
    pub(super) fn flush(&mut self) -> Result<(), ReplayError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let port = self.port;
        let index = usize::from(port - FIRST_SOURCE_PORT);
        if self.sockets.get(index).is_some_and(Option::is_none) {
            let socket = match self.open(port) {
                Ok(socket) => socket,
                Err(error) if self.report.frames == 0 && self.report.all_sent() => return Err(error),
                Err(error) => {
                    self.report.other_errors += 1;
                    self.report.last_error = Some(error.to_string());
                    self.give_up_batch();
                    return Ok(());
                }
            };
            if let Some(slot) = self.sockets.get_mut(index) {
                *slot = Some(socket);
            }
        }
        let Some(Some(socket)) = self.sockets.get(index) else { return Ok(()) };
        let mut tries = Tries::default();
        loop {
            let sent = self.batch.send(socket);
            self.report.count(&sent);
            if sent.messages > 0 {
                tries = Tries::default();
            }
            let Some(error) = sent.error else { return Ok(()) };
            if self.stop.load(Ordering::Relaxed) {
                while !self.batch.is_empty() {
                    self.batch.drop_front();
                }
                return Ok(());
            }
            if means_nothing(self.carrier, &error) {
                continue;
            }
            match tries.next(&error, &mut self.report) {
                Next::Again => {}
                Next::Sleep(time) => thread::sleep(time),
                Next::TooLarge => {
                    self.report.too_large += 1;
                    self.batch.drop_front();
                    tries = Tries::default();
                }
                Next::GiveUp => {
                    self.report.unsent += 1;
                    self.batch.drop_front();
                    tries = Tries::default();
                }
            }
        }
    }

    fn give_up_batch(&mut self) {
        while !self.batch.is_empty() {
            self.batch.drop_front();
            self.report.unsent += 1;
        }
    }

    /// Sends the rest and collects the errors that are still waiting at the sockets, or come soon.
    ///
    /// A replay can be over before the first answer to it: that nothing listens, or that nobody has
    /// the target's address. So the end waits, unless it is known already that not all went well,
    /// until [`LATE_ERRORS`] have passed since the last datagram left this host. The kernel gives
    /// up a datagram first and reports it then. So there is a state in which datagrams are gone and
    /// errors are not there yet, which has to be waited through, too. Datagrams that this host
    /// still holds after [`HELD_MOST`] are reported as held.
    pub(super) fn finish(mut self) -> Result<Report, ReplayError> {
        self.flush()?;
        let started = Instant::now();
        // The time since which nothing is held, and how long errors may take from then on.
        let (mut since, mut patience) = (started, LATE_ERRORS);
        loop {
            let now = Instant::now();
            self.report.held = self.holds_datagrams();
            if self.report.held {
                (since, patience) = (now, GIVEN_UP_ERRORS);
            }
            let is_over = now - since >= patience || now - started >= HELD_MOST;
            self.collect_errors();
            if is_over || self.report.frames == 0 || self.report.has_errors() || self.stop.load(Ordering::Relaxed) {
                return Ok(self.report);
            }
            thread::sleep(ERROR_CHECK);
        }
    }

    fn collect_errors(&mut self) {
        for socket in self.sockets.iter().flatten() {
            if let Ok(Some(error)) = socket.take_error()
                && !means_nothing(self.carrier, &error)
            {
                Tries::default().next(&error, &mut self.report);
            }
        }
    }

    /// Says whether this host holds datagrams that the sockets have sent; `false` if the kernel
    /// does not say.
    fn holds_datagrams(&self) -> bool {
        self.sockets.iter().flatten().any(|socket| socket::held(socket).is_ok_and(|bytes| bytes > 0))
    }

    /// Opens a raw socket that gets nothing of what comes.
    fn open_raw(&self, domain: Domain) -> Result<Socket, ReplayError> {
        let set = |action| move |source| ReplayError::Socket { action, source };
        let gre = Protocol::from(i32::from(protocol::GRE));
        let socket = Socket::new(domain, Type::RAW, Some(gre)).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ReplayError::Raw,
            _ => set("open a raw socket")(source),
        })?;
        socket::refuse_further(&socket).map_err(set("refuse what comes (SO_ATTACH_FILTER)"))?;
        Ok(socket)
    }

    /// Opens a connected socket that sends from this port, or from any for port 0.
    fn open(&self, port: u16) -> Result<Socket, ReplayError> {
        let set = |action| move |source| ReplayError::Socket { action, source };
        let v4 = self.to.is_ipv4();
        let domain = Domain::for_address(self.to);
        let socket = match self.carrier {
            Carrier::Udp => {
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(set("open a UDP socket"))?;
                // A second replay may run beside this one; connected to other targets or not, both
                // only send.
                socket.set_reuse_port(true).map_err(set("share UDP ports (SO_REUSEPORT)"))?;
                if !v4 {
                    // [::] would otherwise claim the IPv4 port too.
                    socket.set_only_v6(true).map_err(set("keep to IPv6 (IPV6_V6ONLY)"))?;
                }
                socket
            }
            Carrier::Ip => self.open_raw(domain)?,
        };
        socket.set_send_buffer_size(SEND_BUFFER).map_err(set("set the send buffer (SO_SNDBUF)"))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(set("set the receive buffer (SO_RCVBUF)"))?;
        socket.set_write_timeout(Some(SEND_TIMEOUT)).map_err(set("limit the time of a send (SO_SNDTIMEO)"))?;
        if v4 {
            socket.set_ttl_v4(HOP_LIMIT).map_err(set("set the TTL (IP_TTL)"))?;
            socket::fragment_v4(&socket).map_err(set("allow fragments (IP_MTU_DISCOVER)"))?;
            socket::report_errors_v4(&socket).map_err(set("ask for error reports (IP_RECVERR)"))?;
        } else {
            socket.set_unicast_hops_v6(HOP_LIMIT).map_err(set("set the hop limit (IPV6_UNICAST_HOPS)"))?;
            socket::fragment_v6(&socket).map_err(set("allow fragments (IPV6_MTU_DISCOVER)"))?;
            socket::report_errors_v6(&socket).map_err(set("ask for error reports (IPV6_RECVERR)"))?;
        }
        if !self.checksum && self.carrier == Carrier::Udp {
            let zero = if v4 { socket::send_zero_checksum_v4(&socket) } else { socket::send_zero_checksum_v6(&socket) };
            zero.map_err(set("send a zero UDP checksum"))?;
        }
        let mut from = SocketAddr::new(self.from, port);
        if let (SocketAddr::V6(from), SocketAddr::V6(to)) = (&mut from, &self.to) {
            // A link-local source is meant on the interface of the target.
            from.set_scope_id(to.scope_id());
        }
        socket.bind(&from.into()).map_err(|source| match source.kind() {
            io::ErrorKind::AddrNotAvailable => ReplayError::NotOurs { from: self.from },
            _ => ReplayError::Bind { from: self.from, port, source },
        })?;
        socket.connect(&self.to.into()).map_err(|source| ReplayError::Connect { to: self.to, source })?;
        Ok(socket)
    }
}

/// Says whether an error is an answer to GRE that means nothing: the kernel of a host that has GRE
/// devices says so of what is for none of them, also where a raw socket has it.
fn means_nothing(carrier: Carrier, error: &io::Error) -> bool {
    carrier == Carrier::Ip && error.raw_os_error() == Some(libc::ECONNREFUSED)
}

impl Report {
    fn count(&mut self, sent: &Sent) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.frames += count(sent.messages);
        self.frame_bytes += count(sent.frame_bytes);
        self.datagram_bytes += count(sent.bytes);
    }
}

/// The decision about a frame that the kernel did not take.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Again,
    Sleep(Duration),
    TooLarge,
    GiveUp,
}

/// Counts how often the frame at the front was refused, by cause.
#[derive(Debug, Default)]
struct Tries {
    too_large: u32,
    refused: u32,
    no_room: u32,
    other: u32,
}

impl Tries {
    /// Counts the error and decides.
    fn next(&mut self, error: &io::Error, report: &mut Report) -> Next {
        let again = |tries: &mut u32, limit| {
            *tries += 1;
            if *tries < limit { Next::Again } else { Next::GiveUp }
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => Next::Again,
            // Over IPv6 the first such error may be a router's "packet too big" for an earlier
            // datagram; the kernel has taken note and fragments this one.
            Some(libc::EMSGSIZE) => match again(&mut self.too_large, TOO_LARGE_TRIES) {
                Next::GiveUp => Next::TooLarge,
                other => other,
            },
            // This is the error of an earlier datagram, for which the network has answered
            // meanwhile.
            Some(libc::ECONNREFUSED) => {
                report.refused += 1;
                again(&mut self.refused, REFUSED_TRIES)
            }
            Some(libc::ENOBUFS | libc::EAGAIN) => {
                report.no_buffer_space += 1;
                let [first, longest] = NO_ROOM_SLEEP;
                let sleep = longest.min(first * 2u32.saturating_pow(self.no_room.min(16)));
                match again(&mut self.no_room, NO_ROOM_TRIES) {
                    Next::Again => Next::Sleep(sleep),
                    other => other,
                }
            }
            // This is possibly of an earlier datagram too, as "host unreachable" is.
            _ => {
                report.other_errors += 1;
                report.last_error = Some(error.to_string());
                again(&mut self.other, OTHER_TRIES)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_is_retried_forever() {
        for (code, tries, sleeps) in [
            (libc::ECONNREFUSED, REFUSED_TRIES, false),
            (libc::ENOBUFS, NO_ROOM_TRIES, true),
            (libc::EAGAIN, NO_ROOM_TRIES, true),
            (libc::EPERM, OTHER_TRIES, false),
        ] {
            let (mut state, mut report) = (Tries::default(), Report::default());
            let error = io::Error::from_raw_os_error(code);
            for _ in 1..tries {
                let next = state.next(&error, &mut report);
                assert_eq!(matches!(next, Next::Sleep(t) if t <= Duration::from_millis(10)), sleeps, "{next:?}");
                assert!(next != Next::GiveUp);
            }
            assert_eq!(state.next(&error, &mut report), Next::GiveUp);
            assert_eq!(report.refused + report.no_buffer_space + report.other_errors, u64::from(tries));
            assert_eq!(report.last_error.is_some(), code == libc::EPERM);
        }
    }

    #[test]
    fn too_large_is_believed_the_second_time() {
        let error = io::Error::from_raw_os_error(libc::EMSGSIZE);
        let (mut tries, mut report) = (Tries::default(), Report::default());
        assert_eq!(tries.next(&error, &mut report), Next::Again);
        assert_eq!(tries.next(&error, &mut report), Next::TooLarge);
    }
}
