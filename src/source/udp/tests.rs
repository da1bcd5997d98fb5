use super::*;
use crate::wire::Encapsulation;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn plan(listen: &str, workers: usize) -> UdpPlan {
    let listen = vec![listen.parse().unwrap()];
    UdpPlan {
        listen,
        workers,
        steering: Steering::Session,
        vni_mask: crate::wire::VniMask::ALL,
        receive_buffer: 1 << 20,
    }
}

#[test]
fn dual_stack_receives_both_families() {
    let mut listening = listen(&plan("[::]:0", 1), &Store::default()).unwrap();
    listening.sources[0].begin().unwrap();
    let port = listening.addresses[0].port();
    let mut sources = Vec::new();
    for from in ["127.0.0.1", "::1"] {
        let sender = UdpSocket::bind((from, 0)).unwrap();
        sender.send_to(b"hello", (from, port)).unwrap();
        listening.sources[0].wait(Duration::from_secs(5)).unwrap();
        let n = listening.sources[0].receive(64, &mut |d| {
            assert_eq!((d.port, d.encapsulation), (port, Encapsulation::Vxlan));
            sources.push(d.source.to_canonical().to_string());
        });
        assert_eq!(n.unwrap(), Received::Datagrams(1));
    }
    assert_eq!(sources, ["127.0.0.1", "::1"]);
    listening.sources[0].wait(Duration::from_millis(1)).unwrap();
    assert_eq!(listening.sources[0].receive(64, &mut |_| ()).unwrap(), Received::Datagrams(0));
}

#[test]
fn no_address_starves_another() {
    let listen_on = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    let mut listening = listen(&UdpPlan { listen: listen_on, ..plan("127.0.0.1:0", 1) }, &Store::default()).unwrap();
    let source = &mut listening.sources[0];
    source.begin().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |n, to| (0..n).for_each(|_| assert_eq!(sender.send_to(b"hello", to).unwrap(), 5));
    let (busy, quiet) = (listening.addresses[0], listening.addresses[1]);
    send(1, quiet);
    let mut heard = Vec::new();
    for _ in 0..3 {
        send(BATCH, busy);
        source.receive(BATCH, &mut |datagram| heard.push(datagram.port)).unwrap();
    }
    assert_eq!(heard.iter().filter(|port| **port == quiet.port()).count(), 1);
}

