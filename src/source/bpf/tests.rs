use super::*;
use crate::sink::namespace::Namespace;
use crate::source::udp;
use std::net::UdpSocket;

/// A source with the program on the loopback interface of this thread's namespace.
fn on_loopback() -> BpfSource {
    let listen: SocketAddr = "127.0.0.1:4789".parse().unwrap();
    let udp = UdpPlan { listen: vec![listen], workers: 1, steering: Steering::Session, receive_buffer: 1 << 20 };
    let mut listening = udp::listen(&udp).unwrap();
    open(&program::tests::plan(None), &udp, &Allowed::default(), &mut listening).unwrap().sources.remove(0)
}

#[test]
fn nothing_is_taken_before_the_beginning() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |what: &[u8]| sender.send_to(what, "127.0.0.1:4789").unwrap();
    send(b"early");
    source.begin().unwrap();
    send(b"in time");
    let mut got = Vec::new();
    while got.is_empty() {
        source.wait(SHORT_WAIT).unwrap();
        source.receive(10, &mut |datagram| got.push(datagram.payload.to_vec())).unwrap();
    }
    assert_eq!((got, source.kernel_dropped()), (vec![b"in time".to_vec()], 0));
    let counts = source.fast_path();
    assert_eq!((counts.taken, counts.read), (1, 1), "by the program");
}

#[test]
fn a_sleeper_is_woken_by_the_first_record() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut source = on_loopback();
    source.begin().unwrap();
    while source.settles.is_some() {
        source.receive(1, &mut |_| panic!("nothing was sent")).unwrap();
        source.wait(SHORT_WAIT).unwrap();
    }
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
            received = source.receive(10, &mut |datagram| assert_eq!(datagram.payload, b"wake up")).unwrap();
        }
        let late = sends.join().unwrap().elapsed();
        // Nothing but the wake-up ends such a wait. On a busy machine it can be late, but not by that much.
        assert!(late < Duration::from_secs(10), "{late:?}");
    }
    let counts = source.fast_path();
    assert_eq!((counts.taken, counts.read), (10, 10), "none came by the socket");
}
