//! Whole frames go in, and inner frames come out, against judges that share no code with the
//! sensor.
//!
//! - `fixtures/`, always: made by `examples/make_fixtures`, which says for every outer frame what
//!   it must yield.
//! - The corpus of real captures, where it is (`VXTAP_CORPUS`, or `../shared/corpus`): tshark's
//!   fields, kept beside the captures, must agree.
//! - tshark itself, where it is installed: byte for byte, over both.
//!
//! A judge that cannot run says `skipped: ...`; with `CI` set it fails instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use pcap_parser::PcapCapture;
use serde_json::Value;
use vxtap::record::{Timestamp, pcap};
use vxtap::wire::{
    Decapsulated, DropReason, Encapsulation, LinkType, Scope, address,
    inner::original_length,
    outer::{self, OuterError, Udp},
    vxlan,
};

#[path = "shared/host.rs"]
mod host;
#[path = "../examples/make_fixtures/main.rs"]
mod make_fixtures;

/// One record of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// Nanoseconds since 1970.
    time: u64,
    orig_len: u32,
    bytes: Vec<u8>,
}

/// Returns the records of a classic pcap file.
fn records(path: &Path) -> Vec<Record> {
    let file = fs::read(path).unwrap();
    let capture = PcapCapture::from_file(&file).unwrap();
    let unit = if capture.header.is_nanosecond_precision() { 1 } else { 1000 };
    capture
        .blocks
        .iter()
        .map(|block| Record {
            time: u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec) * unit,
            orig_len: block.origlen,
            bytes: block.data[..block.caplen as usize].to_vec(),
        })
        .collect()
}

/// Returns the captures directly in this folder, by name.
fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("pcap")))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no captures in {}", folder.display());
    paths
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn tshark() -> bool {
    let works = Command::new("tshark").arg("--version").output().is_ok_and(|output| output.status.success());
    if !works {
        host::skip("no tshark");
    }
    works
}

/// Sends a frame through the wire layer, and returns what it yields, or the label of what it is
/// counted as.
fn verdict(frame: &[u8], port: u16) -> Result<(Udp<'_>, Decapsulated<'_>), &'static str> {
    let udp = outer::udp(frame).map_err(outer::OuterError::label)?;
    if udp.destination_port != port {
        return Err("other_port");
    }
    let inner = vxlan::decapsulate(udp.payload, udp.payload.len()).map_err(vxtap::wire::DropReason::label)?;
    Ok((udp, inner))
}

/// All files below a folder with their contents.
fn tree(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

#[test]
fn fixtures_are_what_their_generator_makes() {
    let temporary = tempfile::tempdir().unwrap();
    make_fixtures::generate(temporary.path());
    let (mut made, mut committed) = (BTreeMap::new(), BTreeMap::new());
    tree(temporary.path(), temporary.path(), &mut made);
    tree(&fixtures(), &fixtures(), &mut committed);
    // What the generator does not make, as the README says.
    for other in ["README.md", "aws/filters.json", "aws/interfaces.json", "aws/sessions.json"] {
        assert!(committed.remove(Path::new(other)).is_some(), "{other}");
    }
    assert_eq!(made.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (path, bytes) in &made {
        assert!(*bytes == committed[path], "{}: run `cargo run --example make_fixtures`", path.display());
    }
}

#[test]
fn fixtures_yield_the_expected_frames() {
    let expected = fs::read_to_string(fixtures().join("expected.tsv")).unwrap();
    let mut lines = expected.lines();
    assert_eq!(lines.next(), Some("capture\tframe\tverdict\tsource\tvni\tlength\torig_len\treserved_bits"));
    let mut expectations: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<_> = line.split('\t').collect();
        expectations.entry(fields[0]).or_default().push(fields);
    }
    let outer = captures(&fixtures().join("outer"));
    assert_eq!(
        outer.iter().map(|path| stem(path)).collect::<Vec<_>>(),
        expectations.keys().copied().collect::<Vec<_>>()
    );
    for path in &outer {
        let expectations = &expectations[stem(path)];
        let mut inner = records(&fixtures().join(format!("inner/{}.pcap", stem(path)))).into_iter();
        let outer = records(path);
        assert_eq!(outer.len(), expectations.len());
        for (record, expected) in outer.iter().zip(expectations) {
            let place = format!("{} frame {}", expected[0], expected[1]);
            let found = match verdict(&record.bytes, 4789) {
                Err(label) => [label, "", "", "", "", ""].map(str::to_owned),
                Ok((udp, decapsulated)) => {
                    let yielded = Record {
                        time: record.time,
                        orig_len: decapsulated.original,
                        bytes: decapsulated.frame.to_vec(),
                    };
                    assert_eq!(Some(yielded), inner.next(), "{place}");
                    [
                        "inner".to_owned(),
                        udp.source.to_string(),
                        decapsulated.vni.to_string(),
                        decapsulated.frame.len().to_string(),
                        decapsulated.original.to_string(),
                        u8::from(decapsulated.reserved_bits).to_string(),
                    ]
                }
            };
            assert_eq!(found, expected[2..], "{place}");
        }
        assert_eq!(inner.next(), None, "{} yields too little", stem(path));
    }
}

#[test]
fn demo_traffic_is_whole() {
    for path in captures(&fixtures().join("demo")) {
        let records = records(&path);
        assert!(records.len() >= 300, "{}", path.display());
        assert!(records.is_sorted_by_key(|record| record.time));
        for record in records {
            assert_eq!(original_length(&record.bytes), record.orig_len);
            assert_eq!(record.bytes.len(), record.orig_len as usize);
        }
    }
}

/// Reads tshark's view of a capture, kept as tab-separated fields: one map of column to values per
/// frame.
fn oracle(path: &Path) -> Vec<BTreeMap<String, Vec<String>>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let columns: Vec<_> = lines.next().unwrap().split('\t').collect();
    lines
        .map(|line| {
            let values = line
                .split('\t')
                .map(|field| field.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>());
            columns.iter().map(|column| (*column).to_owned()).zip(values).collect()
        })
        .collect()
}

