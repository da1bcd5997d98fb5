use etherparse::{PacketBuilder, TcpHeader};

use super::*;
use crate::wire::LinkType;

const ONE: SessionId = SessionId(1);
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const FIN: u8 = 0x11;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// A flow between two hosts as test input; `back` says which way a packet goes.
#[derive(Clone, Copy)]
struct Talk {
    v6: bool,
    client: u16,
    server: u16,
}

const WEB: Talk = Talk { v6: false, client: 40_000, server: 443 };

impl Talk {
    fn builder(self, back: bool) -> (etherparse::PacketBuilderStep<etherparse::IpHeaders>, [u16; 2]) {
        let mac = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let (from, to) = if back { (2, 1) } else { (1, 2) };
        let ports = if back { [self.server, self.client] } else { [self.client, self.server] };
        let ip = if self.v6 {
            let address = |host| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
            mac.ipv6(address(from), address(to), 64)
        } else {
            mac.ipv4([10, 0, 0, from], [10, 0, 0, to], 64)
        };
        (ip, ports)
    }

    fn tcp(self, back: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (ip, [from, to]) = self.builder(back);
        let mut header = TcpHeader::new(from, to, 7, 1000);
        header.syn = flags & 0x02 != 0;
        header.ack = flags & 0x10 != 0;
        header.fin = flags & 0x01 != 0;
        header.rst = flags & 0x04 != 0;
        let mut frame = Vec::new();
        ip.tcp_header(header).write(&mut frame, payload).unwrap();
        frame
    }

    fn udp(self, back: bool, payload: &[u8]) -> Vec<u8> {
        let (ip, [from, to]) = self.builder(back);
        let mut frame = Vec::new();
        ip.udp(from, to).write(&mut frame, payload).unwrap();
        frame
    }
}

/// A table and the time, with which frames are looked at.
struct Watch {
    flows: Flows,
    cutoff: Cutoff,
    second: u64,
}

impl Watch {
    fn new(flow_limit: Option<u64>, tls: Option<u64>) -> Self {
        Self { flows: Flows::default(), cutoff: Cutoff { flow_limit, tls }, second: 1_700_000_000 }
    }

    fn part_of(&mut self, session: SessionId, frame: &[u8]) -> Part {
        let layers = Layers::of(frame, LinkType::Ethernet);
        let time = Timestamp::from_ns(self.second * 1_000_000_000);
        self.flows.part(&self.cutoff, session, (frame, frame.len() as u32), &layers, time)
    }

    fn keeps(&mut self, frame: &[u8]) -> bool {
        self.part_of(ONE, frame) == Part::Kept
    }
}

#[test]
fn the_start_of_a_flow_is_kept_both_directions_together() {
    for v6 in [false, true] {
        let talk = Talk { v6, ..WEB };
        let there = talk.udp(false, &[1; 100]);
        let back = talk.udp(true, &[2; 100]);
        let mut watch = Watch::new(Some(5 * there.len() as u64), None);
        let kept: Vec<bool> = (0..8).map(|n| watch.keeps(if n % 2 == 0 { &there } else { &back })).collect();
        assert_eq!(kept, [true, true, true, true, true, false, false, false]);
        // Another flow, and the same in another session, are apart from it.
        assert!(watch.keeps(&Talk { client: 40_001, ..talk }.udp(false, &[1; 100])));
        assert_eq!(watch.part_of(SessionId(2), &there), Part::Kept);
        assert_eq!(watch.part_of(ONE, &there), Part::Beyond);
    }
}

#[test]
fn the_length_before_a_cut_counts() {
    let mut watch = Watch::new(Some(1000), None);
    let frame = WEB.tcp(false, ACK, &[0; 1400]);
    let layers = Layers::of(&frame, LinkType::Ethernet);
    let mut part =
        |kept: &[u8]| watch.flows.part(&watch.cutoff, ONE, (kept, frame.len() as u32), &layers, Timestamp::from_ns(1));
    assert_eq!([part(&frame[..64]), part(&frame[..64])], [Part::Kept, Part::Beyond]);
}

#[test]
fn the_end_of_a_connection_is_kept_and_a_syn_begins_anew() {
    let mut watch = Watch::new(Some(200), None);
    let data = WEB.tcp(true, ACK, &[0; 500]);
    assert!(watch.keeps(&WEB.tcp(false, SYN, &[])) && watch.keeps(&WEB.tcp(true, SYN_ACK, &[])));
    assert!(watch.keeps(&data) && !watch.keeps(&data));
    assert!(!watch.keeps(&WEB.tcp(false, ACK, &[])), "an acknowledgement of what is not kept");
    assert!(watch.keeps(&WEB.tcp(true, FIN, &[0; 20])) && watch.keeps(&WEB.tcp(false, RST, &[])));
    assert!(!watch.keeps(&data), "what comes late is still beyond");
    assert!(watch.keeps(&WEB.tcp(true, SYN_ACK, &[])) && !watch.keeps(&data), "no beginning");
    assert!(watch.keeps(&WEB.tcp(false, SYN, &[])) && watch.keeps(&data) && !watch.keeps(&data));
}

