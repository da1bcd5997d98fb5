//! A file of this process that could not be completed is salvaged, and holds less than was written.

use super::*;

/// A pcap file of so many frames of four bytes.
fn pcap_of(frames: u8) -> Vec<u8> {
    let mut file = pcap::file_header(crate::wire::LinkType::Ethernet, 262_144).to_vec();
    for number in 0..frames {
        file.extend([[number, 0, 0, 0], [0; 4], [4, 0, 0, 0], [4, 0, 0, 0], *b"abcd"].concat());
    }
    file
}

/// Salvages a file that is said to have four frames in `written` bytes, and holds `found`. Returns
/// what is gone, the lines of losses, and the lengths of published captures.
fn salvaged(written: u64, found: &[u8]) -> (Vec<Gone>, Vec<String>, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = sensor(dir.path(), |_| ());
    let session = dir.path().join(SESSION);
    let names = Names::new(&session, SESSION, Timestamp::from_ns(0), 1, "pcap");
    fs::create_dir_all(&session).unwrap();
    fs::write(&names.part, vec![0; written as usize]).unwrap();
    let file = sensor.storage.status(&names.part).unwrap().unwrap().identity;
    let holds = Gone { session: names::parse_session(SESSION).flatten(), frames: 4, frame_bytes: 16 };
    // The archive looks at the length when it hears of the file, and somebody changes it then.
    sensor.storage.faults().append = Some(5);
    sensor.archive.salvage(Broken { names: names.clone(), file, written, holds, claim: None });
    thread::sleep(Duration::from_millis(300));
    let mut part = fs::OpenOptions::new().write(true).truncate(true).open(&names.part).unwrap();
    std::io::Write::write_all(&mut part, found).unwrap();
    sensor.storage.faults().append = None;
    sensor.archive.finish();
    let manifest = fs::read_to_string(dir.path().join(NAME)).unwrap();
    let lost = manifest.lines().filter(|line| line.contains("\"lost\"")).map(str::to_owned).collect();
    let captures = fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(mismatches(dir.path()).is_empty());
    (sensor.archive.gone().collect(), lost, captures)
}

#[test]
fn a_command_is_not_owed_a_capture_that_has_a_line_and_was_removed_before_it_got_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = sensor(dir.path(), |plan| plan.on_publish = Some("true".into()));
    let session = dir.path().join(SESSION);
    let names = Names::new(&session, SESSION, Timestamp::from_ns(0), 1, "pcap");
    fs::create_dir_all(&session).unwrap();
    let whole = pcap_of(4);
    fs::write(&names.part, &whole).unwrap();
    let file = sensor.storage.status(&names.part).unwrap().unwrap().identity;
    let holds = Gone { session: names::parse_session(SESSION).flatten(), frames: 4, frame_bytes: 16 };
    sensor.storage.faults().rename = Some(libc::EIO);
    let written = whole.len() as u64;
    sensor.archive.salvage(Broken { names: names.clone(), file, written, holds, claim: None });
    let owed = dir.path().join("on-publish.jsonl");
    eventually(|| owed.exists());
    fs::remove_file(&names.part).unwrap();
    sensor.storage.faults().rename = None;
    sensor.archive.finish();
    assert_eq!(sensor.archive.gone().map(|gone| gone.frames).sum::<u64>(), 4);
    assert!(!owed.exists(), "nothing is left to do");
}

#[test]
fn frames_that_are_not_recovered_are_not_written() {
    let whole = pcap_of(4);
    let written = whole.len() as u64;
    let (gone, lost, captures) = salvaged(written, &whole);
    assert_eq!((gone, lost, captures), (vec![], vec![], vec![written]));
    // With one frame of four, with none, and with what is no capture.
    for (found, frames, length) in [(pcap_of(1), 1, Some(44)), (pcap_of(0), 0, None), (b"no capture".to_vec(), 0, None)]
    {
        let (gone, lost, captures) = salvaged(written, &found);
        let session = names::parse_session(SESSION).flatten();
        assert_eq!(gone, [Gone { session, frames: 4 - frames, frame_bytes: 16 - 4 * frames }]);
        assert!(matches!(&lost[..], [line] if line.contains(&format!("\"write_error\":{}", 4 - frames))), "{lost:?}");
        assert_eq!(captures, length.into_iter().collect::<Vec<u64>>(), "without zeros behind it");
    }
}
