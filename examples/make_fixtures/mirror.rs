//! Mirror traffic, one scene per peculiarity of the wire, and what a correct decapsulator makes of
//! each frame.

use std::net::{IpAddr, Ipv4Addr};

use super::frames::{
    Mirror, arp_frame, echo_frame, noise, outer_v6, tagged, tcp_frame, udp_frame, v4, v6, vxlan, vxlan_with,
};
use super::{Record, START};

/// First line of `expected.tsv`.
pub const EXPECTED_HEADER: &str = "capture\tframe\tverdict\tsource\tvni\tlength\torig_len\treserved_bits\n";

/// A capture of mirror traffic under construction.
#[derive(Debug, Default)]
pub struct Scene {
    /// The frames on the wire of the mirror target.
    pub outer: Vec<Record>,
    /// The inner frames, in order.
    pub inner: Vec<Record>,
    /// What is expected of each frame of `outer`, a line of `expected.tsv` behind its number.
    pub lines: Vec<String>,
}

impl Scene {
    fn push(&mut self, outer: Vec<u8>) -> u64 {
        let time = START + self.outer.len() as u64 * 1_000_123; // 1 ms and something that microseconds would lose
        self.outer.push(Record::whole(time, outer));
        time
    }

    /// A frame that yields this inner one.
    fn yields(&mut self, outer: Vec<u8>, source: IpAddr, vni: u32, inner: &[u8], orig_len: usize, reserved: bool) {
        let time = self.push(outer);
        self.lines.push(format!("inner\t{source}\t{vni}\t{}\t{orig_len}\t{}", inner.len(), u8::from(reserved)));
        self.inner.push(Record { time, orig_len: orig_len as u32, bytes: inner.to_vec() });
    }

    /// This frame, wrapped by this mirror under this VNI.
    fn wraps(&mut self, mirror: &Mirror, vni: u32, inner: &[u8]) {
        self.yields(mirror.frame(&vxlan(vni, inner)), mirror.source, vni, inner, inner.len(), false);
    }

    /// A frame that yields nothing, for this reason.
    fn yields_none(&mut self, outer: Vec<u8>, reason: &str) {
        self.push(outer);
        self.lines.push(format!("{reason}\t\t\t\t\t"));
    }
}

const VNI: u32 = 5_569_041;

/// Returns all scenes by file name.
pub fn scenes() -> Vec<(&'static str, Scene)> {
    vec![
        ("ipv4", ipv4()),
        ("ipv6", ipv6()),
        ("sessions", sessions()),
        ("vlan", vlan()),
        ("ip-options", ip_options()),
        ("jumbo", jumbo()),
        ("short", short()),
        ("flags", flags()),
        ("trailers", trailers()),
        ("udp-length", udp_length()),
        ("truncated", truncated()),
        ("fragments", fragments()),
        ("bystanders", bystanders()),
        ("odd-inner", odd_inner()),
    ]
}

/// Returns a few kinds of inner frames.
fn samples() -> Vec<Vec<u8>> {
    vec![
        tcp_frame(v4(10, 51000), v4(20, 443), b"hello"),
        tcp_frame(v4(20, 443), v4(10, 51000), &noise(1, 1448)),
        udp_frame(v4(10, 40000), v4(21, 5004), &noise(2, 48)),
        echo_frame(v4(10, 7), v4(20, 7), true, 1, &noise(3, 56)),
        tcp_frame(v6(10, 51001), v6(20, 80), b"GET / HTTP/1.0\r\n\r\n"),
        echo_frame(v6(10, 8), v6(20, 8), true, 1, &noise(4, 56)),
        arp_frame(v4(10, 0), v4(20, 0)),
    ]
}

fn ipv4() -> Scene {
    let mut scene = Scene::default();
    for (index, inner) in samples().iter().enumerate() {
        scene.wraps(&Mirror { source_port: 65408 + index as u16, ..Mirror::default() }, VNI, inner);
    }
    scene.wraps(&Mirror { checksum: true, ..Mirror::default() }, VNI, &samples()[0]);
    scene
}

