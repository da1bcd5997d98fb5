use std::collections::BTreeMap;

use etherparse::PacketBuilder;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::LinkType;

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
const C: SessionId = SessionId(3);

fn udp(identification: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(5004, 5004);
    builder.write(&mut frame, payload).unwrap();
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    frame
}

fn tcp6(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).tcp(443, 5004, sequence, 100);
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn see_at(group: &Group, session: SessionId, frame: &[u8], microsecond: u64) -> Sight {
    let layers = Layers::of(frame, LinkType::Ethernet);
    group.see(session, frame, &layers, Timestamp::from_ns(1_700_000_000_000_000_000 + microsecond * 1000))
}

fn see(group: &Group, session: SessionId, frame: &[u8]) -> Sight {
    see_at(group, session, frame, 0)
}

#[test]
fn the_copy_of_another_session_is_one() {
    let group = Group::new("tenant");
    for frame in [udp(1, &[7; 200]), tcp6(1, &[7; 1400]), udp(2, &[])] {
        assert_eq!(see(&group, A, &frame), Sight::New);
        assert_eq!(see(&group, B, &frame), Sight::Again(A));
        assert_eq!(see(&group, C, &frame), Sight::Again(A));
    }
}

#[test]
fn what_changes_on_the_way_does_not_count_and_all_else_does() {
    for frame in [udp(1, &[7; 200]), tcp6(1, &[7; 1400])] {
        let v4 = frame[12] == 0x08;
        let (ttl, checksums) = if v4 { (22, vec![24, 25, 40, 41]) } else { (21, vec![70, 71]) };
        let group = Group::new("tenant");
        assert_eq!(see(&group, A, &frame), Sight::New);
        let mut changed = frame.clone();
        for at in checksums.iter().chain([&ttl, &0, &7]) {
            changed[*at] ^= 0x55;
        }
        assert_eq!(see(&group, B, &changed), Sight::Again(A));
        // A mirror that takes the VLAN tag off, and one that leaves the padding of Ethernet on.
        changed.splice(12..12, [0x81, 0, 0, 7]);
        changed.extend([0; 9]);
        assert_eq!(see(&group, C, &changed), Sight::Again(A));
        for at in 14..frame.len() {
            let group = Group::new("tenant");
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_eq!(see(&group, A, &frame), Sight::New);
            let expected = if at == ttl || checksums.contains(&at) { Sight::Again(A) } else { Sight::New };
            assert_eq!(see(&group, B, &other), expected, "byte {at}");
        }
    }
}

#[test]
fn a_session_has_no_duplicates_of_its_own() {
    // Keep-alives and retransmissions that are alike byte by byte, delivered by both ends.
    let group = Group::new("tenant");
    let frame = tcp6(1, &[0]);
    for n in 0..10 {
        assert_eq!(see_at(&group, A, &frame, n), Sight::New);
    }
    for n in 0..10 {
        assert_eq!(see_at(&group, B, &frame, n), Sight::Again(A));
    }
    assert_eq!(see(&group, B, &frame), Sight::New, "the eleventh");
    assert_eq!(see(&group, A, &frame), Sight::Again(B));
}

#[test]
fn a_copy_comes_within_the_window() {
    let group = Group::new("tenant");
    let frame = udp(0, b"keep-alive");
    assert_eq!(see_at(&group, A, &frame, 0), Sight::New);
    assert_eq!(see_at(&group, B, &frame, 50_000), Sight::Again(A));
    assert_eq!(see_at(&group, B, &frame, 100_001), Sight::New);
    assert_eq!(see_at(&group, A, &frame, 100_000), Sight::Again(B), "an earlier time by another worker");
    assert_eq!(see_at(&group, B, &frame, 10_000), Sight::New, "before these two");
    assert_eq!(see_at(&group, A, &frame, 100_002), Sight::New, "the second");
    assert_eq!(see_at(&group, B, &frame, 150_002), Sight::Again(A));
}

#[test]
fn a_clock_that_was_set_back_begins_anew() {
    let group = Group::new("tenant");
    let frame = udp(0, b"keep-alive");
    assert_eq!(see_at(&group, A, &frame, 20_000_000), Sight::New);
    assert_eq!(see_at(&group, A, &frame, 1_000_000), Sight::New);
    assert_eq!(see_at(&group, B, &frame, 1_000_000), Sight::Again(A));
}

#[test]
fn what_came_before_a_clock_was_set_back_is_forgotten_first() {
    let group = Group::new("tenant");
    let frame = |n: u32| udp(n as u16, &n.to_be_bytes());
    // In all places.
    for n in 0..400_000 {
        see_at(&group, A, &frame(n), 3_600_000_000);
    }
    let now = 400_000..440_000u32;
    assert!(now.clone().all(|n| see_at(&group, A, &frame(n), 0) == Sight::New));
    let found = now.clone().filter(|n| see_at(&group, B, &frame(*n), 1) == Sight::Again(A)).count();
    assert!(found >= 34_000, "{found} of 40,000 in 81,920 places");
}

