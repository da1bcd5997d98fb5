//! GRE over IP comes to raw sockets, of which each worker has one for each listen address.
//!
//! The kernel gives every packet of the protocol to every raw socket for its address, in this
//! process and in others. There are no groups as of UDP sockets. So a filter on the socket of each
//! worker lets in what is that worker's, by the outer source address: a session stays on one worker
//! and in order. What a filter refuses is no drop and shows in no counter, also where the sensor
//! ends and refuses all: what comes then is not among what was refused.
//!
//! A socket of IPv4 has the IP header in front of each packet, and one of IPv6 has not (raw(7),
//! ipv6(7)). Fragments have been put together.

use std::io;
use std::net::{Shutdown, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::bind::{BindError, explain};
use super::group::drain;
use super::port::Listener;
use crate::sys::socket;
use crate::wire::layers::protocol;

/// Returns the protocol of these sockets.
pub(super) fn gre() -> Protocol {
    Protocol::from(i32::from(protocol::GRE))
}

/// Opens a socket that is bound and refuses everything.
///
/// # Errors
/// The process may not open raw sockets, the address is none of this host, or the system has
/// another reason.
pub(super) fn open(listener: Listener) -> Result<Socket, BindError> {
    let os = |call| move |error| BindError::Os { listener, call, error };
    let address = listener.address;
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(gre())).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return BindError::Raw { listener };
        }
        os("socket")(error)
    })?;
    // It gets packets for all addresses until it is bound. None of them is for this listener alone.
    socket::refuse_further(&socket).map_err(os("SO_ATTACH_FILTER"))?;
    // It is to receive, as those of UDP.
    let _ = socket.shutdown(Shutdown::Write);
    socket.bind(&SocketAddr::new(address.ip(), 0).into()).map_err(|error| explain(listener, error))?;
    drain(&socket);
    Ok(socket)
}

/// Has the socket let in what is for this one of so many workers, whatever it has refused before.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub(super) fn let_in(socket: &Socket, worker: u32, workers: u32) -> io::Result<()> {
    if workers > 1 {
        // It takes the place of the filter that there is.
        return socket::take_by_source(socket, worker, workers);
    }
    match socket.detach_filter() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Returns what is behind the IPv4 header of a packet; nothing where that is longer than the