fn ipv6() -> Scene {
    let mut scene = Scene::default();
    for inner in &samples() {
        scene.wraps(&Mirror::over_ipv6(), VNI, inner);
        scene.wraps(&Mirror { checksum: true, ..Mirror::over_ipv6() }, VNI, inner);
    }
    let inner = &samples()[0];
    let router_alert = vec![17, 0, 5, 2, 0, 0, 1, 0];
    scene.wraps(&Mirror { extension: 0, options: router_alert, ..Mirror::over_ipv6() }, VNI, inner);
    let atomic_fragment = vec![17, 0, 0, 0, 0, 0, 0x1d, 0x0f];
    scene.wraps(&Mirror { extension: 44, options: atomic_fragment, ..Mirror::over_ipv6() }, VNI, inner);
    scene
}

/// One inner flow in several networks and from several mirrors, and the ends of the range of VNIs.
fn sessions() -> Scene {
    let mut scene = Scene::default();
    let (request, response) =
        (tcp_frame(v4(10, 51000), v4(20, 80), b"ping"), tcp_frame(v4(20, 80), v4(10, 51000), b"pong"));
    let other = Mirror { source: Ipv4Addr::new(172, 31, 0, 239).into(), ..Mirror::default() };
    let third = Mirror { source: outer_v6(0xef), ..Mirror::over_ipv6() };
    for vni in [1, 2, 3, 0, 0xff_ffff, 0x01_0000, 0x00_0100] {
        for inner in [&request, &response] {
            scene.wraps(&Mirror::default(), vni, inner);
            scene.wraps(&other, vni, inner);
            scene.wraps(&third, vni, inner);
        }
    }
    scene
}

fn vlan() -> Scene {
    let mut scene = Scene::default();
    let (customer, service, old) = ((0x8100, 0x0064), (0x88a8, 0x20c8), (0x9100, 0x0fff));
    for tags in [&[customer][..], &[service, customer], &[old, customer], &[old, service, customer, customer]] {
        for inner in &samples() {
            scene.wraps(&Mirror::default(), VNI, &tagged(inner, tags));
        }
        let outer = Mirror { tags: tags.to_vec(), ..Mirror::default() };
        scene.wraps(&outer, VNI, &samples()[0]);
        scene.wraps(&outer, VNI, &tagged(&samples()[1], tags));
        scene.wraps(&Mirror { tags: tags.to_vec(), ..Mirror::over_ipv6() }, VNI, &samples()[2]);
    }
    scene
}

fn ip_options() -> Scene {
    let mut scene = Scene::default();
    let router_alert = vec![0x94, 0x04, 0x00, 0x00];
    let record_route = [[0x07, 39, 4].as_slice(), &[0; 36], &[0x00]].concat();
    for options in [router_alert, record_route] {
        for inner in &samples() {
            scene.wraps(&Mirror { options: options.clone(), ..Mirror::default() }, VNI, inner);
        }
    }
    scene
}

/// Returns the largest inner packet that AWS mirrors whole to a target of MTU 9001, and one of 1500
/// for scale.
fn jumbo() -> Scene {
    let mut scene = Scene::default();
    scene.wraps(&Mirror::default(), VNI, &tcp_frame(v4(10, 51000), v4(20, 80), &noise(5, 1500 - 40)));
    scene.wraps(&Mirror::default(), VNI, &tcp_frame(v4(10, 51000), v4(20, 80), &noise(6, 8947 - 40)));
    scene.wraps(&Mirror::over_ipv6(), VNI, &tcp_frame(v6(10, 51000), v6(20, 80), &noise(7, 8927 - 60)));
    scene
}

/// UDP payloads of 0 to 22 bytes: a VXLAN header needs 8, an inner Ethernet header 14 more.
fn short() -> Scene {
    let mut scene = Scene::default();
    let mirror = Mirror::default();
    let payload = vxlan(VNI, &samples()[0]);
    for length in 0..8 {
        scene.yields_none(mirror.frame(&payload[..length]), "short_vxlan_header");
    }
    for length in 8..22 {
        scene.yields_none(mirror.frame(&payload[..length]), "runt_inner_frame");
    }
    scene.yields(mirror.frame(&payload[..22]), mirror.source, VNI, &payload[8..22], 14, false);
    // A runt over IPv6 and one that Ethernet padding seems to lengthen.
    scene.yields_none(Mirror::over_ipv6().frame(&payload[..12]), "runt_inner_frame");
    scene.yields_none(Mirror { trailer: vec![0; 32], ..mirror.clone() }.frame(&payload[..8]), "runt_inner_frame");
    scene
}

