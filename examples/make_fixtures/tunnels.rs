//! Mirror traffic in other encapsulations than VXLAN, a capture for each, and where in each frame
//! a correct decapsulator finds what is inside.

use super::frames::{Mirror, arp_frame, noise, tcp_frame, udp_frame, v4, v6, vxlan};
use super::{Record, START};

/// First line of `expected.tsv`.
pub const EXPECTED_HEADER: &str = "capture\tframe\tverdict\tencapsulation\tsource\tscope\tvni\tkind\tfrom\tto\n";

/// A capture under construction.
#[derive(Debug, Default)]
pub struct Tunnel {
    /// The frames on the wire of the mirror target.
    pub outer: Vec<Record>,
    /// What is expected of each frame, a line of `expected.tsv` behind its number.
    pub lines: Vec<String>,
}

const OUTER: &str = "172.31.0.238";

impl Tunnel {
    fn push(&mut self, port: u16, payload: &[u8]) -> usize {
        let outer = Mirror { destination_port: port, ..Mirror::default() }.frame(payload);
        let length = outer.len();
        self.outer.push(Record::whole(START + self.outer.len() as u64 * 1_000_123, outer));
        length
    }

    /// A header and what it carries. `told` is encapsulation, source, scope, VNI, and the EtherType
    /// of a packet or `frame`.
    fn carries(&mut self, port: u16, header: &[u8], inner: &[u8], told: [&str; 5]) {
        let end = self.push(port, &[header, inner].concat());
        self.lines.push(format!("inner\t{}\t{}\t{end}", told.join("\t"), end - inner.len()));
    }

    /// A payload that yields nothing, for this reason.
    fn yields_none(&mut self, port: u16, payload: &[u8], reason: &str) {
        self.push(port, payload);
        self.lines.push(format!("{reason}\t\t\t\t\t\t\t"));
    }
}

/// Returns all captures by file name.
pub fn captures() -> Vec<(&'static str, Tunnel)> {
    vec![
        ("geneve", geneve()),
        ("geneve-google", google()),
        ("geneve-gwlb", gwlb()),
        ("gpe", gpe()),
        ("gre", gre()),
        ("erspan", erspan()),
        ("tzsp", tzsp()),
    ]
}

/// Returns frames of IPv4, IPv6 and ARP.
fn frames() -> [Vec<u8>; 3] {
    [
        tcp_frame(v4(10, 51000), v4(20, 443), &noise(1, 1000)),
        udp_frame(v6(10, 40000), v6(21, 53), &noise(2, 48)),
        arp_frame(v4(10, 0), v4(20, 0)),
    ]
}

const TYPES: [&str; 3] = ["0x0800", "0x86dd", "0x0806"];
const ETHERTYPES: [[u8; 2]; 3] = [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]];

fn option(class: u16, kind: u8, data: &[u8]) -> Vec<u8> {
    let [high, low] = class.to_be_bytes();
    [&[high, low, kind, (data.len() / 4) as u8], data].concat()
}

fn geneve_header(flags: u8, protocol: [u8; 2], vni: u8, options: &[u8]) -> Vec<u8> {
    [&[(options.len() / 4) as u8, flags, protocol[0], protocol[1], 0, 0, vni, 0], options].concat()
}