#[test]
fn a_worker_may_be_behind() {
    // Packets that are alike, 10 ms apart, of which one worker has had all before another begins.
    let group = Group::new("tenant");
    let frame = udp(0, b"keep-alive");
    for n in 0..100 {
        assert_eq!(see_at(&group, A, &frame, n * 10_000), Sight::New);
    }
    for n in 0..100 {
        assert_eq!(see_at(&group, B, &frame, n * 10_000 + 700), Sight::Again(A));
    }
}

#[test]
fn copies_have_one_number_and_other_packets_have_others() {
    let id = |frame: &[u8]| packet_id(frame, LinkType::Ethernet);
    for frame in [udp(1, &[7; 200]), tcp6(1, &[7; 1400])] {
        let headers = if frame[12] == 0x08 { 14 + 28 } else { 14 + 60 };
        let ttl = if frame[12] == 0x08 { 22 } else { 21 };
        let mut other = frame.clone();
        other[ttl] ^= 1;
        assert!(id(&frame).is_some());
        assert_eq!(id(&other), id(&frame));
        assert_eq!(id(&frame[..headers + LEAST]), id(&frame), "cut");
        assert_eq!(id(&frame[..headers - 1]), None);
        for at in [headers, headers + LEAST - 1, 14 + 4] {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_ne!(id(&other), id(&frame), "byte {at}");
        }
    }
    assert_eq!(id(&[0; 60]), None);
}

