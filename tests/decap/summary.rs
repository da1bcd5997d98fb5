//! The summary says what is so, and options that do nothing are refused.

use super::*;

/// Runs the program on a capture of these frames, and returns what it said and what came out.
fn said(frames: &[Vec<u8>], more: &[&str]) -> (Output, String) {
    let output = run(&[&["-"][..], more].concat(), &pcap(frames));
    let text = [&output.stdout[..], &output.stderr].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

/// Cuts a frame behind an IPv4 header into two fragments, the first with so many bytes.
fn fragments(frame: &[u8], first: usize) -> [Vec<u8>; 2] {
    let (headers, rest) = frame.split_at(34);
    let piece = |bytes: &[u8], place: u16| {
        let mut piece = [headers, bytes].concat();
        piece[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
        piece[20..22].copy_from_slice(&place.to_be_bytes());
        piece
    };
    [piece(&rest[..first], 0x2000), piece(&rest[first..], first as u16 / 8)]
}

#[test]
fn what_is_no_whole_datagram_is_lost() {
    let whole = wrapped(&[3; 60], 7);
    let [first, last] = fragments(&whole, 64);
    let (output, text) = said(&[whole.clone(), whole.clone(), whole.clone(), first.clone()], &[]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("LOST 25 %: 1 frame without a whole datagram (outer_fragment)\n"), "{text}");
    assert!(text.contains("LOST 25 %, and the ledger closes") && !text.contains("nothing was lost"), "{text}");
    let (_, text) = said(&[whole.clone(), first.clone(), last], &[]);
    assert!(text.contains("nothing was lost, and the ledger closes"), "{text}");

    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    fs::write(&input, pcap(&[whole, first])).unwrap();
    let sensor = |ledger: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
        command.args(["run", "--no-control", "--ledger", ledger, "--write"]).arg(directory.path().join(ledger));
        let output = command.arg("--source").arg(format!("file:{}", input.display())).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        [&output.stdout[..], &output.stderr].concat()
    };
    for ledger in ["text", "json"] {
        let text = String::from_utf8(sensor(ledger)).unwrap();
        assert!(text.contains("LOST 50 %: 1 frame without a whole datagram (outer_fragment)"), "{text}");
        assert!(!text.contains("nothing was lost"), "{text}");
    }
}

#[test]
fn fragments_in_front_of_the_first_are_of_no_mirror_if_that_is_of_none() {
    let [first, last] = fragments(&bystander(), 64);
    for (order, kept) in [([&first, &last], 2), ([&last, &first], 1)] {
        let mut input = tempfile::NamedTempFile::new().unwrap();
        input.write_all(&pcap(&order.map(Vec::clone))).unwrap();
        let (code, summary, found) = strip(input.path(), &["--others", "pass"]);
        assert_closes(&summary);
        assert_eq!((code, found.len(), &summary["frames"]["passed"]), (0, kept, &kept.into()));
        assert_eq!(summary["frames"]["others"], serde_json::json!({"no_tunnel": 2}));
        assert_eq!(summary["frames"]["outer"], serde_json::json!({}));
    }
}

/// Makes a datagram to a port that is none of a mirror's.
fn bystander() -> Vec<u8> {
    let mut bystander = wrapped(&[3; 60], 7);
    bystander[36..38].copy_from_slice(&53u16.to_be_bytes());
    bystander
}

#[test]
fn a_fragment_without_the_first_is_of_nobody_knows_what() {
    let whole = wrapped(&[3; 60], 7);
    let [first, last] = fragments(&whole, 64);
    let [_, others] = fragments(&bystander(), 64);
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let unknown = "unknown: 1 fragment whose first piece is not here\n";
    for (frames, unknowns, lost, headline) in [
        // Of a mirror or not, the last piece alone is the same.
        (vec![whole.clone(), others], 1, serde_json::json!({}), format!("nothing is known to be lost; {unknown}")),
        (vec![whole.clone(), last], 1, serde_json::json!({}), format!("nothing is known to be lost; {unknown}")),
        (
            vec![whole.clone(), first],
            0,
            serde_json::json!({"outer_fragment": 1}),
            "LOST 50 %: 1 frame without a whole datagram (outer_fragment)\n".into(),
        ),
    ] {
        fs::write(&input, pcap(&frames)).unwrap();
        let (code, summary, found) = strip(&input, &["--others", "pass"]);
        assert_closes(&summary);
        assert_eq!((code, found.len(), &summary["frames"]["unknown"]), (0, 1, &unknowns.into()), "{summary}");
        assert_eq!((&summary["frames"]["outer"], &summary["frames"]["others"]), (&lost, &serde_json::json!({})));
        let (_, text) = said(&frames, &[]);
        assert!(text.contains(&headline) && !text.contains("nothing was lost"), "{text}");
        assert_eq!(text.contains("fragments whose first piece, which has the port, is not here"), unknowns > 0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
        command.args(["run", "--no-control", "--write"]).arg(tempfile::tempdir_in(directory.path()).unwrap().path());
        let output = command.arg("--source").arg(format!("file:{}", input.display())).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&headline) && !text.contains("nothing was lost"), "{text}");
        assert_eq!(log.contains("; unknown 1, fragments whose first piece is not in it"), unknowns > 0, "{log}");
    }
}