/// The oracle's columns about the headers of one frame after another; those of ours are appended
/// here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Headers {
    ipv4: Vec<String>,
    ipv6: Vec<String>,
    ports: Vec<String>,
    ethernet: Vec<String>,
}

impl Headers {
    fn addresses(&mut self, source: IpAddr, destination: IpAddr) {
        let list = if source.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 };
        list.push(format!("{source} {destination}"));
    }

    /// Appends the headers of a frame as etherparse, left to itself, reads them.
    fn frame(&mut self, frame: &[u8]) {
        let packet = etherparse::LaxSlicedPacket::from_ethernet(frame).unwrap();
        let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &packet.link else { panic!("not Ethernet") };
        let mac = |octets: [u8; 6]| octets.map(|octet| format!("{octet:02x}")).join(":");
        self.ethernet.push(format!("{} {}", mac(ethernet.source()), mac(ethernet.destination())));
        match &packet.net {
            Some(etherparse::LaxNetSlice::Ipv4(ip)) => {
                self.addresses(ip.header().source_addr().into(), ip.header().destination_addr().into());
            }
            Some(etherparse::LaxNetSlice::Ipv6(ip)) => {
                self.addresses(ip.header().source_addr().into(), ip.header().destination_addr().into());
            }
            _ => {}
        }
        if let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport {
            self.ports.push(format!("{} {}", udp.source_port(), udp.destination_port()));
        }
    }
}