fn flags() -> Scene {
    let mut scene = Scene::default();
    let mirror = Mirror::default();
    let inner = &samples()[0];
    for flags in [0x00, 0x80, 0x04, 0xf7] {
        scene.yields_none(mirror.frame(&vxlan_with(flags, 0, VNI, 0, inner)), "vni_flag_clear");
    }
    scene.yields_none(mirror.frame(&vxlan_with(0xf7, 0xff_ffff, 0xff_ffff, 0xff, inner)), "vni_flag_clear");
    let mut odd = |flags, reserved1, reserved2| {
        let payload = vxlan_with(flags, reserved1, VNI, reserved2, inner);
        scene.yields(mirror.frame(&payload), mirror.source, VNI, inner, inner.len(), true);
    };
    odd(0xff, 0xff_ffff, 0xff);
    odd(0x88, 0x00_1234, 0x00); // group policy 0x1234
    odd(0x0c, 0x00_0003, 0x00); // what the generic protocol extension calls Ethernet
    odd(0x08, 0x80_0000, 0x00);
    odd(0x08, 0x00_0001, 0x00);
    odd(0x08, 0x00_0000, 0x01);
    for bit in [0x01, 0x02, 0x10, 0x20, 0x40] {
        odd(0x08 | bit, 0, 0);
    }
    scene.wraps(&mirror, VNI, inner);
    scene
}

/// Bytes after the outer IP packet: padding, a frame check sequence, a timestamp that a switch
/// appends.
fn trailers() -> Scene {
    let mut scene = Scene::default();
    for trailer in [vec![0], vec![0xde, 0xad, 0xbe, 0xef], noise(8, 18), vec![0; 100]] {
        for inner in &samples() {
            scene.wraps(&Mirror { trailer: trailer.clone(), ..Mirror::default() }, VNI, inner);
            scene.wraps(&Mirror { trailer: trailer.clone(), ..Mirror::over_ipv6() }, VNI, inner);
        }
    }
    scene
}

fn udp_length() -> Scene {
    let mut scene = Scene::default();
    for mirror in [Mirror::default(), Mirror::over_ipv6()] {
        for inner in &samples()[..3] {
            let payload = vxlan(VNI, inner);
            let length = 8 + payload.len() as u16;
            for wrong in [length + 1, length + 4, u16::MAX, 0, 7] {
                let mirror = Mirror { udp_length: Some(wrong), ..mirror.clone() };
                scene.yields_none(mirror.frame(&payload), "bad_udp_length");
            }
            // Beyond the IP packet but within the frame: the bytes are there, but they are not the
            // datagram's.
            let mirror = Mirror { udp_length: Some(length + 4), trailer: vec![0xee; 8], ..mirror.clone() };
            scene.yields_none(mirror.frame(&payload), "bad_udp_length");
            // An IP packet longer than its datagram.
            let mirror = Mirror { udp_length: None, after_udp: vec![0xee; 6], ..mirror };
            scene.wraps(&mirror, VNI, inner);
        }
    }
    scene
}

/// Inner frames that the mirror cut: the datagram is well formed, the inner IP header tells the
/// length.
fn truncated() -> Scene {
    let mut scene = Scene::default();
    let long = noise(9, 1400);
    let (ipv4, ipv6) = (tcp_frame(v4(10, 51000), v4(20, 80), &long), tcp_frame(v6(10, 51000), v6(20, 80), &long));
    let vlan = tagged(&ipv4, &[(0x8100, 0x0064)]);
    let qinq = tagged(&ipv6, &[(0x88a8, 0x20c8), (0x8100, 0x0064)]);
    let jumbo = tcp_frame(v4(10, 51000), v4(20, 80), &noise(10, 8960));
    for mirror in [Mirror::default(), Mirror::over_ipv6()] {
        for whole in [&ipv4, &ipv6, &vlan, &qinq, &jumbo] {
            for kept in [64, 96, 128, whole.len() - 1] {
                let inner = &whole[..kept];
                scene.yields(mirror.frame(&vxlan(VNI, inner)), mirror.source, VNI, inner, whole.len(), false);
            }
        }
    }
    // Cut before the length fields, there is nothing to recover; just after them, there is.
    let mirror = Mirror::default();
    for (kept, orig_len) in [(14, 14), (17, 17), (18, ipv4.len()), (20, ipv4.len())] {
        let inner = &ipv4[..kept];
        scene.yields(mirror.frame(&vxlan(VNI, inner)), mirror.source, VNI, inner, orig_len, false);
    }
    for (kept, orig_len) in [(14, 14), (19, 19), (20, ipv6.len()), (40, ipv6.len())] {
        let inner = &ipv6[..kept];
        scene.yields(mirror.frame(&vxlan(VNI, inner)), mirror.source, VNI, inner, orig_len, false);
    }
    scene
}

