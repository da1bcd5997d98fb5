//! Whatever a capture is, every frame of it is accounted for.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use vxtap::console::Console;
use vxtap::decap::{self, DecapPlan, Input, Others, Timestamps};
use vxtap::record::read::CaptureReader;

use crate::{fixture, host, pcap, sections, wrapped};

/// Strips a file within this process, for the summary alone. Returns whether every frame is
/// accounted for.
fn closes(path: &Path, others: Others) -> bool {
    let summary = DecapPlan::summary(vec![Input::File(path.to_owned())]);
    let plan = DecapPlan { others, depth: 8, timestamps: Timestamps::Switch, ..summary };
    let report = decap::run(&plan, &Arc::default(), &Console::default()).unwrap();
    assert!(report.failures.is_empty(), "{}: {:?}", path.display(), report.failures);
    // Both forms can be written.
    assert!(serde_json::from_str::<Value>(&report.json().unwrap()).is_ok() && !report.to_string().is_empty());
    report.closes()
}

#[test]
fn captures_that_broke_others_end_with_every_frame_accounted_for() {
    let Some(corpus) = host::corpus() else { return };
    let directory = tempfile::tempdir().unwrap();
    let wrapped_file = directory.path().join("wrapped.pcap");
    let mut seen = 0;
    for folder in ["hostile", "mixed", "geneve", "gpe", "gre", "erspan", "vxlan", "inner"] {
        for entry in fs::read_dir(corpus.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(closes(&path, Others::Drop) && closes(&path, Others::Stop), "{}", path.display());
            // The same as inner frames.
            let Ok(mut reader) = CaptureReader::of_any_link_type(File::open(&path).unwrap(), "x") else { continue };
            let mut frames = Vec::new();
            while let Ok(Some(frame)) = reader.next_frame() {
                if frame.data.len() < 60_000 && frames.len() < 1000 {
                    frames.push(wrapped(frame.data, 9));
                }
            }
            fs::write(&wrapped_file, pcap(&frames)).unwrap();
            assert!(closes(&wrapped_file, Others::Drop), "{}, wrapped", path.display());
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
}

/// Bytes of a capture that is one, up to the changes that are made in it.
fn captures() -> impl Strategy<Value = Vec<u8>> {
    let kinds = (0..4usize).prop_map(|kind| match kind {
        0 => fs::read(fixture("outer/fragments.pcap")).unwrap(),
        1 => fs::read(fixture("outer/vlan.pcap")).unwrap(),
        2 => sections().0,
        _ => pcap(&[wrapped(&wrapped(&[3; 60], 2), 1), wrapped(&[3; 20], 1)]),
    });
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (kinds, changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut bytes, changes, cut, is_cut)| {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the bytes, it ends, and every frame that was read is accounted for.
    #[test]
    fn any_input_ends_with_every_frame_accounted_for(bytes in captures()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        for others in [Others::Drop, Others::Pass, Others::Stop] {
            prop_assert!(closes(file.path(), others));
        }
    }
}