#[test]
fn corpus_agrees_with_the_oracle() {
    let Some(corpus) = host::corpus() else { return };
    let mut compared = 0;
    for path in captures(&corpus.join("vxlan")) {
        let oracle_path = corpus.join(format!("oracle/vxlan-{}.tsv", stem(&path)));
        if !oracle_path.exists() {
            continue;
        }
        let (records, oracle) = (records(&path), oracle(&oracle_path));
        assert_eq!(records.len(), oracle.len(), "{}", stem(&path));
        for (record, fields) in records.iter().zip(&oracle) {
            let place = format!("{} frame {}", stem(&path), fields["frame.number"][0]);
            let pairs = |a: &str, b: &str| {
                fields[a].iter().zip(&fields[b]).map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()
            };
            let expected_vni: Vec<u32> = fields["vxlan.vni"].iter().map(|vni| vni.parse().unwrap()).collect();
            match verdict(&record.bytes, 4789) {
                Ok((udp, inner)) => {
                    assert_eq!([inner.vni.get()], *expected_vni, "{place}");
                    // The oracle has bytes 0 and 1 of the header; the other reserved ones have no
                    // column.
                    let flags = u16::from_str_radix(fields["vxlan.flags"][0].trim_start_matches("0x"), 16).unwrap();
                    assert!(inner.reserved_bits || flags == 0x0800, "{place}");
                    assert_eq!(inner.original as usize, inner.frame.len(), "{place}: nothing here was cut");

                    let mut headers = Headers::default();
                    headers.frame(&record.bytes[..14]); // the addresses only: the rest is for our parser
                    headers.addresses(udp.source, udp.destination);
                    headers.ports.push(format!("{} {}", udp.source_port, udp.destination_port));
                    headers.frame(inner.frame);
                    let expected = Headers {
                        ipv4: pairs("ip.src", "ip.dst"),
                        ipv6: pairs("ipv6.src", "ipv6.dst"),
                        ports: pairs("udp.srcport", "udp.dstport"),
                        ethernet: pairs("eth.src", "eth.dst"),
                    };
                    assert_eq!(headers, expected, "{place}");
                    compared += 1;
                }
                Err(label) => assert!(expected_vni.is_empty(), "{place}: {label}"),
            }
        }
    }
    println!("compared {compared} frames with the oracle");
    assert!(compared >= 150, "only {compared}");
}

#[test]
fn the_aws_capture_is_one_session() {
    let Some(corpus) = host::corpus() else { return };
    let records = records(&corpus.join("vxlan/aws-traffic-mirror.pcap"));
    assert_eq!(records.len(), 100);
    for record in &records {
        let (udp, inner) = verdict(&record.bytes, 4789).unwrap();
        assert_eq!(udp.source, IpAddr::from([172, 31, 0, 238]));
        assert_eq!(inner.vni.get(), 5_569_041);
        assert!(!inner.reserved_bits);
    }
}

/// A VXLAN frame as tshark dissects it.
#[derive(Debug, PartialEq, Eq)]
struct Dissected {
    destination_port: u16,
    vni: u32,
    inner: Vec<u8>,
}

/// Returns the first of a layer that may occur more than once: tshark then gives a list.
fn first<'a>(layers: &'a Value, name: &str) -> &'a Value {
    match &layers[name] {
        Value::Array(list) if list.first().is_some_and(|first| first.is_array() || first.is_object()) => &list[0],
        one => one,
    }
}