#[test]
fn a_taken_port_is_refused_also_when_the_other_shares_it() {
    let first = listen(&plan("127.0.0.1:0", 2), &Store::default()).unwrap();
    let error = listen(&plan(&first.addresses[0].to_string(), 1), &Store::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the port is taken by process") && text.contains(&std::process::id().to_string()), "{text}");
}

#[test]
fn a_foreign_address_is_refused_with_ours() {
    let text = listen(&plan("192.0.2.77:0", 1), &Store::default()).unwrap_err().to_string();
    assert!(text.contains("does not have that address") && text.contains("127.0.0.1"), "{text}");
}

#[test]
fn overflow_and_refusal_are_counted_exactly() {
    let mut listening = listen(&UdpPlan { receive_buffer: 1, ..plan("127.0.0.1:0", 1) }, &Store::default()).unwrap();
    let source = &mut listening.sources[0];
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Nobody listens yet.
    for _ in 0..3 {
        sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
    }
    source.begin().unwrap();
    assert_eq!(source.receive(64, &mut |_| ()).unwrap(), Received::Datagrams(0));
    assert_eq!(source.kernel_dropped(), 0);
    for _ in 0..1000 {
        sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
    }
    source.refuse_further();
    for _ in 0..7 {
        sender.send_to(&[0; 1000], listening.addresses[0]).unwrap();
    }
    let mut received = 0;
    while let Ok(Received::Datagrams(n @ 1..)) = source.receive(64, &mut |_| ()) {
        received += n as u64;
    }
    assert!(source.kernel_dropped() > 0);
    assert_eq!(received + source.kernel_dropped(), 1000);
    assert_eq!(source.refused(), 7);
}

/// Makes a source that has begun, and returns it with its address, a copy of its socket as it is
/// kept, and what it has counted.
fn one_before(receive_buffer: u32) -> (UdpSource, SocketAddr, (String, OwnedFd), State) {
    let plan = UdpPlan { receive_buffer, ..plan("127.0.0.1:0", 1) };
    let mut listening = listen(&plan, &Store::default()).unwrap();
    let (mut source, address) = (listening.sources.pop().unwrap(), listening.addresses[0]);
    source.begin().unwrap();
    let copy = source.sockets[0].socket.try_clone().unwrap().into();
    let state = State::new().unwrap();
    state.shared().write(&Record::new(1));
    source.page = Some(state.of_worker(0));
    (source, address, (kept::name(address.into(), 0), copy), state)
}

fn drained(source: &mut UdpSource) -> u64 {
    let mut received = 0;
    while let Ok(Received::Datagrams(n @ 1..)) = source.receive(64, &mut |_| ()) {
        received += n as u64;
    }
    received
}

fn handed(state: &State) -> (String, OwnedFd) {
    (kept::STATE.into(), state.as_fd().try_clone_to_owned().unwrap())
}

#[test]
fn what_comes_while_there_is_no_process_is_received_or_counted_once() {
    let (mut first, address, kept, state) = one_before(1);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |n| (0..n).for_each(|_| assert_eq!(sender.send_to(&[0; 1000], address).unwrap(), 1000));
    send(500);
    let mut received = drained(&mut first);
    send(500);
    first.refuse_further();
    assert_eq!((drained(&mut first), first.refused()), (0, 0), "what is there stays there");
    let mut dropped = first.kernel_dropped();
    first.write_down(received, true);
    assert!(received > 0 && dropped > 0 && first.left_queued() > 0);
    send(500);
    drop(first);
    send(500);
    let plan = UdpPlan { receive_buffer: 1, ..plan(&address.to_string(), 1) };
    let mut listening = listen(&plan, &Store::with(vec![kept, handed(&state)])).unwrap();
    let second = &mut listening.sources[0];
    second.begin().unwrap();
    received += drained(second);
    send(1);
    received += drained(second);
    dropped += second.kernel_dropped();
    assert_eq!(received + dropped, 2001);
}

#[test]
fn a_state_that_is_forged_is_of_no_use_and_the_socket_is_used() {
    // The second is believed, and has counted more than its sockets have dropped.
    for counted in [u64::MAX, 7] {
        let (first, address, kept, state) = one_before(1 << 20);
        drop(first);
        let mut forged = Record::new(1);
        forged.counted = counted;
        state.of_worker(0).write(&forged);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"hello", address).unwrap();
        let store = Store::with(vec![handed(&state), kept]);
        let mut listening = listen(&plan(&address.to_string(), 1), &store).unwrap();
        listening.sources[0].begin().unwrap();
        assert_eq!((drained(&mut listening.sources[0]), listening.sources[0].kernel_dropped()), (1, 0));
    }
}

#[test]
fn sockets_that_do_not_fit_are_closed_and_what_they_had_is_lost() {
    for what in 0..4 {
        let (first, address, (name, socket), state) = one_before(1 << 20);
        drop(first);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..5).for_each(|_| assert_eq!(sender.send_to(b"hello", address).unwrap(), 5));
        let other = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (found, workers, lost) = match what {
            // Another number of workers.
            0 => (vec![(name, socket), handed(&state)], 2, 5),
            // Of an address that is asked for no more, with another beside it.
            1 => (vec![("udp/192.0.2.1_4789/0".into(), other), (name, socket)], 1, 5),
            // No socket of that address, in spite of its name.
            2 => {
                drop(socket);
                (vec![(name, other)], 1, 0)
            }
            // One that has come to its end, and would say so without end.
            _ => {
                drop(socket);
                let (ended, _) = UnixStream::pair().unwrap();
                (vec![(name, ended.into())], 1, 0)
            }
        };
        let mut listening = listen(&plan(&address.to_string(), workers), &Store::with(found)).unwrap();
        listening.sources.iter_mut().for_each(|source| source.begin().unwrap());
        let dropped: u64 = listening.sources.iter_mut().map(LiveSource::kernel_dropped).sum();
        assert_eq!(dropped, lost, "{what}");
        sender.send_to(b"hello", address).unwrap();
        let received: u64 = listening.sources.iter_mut().map(drained).sum();
        assert_eq!(received, 1, "{what}");
    }
}