/// packet.
#[inline]
pub(super) fn behind_ipv4(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0f));
    packet.get(words * 4..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;
    use crate::service::Store;
    use crate::sink::namespace::Namespace;
    use crate::source::kept;
    use crate::source::udp::{Listening, UdpPlan, listen};
    use crate::source::{LiveSource, Source, Steering};
    use std::net::{IpAddr, Ipv4Addr};

    const GRE: [u8; 24] = [0, 0, 8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

    fn listening(address: &str, workers: usize) -> Listening {
        let listen_on = vec![Listener::over_ip(SocketAddr::new(address.parse().unwrap(), 0))];
        let plan = UdpPlan {
            listen: listen_on,
            workers,
            steering: Steering::Session,
            vni_mask: crate::wire::VniMask::ALL,
            receive_buffer: 1 << 20,
        };
        listen(&plan, &Store::default()).unwrap()
    }

    /// Sends a packet from this address to that one.
    fn send(from: IpAddr, to: IpAddr) {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), Type::RAW, Some(gre())).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        assert_eq!(socket.send_to(&GRE, &SocketAddr::new(to, 0).into()).unwrap(), GRE.len());
    }

    #[test]
    fn one_worker_has_each_source_and_all_of_it() {
        let Some(_namespace) = Namespace::enter() else { return };
        let mut listening = listening("127.0.0.1", 4);
        let to = IpAddr::from(Ipv4Addr::LOCALHOST);
        send(to, to);
        listening.sources.iter_mut().for_each(|source| source.begin().unwrap());
        let hosts: Vec<Ipv4Addr> = (2..66).map(|host| [127, 0, 0, host].into()).collect();
        for host in hosts.iter().chain(&hosts) {
            send((*host).into(), to);
        }
        // Not for the address.
        send(to, [127, 0, 0, 2].into());
        let mut received = Vec::new();
        let mut seen = Vec::new();
        for source in &mut listening.sources {
            let mut own = Vec::new();
            let mut deliver = |datagram: &crate::source::Datagram<'_>| {
                assert_eq!((datagram.payload, datagram.port), (&GRE[..], 0));
                assert!(datagram.timestamp > Timestamp::from_ns(0));
                own.push(datagram.source);
            };
            while source.receive(64, &mut deliver).unwrap().datagrams() > 0 {}
            assert_eq!((source.copies(), source.kernel_dropped()), (0, 0));
            received.push(own.len());
            own.sort_unstable();
            assert!(own.chunks(2).all(|two| two[0] == two[1]), "both of each");
            own.dedup();
            seen.extend(own);
        }
        assert_eq!(received.iter().sum::<usize>(), 128);
        assert!(received.iter().all(|n| *n > 8), "{received:?}");
        seen.sort_unstable();
        assert_eq!(seen, hosts.iter().map(Ipv4Addr::to_ipv6_mapped).collect::<Vec<_>>());
        listening.sources.iter_mut().for_each(LiveSource::refuse_further);
        send([127, 0, 0, 9].into(), to);
        let mut later = 0;
        for source in &mut listening.sources {
            source.receive(64, &mut |_| later += 1).unwrap();
        }
        assert_eq!(later, 0);
    }

    #[test]
    fn drops_are_counted_and_ipv6_has_no_header() {
        let Some(_namespace) = Namespace::enter() else { return };
        let mut listening = listening("::1", 1);
        let source = &mut listening.sources[0];
        source.begin().unwrap();
        let to: IpAddr = "::1".parse().unwrap();
        let sent = 20_000;
        (0..sent).for_each(|_| send(to, to));
        let mut received = 0;
        let mut deliver = |datagram: &crate::source::Datagram<'_>| {
            assert_eq!((datagram.payload, IpAddr::from(datagram.source)), (&GRE[..], to));
            received += 1;
        };
        while source.receive(64, &mut deliver).unwrap().datagrams() > 0 {}
        assert!(source.kernel_dropped() > 0);
        assert_eq!(received + source.kernel_dropped(), sent);
    }

    #[test]
    fn sockets_of_several_workers_go_on_after_a_restart() {
        let Some(_namespace) = Namespace::enter() else { return };
        let [to, other]: [IpAddr; 2] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let listener = Listener::over_ip(SocketAddr::new(to, 0));
        for (workers, received) in [(2, 20), (1, 0)] {
            let first = listening("127.0.0.1", 2);
            let mut kept = Vec::new();
            for (worker, mut source) in first.sources.into_iter().enumerate() {
                source.begin().unwrap();
                kept.push((kept::name(listener, worker), source.sockets()[0].try_clone().unwrap().into()));
            }
            (0..10).for_each(|_| send(to, to));
            (0..10).for_each(|_| send(other, to));
            let plan = UdpPlan {
                listen: vec![listener],
                workers,
                steering: Steering::Session,
                vni_mask: crate::wire::VniMask::ALL,
                receive_buffer: 1 << 20,
            };
            let mut listening = listen(&plan, &Store::with(kept)).unwrap();
            listening.sources.iter_mut().for_each(|source| source.begin().unwrap());
            let (mut found, mut dropped) = (0, 0);
            for source in &mut listening.sources {
                source.receive(64, &mut |_| found += 1).unwrap();
                dropped += source.kernel_dropped();
            }
            assert_eq!((found, dropped), (received, 20 - received), "{workers}");
            (0..10).for_each(|_| send(to, to));
            let mut later = 0;
            listening.sources.iter_mut().for_each(|source| {
                source.receive(64, &mut |_| later += 1).unwrap();
            });
            assert_eq!(later, 10, "{workers}: once each");
        }
    }

    #[test]
    fn a_header_that_lies_has_nothing_behind_it() {
        assert_eq!(behind_ipv4(&[0x46; 30]), [0x46; 6]);
        for packet in [&[][..], &[0x4f; 59]] {
            assert_eq!(behind_ipv4(packet), [0; 0]);
        }
    }
}