fn geneve() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let many = [option(0x0100, 7, &[1; 124]), option(0xffff, 1, &[]), option(0x0102, 3, &[2; 8])].concat();
    for (frame, (protocol, kind)) in frames().iter().zip(ETHERTYPES.into_iter().zip(TYPES)) {
        for options in [&[][..], &many] {
            let header = geneve_header(0, [0x65, 0x58], 7, options);
            tunnel.carries(6081, &header, frame, ["geneve", OUTER, "", "7", "frame"]);
            let header = geneve_header(0, protocol, 9, options);
            tunnel.carries(6081, &header, &frame[14..], ["geneve", OUTER, "", "9", kind]);
        }
    }
    let [frame, ..] = frames();
    let critical = geneve_header(0x40, [0x65, 0x58], 7, &option(0x1234, 0x85, &[0; 4]));
    tunnel.carries(6081, &critical, &frame, ["geneve", OUTER, "", "7", "frame"]);
    let long = geneve_header(0, [0x65, 0x58], 7, &[0x12, 0x34, 1, 2, 0, 0, 0, 0]);
    tunnel.yields_none(6081, &[long, frame.clone()].concat(), "bad_geneve_options");
    let control = geneve_header(0x80, [0x65, 0x58], 7, &[]);
    tunnel.yields_none(6081, &[control, frame.clone()].concat(), "control_message");
    let version = [&[0x40, 0, 0x65, 0x58, 0, 0, 7, 0], &*frame].concat();
    tunnel.yields_none(6081, &version, "unknown_tunnel_version");
    tunnel.yields_none(6081, &many[..7], "short_tunnel_header");
    tunnel.yields_none(6081, &geneve_header(0, [0x65, 0x58], 7, &many)[..100], "short_tunnel_header");
    let other = [geneve_header(0, [0x88, 0xcc], 7, &[]), frame[14..].to_vec()].concat();
    tunnel.yields_none(6081, &other, "unknown_inner_protocol");
    tunnel
}

fn google() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, six, _] = frames();
    for (direction, last) in [(1, 0xd1), (0, 0xd0)] {
        let network = option(0x0132, 1, &[0x80, 0, 0, last]);
        let [endpoint, profile] =
            [(2, [5; 16].as_slice()), (3, &[6; 8])].map(|(kind, data)| option(0x0132, kind, data));
        let orders = [[&*network, &*endpoint, &*profile].concat(), [&*profile, &*endpoint, &*network].concat()];
        let told = |kind| ["geneve", OUTER, "0x800000d", "0", kind];
        tunnel.carries(6081, &geneve_header(0, [0x08, 0], 0, &orders[direction]), &frame[14..], told("0x0800"));
        tunnel.carries(6081, &geneve_header(0, [0x86, 0xdd], 0, &orders[direction]), &six[14..], told("0x86dd"));
    }
    tunnel
}

/// Mirrors through two endpoints, behind which are the same addresses.
fn gwlb() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, six, arp] = frames();
    for (endpoint, scope) in [(0x076b_c493_b822_cd32_u64, "0x76bc493b822cd32"), (0x0a, "0xa")] {
        let options =
            [option(0x0108, 1, &endpoint.to_be_bytes()), option(0x0108, 2, &[0; 8]), option(0x0108, 3, &[1, 2, 3, 4])]
                .concat();
        let header = geneve_header(0, [0x08, 0x00], 0, &options);
        for inner in [&frame, &six, &arp] {
            let mirror = Mirror { source: [10, 9, 0, 5].into(), ..Mirror::default() };
            let packet = mirror.frame(&vxlan(5_569_041, inner))[14..].to_vec();
            let front = [&*header, &packet[..packet.len() - inner.len()]].concat();
            tunnel.carries(6081, &front, inner, ["geneve", "10.9.0.5", scope, "5569041", "frame"]);
        }
        // What is no mirror comes as the packet that it is.
        tunnel.carries(6081, &header, &frame[14..], ["geneve", OUTER, scope, "0", "0x0800"]);
    }
    tunnel
}

fn gpe() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, six, _] = frames();
    let header = |next| [0x0c, 0, 0, next, 0, 0, 7, 0];
    let service = |next| [0x0f, 0xc2, 1, next, 0, 0, 1, 0xff];
    let told = |kind| ["gpe", OUTER, "", "7", kind];
    tunnel.carries(4790, &header(3), &frame, told("frame"));
    tunnel.carries(4790, &header(1), &frame[14..], told("0x0800"));
    tunnel.carries(4790, &header(2), &six[14..], told("0x86dd"));
    tunnel.carries(4790, &[header(4), service(3)].concat(), &frame, told("frame"));
    tunnel.carries(4790, &[header(4), service(4), service(1)].concat(), &frame[14..], told("0x0800"));
    tunnel.yields_none(4790, &[&[0x0d, 0, 0, 3, 0, 0, 7, 0], &*frame].concat(), "control_message");
    tunnel.yields_none(4790, &[&header(9), &*frame].concat(), "unknown_inner_protocol");
    tunnel
}