#[test]
fn a_connection_may_be_idle_and_other_flows_not() {
    let mut watch = Watch::new(Some(1), None);
    let (tcp, udp) = (WEB.tcp(false, ACK, &[0; 9]), WEB.udp(false, &[0; 9]));
    assert!(watch.keeps(&tcp) && watch.keeps(&udp));
    watch.second += u64::from(OTHER_IDLE);
    assert!(!watch.keeps(&tcp) && !watch.keeps(&udp));
    watch.second += u64::from(OTHER_IDLE) + 1;
    assert!(!watch.keeps(&tcp) && watch.keeps(&udp), "another flow with the same ports");
    watch.second += 2 * u64::from(TCP_IDLE);
    assert!(!watch.keeps(&tcp), "nobody needed its place");
    watch.second -= 3600;
    assert!(!watch.keeps(&tcp), "the clock was set back");
}

#[test]
fn what_has_no_flow_is_kept() {
    let mut watch = Watch::new(Some(1), Some(0));
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut ping = Vec::new();
    WEB.builder(false).0.icmpv4_echo_request(1, 1).write(&mut ping, &[0; 56]).unwrap();
    for _ in 0..3 {
        assert!(watch.keeps(&arp) && watch.keeps(&ping) && watch.keeps(&[]));
    }
}

#[test]
fn fragments_of_two_hosts_and_a_protocol_are_a_flow() {
    let fragment = |talk: Talk, offset: u16| {
        let mut frame = talk.udp(false, &[0; 40]);
        frame[20..22].copy_from_slice(&(0x2000 | offset).to_be_bytes());
        frame
    };
    let mut watch = Watch::new(Some(100), None);
    let other = Talk { client: 50_000, ..WEB };
    assert!(watch.keeps(&fragment(WEB, 0)) && watch.keeps(&fragment(other, 5)));
    assert!(!watch.keeps(&fragment(other, 0)) && !watch.keeps(&fragment(WEB, 5)));
    assert!(watch.keeps(&WEB.udp(false, &[])), "what is whole is a flow of its own");
}

#[test]
fn a_full_table_keeps_everything_until_flows_were_idle() {
    let mut watch = Watch::new(Some(1), None);
    watch.flows = Flows::new(64);
    let packet = |client: u16| Talk { client, ..WEB }.udp(false, &[]);
    let parts: Vec<Part> = (0..1000).map(|client| watch.part_of(ONE, &packet(client))).collect();
    let told = parts.iter().filter(|part| **part == Part::Kept).count();
    assert!((60..=64).contains(&told), "{told} of 64 places are in use");
    assert_eq!(parts.iter().filter(|part| **part == Part::Untold).count(), 1000 - told);
    let parts: Vec<Part> = (0..1000).map(|client| watch.part_of(ONE, &packet(client))).collect();
    assert_eq!(parts.iter().filter(|part| **part == Part::Beyond).count(), told, "those that are told are cut");
    watch.second += u64::from(OTHER_IDLE) + 1;
    let told = (2000..3000).filter(|client| watch.part_of(ONE, &packet(*client)) == Part::Kept).count();
    assert!((60..=64).contains(&told), "{told} of 64 places are in use again");
}

#[test]
fn four_of_five_places_are_used_before_a_flow_finds_none() {
    let mut watch = Watch::new(Some(1), None);
    let untold = (0..52_000u32).filter(|n| {
        let talk = Talk { v6: false, client: *n as u16, server: 1000 + (*n >> 16) as u16 };
        watch.part_of(ONE, &talk.udp(false, &[])) == Part::Untold
    });
    let untold = untold.count();
    assert!(untold < 30, "{untold}");
}

#[test]
fn an_ended_connection_leaves_early() {
    let mut watch = Watch::new(Some(1), None);
    watch.flows = Flows::new(8);
    for client in 0..8 {
        let talk = Talk { client, ..WEB };
        assert!(watch.keeps(&talk.tcp(false, ACK, &[])));
        if client < 4 {
            assert!(watch.keeps(&talk.tcp(true, FIN, &[])));
            assert!(!watch.keeps(&talk.tcp(false, ACK, &[])), "the last acknowledgement");
        }
    }
    watch.second += u64::from(ENDED_IDLE) + 1;
    let told = (10..20).filter(|client| watch.keeps(&Talk { client: *client, ..WEB }.tcp(false, ACK, &[]))).count();
    assert_eq!(told, 4);
}

#[test]
fn a_scan_leaves_early_and_what_was_answered_stays() {
    let mut watch = Watch::new(Some(1), None);
    watch.flows = Flows::new(8);
    for client in 0..8 {
        let talk = Talk { client, ..WEB };
        assert!(watch.keeps(&talk.tcp(false, SYN, &[])));
        if client < 3 {
            assert!(watch.keeps(&talk.tcp(true, SYN_ACK, &[])));
        }
    }
    watch.second += u64::from(BEGUN_IDLE) + 1;
    let told = (10..20).filter(|client| watch.keeps(&Talk { client: *client, ..WEB }.tcp(false, ACK, &[]))).count();
    assert_eq!(told, 5);
    for client in 0..3 {
        assert!(!watch.keeps(&Talk { client, ..WEB }.tcp(false, ACK, &[])), "it has its place still");
    }
}

