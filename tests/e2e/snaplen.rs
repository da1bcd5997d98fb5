//! The program in the kernel keeps as much of a frame as is asked for, also from a reload on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::captures::{self, Record};
use crate::configuration::patient;
use crate::need;
use crate::netns::{Ip, Pair};
use crate::process::eventually;
use crate::sensor::Setup;
use crate::stream::{Stream, frame};

const VNIS: u32 = 2;
const RATE: u32 = 20_000;
/// The program at both places, and redirecting.
const WAYS: [(&str, &str); 3] = [("attach = \"xdp\"", ""), ("attach = \"tc\"", ""), ("", REDIRECTED)];
const REDIRECTED: &str = "[output.mirror]\nkind = \"tap\"\ninterface = \"mirror0\"\nmode = \"redirect\"\n";

/// Starts a sensor and a stream. `steps` gets what reloads with other lines for the files and other
/// text behind. Returns the records of all frames, and how many were sent.
fn records(directory: &Path, way: (&str, &str), steps: impl Fn(&dyn Fn(u32, &str))) -> (Vec<Record>, u32) {
    let pair = Pair::new(1600);
    let (file, evidence) = (directory.join("vxtap.toml"), directory.join("evidence"));
    let write = |snaplen: u32, more: &str| {
        let text = format!(
            "[receive]\nsource = \"bpf\"\ninterface = \"eth0\"\nworkers = 2\n{}\n{}\n[delivery]\n\
             flush = \"100ms\"\n{}[output.evidence]\nkind = \"pcap\"\nrotate_time = \"3000d\"\nsnaplen = {snaplen}\n\
             directory = {evidence:?}\n{more}",
            patient("bpf"),
            way.0,
            way.1
        );
        fs::write(&file, text).unwrap();
    };
    write(100, "");
    let sensor = Setup::new(&pair.sensor).configured(&file).start();
    let stream = Stream::start(&pair.sender, pair.target(Ip::V4), VNIS, RATE);
    eventually("frames come", || captures::files(&evidence).len() == 2);
    steps(&|snaplen, more| {
        write(snaplen, more);
        sensor.reload("SIGUSR2: reloaded ");
        let before = stream.sent();
        eventually("frames go on", || stream.sent() > before + RATE / 50);
    });
    let sent = stream.end();
    let ended = sensor.stop();
    ended.assert_received(&pair, sent);
    ended.ledger.assert_output_closes("evidence");
    (captures::files(&evidence).iter().flat_map(|path| captures::read(path)).collect(), sent)
}

fn number(record: &Record) -> u32 {
    u32::from_be_bytes(record.frame[42..46].try_into().unwrap())
}

#[test]
fn each_frame_is_as_long_as_was_asked_for_before_or_after() {
    if !need::programs(&[]) {
        return;
    }
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let (records, sent) = records(directory.path(), way, |reload| {
            (0..20).for_each(|round| reload([400, 100][round % 2], ""));
        });
        let mut lengths = BTreeSet::new();
        for record in &records {
            let whole = frame(number(record));
            let kept = record.frame.len();
            assert!(kept == whole.len().min(100) || kept == whole.len().min(400), "{way:?}: {kept} bytes");
            assert_eq!((record.orig_len as usize, &record.frame[..]), (whole.len(), &whole[..kept]), "{way:?}");
            lengths.insert(kept);
        }
        assert!(lengths.contains(&400) && records.iter().any(|r| r.frame.len() == 100 && r.orig_len > 400), "{way:?}");
        assert_eq!(records.iter().map(number).collect::<BTreeSet<_>>(), (0..sent).collect(), "{way:?}");
    }
}

#[test]
fn what_comes_to_read_more_of_a_frame_has_more_of_each() {
    const FAR: usize = 300;
    if !need::programs(&[]) {
        return;
    }
    // True of each frame that is so long, if enough of it is there.
    let filter = format!("[[session]]\nfilter = \"ether[{FAR}] >= 0\"\n");
    for way in &WAYS[..2] {
        let directory = tempfile::tempdir().unwrap();
        let (records, sent) = records(directory.path(), *way, |reload| {
            (0..20).for_each(|round| reload(100, [&filter, ""][round % 2]));
        });
        let got: BTreeSet<u32> = records.iter().map(number).collect();
        let lost = (0..sent).find(|number| frame(*number).len() > FAR && !got.contains(number));
        assert_eq!(lost, None, "{way:?}: {} of {sent}", got.len());
        assert!(got.len() < sent as usize, "{way:?}");
    }
}