fn gre() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, six, _] = frames();
    tunnel.carries(4754, &[0, 0, 0x65, 0x58], &frame, ["gre", OUTER, "", "0", "frame"]);
    let keyed = [0xb0, 0, 0x08, 0x00, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 1];
    tunnel.carries(4754, &keyed, &frame[14..], ["gre", OUTER, "0x64", "0", "0x0800"]);
    tunnel.carries(4754, &[0, 0, 0x86, 0xdd], &six[14..], ["gre", OUTER, "", "0", "0x86dd"]);
    let nvgre = [0x20, 0, 0x65, 0x58, 0, 0x17, 0x70, 0x2a];
    tunnel.carries(4754, &nvgre, &frame, ["nvgre", OUTER, "", "6000", "frame"]);
    tunnel.yields_none(4754, &[&[0x20, 1, 0x88, 0x0b], &*frame].concat(), "unknown_tunnel_version");
    tunnel.yields_none(4754, &[0x20, 0, 0x65, 0x58, 0], "short_tunnel_header");
    tunnel
}

fn erspan() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, ..] = frames();
    tunnel.carries(4754, &[0, 0, 0x88, 0xbe], &frame, ["erspan", OUTER, "", "0", "frame"]);
    let two = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0x64, 0x00, 0x64, 0, 0, 0, 1];
    tunnel.carries(4754, &two, &frame, ["erspan", OUTER, "0x64", "0", "frame"]);
    let gre = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 2];
    let three = [0x20, 0x64, 0x03, 0xff, 1, 2, 3, 4, 0, 0, 0, 0x08];
    tunnel.carries(4754, &[&gre[..], &three].concat(), &frame, ["erspan", OUTER, "0x3ff", "0", "frame"]);
    let mut more = three;
    more[11] = 1;
    tunnel.carries(
        4754,
        &[&gre[..], &more, &[3 << 2, 0, 0, 0, 0, 0, 0, 0]].concat(),
        &frame,
        ["erspan", OUTER, "0x3ff", "0", "frame"],
    );
    let mut packet = three;
    packet[10] = 2 << 2;
    tunnel.carries(4754, &[&gre[..], &packet].concat(), &frame[14..], ["erspan", OUTER, "0x3ff", "0", "0x0800"]);
    tunnel
}

fn tzsp() -> Tunnel {
    let mut tunnel = Tunnel::default();
    let [frame, ..] = frames();
    tunnel.carries(37008, &[1, 0, 0, 1, 1], &frame, ["tzsp", OUTER, "", "0", "frame"]);
    let tags = [1, 1, 0, 1, 0, 10, 1, 0xc8, 60, 6, 2, 0, 0, 0, 0, 9, 40, 4, 0, 0, 0, 1, 1];
    tunnel.carries(37008, &tags, &frame, ["tzsp", OUTER, "0x20000000009", "0", "frame"]);
    tunnel.carries(37008, &[1, 0, 0, 7, 1], &frame[14..], ["tzsp", OUTER, "", "0", "0x0800"]);
    tunnel.yields_none(37008, &[1, 4, 0, 0], "keep_alive");
    tunnel.yields_none(37008, &[1, 0, 0, 1, 41, 2, 5], "bad_tzsp_tags");
    tunnel.yields_none(37008, &[&[1, 0, 0, 18, 1], &*frame].concat(), "unknown_inner_protocol");
    tunnel
}
