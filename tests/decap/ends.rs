//! What ends before the captures do says so, and leaves a file that can be read.

use super::*;

#[test]
fn a_file_that_cannot_grow_ends_with_its_last_whole_frame() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let frames: Vec<_> = (0..20_000).map(|n| wrapped(&vec![7; 200 + n % 500], 1)).collect();
    let (input, second) = (path("in.pcap"), path("second.pcap"));
    fs::write(&input, pcap(&frames)).unwrap();
    fs::write(&second, pcap(&frames[..3])).unwrap();
    for name in ["out.pcap", "out.pcapng"] {
        let out = path(name);
        let output = on_a_full_disk(&[&input, &second, "--json", "-o", &out]);
        assert_eq!(output.status.code(), Some(3));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let written = report["ledger"]["outputs"]["frames"]["written"].as_u64().unwrap();
        assert!(written > 1000 && (written as usize) < frames.len(), "{report:#}");
        let got = super::frames(&fs::read(&out).unwrap());
        assert_eq!(got.len() as u64, written, "{name}");
        assert!(got.iter().zip(0..).all(|((_, frame, _), n)| *frame == vec![7; 200 + n % 500]), "{name}");
        let unread = |at: usize| report["captures"][at]["unread"].as_str().unwrap();
        let read = report["captures"][0]["frames"].as_u64().unwrap();
        assert!(
            unread(0).ends_with(&format!("read up to frame {read} only: nothing more can be written")),
            "{report:#}"
        );
        assert!(unread(1).contains("up to frame 0 only"), "{report:#}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("in.pcap was read up to frame") && said.contains("second.pcap was"), "{said}");
    }
}

#[test]
fn an_interrupt_ends_a_stream_that_gives_nothing_and_says_how_far_it_was_read() {
    let mut child = begin(&["-", "-o", "-"], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    let frames: Vec<_> = (0..3).map(|n| wrapped(&[n; 60], 1)).collect();
    stdin.write_all(&pcap(&frames)).unwrap();
    // All that there is comes out before the rest is waited for.
    let mut came = vec![0; 24 + 3 * (16 + 60)];
    child.stdout.as_mut().unwrap().read_exact(&mut came).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{said}");
    assert!(said.contains("standard input was read up to frame 3 only: interrupted"), "{said}");
    assert!(said.contains("not to its end"), "{said}");
    drop(stdin);
}

#[test]
fn a_summary_that_cannot_be_written_is_a_failure() {
    for more in [&[][..], &["--json"]] {
        let mut child = begin(&[&["-"], more].concat(), File::create("/dev/full").unwrap());
        child.stdin.take().unwrap().write_all(&pcap(&[wrapped(&[3; 60], 7)])).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("cannot print the summary"), "{said}");
    }
}

#[test]
fn the_summary_is_not_where_the_frames_are() {
    for name in ["-", "/dev/stdout"] {
        let output = run(&["-", "-o", name], &pcap(&[wrapped(&[3; 60], 7)]));
        assert_eq!((output.status.code(), super::frames(&output.stdout).len()), (Some(0), 1), "{name}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("the ledger closes"), "{name}");
    }
}
