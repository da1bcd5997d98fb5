use super::program;
use super::source::{BpfSource, SHORT_WAIT};
use super::{BpfError, BpfPlan, Kept, open};
use crate::service::Store;
use crate::sink::namespace::{Namespace, sh};
use crate::source::Steering;
use crate::source::udp::{self, UdpPlan};
use crate::source::{Account, Allowed, LiveSource, Source};
use crate::wire::Encapsulation;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Returns a source with the program on the loopback interface of this thread's namespace.
fn on_loopback(listen: &str, steering: Steering) -> BpfSource {
    let udp = UdpPlan {
        listen: vec![listen.parse().unwrap()],
        workers: 1,
        steering,
        vni_mask: crate::wire::VniMask::ALL,
        receive_buffer: 1 << 20,
    };
    let mut listening = udp::listen(&udp, &Store::default()).unwrap();
    let plan = BpfPlan { ring: 1 << 19, ..program::tests::plan(None) };
    open(&plan, &udp, &Allowed::default(), &mut listening).unwrap().sources.remove(0)
}

/// Begins, and waits until the rings are no longer held back.
fn begin_and_settle(source: &mut BpfSource) {
    source.begin().unwrap();
    while source.settles.is_some() {
        source.receive(1, &mut |_| panic!("nothing was sent")).unwrap();
        source.wait(SHORT_WAIT).unwrap();
    }
}

/// Has this thread run on one CPU, which then receives what it sends to itself.
fn stay_on(cpu: usize) {
    let mut one = rustix::thread::CpuSet::new();
    one.set(cpu);
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

#[test]
fn nothing_is_taken_before_the_beginning() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback("127.0.0.1:4789", Steering::Session);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |what: &[u8]| sender.send_to(what, "127.0.0.1:4789").unwrap();
    send(b"early");
    source.begin().unwrap();
    send(b"in time");
    let mut got = Vec::new();
    while got.is_empty() {
        source.wait(SHORT_WAIT).unwrap();
        source
            .receive(10, &mut |datagram| {
                assert_eq!((datagram.port, datagram.encapsulation), (4789, Encapsulation::Vxlan));
                got.push(datagram.payload.to_vec());
            })
            .unwrap();
    }
    assert_eq!((got, source.kernel_dropped()), (vec![b"in time".to_vec()], 0));
    let counts = source.account().so_far().unwrap();
    assert_eq!((counts.taken, counts.read), (1, 1), "by the program");
}

#[test]
fn a_sleeper_is_woken_by_the_first_record() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback("127.0.0.1:4789", Steering::Session);
    begin_and_settle(&mut source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        let sends = thread::spawn({
            let sender = sender.try_clone().unwrap();
            // By then the reader sleeps.
            move || {
                thread::sleep(Duration::from_millis(100));
                sender.send_to(b"wake up", "127.0.0.1:4789").unwrap();
                Instant::now()
            }
        });
        let mut received = 0;
        while received == 0 {
            source.wait(Duration::from_secs(30)).unwrap();
            received =
                source.receive(10, &mut |datagram| assert_eq!(datagram.payload, b"wake up")).unwrap().datagrams();
        }
        let late = sends.join().unwrap().elapsed();
        // Nothing but the wake-up ends such a wait. On a busy machine it can be late, but not by
        // that much.
        assert!(late < Duration::from_secs(10), "{late:?}");
    }
    let counts = source.account().so_far().unwrap();
    assert_eq!((counts.taken, counts.read), (10, 10), "none came by the socket");
}

#[test]
fn what_is_for_an_address_that_was_removed_is_left_to_the_stack() {
    let Some(_namespace) = Namespace::enter() else { return };
    // All of 127.0.0.0/8 comes in here, whether it is an address of the interface or not.
    sh("ip address add 127.0.0.9/8 dev lo");
    let mut source = on_loopback("0.0.0.0:4789", Steering::Session);
    source.begin().unwrap();
    // What a CPU found last is that CPU's.
    stay_on(rustix::thread::sched_getcpu());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken_and_passed = |source: &mut BpfSource, address: &str| {
        sender.send_to(b"payload", (address, 4789)).unwrap();
        let mut received = 0;
        while received == 0 {
            source.wait(SHORT_WAIT).unwrap();
            received = source.receive(10, &mut |_| ()).unwrap().datagrams();
        }
        let counts = source.account().so_far().unwrap();
        (counts.taken, counts.passed)
    };
    assert_eq!(taken_and_passed(&mut source, "127.0.0.8"), (0, 1));
    assert_eq!(taken_and_passed(&mut source, "127.0.0.9"), (1, 1));
    assert_eq!(taken_and_passed(&mut source, "127.0.0.9"), (2, 1));
    sh("ip address del 127.0.0.9/8 dev lo");
    source.shared.program.tend();
    assert_eq!(taken_and_passed(&mut source, "127.0.0.9"), (2, 2), "though it is what the program found last");
    assert_eq!(taken_and_passed(&mut source, "127.0.0.1"), (3, 2));
    sh("ip address add 127.0.0.9/8 dev lo");
    source.shared.program.tend();
    assert_eq!(taken_and_passed(&mut source, "127.0.0.9"), (4, 2));
}