/// A socket that a unit of the manager's has opened, and its address.
fn of_a_unit() -> (Socket, SocketAddr) {
    let socket = Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.set_recv_buffer_size(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn store_of(sockets: &[&Socket]) -> Store {
    let handed = |socket: &&Socket| ("vxtap.socket".to_owned(), socket.try_clone().unwrap().into());
    Store::with(sockets.iter().map(handed).collect())
}

#[test]
fn what_came_to_the_socket_of_a_unit_is_received_or_counted_once() {
    let (socket, address) = of_a_unit();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |n| (0..n).for_each(|_| assert_eq!(sender.send_to(&[0; 1000], address).unwrap(), 1000));
    let plan = UdpPlan { receive_buffer: 1, ..plan(&address.to_string(), 1) };
    let start = || {
        let mut listening = listen(&plan, &store_of(&[&socket])).unwrap();
        let mut source = listening.sources.pop().unwrap();
        source.begin().unwrap();
        source
    };
    send(500);
    let mut first = start();
    let mut received = drained(&mut first);
    send(1);
    received += drained(&mut first);
    let dropped = first.kernel_dropped();
    assert!(received > 1 && dropped > 0, "{received} {dropped}");
    assert_eq!(received + dropped, 501);
    assert_eq!(socket.send_to(b"x", &address.into()).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    // Where nothing is kept, what it refuses at its end is over when the next one begins.
    first.refuse_further();
    send(7);
    assert_eq!((drained(&mut first), first.refused()), (0, 7));
    drop(first);
    let mut second = start();
    send(1);
    assert_eq!((drained(&mut second), second.kernel_dropped()), (1, 0));
}

#[test]
fn a_socket_that_is_kept_and_of_a_unit_is_one() {
    // Also beside one that is asked for no more.
    let other = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    for beside in [None, Some(("udp/192.0.2.1_4789/0".to_owned(), other))] {
        goes_on_beside(beside);
    }
}

fn goes_on_beside(beside: Option<(String, OwnedFd)>) {
    let (socket, address) = of_a_unit();
    let plan = UdpPlan { receive_buffer: 1, ..plan(&address.to_string(), 1) };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |n| (0..n).for_each(|_| assert_eq!(sender.send_to(&[0; 1000], address).unwrap(), 1000));
    let state = State::new().unwrap();
    state.shared().write(&Record::new(1));
    let mut listening = listen(&plan, &store_of(&[&socket])).unwrap();
    let first = &mut listening.sources[0];
    first.page = Some(state.of_worker(0));
    first.begin().unwrap();
    send(300);
    let mut received = drained(first);
    first.refuse_further();
    let mut dropped = first.kernel_dropped();
    first.write_down(received, true);
    drop(listening);
    send(300);
    let copy = || OwnedFd::from(socket.try_clone().unwrap());
    let found = [(kept::name(address.into(), 0), copy()), ("vxtap.socket".into(), copy()), handed(&state)];
    let store = Store::with(found.into_iter().chain(beside).collect());
    let mut listening = listen(&plan, &store).unwrap();
    let second = &mut listening.sources[0];
    second.begin().unwrap();
    received += drained(second);
    dropped += second.kernel_dropped();
    assert_eq!(received + dropped, 600);
    assert!(store.take_handed(|_| true).is_empty());
}

#[test]
fn a_socket_of_a_unit_that_does_not_fit_is_told_and_another_left_alone() {
    let (socket, address) = of_a_unit();
    let refused = |plan: &UdpPlan, sockets: &[&Socket]| {
        let error = listen(plan, &store_of(sockets)).unwrap_err();
        assert!(!error.may_pass());
        error.to_string()
    };
    let one = |address: SocketAddr| plan(&address.to_string(), 1);
    let said = refused(&plan(&address.to_string(), 2), &[&socket]);
    assert!(said.contains("that vxtap.socket has opened is of no use") && said.contains("--workers 1"), "{said}");
    let all = SocketAddr::from(([0, 0, 0, 0], address.port()));
    assert!(refused(&one(all), &[&socket]).ends_with("it is bound to another address"));
    let shared = || {
        let socket = open(address, true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], address.port())).into()).unwrap();
        socket
    };
    let (shared, other) = (shared(), shared());
    let shared_address = shared.local_addr().unwrap().as_socket().unwrap();
    assert!(refused(&one(shared_address), &[&shared]).contains("it shares its port"));
    assert!(refused(&one(shared_address), &[&shared, &other]).contains("there are 2"));
    // Of another port.
    let store = store_of(&[&socket, &shared]);
    listen(&plan("127.0.0.1:0", 1), &store).unwrap();
    assert_eq!(store.take_handed(|_| true).len(), 2);
}

