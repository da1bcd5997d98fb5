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
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]
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
use vxtap::wire::{
    Decapsulated,
    inner::original_length,
    outer::{self, Udp},
    vxlan,
};

#[path = "golden/erspan.rs"]
mod erspan;
#[path = "shared/host.rs"]
mod host;
#[path = "../examples/make_fixtures/main.rs"]
mod make_fixtures;
#[path = "golden/tunnels.rs"]
mod tunnels;

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