#[test]
fn a_full_ring_does_not_keep_another_waiting() {
    let Some(_namespace) = Namespace::enter() else { return };
    let cpus = rustix::thread::sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).collect();
    let [first, second, ..] = *cpus else { return };
    let mut source = on_loopback("127.0.0.1:4789", Steering::Flow);
    begin_and_settle(&mut source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Whichever of the rings would be the first every time: that with many or that with one.
    for (many, one) in [(first, second), (second, first)] {
        for (cpu, payload, n) in [(many, &b"many"[..], 300), (one, b"one", 1)] {
            stay_on(cpu);
            (0..n).for_each(|_| assert_eq!(sender.send_to(payload, "127.0.0.1:4789").unwrap(), payload.len()));
        }
        let mut received = Vec::new();
        for _ in 0..2 {
            source.receive(100, &mut |datagram| received.push(datagram.payload.to_vec())).unwrap();
        }
        let so_far = received.len();
        assert!(received.iter().any(|payload| payload == b"one"), "after {so_far} of many");
        assert!(so_far <= 200, "many are still there");
        while source.receive(100, &mut |_| ()).unwrap().datagrams() > 0 {}
    }
}

#[test]
fn a_reader_that_falls_asleep_while_a_record_comes_is_woken() {
    const ROUNDS: usize = 10_000;
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback("127.0.0.1:4789", Steering::Session);
    begin_and_settle(&mut source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let round = &AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 1..=ROUNDS {
                while round.load(Ordering::Acquire) < n {
                    thread::yield_now();
                }
                sender.send_to(b"wake up", "127.0.0.1:4789").unwrap();
            }
        });
        for n in 1..=ROUNDS {
            let begin = Instant::now();
            round.store(n, Ordering::Release);
            // The record is on its way, and comes before or after the wish to be woken, or while
            // the program runs.
            (0..n % 500).for_each(|_| std::hint::spin_loop());
            let mut received = 0;
            while received == 0 {
                source.wait(Duration::from_secs(30)).unwrap();
                received = source.receive(10, &mut |_| ()).unwrap().datagrams();
            }
            // Nothing but a wake-up ends such a wait.
            let late = begin.elapsed();
            assert!(late < Duration::from_secs(20), "round {n}: {late:?}");
        }
    });
    let counts = source.account().so_far().unwrap();
    assert_eq!((counts.taken, counts.read), (ROUNDS as u64, ROUNDS as u64), "none came by the socket");
}

#[test]
fn a_socket_waits_for_a_ring_that_is_far_behind() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback("0.0.0.0:4789", Steering::Session);
    begin_and_settle(&mut source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0u32;
    // All of 127.0.0.0/8 comes in here, and only one of these addresses is what the program knows.
    let mut send = |n, address: &str| {
        for _ in 0..n {
            sender.send_to(&sent.to_be_bytes(), (address, 4789)).unwrap();
            sent += 1;
        }
    };
    for limit in [1, 7, 64, 65, 1000, 1024] {
        let (by_ring, by_socket) = ("127.0.0.1", "127.0.0.8");
        for (n, address) in [(1200, by_ring), (1, by_socket), (200, by_ring), (100, by_socket), (100, by_ring)] {
            send(n, address);
        }
        let (mut received, mut turns) = (Vec::new(), 0);
        loop {
            let n = source
                .receive(limit, &mut |datagram| {
                    received.push(u32::from_be_bytes(datagram.payload.try_into().unwrap()));
                })
                .unwrap()
                .datagrams();
            assert!(n <= limit);
            turns += 1;
            if n == 0 {
                break;
            }
        }
        assert_eq!(received.len(), 1601, "limit {limit}");
        assert!(received.is_sorted(), "limit {limit}: {received:?}");
        assert!(turns <= 1601 / limit + 20, "limit {limit}: {turns} turns");
    }
    let counts = source.account().so_far().unwrap();
    assert_eq!((counts.taken, counts.passed), (6 * 1500, 6 * 101));
}

#[test]
fn nothing_shorter_is_in_the_rings_when_more_is_kept() {
    let Some(_namespace) = Namespace::enter() else { return };
    let udp = UdpPlan {
        listen: vec!["127.0.0.1:4789".parse().unwrap()],
        workers: 1,
        steering: Steering::Session,
        vni_mask: crate::wire::VniMask::ALL,
        receive_buffer: 1 << 20,
    };
    let mut listening = udp::listen(&udp, &Store::default()).unwrap();
    let plan = BpfPlan { ring: 1 << 19, keep: 128, ..program::tests::plan(None) };
    let super::open::Fast { mut sources, gate, .. } = open(&plan, &udp, &Allowed::default(), &mut listening).unwrap();
    let mut source = sources.remove(0);
    begin_and_settle(&mut source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = || sender.send_to(&[7; 500], "127.0.0.1:4789").unwrap();
    let mut receive = || {
        let mut kept = Vec::new();
        while kept.is_empty() {
            source.wait(SHORT_WAIT).unwrap();
            source.receive(10, &mut |datagram| kept.push((datagram.length, datagram.payload.len()))).unwrap();
        }
        kept
    };
    send();
    assert_eq!(receive(), [(500, 128)]);
    send();
    let more = |payload| Kept { payload, copy: 0 };
    thread::scope(|scope| {
        let keeps = scope.spawn(|| gate.keep_also(more(400)));
        thread::sleep(Duration::from_millis(100));
        assert!(!keeps.is_finished(), "a datagram that was kept shorter has not been read");
        assert_eq!(receive(), [(500, 128)]);
        keeps.join().unwrap().unwrap();
    });
    send();
    assert_eq!(receive(), [(500, 400)]);
    // What is there is long enough.
    send();
    gate.keep_also(more(300)).unwrap();
    gate.keep(more(300));
    assert_eq!(receive(), [(500, 400)]);
    send();
    assert!(matches!(gate.keep_also(more(400)), Err(BpfError::Unread(_))));
    send();
    assert_eq!(receive(), [(500, 300), (500, 300)], "nothing has changed");
}
