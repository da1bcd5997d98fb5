#![allow(clippy::print_stdout, reason = "a test says that it is skipped")]

use super::*;
use crate::lane::Chunk;
use crate::record::Timestamp;
use crate::route::SessionId;
use crate::sink::namespace::{Namespace, Sniffer, sh, wait_until};
use crate::sys::rtnetlink::{Link, RouteSocket};
use std::thread;

const NAME: &str = "mirror0";

/// Returns a frame of this length from these bytes after the Ethernet addresses, filled with what
/// tells it from others.
fn frame(number: usize, head: &[u8], length: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..length.max(12 + head.len())).map(|i| (number.wrapping_mul(31) + i) as u8).collect();
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..12 + head.len()].copy_from_slice(head);
    frame
}

const IPV4: &[u8] = &[0x08, 0x00, 0x45];
const IPV6: &[u8] = &[0x86, 0xdd, 0x60];
const ARP: &[u8] = &[0x08, 0x06];
const VLAN_IPV4: &[u8] = &[0x81, 0x00, 0x60, 0x07, 0x08, 0x00, 0x45];
const QINQ_IPV6: &[u8] = &[0x88, 0xa8, 0, 9, 0x81, 0x00, 0, 7, 0x86, 0xdd, 0x60];

struct Rig {
    sink: TapSink,
    counters: Arc<OutputCounters>,
    offered: u64,
}

fn rig(kind: Kind, by_write: bool) -> Rig {
    let plan = InterfacePlan { name: NAME.into(), kind, mtu: 9001, tags: None };
    let counters = Arc::new(OutputCounters::default());
    let interface = Interface::open(&plan).unwrap();
    let make = if by_write { TapSink::by_write } else { TapSink::new };
    Rig { sink: make(plan, interface, Arc::clone(&counters)), counters, offered: 0 }
}

impl Rig {
    fn send(&mut self, frames: &[Vec<u8>]) {
        let mut chunk = Chunk::new(0);
        for (n, frame) in frames.iter().enumerate() {
            if !chunk.fits(frame.len()) {
                self.sink.consume(&Arc::new(std::mem::replace(&mut chunk, Chunk::new(0)).into()));
            }
            chunk.push(SessionId::OVERFLOW, Timestamp::from_ns(n as u64), frame, frame.len() as u32);
        }
        self.sink.consume(&Arc::new(chunk.into()));
        self.offered += frames.len() as u64;
        self.assert_closed();
    }

    /// Ticks as the output's thread does once in a while.
    fn tick(&mut self) {
        self.sink.next_drain = Instant::now();
        self.sink.tick(Instant::now(), Timestamp::now());
    }

    fn dropped(&self, reason: OutputDrop) -> u64 {
        self.counters.dropped(reason).get()
    }

    fn assert_closed(&self) {
        let dropped: u64 = OutputDrop::ALL.iter().map(|reason| self.dropped(*reason)).sum();
        assert_eq!(self.offered, self.counters.written.get() + dropped);
    }
}

fn link() -> Link {
    RouteSocket::open().unwrap().link(NAME).unwrap()
}

/// Returns frames of all lengths and kinds.
fn mixed() -> Vec<Vec<u8>> {
    let heads = [IPV4, IPV6, ARP, VLAN_IPV4, QINQ_IPV6, &[0x12, 0x34]];
    let lengths = [14, 60, 64, 1514, 1518, 4000, 9015, 9019, 65_527 - 8];
    (0..3000).map(|n| frame(n, heads[n % 6], if n % 50 == 0 { lengths[n / 50 % 9] } else { 30 + n % 200 })).collect()
}