#[test]
fn what_another_filter_has_steered_is_no_copy() {
    const WORKERS: usize = 3;
    let before = UdpPlan { vni_mask: "0xff".parse().unwrap(), ..plan("0.0.0.0:0", WORKERS) };
    let senders: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    senders.iter().for_each(|sender| sender.set_broadcast(true).unwrap());
    for what in ["nothing", "mask", "steering", "encapsulation", "unknown"] {
        let mut first = listen(&before, &Store::default()).unwrap();
        let address = first.addresses[0];
        let send = |to: &str, numbers: std::ops::Range<u32>| {
            for n in numbers {
                // All of one session under the mask, and of many without it.
                let mut payload = [8, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0];
                payload[4] = n as u8;
                payload[8..].copy_from_slice(&n.to_be_bytes());
                assert_eq!(senders[n as usize % 8].send_to(&payload, (to, address.port())).unwrap(), 12);
            }
        };
        let state = State::new().unwrap();
        state.shared().write(&Record::new(3));
        let mut found = vec![(kept::name_behind(address), open_behind(address, before.steering).unwrap().into())];
        for (worker, source) in first.sources.iter_mut().enumerate() {
            source.page = Some(state.of_worker(worker));
            source.begin().unwrap();
            found.push((kept::name(address.into(), worker), source.sockets[0].socket.try_clone().unwrap().into()));
        }
        send("127.0.0.1", 0..100);
        send("127.255.255.255", 100..110);
        first.sources.iter_mut().for_each(|source| source.write_down(0, true));
        drop(first);
        let mut after = UdpPlan { listen: vec![address.into()], ..before.clone() };
        match what {
            "mask" => after.vni_mask = crate::wire::VniMask::ALL,
            "steering" => after.steering = Steering::Flow,
            "encapsulation" => after.listen[0].encapsulation = Encapsulation::Gre,
            _ => {}
        }
        if what != "unknown" {
            found.push(handed(&state));
        }
        let mut second = listen(&after, &Store::with(found)).unwrap();
        let is_other = what != "nothing";
        let next = State::new().unwrap();
        for (worker, source) in second.sources.iter_mut().enumerate() {
            source.begin().unwrap();
            source.page = Some(next.of_worker(worker));
            source.write_down(0, false);
            assert_eq!(source.record.drops[0].steered.is_none(), is_other, "{what}: also for the next after this one");
        }
        let drain = |second: &mut Listening| {
            let mut heard = Vec::new();
            for source in &mut second.sources {
                let mut take = |datagram: &Datagram<'_>| {
                    heard.push(u32::from_be_bytes(datagram.payload[8..].try_into().unwrap()));
                };
                while source.receive(64, &mut take).unwrap().datagrams() > 0 {}
            }
            heard.sort_unstable();
            heard
        };
        let mut heard = drain(&mut second);
        let times = if is_other { WORKERS } else { 1 };
        assert_eq!(heard.len(), 100 + 10 * times, "{what}");
        heard.dedup();
        assert!(heard.into_iter().eq(0..110), "{what}: no frame is lost");
        // What comes from now on comes once.
        send("127.255.255.255", 110..120);
        send("127.0.0.1", 120..200);
        assert!(drain(&mut second).into_iter().eq(110..200), "{what}");
        let dropped: u64 = second.sources.iter_mut().map(LiveSource::kernel_dropped).sum();
        let copies: u64 = second.sources.iter().map(LiveSource::copies).sum();
        assert_eq!((dropped, copies), (0, if is_other { 20 } else { 40 }), "{what}");
        second.sources.iter_mut().for_each(|source| source.write_down(0, false));
        assert!(second.sources.iter().all(|source| source.record.drops[0].steered.is_some()), "{what}");
    }
}

/// What a group of several workers leaves to the process after it.
struct Left {
    address: SocketAddr,
    state: State,
    found: Vec<(String, OwnedFd)>,
}

impl Left {
    /// Begins with this group, and has all of it kept.
    fn by(first: &mut Listening) -> Self {
        let (address, workers) = (first.addresses[0], first.sources.len() as u32);
        let state = State::new().unwrap();
        state.shared().write(&Record::new(workers));
        let behind = open_behind(address, Steering::Session).unwrap();
        let mut found = vec![(kept::name_behind(address), behind.into())];
        for (worker, source) in first.sources.iter_mut().enumerate() {
            source.page = Some(state.of_worker(worker));
            source.begin().unwrap();
            found.push((kept::name(address.into(), worker), source.sockets[0].socket.try_clone().unwrap().into()));
        }
        Self { address, state, found }
    }

    fn store(mut self) -> Store {
        self.found.push(handed(&self.state));
        Store::with(self.found)
    }
}