/// Outer fragments, between whole datagrams.
fn fragments() -> Scene {
    let mut scene = Scene::default();
    let inner = tcp_frame(v4(10, 51000), v4(20, 80), &noise(11, 1460));
    for mirror in [Mirror::default(), Mirror::over_ipv6()] {
        scene.wraps(&mirror, VNI, &inner);
        for size in [1480, 512] {
            for fragment in mirror.fragments(&vxlan(VNI, &inner), size) {
                scene.yields_none(fragment, "outer_fragment");
            }
        }
        scene.wraps(&mirror, VNI, &inner);
    }
    scene
}

/// Traffic of the mirror target itself, among which one mirrored frame.
fn bystanders() -> Scene {
    let mut scene = Scene::default();
    let inner = &samples()[0];
    let encapsulated = vxlan(VNI, inner);
    for mirror in [Mirror::default(), Mirror::over_ipv6()] {
        for port in [53, 4788, 4790, 8472, 6081] {
            let mirror = Mirror { destination_port: port, ..mirror.clone() };
            scene.yields_none(mirror.frame(&encapsulated), "other_port");
        }
        let answer = Mirror { source_port: 4789, destination_port: 65445, ..mirror.clone() };
        scene.yields_none(answer.frame(&encapsulated), "other_port");
        scene.wraps(&mirror, VNI, inner);
    }
    scene.yields_none(tcp_frame(v4(10, 51000), v4(20, 4789), &encapsulated), "not_udp");
    scene.yields_none(tcp_frame(v6(10, 51000), v6(20, 4789), &encapsulated), "not_udp");
    scene.yields_none(echo_frame(v4(10, 9), v4(20, 9), true, 1, &encapsulated), "not_udp");
    scene.yields_none(arp_frame(v4(10, 0), v4(20, 0)), "not_ip");
    scene.yields_none(Mirror::default().ethernet(0x8847, &encapsulated), "not_ip");
    scene.yields_none(Mirror::default().ethernet(0x0026, &noise(12, 38)), "not_ip");
    scene
}

/// Inner frames that a decapsulator must not judge.
fn odd_inner() -> Scene {
    let mut scene = Scene::default();
    let mirror = Mirror::default();
    let mut bad_checksum = samples().swap_remove(0);
    bad_checksum[24] ^= 0xff; // of the IPv4 header
    bad_checksum[50] ^= 0xff; // of TCP
    scene.wraps(&mirror, VNI, &bad_checksum);
    let mut version = samples().swap_remove(0);
    version[14] = 0x35;
    scene.wraps(&mirror, VNI, &version);
    // A padded frame keeps its padding: 60 bytes of which the ARP packet fills 42.
    let mut padded = samples().swap_remove(6);
    padded.resize(60, 0);
    scene.wraps(&mirror, VNI, &padded);
    let mut padded = tcp_frame(v4(10, 51000), v4(20, 80), b"");
    padded.resize(60, 0);
    scene.wraps(&mirror, VNI, &padded);
    // Nested: VXLAN within VXLAN loses one layer only.
    scene.wraps(&mirror, VNI, &Mirror::over_ipv6().frame(&vxlan(7, &samples()[0])));
    // A type that nobody knows, and noise from the first byte to the last.
    scene.wraps(&mirror, VNI, &mirror.ethernet(0x88b5, &noise(13, 46)));
    let mut random = noise(14, 300);
    random[12..14].copy_from_slice(&[0x12, 0x34]);
    scene.wraps(&mirror, VNI, &random);
    scene
}