#[test]
fn what_is_not_ip_is_new() {
    let group = Group::new("tenant");
    let mut arp = [0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for frame in [&arp[..], &[], &[0; 14]] {
        assert_eq!([see(&group, A, frame), see(&group, B, frame)], [Sight::New; 2]);
    }
}

#[test]
fn more_sessions_than_are_remembered_deliver_what_is_new() {
    let group = Group::new("tenant");
    let frame = udp(1, &[7; 20]);
    let sights: Vec<Sight> = (1..=6).map(|n| see(&group, SessionId(n), &frame)).collect();
    assert_eq!(sights, [Sight::New, Sight::Again(A), Sight::Again(A), Sight::Again(A), Sight::New, Sight::New]);
}

#[test]
fn a_cut_copy_is_one_of_the_whole() {
    for frame in [udp(1, &(0..200).collect::<Vec<u8>>()), tcp6(1, &[7; 1400])] {
        let group = Group::new("tenant");
        // The first cut copy says how far copies can be compared.
        assert_eq!(see(&group, B, &tcp6(9, &[1; 200])[..128]), Sight::New);
        assert_eq!(see(&group, A, &frame), Sight::New);
        assert_eq!(see(&group, B, &frame[..128]), Sight::Again(A), "cut");
        let group = Group::new("tenant");
        assert_eq!(see(&group, B, &frame[..128]), Sight::New);
        assert_eq!(see(&group, A, &frame), Sight::Again(B), "whole after cut");
        assert_eq!(see(&group, C, &frame[..200]), Sight::Again(B), "cut elsewhere");
    }
}

#[test]
fn whole_packets_are_compared_whole_where_others_are_cut() {
    let group = Group::new("tenant");
    assert_eq!(see(&group, C, &udp(9, &[1; 200])[..96]), Sight::New);
    let mut payload = [7; 200];
    let one = udp(0, &payload);
    payload[199] = 8;
    let other = udp(0, &payload);
    assert_eq!([see(&group, A, &one), see(&group, B, &other)], [Sight::New; 2]);
    assert_eq!([see(&group, B, &one), see(&group, A, &other)], [Sight::Again(A), Sight::Again(B)]);
}

#[test]
fn a_packet_cut_to_its_headers_is_new() {
    let group = Group::new("tenant");
    let frame = udp(1, &[7; 200]);
    let headers = 14 + 20 + 8;
    assert_eq!(see(&group, A, &frame), Sight::New);
    for length in 0..headers + LEAST {
        assert_eq!(see(&group, B, &frame[..length]), Sight::New, "{length}");
    }
    assert_eq!(see(&group, C, &frame), Sight::Again(A), "nothing of it was compared");
}

#[test]
fn memory_is_bounded_and_the_oldest_is_forgotten() {
    let group = Group::new("tenant");
    let frame = |n: u32| udp(n as u16, &n.to_be_bytes());
    for n in 0..40_000u32 {
        assert_eq!(see_at(&group, A, &frame(n), u64::from(n)), Sight::New);
    }
    let recent = (39_000..40_000u32).filter(|n| see_at(&group, B, &frame(*n), 40_000) == Sight::Again(A)).count();
    assert!(recent >= 990, "{recent} of the last 1000");
    // What comes round like this finds no place of a full set before the next is taken for it.
    let found = (0..39_000u32).filter(|n| see_at(&group, B, &frame(*n), 40_000) == Sight::Again(A)).count();
    assert!((34_000..39_000).contains(&found), "{found} of 40,000 in 81,920 places");
}

#[test]
fn a_worker_does_not_wait_for_another() {
    let group = Group::new("tenant");
    let held: Vec<_> = group.sets().iter().map(|set| set.lock()).collect();
    assert_eq!(see(&group, A, &udp(1, &[7; 20])), Sight::Busy);
    drop(held);
    assert_eq!(see(&group, A, &udp(1, &[7; 20])), Sight::New);
}

#[test]
fn workers_share_a_group_and_one_of_two_copies_is_new() {
    let group = Group::new("tenant");
    let new: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = [A, B]
            .map(|session| {
                let group = &group;
                scope.spawn(move || {
                    let told = (0..20_000u32).filter(|n| {
                        let frame = udp(*n as u16, &n.to_be_bytes());
                        let mut sight = Sight::Busy;
                        while sight == Sight::Busy {
                            sight = see(group, session, &frame);
                        }
                        sight == Sight::New
                    });
                    told.count()
                })
            })
            .into_iter()
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    // Some were forgotten before the other worker came to them, in sets that were full.
    assert!((20_000..20_200).contains(&new), "{new}");
}

/// What several streams of packets look like on the wire: RTP, a TCP stream with retransmissions,
/// keep-alives that are alike, and a storm of the same queries.
fn streams() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let packet = prop_oneof![
        (0..40u16).prop_map(|n| {
            let mut rtp = vec![0x80, 96];
            rtp.extend(n.to_be_bytes());
            rtp.extend([0x11; 160]);
            udp(0, &rtp)
        }),
        (0..6u32).prop_map(|n| tcp6(n * 1000, &[n as u8; 1000])),
        Just(tcp6(99, &[0])),
        Just(tcp6(99, &[])),
        (0..4u8).prop_map(|query| udp(0, &[&[query, 1, 0, 0, 1][..], b"\x07example\x03com\0"].concat())),
    ];
    vec(packet, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Of all that two ends deliver of a stream, each with a lag of its own, exactly the packets of
    /// the stream are new.
    #[test]
    fn of_two_ends_each_packet_is_new_once(stream in streams(), lags in vec(0..20usize, 160)) {
        let group = Group::new("tenant");
        // In the order of arrival: the packets of an end keep their order.
        let mut arrivals: Vec<(usize, SessionId, &Vec<u8>)> = Vec::new();
        for (session, lags) in [A, B].into_iter().zip(lags.chunks(80)) {
            let mut last = 0;
            for ((n, packet), lag) in stream.iter().enumerate().zip(lags) {
                last = last.max(n * 2 + lag);
                arrivals.push((last, session, packet));
            }
        }
        arrivals.sort_by_key(|(time, ..)| *time);
        let mut new: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (time, session, packet) in arrivals {
            if see_at(&group, session, packet, time as u64) == Sight::New {
                *new.entry(packet).or_default() += 1;
            }
        }
        let mut sent: BTreeMap<&[u8], usize> = BTreeMap::new();
        for packet in &stream {
            *sent.entry(packet).or_default() += 1;
        }
        prop_assert_eq!(new, sent);
    }

    /// One end alone has no duplicates, nor do ends of which each delivers its own.
    #[test]
    fn without_a_second_copy_everything_is_new(stream in streams(), ends in vec(any::<bool>(), 80)) {
        let group = Group::new("tenant");
        for packet in &stream {
            prop_assert_eq!(see(&group, A, packet), Sight::New);
        }
        let group = Group::new("tenant");
        let mut owner: BTreeMap<&[u8], SessionId> = BTreeMap::new();
        for (packet, end) in stream.iter().zip(ends) {
            let session = *owner.entry(packet).or_insert(if end { A } else { B });
            prop_assert_eq!(see(&group, session, packet), Sight::New);
        }
    }

    #[test]
    fn any_bytes_can_be_seen(frame in vec(any::<u8>(), 0..200), v6: bool) {
        let group = Group::new("tenant");
        let mut frame = frame;
        if let Some(place) = frame.get_mut(12..15) {
            place.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[0x08, 0, 0x45] });
        }
        prop_assert_eq!(see(&group, A, &frame), Sight::New);
        let _ = see(&group, B, &frame);
    }
}

#[test]
fn a_set_is_within_few_cache_lines() {
    const LINE: usize = 64;
    let locked = Locked::default();
    let begin = std::ptr::from_ref(&locked) as usize;
    let set = locked.lock();
    let at = |place: usize| place - begin;
    assert_eq!(begin % LINE, 0);
    assert!(at(set.rests.as_ptr_range().end as usize) <= 2 * LINE);
    for packet in &set.packets {
        let bytes = std::ptr::from_ref(packet) as usize;
        assert_eq!(at(bytes) / LINE, at(bytes + size_of::<Packet>() - 1) / LINE);
    }
}