#[test]
fn sniffers_see_every_frame_in_order_and_unaltered() {
    let Some(_namespace) = Namespace::enter() else { return };
    for by_write in [false, true] {
        let mut rig = rig(Kind::Tap, by_write);
        let sniffer = Sniffer::start(NAME, &[]);
        let frames = mixed();
        // With a tag and nothing behind it: no sniffer would see it, for skb_vlan_untag
        // (net/core/skbuff.c) frees it.
        let tags = [[0x81, 0x00], [0x88, 0xa8]];
        let short = tags.iter().flat_map(|tag| (14..20).map(|length| frame(0, tag, length))).collect::<Vec<_>>();
        // The shortest that are seen, and a tag of old, which the kernel does not know.
        let shortest = [frame(0, VLAN_IPV4, 20), frame(0, &[0x88, 0xa8], 20), frame(0, &[0x91, 0x00], 14)];
        // With pauses: the ring of the sniffer holds 16 MiB.
        for part in frames.chunks(500) {
            rig.send(part);
            thread::sleep(Duration::from_millis(50));
        }
        rig.send(&[short.as_slice(), &shortest].concat());
        let seen = [frames.as_slice(), &shortest].concat();
        let sniffed = sniffer.wait_for(seen.len());
        assert!(sniffed == seen, "{} frames", sniffed.len());
        let has_ring = matches!(rig.sink.way, Way::Ring(_));
        assert_eq!(has_ring, !by_write && Ring::new(rig.sink.interface.as_ref().unwrap().tun()).is_ok());
        assert_eq!((rig.counters.written.get(), rig.dropped(OutputDrop::RuntTaggedFrame)), (3003, 12));
        assert_eq!((link().rx_packets, link().rx_dropped), (3003, 0));
        rig.sink.finish();
        // The kernel lets go of a ring's files in a thread of its own.
        wait_until("the interface is gone", || RouteSocket::open().unwrap().link(NAME).is_err());
    }
}

#[test]
fn a_tun_gets_ip_packets_only() {
    let Some(_namespace) = Namespace::enter() else { return };
    for by_write in [false, true] {
        let mut rig = rig(Kind::Tun, by_write);
        let sniffer = Sniffer::start(NAME, &[]);
        let frames = mixed();
        rig.send(&frames);
        rig.send(&[frame(1, &[0x08, 0x00, 0x65], 60), frame(2, &[0x08, 0x00], 14), vec![0; 3]]);
        let packets: Vec<Vec<u8>> = frames.iter().filter_map(|f| ip_packet(f).map(<[u8]>::to_vec)).collect();
        assert_eq!(packets.len(), 2000);
        assert!(sniffer.wait_for(2000) == packets);
        assert_eq!(rig.counters.written.get(), 2000);
        assert_eq!(rig.dropped(OutputDrop::NotIp), 1003);
        assert_eq!((link().rx_packets, link().rx_dropped), (2000, 0));
    }
}

#[test]
fn frames_of_the_host_are_discarded_and_counted() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut rig = rig(Kind::Tap, false);
    sh("ip addr add 10.8.0.1/24 dev mirror0; ping -c 3 -i 0.01 -W 1 10.8.0.2 || true");
    rig.tick();
    assert_eq!(rig.counters.host_frames.get(), 3);
    assert_eq!(link().tx_packets, 3);
}

#[test]
fn an_interface_that_is_down_loses_frames_until_it_is_up() {
    let Some(_namespace) = Namespace::enter() else { return };
    for by_write in [false, true] {
        let mut rig = rig(Kind::Tap, by_write);
        let frames: Vec<_> = (0..100).map(|n| frame(n, IPV4, 64)).collect();
        rig.send(&frames);
        sh("ip link set mirror0 down");
        rig.send(&frames);
        rig.tick();
        assert!(rig.sink.trouble.down_told.lasts());
        assert!(link().flags & libc::IFF_UP.cast_unsigned() == 0, "it is not for us to take it up");
        sh("ip link set mirror0 up");
        rig.send(&frames);
        assert!(!rig.sink.trouble.down_told.lasts());
        assert_eq!(rig.dropped(OutputDrop::InterfaceDown), 100);
        assert_eq!(rig.counters.written.get(), 200);
        assert_eq!((link().rx_packets, link().rx_dropped), (200, 100));
    }
}

