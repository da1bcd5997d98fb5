use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pcap_parser::PcapCapture;

use super::*;

#[path = "../../../../tests/shared/host.rs"]
mod host;

/// What is asked of Ethernet frames.
const ON_ETHERNET: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "not ip and not ip6",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "igmp",
    "ip proto 47",
    "ip6 proto 58",
    "esp or ah",
    r"ip proto \tcp",
    r"ether proto \arp",
    "ether proto 0x88cc",
    "port 53",
    "port 443",
    "tcp port 80",
    "udp port 4789",
    "src port 53",
    "tcp dst port 445",
    "portrange 1000-2000",
    "udp src portrange 30000-65535",
    "tcp portrange 20-443 and not port 80",
    "host 10.0.0.1",
    "net 10.0.0.0/8",
    "src net 192.168.0.0/16",
    "dst net 172.16.0.0 mask 255.240.0.0",
    "net 192.168",
    "host 192.168.1.1 or host 192.168.0.1",
    "src or dst host 127.0.0.1",
    "ip6 net fe80::/10",
    "ip6 and dst net ff02::/16",
    "net 2001::/16",
    "host fe80::1",
    "ether multicast",
    "ether broadcast",
    "ip multicast",
    "ip broadcast",
    "ip6 multicast",
    "ether host ff:ff:ff:ff:ff:ff",
    "ether src 00:00:00:00:00:00",
    "ether[0] & 1 = 0",
    "ether[6:4] & 0xffffff00 != 0",
    "vlan",
    "vlan 100",
    "vlan and ip",
    "vlan and vlan",
    "vlan 1 or vlan 2 and udp",
    "mpls",
    "pppoes and ip",
    "len > 1000",
    "len <= 60",
    "greater 500 and less 900",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] = 2",
    "tcp[tcpflags] == tcp-ack and len < 70",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "tcp[12] >> 4 > 5",
    "udp[4:2] > 100",
    "udp[8] & 0x80 != 0 and port 53",
    "icmp[icmptype] == icmp-echo",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp6[icmp6type] == icmp6-neighborsolicit",
    "ip[6:2] & 0x1fff != 0",
    "ip[6] & 0x20 != 0",
    "ip[0] & 0xf != 5",
    "ip[8] < 64",
    "ip[2:2] != len - 14",
    "ip6[6] = 44",
    "ip[12:4] & 0xff000000 = 0x0a000000",
    "ip[9] / 2 = 3 and ip[8] % 2 = 0",
    "ip[10:2] ^ ip[4:2] > 0x7fff",
    "ether[len - 1] = 0",
    "(tcp or udp) and not (port 53 or port 80 or port 443) and net 0.0.0.0/1",
    "tcp and (src host 10.0.0.1 or 10.0.0.2 or 192.168.1.1) and dst port (80 or 443 or 8080)",
    "geneve",
    "iso",
    "stp",
    "llc",
    "ether[100:4] != 0",
    "ip host 1.1.1.1 or ip6 host 2001:db8::1 or arp host 10.0.0.1",
];

/// What is asked of IP packets without an Ethernet header.
const ON_IP: &[&str] = &[
    "ip",
    "ip6",
    "tcp",
    "udp port 53",
    "icmp or icmp6",
    "src net 10.0.0.0/8",
    "host 192.168.1.1",
    "ip6 net fe80::/10",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf != 5",
    "len > 500",
    "portrange 1-1023 and not port 443",
    "ip multicast",
];

struct Record {
    original: u32,
    bytes: Vec<u8>,
}

fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            captures(&path, found);
        } else if path.extension() == Some(OsStr::new("pcap")) {
            found.push(path);
        }
    }
}

/// Returns all Ethernet frames of the corpus, the hostile ones too.
fn frames() -> Option<Vec<Record>> {
    let corpus = host::corpus()?;
    if Command::new("tcpdump").arg("--version").output().is_err() {
        host::skip("no tcpdump");
        return None;
    }
    let mut paths = Vec::new();
    captures(&corpus, &mut paths);
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        let file = fs::read(&path).unwrap();
        let Ok(capture) = PcapCapture::from_file(&file) else { continue };
        if capture.header.network.0 != 1 {
            continue;
        }
        records.extend(
            capture
                .blocks
                .iter()
                .map(|block| Record { original: block.origlen, bytes: block.data[..block.caplen as usize].to_vec() }),
        );
    }
    assert!(records.len() > 3_000, "{}", records.len());
    Some(records)
}

