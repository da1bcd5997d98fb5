use super::*;
use crate::wire::Encapsulation;
use std::net::UdpSocket;

fn plan(listen: &str, workers: usize) -> UdpPlan {
    let listen = vec![listen.parse().unwrap()];
    UdpPlan { listen, workers, steering: Steering::Session, receive_buffer: 1 << 20 }
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