#[test]
fn a_deleted_interface_is_made_again() {
    let Some(_namespace) = Namespace::enter() else { return };
    let frames: Vec<_> = (0..100).map(|n| frame(n, IPV4, 64)).collect();
    for by_write in [false, true] {
        for persistent in [false, true] {
            if persistent {
                sh("ip tuntap add dev mirror0 mode tap");
            }
            let mut rig = rig(Kind::Tap, by_write);
            rig.send(&frames);
            sh("ip link delete mirror0");
            rig.send(&frames);
            rig.send(&frames);
            assert_eq!(rig.dropped(OutputDrop::InterfaceDown), 200);
            rig.tick();
            rig.send(&frames);
            assert_eq!((rig.counters.written.get(), link().rx_packets), (200, 100));
            assert!(rig.sink.interface.as_ref().unwrap().created());

            // Seen without a frame too.
            sh("ip link delete mirror0");
            rig.tick();
            rig.sink.next_open = Instant::now();
            rig.tick();
            rig.send(&frames);
            assert_eq!((rig.counters.written.get(), link().rx_packets), (300, 100));

            // Somebody else takes the name: an attempt a second.
            sh("ip link delete mirror0; ip link add mirror0 type bridge");
            rig.send(&frames);
            rig.tick();
            assert!(rig.sink.next_open > Instant::now());
            rig.send(&frames);
            assert_eq!(rig.dropped(OutputDrop::InterfaceDown), 400);
            sh("ip link delete mirror0");
            wait_until("the interface", || {
                rig.tick();
                rig.sink.interface.is_some()
            });
            rig.send(&frames);
            assert_eq!(rig.counters.written.get(), 400);
            rig.sink.finish();
        }
    }
}

#[test]
fn what_the_kernel_refuses_is_a_write_error() {
    let Some(_namespace) = Namespace::enter() else { return };
    for by_write in [false, true] {
        let mut rig = rig(Kind::Tap, by_write);
        // Shorter than an Ethernet header; the others enter.
        rig.send(&[frame(1, IPV4, 64), vec![1; 13], Vec::new(), frame(2, IPV4, 64)]);
        assert_eq!(rig.dropped(OutputDrop::WriteError), 2);
        assert_eq!((rig.counters.written.get(), link().rx_packets), (2, 2));
    }
}

#[test]
fn a_ring_of_another_thread_fails_and_is_given_up() {
    let Some(_namespace) = Namespace::enter() else { return };
    let mut rig = rig(Kind::Tap, false);
    let Ok(ring) = Ring::new(rig.sink.interface.as_ref().unwrap().tun()) else {
        assert!(std::env::var_os("CI").is_none(), "this test needs io_uring");
        return println!("skipped: needs io_uring, Linux 6.1");
    };
    rig.sink.way = Way::Ring(Box::new(ring));
    let mut rig = thread::spawn(move || {
        rig.send(&(0..70).map(|n| frame(n, IPV4, 64)).collect::<Vec<_>>());
        rig
    })
    .join()
    .unwrap();
    assert!(matches!(rig.sink.way, Way::Write));
    assert_eq!(rig.dropped(OutputDrop::WriteError), 64);
    assert_eq!((rig.counters.written.get(), link().rx_packets), (6, 6));
    rig.sink.finish();
}

#[test]
fn outcomes() {
    let mut tally = Tally::default();
    tally.add(60, Ok(60));
    tally.add(60, Ok(59));
    for code in [libc::EIO, libc::EBADFD, libc::ENOMEM] {
        tally.add(60, Err(io::Error::from_raw_os_error(code)));
    }
    assert_eq!((tally.written, tally.bytes, tally.down, tally.failed), (1, 60, 2, 2));
    assert!(tally.deleted);
    assert_eq!(tally.error, Some(libc::ENOMEM));
}