/// Asks tshark what it finds in each frame: the outermost VXLAN header, and the bytes from the
/// second Ethernet header to where the outer UDP length ends.
fn dissect(path: &Path, port: u16) -> Vec<Option<Dissected>> {
    let output = Command::new("tshark")
        .args(["-n", "-T", "json", "-x", "--no-duplicate-keys", "-J", "eth udp vxlan"])
        .args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"])
        .args(["-d", &format!("udp.port=={port},vxlan"), "-r"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packets: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    packets
        .iter()
        .map(|packet| {
            let layers = &packet["_source"]["layers"];
            let number = |value: &Value| -> usize { value.as_str().unwrap().parse().unwrap() };
            let position = |raw: &Value| raw[1].as_u64().unwrap() as usize;
            let vxlan = first(layers, "vxlan");
            let ethernet = layers["eth_raw"].as_array()?.get(1)?;
            let (udp, udp_raw) = (first(layers, "udp"), first(layers, "udp_raw"));
            if vxlan.is_null() || !ethernet.is_array() {
                return None;
            }
            let frame: Vec<u8> = layers["frame_raw"][0]
                .as_str()
                .unwrap()
                .as_bytes()
                .chunks(2)
                .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
                .collect();
            let end = position(udp_raw) + number(&udp["udp.length"]);
            Some(Dissected {
                destination_port: number(&udp["udp.dstport"]) as u16,
                vni: number(&vxlan["vxlan.vni"]) as u32,
                // A UDP length beyond the frame is the whole datagram's in a first fragment: tshark
                // dissects that.
                inner: frame.get(position(ethernet)..end)?.to_vec(),
            })
        })
        .collect()
}

#[test]
fn corpus_agrees_with_tshark_byte_for_byte() {
    let Some(corpus) = host::corpus() else { return };
    if !tshark() {
        return;
    }
    for path in [captures(&corpus.join("vxlan")), captures(&corpus.join("mixed"))].concat() {
        let port = if stem(&path).ends_with("8472") { 8472 } else { 4789 };
        let (records, dissected) = (records(&path), dissect(&path, port));
        assert_eq!(records.len(), dissected.len(), "{}", stem(&path));
        let mut compared = 0;
        for (index, (record, dissected)) in records.iter().zip(dissected).enumerate() {
            // tshark goes by either port, a receiver by the one that datagrams are sent to.
            let expected = dissected.filter(|dissected| dissected.destination_port == port);
            let found = verdict(&record.bytes, port).ok().map(|(udp, inner)| Dissected {
                destination_port: udp.destination_port,
                vni: inner.vni.get(),
                inner: inner.frame.to_vec(),
            });
            assert_eq!(found, expected, "{} frame {}", stem(&path), index + 1);
            compared += usize::from(found.is_some());
        }
        println!("{}: {compared} of {} frames", stem(&path), records.len());
        assert!(compared > 0, "{}", stem(&path));
    }
}

#[test]
fn fixtures_agree_with_tshark_byte_for_byte() {
    if !tshark() {
        return;
    }
    for path in captures(&fixtures().join("outer")) {
        for (index, (record, dissected)) in records(&path).iter().zip(dissect(&path, 4789)).enumerate() {
            // tshark dissects some frames that a receiver must not, such as those with the I flag
            // clear.
            let Ok((udp, inner)) = verdict(&record.bytes, 4789) else { continue };
            let found =
                Dissected { destination_port: udp.destination_port, vni: inner.vni.get(), inner: inner.frame.to_vec() };
            assert_eq!(Some(found), dissected, "{} frame {}", stem(&path), index + 1);
        }
    }
}

/// A frame of a tunnel as tshark dissects it: what is inside, to where the outer packet ends, and
/// the number of the network or session that the tunnel's header has, where it has one.
#[derive(Debug, PartialEq, Eq)]
struct Inside {
    number: Option<u64>,
    inner: Vec<u8>,
}

impl Inside {
    fn of(inner: &Decapsulated<'_>) -> Self {
        let number = match (inner.encapsulation, inner.scope) {
            (Encapsulation::Erspan, scope) => scope.map(|Scope(scope)| scope),
            (Encapsulation::Gre | Encapsulation::Nvgre, _) => None,
            _ => Some(inner.vni.get().into()),
        };
        Self { number, inner: inner.frame.to_vec() }
    }
}

/// Asks tshark what is inside the outermost tunnel of each frame.
fn dissect_tunnels(path: &Path) -> Vec<Option<Inside>> {
    let output = Command::new("tshark")
        .args(["-n", "-T", "json", "-x", "--no-duplicate-keys"])
        .args(["-J", "eth ip ipv6 arp udp geneve vxlan gre erspan", "-o", "ip.defragment:FALSE"])
        .args(["-d", "udp.port==8472,vxlan", "-r"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packets: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    packets.iter().map(|packet| inside(&packet["_source"]["layers"])).collect()
}

fn inside(layers: &Value) -> Option<Inside> {
    // The places of all layers of a name.
    let places = |name: &str| -> Vec<usize> {
        let raw = &layers[format!("{name}_raw")];
        match raw.as_array().map(Vec::as_slice) {
            None => Vec::new(),
            Some([Value::Array(_), ..]) => {
                raw.as_array().unwrap().iter().map(|one| one[1].as_u64().unwrap() as usize).collect()
            }
            Some(_) => vec![raw[1].as_u64().unwrap() as usize],
        }
    };
    let number = |value: &Value| -> Option<u64> {
        let text = value.as_str()?;
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
    };
    let tunnel = ["geneve", "vxlan", "gre"].into_iter().flat_map(places).min()?;
    let inner = ["eth", "ip", "ipv6", "arp"].into_iter().flat_map(places).filter(|place| *place > tunnel).min()?;
    let udp = places("udp").into_iter().min().filter(|place| *place < tunnel);
    let end = match udp {
        Some(udp) => udp + number(&first(layers, "udp")["udp.length"])? as usize,
        None => places("ip").into_iter().min()? + number(&first(layers, "ip")["ip.len"])? as usize,
    };
    let digits = layers["frame_raw"][0].as_str().unwrap().as_bytes().chunks(2);
    let frame: Vec<u8> =
        digits.map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()).collect();
    let number = number(&first(layers, "geneve")["geneve.vni"])
        .or_else(|| number(&first(layers, "vxlan")["vxlan.vni"]))
        .or_else(|| number(&first(layers, "erspan")["erspan.spanid"]));
    Some(Inside { number, inner: frame.get(inner..end.min(frame.len()))?.to_vec() })
}

/// Takes the outermost tunnel off a frame: by its UDP port, or off an IP packet of GRE. There is
/// nothing where it has none.
fn unwrapped(frame: &[u8]) -> Option<Result<Decapsulated<'_>, DropReason>> {
    Some(match outer::udp(frame) {
        Ok(udp) => {
            let encapsulation = Encapsulation::of_port(udp.destination_port)?;
            encapsulation.decapsulate(udp.payload, udp.payload.len())
        }
        Err(OuterError::NotUdp) => {
            let packet = etherparse::LaxSlicedPacket::from_ethernet(frame).ok()?;
            let payload = packet.net.as_ref()?.ip_payload_ref().filter(|ip| ip.ip_number.0 == 47)?.payload;
            Encapsulation::Gre.decapsulate(payload, payload.len())
        }
        Err(_) => return None,
    })
}

#[test]
fn other_tunnels_agree_with_tshark_byte_for_byte() {
    let Some(corpus) = host::corpus() else { return };
    if !tshark() {
        return;
    }
    let folders = ["geneve", "gpe", "erspan", "gre"].map(|folder| captures(&corpus.join(folder)));
    let mut total = 0;
    for path in folders.concat() {
        let (records, dissected) = (records(&path), dissect_tunnels(&path));
        assert_eq!(records.len(), dissected.len(), "{}", stem(&path));
        let mut compared = 0;
        for (index, (record, dissected)) in records.iter().zip(dissected).enumerate() {
            let found = unwrapped(&record.bytes).and_then(Result::ok).map(|inner| Inside::of(&inner));
            assert_eq!(found, dissected, "{} frame {}", stem(&path), index + 1);
            compared += usize::from(found.is_some());
        }
        println!("{}: {compared} of {} frames", stem(&path), records.len());
        total += compared;
    }
    assert!(total >= 380, "only {total}");
}

/// Asks tshark what is inside the wrap of each frame that was sent to a mirror's receiver.
fn wrapped(folder: &str, path: &Path) -> Vec<Option<Vec<u8>>> {
    if folder != "vxlan" {
        return dissect_tunnels(path).into_iter().map(|found| Some(found?.inner)).collect();
    }
    let port = if stem(path).ends_with("8472") { 8472 } else { 4789 };
    let found = dissect(path, port).into_iter();
    // tshark goes by either port.
    found.map(|found| Some(found.filter(|found| found.destination_port == port)?.inner)).collect()
}

#[test]
fn decap_writes_what_tshark_finds_inside_byte_for_byte() {
    let Some(corpus) = host::corpus() else { return };
    if !tshark() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcap");
    let (mut total, mut bare) = (0, 0);
    for folder in ["vxlan", "geneve", "gpe", "erspan", "gre"] {
        for path in captures(&corpus.join(folder)) {
            let decap = Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("decap").arg(&path).arg("-o").arg(&out).output();
            let decap = decap.unwrap();
            assert!(decap.status.success(), "{}: {}", stem(&path), String::from_utf8_lossy(&decap.stderr));
            let (outer, inside) = (records(&path), wrapped(folder, &path));
            assert_eq!(outer.len(), inside.len(), "{}", stem(&path));
            let expected = outer.iter().zip(inside).filter_map(|(outer, inner)| Some((outer.time, inner?)));
            let (expected, found) = (expected.collect::<Vec<_>>(), records(&out));
            assert_eq!(found.len(), expected.len(), "{}", stem(&path));
            for (index, (found, (time, inner))) in found.iter().zip(&expected).enumerate() {
                let place = format!("{} inner frame {}", stem(&path), index + 1);
                assert_eq!((found.time, found.orig_len as usize), (*time, found.bytes.len()), "{place}");
                // A packet that was wrapped without an Ethernet header gets one.
                let header = found.bytes.len().saturating_sub(inner.len());
                if header > 0 {
                    let ethertype = match inner[0] >> 4 {
                        4 => [0x08, 0x00],
                        6 => [0x86, 0xdd],
                        _ => [0x08, 0x06],
                    };
                    assert!(header == 14 && found.bytes[0] & 3 == 2 && found.bytes[12..14] == ethertype, "{place}");
                    bare += 1;
                }
                assert!(found.bytes[header..] == inner[..], "{place}");
            }
            total += found.len();
        }
    }
    println!("{total} frames, of which {bare} have no Ethernet header");
    assert!(total >= 550 && bare >= 50, "only {total}, of which {bare} have no Ethernet header");
}

#[test]
fn fixtures_of_other_tunnels_yield_what_is_expected() {
    let expected = fs::read_to_string(fixtures().join("tunnels/expected.tsv")).unwrap();
    let mut frames: BTreeMap<&str, std::vec::IntoIter<Record>> = BTreeMap::new();
    for line in expected.lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let of_capture = frames
            .entry(fields[0])
            .or_insert_with(|| records(&fixtures().join(format!("tunnels/{}.pcap", fields[0]))).into_iter());
        let frame = of_capture.next().unwrap().bytes;
        let found = match unwrapped(&frame).unwrap() {
            Err(reason) => [reason.label(), "", "", "", "", "", "", ""].map(str::to_owned),
            Ok(inner) => {
                let from = inner.frame.as_ptr() as usize - frame.as_ptr() as usize;
                [
                    "inner".to_owned(),
                    inner.encapsulation.label().to_owned(),
                    inner.source.map_or(outer::udp(&frame).unwrap().source, address::in_packet).to_string(),
                    inner.scope.map(|scope| scope.to_string()).unwrap_or_default(),
                    inner.vni.to_string(),
                    inner.bare.map_or("frame".to_owned(), |ethertype| format!("{ethertype:#06x}")),
                    from.to_string(),
                    (from + inner.frame.len()).to_string(),
                ]
            }
        };
        assert_eq!(found, fields[2..], "{} frame {}", fields[0], fields[1]);
    }
    assert!(frames.values_mut().all(|rest| rest.next().is_none()), "frames that nothing is expected of");
    assert_eq!(frames.len(), captures(&fixtures().join("tunnels")).len());
}

/// Returns frames of the fixtures, and those that the fuzzer's target `frames` kept, each also with
/// a few bytes changed behind the addresses: in every run the same.
fn changed_frames() -> Vec<Vec<u8>> {
    let folders = ["outer", "tunnels"].map(|folder| captures(&fixtures().join(folder)));
    let mut frames: Vec<Vec<u8>> =
        folders.concat().iter().flat_map(|path| records(path)).map(|one| one.bytes).collect();
    let kept = fs::read(fixtures().join("../fuzz/kept/frames")).unwrap();
    let mut rest = kept.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (input, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        // The first byte says that it is Ethernet.
        frames.extend(input.strip_prefix(&[0]).map(<[u8]>::to_vec));
        rest = behind;
    }
    frames.retain(|frame| frame.len() < 1500);
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut changed = frames.clone();
    for mut frame in frames.iter().cycle().take(3_000).filter(|frame| frame.len() > 20).cloned() {
        for _ in 0..=random(3) {
            let at = 12 + random((frame.len() - 12).min(80));
            frame[at] = [0, 1, 0xff, random(256) as u8, frame[at] ^ 1 << random(8)][random(5)];
        }
        changed.push(frame);
    }
    changed
}

#[test]
fn changed_frames_agree_with_tshark_byte_for_byte() {
    if !tshark() {
        return;
    }
    let frames = changed_frames();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut capture = pcap::file_header(LinkType::Ethernet, 262_144).to_vec();
    for frame in &frames {
        pcap::push(&mut capture, Timestamp::from_ns(1), frame, frame.len() as u32);
    }
    fs::write(file.path(), capture).unwrap();
    // tshark does not know VXLAN-GPE without its flag or TZSP, and takes one of two wraps off.
    let judged = [Encapsulation::Geneve, Encapsulation::Gre, Encapsulation::Nvgre, Encapsulation::Vxlan];
    let mut compared = 0;
    for (index, (frame, dissected)) in frames.iter().zip(dissect_tunnels(file.path())).enumerate() {
        let Some(Ok(inner)) = unwrapped(frame) else { continue };
        if inner.source.is_none() && judged.contains(&inner.encapsulation) {
            assert_eq!(Some(Inside::of(&inner)), dissected, "frame {index}: {}", frame.escape_ascii());
            compared += 1;
        }
    }
    println!("{compared} of {} changed frames", frames.len());
    assert!(compared >= 1000, "only {compared}");
}