#[test]
fn fragments_that_the_capture_cut_are_of_what_the_first_is_of() {
    let [of_mirror, of_other] = [wrapped(&[3; 60], 7), bystander()].map(|datagram| {
        let pieces = fragments(&datagram, 64);
        // The ports are kept of the first, and no more of the last.
        pieces.map(|piece| piece[..42].to_vec())
    });
    for (frames, name, wanted) in [
        (&of_mirror[..], "outer", serde_json::json!({"outer_fragment": 2})),
        (&of_other[..], "others", serde_json::json!({"no_tunnel": 2})),
        (&of_other[1..], "unknown", 1.into()),
    ] {
        for order in [frames.to_vec(), frames.iter().rev().cloned().collect()] {
            let mut input = tempfile::NamedTempFile::new().unwrap();
            input.write_all(&pcap(&order)).unwrap();
            let (code, summary, _) = strip(input.path(), &[]);
            assert_closes(&summary);
            assert_eq!((code, &summary["frames"][name]), (0, &wanted), "{summary}");
        }
    }
}

#[test]
fn the_way_that_an_outer_wrap_tells_goes_for_what_is_within() {
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (directory.path().join("in.pcap"), directory.path().join("out.pcapng"));
    // Azure's tunnel of what comes for the instance.
    let mut azure = wrapped(&wrapped(&[3; 60], 7), 801);
    azure[36..38].copy_from_slice(&10_801u16.to_be_bytes());
    fs::write(&input, pcap(&[azure])).unwrap();
    for depth in ["1", "2"] {
        let arguments = [input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--depth", depth];
        assert_eq!(run(&arguments, &[]).status.code(), Some(0));
        let mut reader = PcapNgReader::new(File::open(&out).unwrap()).unwrap();
        let mut flags = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap().0 {
                flags.extend(packet.options.iter().filter_map(|option| match option {
                    EnhancedPacketOption::Flags(flags) => Some(*flags),
                    _ => None,
                }));
            }
        }
        assert_eq!(flags, [1], "inbound, with --depth {depth}");
    }
}

#[test]
fn what_is_advised_can_be_typed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, []).unwrap();
    for (into, code, wanted) in [(file, 1, "name another with --into"), (directory.path().join("new"), 0, "captures")] {
        let (output, text) = said(&[wrapped(&[3; 60], 7)], &["--into", into.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(wanted), "{text}");
        for none in ["--write", "--min-free", "--keep-", "removed"] {
            assert!(!text.contains(none), "{none}: {text}");
        }
    }
}

#[test]
fn the_summary_too_names_options_that_there_are() {
    let sessions: Vec<_> = (0..40).map(|vni| wrapped(&[3; 60], vni)).collect();
    let (_, text) = said(&sessions, &[]);
    assert!(text.contains("  ... 8 more; --json lists all") && !text.contains("--ledger"), "{text}");
}

#[test]
fn options_that_do_nothing_are_refused() {
    for (options, why) in [
        ("--format pcapng", "nothing is written without -o OUT or --into DIR"),
        ("--compress zstd", "nothing is written without -o OUT or --into DIR"),
        ("--bare-ip ethernet", "nothing is written without -o OUT or --into DIR"),
        ("--to tap:mirror0 --bare-ip raw", "--bare-ip"),
        ("-o x.pcap.zst --compress lz4", "another compression than --compress"),
        ("-o x.pcap.lz4 --compress zstd:9", "another compression than --compress"),
    ] {
        let output = run(&[&["in.pcap"][..], &options.split(' ').collect::<Vec<_>>()].concat(), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {said}");
        assert!(said.contains(why), "{options}: {said}");
    }
    assert!(!Path::new("x.pcap.zst").exists() && !Path::new("x.pcap.lz4").exists());
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("x.pcap.zst");
    let (output, text) = said(&[], &["-o", out.to_str().unwrap(), "--compress", "zstd:9"]);
    assert_eq!(output.status.code(), Some(0), "a level is no other compression: {text}");
}

#[test]
fn of_frames_of_no_mirror_is_said_what_became_of_them() {
    let ethernet = [vec![2u8; 60]];
    let row = |frames: &[Vec<u8>], more: &[&str]| {
        let (_, text) = said(frames, more);
        let row = text.lines().find(|line| line.contains("not of a mirror")).unwrap();
        row.split_once("  1  ").unwrap().1.to_owned()
    };
    assert_eq!(row(&ethernet, &[]), "not_ip 1");
    assert_eq!(row(&ethernet, &["--others", "pass"]), "not_ip 1");
    assert_eq!(row(&ethernet, &["-o", "/dev/null"]), "not_ip 1 (left out; --others pass keeps those of Ethernet)");
    assert_eq!(row(&ethernet, &["-o", "/dev/null", "--others", "pass"]), "not_ip 1 (kept as they are)");
    // Of another link type.
    let mut strange = pcap(&[vec![2; 60]]);
    strange[20] = 105;
    let output = run(&["-", "-o", "/dev/null", "--others", "pass"], &strange);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("link_type 1 (kept, but link types other than Ethernet") && !text.contains("--others"),
        "{text}"
    );
}

#[test]
fn rows_say_what_there_is() {
    let (_, text) = said(&[wrapped(&wrapped(&[3; 60], 7), 8), wrapped(&[3; 60], 7), erspan(5)], &["--depth", "2"]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(&format!("  {name} "))).unwrap_or_default();
    assert!(row("with 1 wrap").ends_with(" 2") && row("with 2 wraps").ends_with(" 1"), "{text}");
    assert!(row("vxlan").ends_with("120 bytes of 1 VNI"), "{text}");
    assert!(row("erspan").ends_with("60 bytes"), "{text}");
}

#[test]
fn what_erspan_carries_that_is_no_frame_counts_as_of_erspan() {
    // Type III, of a frame type that there is not.
    let header = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 7 << 2, 0];
    let mut frame = erspan(1);
    frame.splice(34..50, header);
    frame[17] += header.len() as u8 - 16;
    let (_, text) = said(&[frame], &[]);
    let row = text.lines().find(|line| line.starts_with("  erspan ")).unwrap_or_default();
    assert!(row.ends_with("without a frame: unknown_inner_protocol 1") && !text.contains("  gre "), "{text}");
}