/// Writes a capture in which the second of a frame is its number.
fn file(records: &[Record], link_type: u32) -> Vec<u8> {
    let word = |out: &mut Vec<u8>, word: u32| out.extend_from_slice(&word.to_le_bytes());
    let mut out = Vec::new();
    for value in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link_type] {
        word(&mut out, value);
    }
    for (number, record) in records.iter().enumerate() {
        for value in [number as u32, 0, record.bytes.len() as u32, record.original] {
            word(&mut out, value);
        }
        out.extend_from_slice(&record.bytes);
    }
    out
}

/// Returns the numbers of the frames that tcpdump takes.
fn tcpdump(capture: &Path, expression: &str) -> Vec<usize> {
    let input = fs::File::open(capture).unwrap();
    let mut command = Command::new("tcpdump");
    let output = command.args(["-r", "-", "-w", "-", expression]).stdin(input).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
    let capture = PcapCapture::from_file(&output.stdout).unwrap();
    capture.blocks.iter().map(|block| block.ts_sec as usize).collect()
}

/// Compares with tcpdump, and returns how many frames were taken altogether.
fn compare(records: &[Record], link_type: u16, expressions: &[&str]) -> usize {
    let mut capture = tempfile::NamedTempFile::new().unwrap();
    capture.write_all(&file(records, link_type.into())).unwrap();
    let mut taken = 0;
    for expression in expressions {
        let program = compile(expression, link_type).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let takes = |record: &Record| program.matches(&record.bytes, record.original);
        let ours: Vec<usize> = (0..records.len()).filter(|n| takes(&records[*n])).collect();
        let theirs = tcpdump(capture.path(), expression);
        assert!(ours == theirs, "{expression}: {} frames, tcpdump takes {}", ours.len(), theirs.len());
        taken += ours.len();
    }
    taken
}

#[test]
fn expressions_take_the_frames_that_tcpdump_takes() {
    assert!(ON_ETHERNET.len() >= 60);
    let Some(records) = frames() else { return };
    let taken = compare(&records, 1, ON_ETHERNET);
    assert!(taken > 10 * records.len());
    // Cut frames: what an expression asks for can be missing.
    for keep in [13, 20, 40, 60] {
        let cut = |record: &Record| Record {
            original: record.original,
            bytes: record.bytes[..record.bytes.len().min(keep)].to_vec(),
        };
        let some: Vec<&str> = ON_ETHERNET.iter().copied().step_by(5).collect();
        compare(&records.iter().map(cut).collect::<Vec<_>>(), 1, &some);
    }
}

#[test]
fn expressions_take_the_bare_packets_that_tcpdump_takes() {
    let Some(records) = frames() else { return };
    let is_ip = |record: &&Record| matches!(record.bytes.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    let bare = |record: &Record| Record { original: record.original - 14, bytes: record.bytes[14..].to_vec() };
    let packets: Vec<Record> = records.iter().filter(is_ip).map(bare).collect();
    assert!(compare(&packets, 101, ON_IP) > packets.len());
}

#[test]
fn what_libpcap_refuses_is_said_in_its_words() {
    let says = |text: &str| Expression::new(text).unwrap_err().to_string();
    assert!(says("tcp port").starts_with("libpcap says: can't parse filter expression: syntax error"));
    assert!(says("ip and not ip").contains("expression rejects all packets"), "{}", says("ip and not ip"));
    assert!(says("tcp port 99999").contains("illegal port number"), "{}", says("tcp port 99999"));
    assert_eq!(Expression::new(" "), Err(CompileError::Empty));
    assert!(says("port 1\0 or x").contains("zero byte") || says("port 1\0 or x").contains("no word"));
}

#[test]
fn what_only_an_interface_of_this_host_has_is_refused() {
    for text in ["inbound", "not inbound or udp", "outbound and tcp", "ifindex 2"] {
        for link_type in [1, 101] {
            let refused = compile(text, link_type);
            assert!(matches!(refused, Err(CompileError::OfTheHost | CompileError::Refused(_))), "{text}: {refused:?}");
        }
        assert_eq!(Expression::new(text), Err(CompileError::OfTheHost), "{text}");
    }
}

#[test]
fn what_is_said_of_ethernet_is_refused_without_it() {
    assert!(matches!(compile("ether host 02:00:00:00:00:01", 101), Err(CompileError::Refused(_))));
    assert!(compile("ether host 02:00:00:00:00:01", 1).is_ok());
}

#[test]
fn an_expression_is_known_by_its_text() {
    let of = |text| Expression::new(text).unwrap();
    assert_eq!(of("tcp"), of("tcp"));
    assert_ne!(of("tcp"), of("udp"));
    assert_eq!(format!("{:?}", of("tcp port 80")), "Expression(\"tcp port 80\")");
}
