//! What is inside other tunnels than VXLAN, and what `vxtap decap` writes of all.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;
use vxtap::record::{Timestamp, pcap};
use vxtap::wire::{
    Decapsulated, DropReason, Encapsulation, LinkType, Scope, address,
    outer::{self, OuterError},
};

use super::{Record, captures, dissect, first, fixtures, host, records, stem, tshark};

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
