//! Packets without an Ethernet header are written as they came, where that is wanted.

use super::*;

/// Link type and bytes of a frame, and its length on the wire.
type Kind = (u16, Vec<u8>, u32);

const RAW: u16 = 101;

/// Runs the program on these captures into `out`, and returns the frames there.
fn kinds(inputs: &[PathBuf], out: &Path, more: &[&str]) -> Vec<Kind> {
    let mut arguments: Vec<&str> = inputs.iter().map(|path| path.to_str().unwrap()).collect();
    arguments.extend(["-o", out.to_str().unwrap()]);
    arguments.extend(more);
    let output = run(&arguments, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    read(out)
}

fn read(path: &Path) -> Vec<Kind> {
    let mut reader = CaptureReader::of_any_link_type(File::open(path).unwrap(), "what came out").unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        found.push((frame.link_type, frame.data.to_vec(), frame.orig_len));
    }
    found
}

/// Says whether the header of a frame was made up for a packet of IP.
fn is_made_up(frame: &[u8]) -> bool {
    let pair = [frame[0], frame[6]];
    (pair == [2, 6] || pair == [6, 2]) && frame[1..6] == frame[7..12] && matches!(&frame[12..14], [8, 0] | [0x86, 0xdd])
}

/// Returns what is to come out instead of frames with made-up headers.
fn bared(frames: Vec<Kind>) -> Vec<Kind> {
    let bare = |(link, frame, length): Kind| match is_made_up(&frame) {
        true => (RAW, frame[14..].to_vec(), length - 14),
        false => (link, frame, length),
    };
    frames.into_iter().map(bare).collect()
}

fn tunnels() -> Vec<PathBuf> {
    let names = ["geneve", "geneve-google", "gpe", "gre", "tzsp"];
    names.map(|name| fixture("tunnels").join(format!("{name}.pcap"))).to_vec()
}

#[test]
fn one_file_has_an_interface_for_each_kind_that_comes() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcapng");
    let wanted = bared(kinds(&tunnels(), &out, &[]));
    let found = kinds(&tunnels(), &out, &["--bare-ip", "raw"]);
    assert!(found == wanted);
    let count = |raw: bool| found.iter().filter(|(link, ..)| (*link == RAW) == raw).count();
    assert!(count(true) > 5 && count(false) > 5, "{} of {}", count(true), found.len());
}

#[test]
fn what_has_one_kind_has_one_link_type_that_tcpdump_reads() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcapng");
    let only = [fixture("tunnels").join("geneve-google.pcap")];
    let found = kinds(&only, &out, &["--bare-ip", "raw"]);
    assert!(!found.is_empty() && found.iter().all(|(link, ..)| *link == RAW));
    let Ok(shown) = Command::new("tcpdump").args(["-n", "-r"]).arg(&out).output() else { return };
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success() && said.contains("link-type RAW"), "{said}");
    let none = directory.path().join("none.pcapng");
    assert_eq!(kinds(&[fixture("inner/ipv4.pcap")], &none, &["--bare-ip", "raw"]), []);
    let Ok(shown) = Command::new("tcpdump").args(["-n", "-r"]).arg(&none).output() else { return };
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn a_directory_has_files_of_one_kind_each() {
    let directory = tempfile::tempdir().unwrap();
    let all = bared(kinds(&tunnels(), &directory.path().join("all.pcapng"), &[]));
    for format in ["pcap", "pcapng"] {
        let into = directory.path().join(format);
        let mut arguments = vec!["--into", into.to_str().unwrap(), "--bare-ip", "raw", "--format", format];
        let inputs = tunnels();
        arguments.extend(inputs.iter().map(|path| path.to_str().unwrap()));
        let output = run(&arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let mut found: Vec<Kind> = Vec::new();
        for session in fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            found.extend(fs::read_dir(session).unwrap().flat_map(|entry| read(&entry.unwrap().path())));
        }
        // Of a session with both kinds, packets have a header in classic pcap.
        let mut found = if format == "pcap" { bared(found) } else { found };
        let mut wanted = all.clone();
        found.sort();
        wanted.sort();
        assert!(found == wanted, "{format}");
        let verified = Command::new(env!("CARGO_BIN_EXE_vxtap")).arg("verify").arg(&into).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

#[test]
fn one_file_of_classic_pcap_is_refused() {
    for more in [&["-o", "x.pcap"][..], &["-o", "x.pcapng", "--format", "pcap-us"], &["-o", "-"]] {
        let output = run(&[&["in.pcap", "--bare-ip", "raw"][..], more].concat(), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--bare-ip raw needs pcapng with -o"), "{said}");
    }
    assert!(!Path::new("x.pcap").exists());
}

/// Returns link type and description of each interface of a file.
fn interfaces(path: &Path) -> Vec<(DataLink, String)> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    while reader.next_block().is_some() {}
    let described = |interface: &InterfaceDescriptionBlock<'_>| {
        let descriptions = interface.options.iter().filter_map(|option| match option {
            InterfaceDescriptionOption::IfDescription(text) => Some(text.to_string()),
            _ => None,
        });
        (interface.linktype, descriptions.collect())
    };
    reader.interfaces().iter().map(described).collect()
}

#[test]
fn one_file_says_which_headers_are_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pcapng");
    kinds(&tunnels(), &out, &[]);
    assert_eq!(interfaces(&out), [(DataLink::ETHERNET, "bare packets have a made-up Ethernet header".to_owned())]);
    kinds(&tunnels(), &out, &["--bare-ip", "raw"]);
    let mut found = interfaces(&out);
    found.sort_by_key(|(link, _)| u32::from(*link));
    let ethernet = "bare packets other than IP have a made-up Ethernet header";
    assert_eq!(found, [(DataLink::ETHERNET, ethernet.to_owned()), (DataLink::RAW, String::new())]);
}