fn tls(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn hello(kind: u8) -> Vec<u8> {
    tls(22, &[&[kind, 0, 0, 196][..], &[0x5a; 196]].concat())
}

#[test]
fn of_tls_the_handshake_is_kept_and_then_so_much() {
    let mut watch = Watch::new(None, Some(3000));
    let mut keeps = |back, payload: &[u8]| watch.keeps(&WEB.tcp(back, ACK, payload));
    assert!(keeps(false, &[]) && keeps(false, &hello(1)));
    // A ServerHello, and a certificate over several segments of which the second begins within it.
    let certificate = tls(22, &[&[11, 0, 15, 0][..], &[0x33; 4000]].concat());
    let flight = [hello(2), certificate].concat();
    for segment in flight.chunks(1000) {
        assert!(keeps(true, segment));
    }
    // The Finished of TLS 1.2, encrypted and still handshake.
    assert!(keeps(false, &[tls(20, &[1]), tls(22, &[7; 40])].concat()));
    let data = tls(23, &[9; 995]);
    let kept: Vec<bool> = (0..5).map(|n| keeps(n % 2 == 0, &data)).collect();
    assert_eq!(kept, [true, true, true, false, false]);
    assert!(!keeps(false, &[]));
}

#[test]
fn the_handshake_ends_within_a_segment() {
    // TLS 1.3: what follows the ServerHello is encrypted, in the same segment.
    let mut watch = Watch::new(None, Some(0));
    let mut keeps = |back, payload: &[u8]| watch.keeps(&WEB.tcp(back, ACK, payload));
    assert!(keeps(false, &hello(1)));
    assert!(keeps(true, &[hello(2), tls(20, &[1]), tls(23, &[9; 400])].concat()));
    assert!(!keeps(true, &[9; 400]) && !keeps(false, &tls(23, &[9; 30])));
    assert!(watch.keeps(&WEB.tcp(true, FIN, &[])));
    // A new connection with the same ports is looked at anew.
    assert!(watch.keeps(&WEB.tcp(false, SYN, &[])) && watch.keeps(&WEB.tcp(false, ACK, &hello(1))));
    assert!(!watch.keeps(&WEB.tcp(false, ACK, &tls(23, &[9; 30]))), "not one byte of the rest");
}

#[test]
fn what_is_not_tls_is_not_touched_by_it() {
    for first in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), tls(23, &[9; 400]), tls(22, &[16, 0, 0, 9]), vec![22, 3, 1]] {
        let mut watch = Watch::new(None, Some(0));
        assert!(watch.keeps(&WEB.tcp(false, ACK, &first)));
        for _ in 0..200 {
            assert!(watch.keeps(&WEB.tcp(true, ACK, &tls(23, &[9; 1000]))));
        }
        assert!(watch.keeps(&WEB.tcp(true, ACK, &hello(1))), "only the first payload counts");
        assert!(watch.keeps(&WEB.tcp(true, ACK, &tls(23, &[9; 1000]))));
    }
    let mut watch = Watch::new(None, Some(0));
    for _ in 0..3 {
        assert!(watch.keeps(&WEB.udp(false, &hello(1))) && watch.keeps(&WEB.udp(true, &tls(23, &[9; 1000]))));
    }
}

#[test]
fn a_handshake_that_does_not_end_is_bounded() {
    let mut watch = Watch::new(None, Some(10_000));
    assert!(watch.keeps(&WEB.tcp(false, ACK, &hello(1))));
    let segment = WEB.tcp(true, ACK, &[0x33; 1000]);
    let kept = (0..200).filter(|_| watch.keeps(&segment)).count();
    // 66 until the handshake has had 64 KiB, of which the last counts to the rest.
    assert_eq!(kept, 66 + 9);
}

#[test]
fn a_session_that_gets_the_number_of_another_has_flows_of_its_own() {
    let mut watch = Watch::new(Some(1), None);
    let frame = WEB.tcp(false, ACK, &[0; 9]);
    for _ in 0..3 {
        assert!(watch.keeps(&frame) && !watch.keeps(&frame));
        assert_eq!(watch.part_of(SessionId(2), &frame) == Part::Kept, watch.flows.forgotten.is_empty());
        watch.flows.forget(&[ONE]);
    }
}

#[test]
fn both_limits_count() {
    let mut watch = Watch::new(Some(2000), Some(1_000_000));
    assert!(watch.keeps(&WEB.tcp(false, ACK, &hello(1))));
    let data = WEB.tcp(true, ACK, &tls(23, &[9; 1000]));
    assert!(watch.keeps(&data) && watch.keeps(&data) && !watch.keeps(&data));
}