/// A payload of VXLAN with this VNI.
fn of_vni(vni: u32) -> [u8; 12] {
    let [_, a, b, c] = vni.to_be_bytes();
    [8, 0, 0, 0, a, b, c, 0, 0, 0, 0, 0]
}

fn dropped(listening: &mut Listening) -> u64 {
    listening.sources.iter_mut().map(LiveSource::kernel_dropped).sum()
}

#[test]
fn what_the_process_before_had_seen_dropped_and_not_counted_is_counted_once() {
    for what in ["nothing", "mask", "workers"] {
        let before = UdpPlan { receive_buffer: 1, ..plan("127.0.0.1:0", 3) };
        let mut first = listen(&before, &Store::default()).unwrap();
        let left = Left::by(&mut first);
        let address = left.address;
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |n| (0..n).for_each(|vni| assert_eq!(sender.send_to(&of_vni(vni), address).unwrap(), 12));
        send(1000);
        // What is behind the drops that it tells of here could be copies.
        let counted = dropped(&mut first);
        first.sources.iter_mut().for_each(|source| source.write_down(0, true));
        drop(first);
        send(300);
        let mut after = UdpPlan { listen: vec![address.into()], ..before };
        match what {
            "mask" => after.vni_mask = "0xff".parse().unwrap(),
            "workers" => after.workers = 2,
            _ => {}
        }
        let mut second = listen(&after, &left.store()).unwrap();
        second.sources.iter_mut().for_each(|source| source.begin().unwrap());
        let received: u64 = second.sources.iter_mut().map(drained).sum();
        dropped(&mut second);
        let lost = dropped(&mut second);
        assert!(lost > 300, "{what}: {lost}");
        assert_eq!(counted + received + lost, 1300, "{what}");
    }
}

#[test]
fn a_queue_that_is_never_empty_has_another_filters_datagrams_only_for_a_while() {
    let before = UdpPlan { vni_mask: "0xff".parse().unwrap(), ..plan("0.0.0.0:0", 3) };
    let mut first = listen(&before, &Store::default()).unwrap();
    let left = Left::by(&mut first);
    let address = left.address;
    drop(first);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.set_broadcast(true).unwrap();
    let send = |n| assert_eq!(sender.send_to(&of_vni(n), ("127.255.255.255", address.port())).unwrap(), 12);
    let after = UdpPlan { listen: vec![address.into()], vni_mask: VniMask::ALL, ..before };
    let mut second = listen(&after, &left.store()).unwrap();
    second.sources.iter_mut().for_each(|source| source.begin().unwrap());
    (0..100).for_each(send);
    let mut heard = [0; 10_000];
    for n in 100..10_000 {
        send(n);
        for source in &mut second.sources {
            let mut take = |datagram: &Datagram<'_>| {
                let &[.., a, b, c, _, _, _, _, _] = datagram.payload else { panic!("{datagram:?}") };
                heard[u32::from_be_bytes([0, a, b, c]) as usize] += 1;
            };
            source.receive(1, &mut take).unwrap();
        }
    }
    let times = |times: i32, of: &[i32]| of.iter().all(|heard| *heard == times);
    assert!(times(3, &heard[..1000]), "nobody knows yet which are copies");
    assert!(times(1, &heard[9000..]), "one worker has each");
}

#[test]
fn what_was_written_down_is_given_up_first_where_another_filter_steers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for (mask, wanted) in [("0xff", "FDSTORE=1\n"), ("0xffffff", "FDSTOREREMOVE=1\nFDNAME=state\n")] {
        let before = UdpPlan { vni_mask: "0xff".parse().unwrap(), ..plan("127.0.0.1:0", 2) };
        let mut first = listen(&before, &Store::default()).unwrap();
        let left = Left::by(&mut first);
        first.sources.iter_mut().for_each(|source| source.write_down(0, true));
        drop(first);
        let after = UdpPlan { listen: vec![left.address.into()], vni_mask: mask.parse().unwrap(), ..before };
        let second = listen(&after, &left.store().kept_by(&path)).unwrap();
        let mut told = [0; 64];
        let length = manager.recv(&mut told).unwrap();
        let told = String::from_utf8_lossy(&told[..length]).into_owned();
        assert!(told.starts_with(wanted), "{mask}: {told}");
        manager.set_nonblocking(true).unwrap();
        while manager.recv(&mut [0; 64]).is_ok() {}
        manager.set_nonblocking(false).unwrap();
        drop(second);
    }
}
