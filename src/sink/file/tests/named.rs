//! Sessions have names, which are in paths and in manifests and decide nothing.

use super::crash::{assert_hashed, copy, restart};
use super::*;
use crate::evidence::Algorithm;
use crate::route::policy::{Entry, Match, Policy, SessionPlan};
use crate::session::Label;

/// Makes a policy that calls the sessions of these VNIs so.
fn calling(names: &[(u32, &str)]) -> Arc<Policy> {
    let entries = names.iter().map(|(vni, name)| {
        let vnis = Some(Vni::new(*vni).into_iter().collect());
        let description = Some(format!("i-{vni}").into());
        let label = Label { name: Some((*name).into()), description, ..Label::default() };
        let plan = SessionPlan { label, ..SessionPlan::default() };
        Entry { sessions: Match { vnis, ..Match::default() }, plan }
    });
    Arc::new(Policy::new(entries.collect(), Vec::new()).unwrap())
}

fn call(rig: &mut Rig, names: &[(u32, &str)]) {
    let policy = calling(names);
    rig.table.adopt(Arc::clone(&policy));
    rig.sink.shared.registry.relabel(&policy);
}

/// Returns what the lines of the manifest say of captures: directory, session and name.
fn lines(dir: &Path) -> Vec<(String, u64, Option<String>)> {
    let text = fs::read_to_string(dir.join("manifest.jsonl")).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (directory, file) = line["path"].as_str().unwrap().split_once('/').unwrap();
        assert!(file.starts_with(&format!("{directory}_")), "{file}");
        let name = line.get("name").map(|name| name.as_str().unwrap().to_owned());
        (directory.to_owned(), line["session"]["vni"].as_u64().unwrap(), name)
    };
    text.lines().map(line).collect()
}

#[test]
fn files_are_named_after_the_session_and_go_on_under_its_next_name() {
    let mut rig = rig(|_| {});
    call(&mut rig, &[(7, "web-1"), (9, "db")]);
    rig.send(&[(7, 1, 100), (8, 2, 100), (9, 3, 100)]);
    rig.send(&[(7, 4, 100), (8, 5, 100), (9, 6, 100)]);
    rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    call(&mut rig, &[(7, "web-2"), (8, "web-1"), (10, "other")]);
    let open = |rig: &Rig| rig.sink.sessions.iter().flatten().filter(|files| files.open_bytes() > 0).count();
    assert_eq!(open(&rig), 3);
    rig.sink.tick(Instant::now(), Timestamp::now());
    assert_eq!(open(&rig), 0, "all are complete, for all are called otherwise");
    for time in [7, 10] {
        rig.send(&[(7, time, 100), (8, time + 1, 100), (9, time + 2, 100)]);
        rig.sink.cut();
    }
    // What changes no name ends no file.
    rig.send(&[(7, 13, 100)]);
    call(&mut rig, &[(7, "web-2"), (8, "web-1"), (10, "another")]);
    rig.sink.tick(Instant::now(), Timestamp::now());
    rig.send(&[(7, 14, 100)]);
    rig.sink.finish();
    let files = rig.files();
    let of = |directory: &str| {
        let inside = files.iter().filter(|(name, _)| name.split('/').next() == Some(directory));
        inside.map(|(_, times)| times.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("web-1_vni7_192.0.2.1"), [[1, 4]]);
    assert_eq!(of("web-2_vni7_192.0.2.1"), [vec![7], vec![10], vec![13, 14]]);
    assert_eq!(of("vni8_192.0.2.1"), [[2, 5]]);
    assert_eq!(of("web-1_vni8_192.0.2.1"), [[8], [11]]);
    assert_eq!(of("db_vni9_192.0.2.1"), [[3, 6]]);
    assert_eq!(of("vni9_192.0.2.1"), [[9], [12]]);
    assert_eq!(files.len(), 10);
    for (directory, vni, name) in lines(rig.dir.path()) {
        let wanted = directory.split_once("_vni").filter(|_| !directory.starts_with("vni"));
        assert_eq!(name.as_deref(), wanted.map(|(name, _)| name), "{directory}");
        assert!(directory.contains(&format!("vni{vni}_")), "{directory} {vni}");
    }
    assert_hashed(rig.dir.path(), |_| true, Some(Algorithm::Sha256));
}

#[test]
fn what_a_crash_left_of_a_named_session_is_salvaged_as_that_sessions() {
    let mut rig = rig(|plan| plan.format = Format::PcapNg);
    call(&mut rig, &[(7, "web-1")]);
    rig.send(&[(7, 1, 100), (8, 2, 100)]);
    rig.sink.sessions.iter_mut().flatten().for_each(|files| files.flush(&mut rig.sink.shared));
    let text = fs::read(part(rig.dir.path(), "web-1_vni7_192.0.2.1")).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("web-1_vni7_192.0.2.1") && text.contains("i-7: VXLAN mirror session of 192.0.2.1, VNI 7"));
    // The next run knows of no names.
    let again = restart(copy(rig.dir.path()), |_| {});
    assert_eq!(again.count(|end| &end.recovered), 2);
    let mut lines = lines(again.dir.path());
    lines.sort();
    let named = ("web-1_vni7_192.0.2.1".to_owned(), 7, Some("web-1".to_owned()));
    assert_eq!(lines, [("vni8_192.0.2.1".to_owned(), 8, None), named]);
    assert_hashed(again.dir.path(), |line| line.contains("recovered"), Some(Algorithm::Sha256));
    // The budget of a later run has them too.
    let mut last = restart(copy(again.dir.path()), |plan| plan.archive.budget.keep_files = Some(1));
    last.send(&[(9, 5, 100)]);
    last.sink.finish();
    let names: Vec<_> = last.files().into_iter().map(|(name, _)| name).collect();
    assert!(names.len() == 1 && names[0].starts_with("vni9_192.0.2.1/"), "{names:?}");
}

fn part(captures: &Path, directory: &str) -> PathBuf {
    let mut files = fs::read_dir(captures.join(directory)).unwrap().map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|ending| ending == "part")).unwrap()
}
