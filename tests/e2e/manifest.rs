//! The manifest of a directory is read as any program reads it, and `vxtap verify` judges it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::sensor::VXTAP;

/// Returns the lines of a directory's manifest. Fails where one is no JSON. One whose newline is
/// not there is being written.
#[track_caller]
pub(crate) fn lines(captures: &Path) -> Vec<Value> {
    let text = fs::read_to_string(captures.join("manifest.jsonl")).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the lines of one kind of event.
#[track_caller]
pub(crate) fn events(captures: &Path, event: &str) -> Vec<Value> {
    lines(captures).into_iter().filter(|line| line["event"] == event).collect()
}

/// Returns the lines of captures that got a name: published, or recovered.
#[track_caller]
pub(crate) fn named(captures: &Path) -> Vec<Value> {
    let named = |line: &Value| line["event"] == "published" || line["event"] == "recovered";
    lines(captures).into_iter().filter(named).collect()
}

/// Returns the paths of these lines.
pub(crate) fn paths(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().map(|line| line["path"].as_str().unwrap().to_string()).collect()
}

/// Returns the exit code of `vxtap verify`, and what it prints.
pub(crate) fn verify(captures: &Path) -> (Option<i32>, String) {
    let output = Command::new(VXTAP).arg("verify").arg(captures).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Fails unless the directory is as its manifest says.
#[track_caller]
pub(crate) fn assert_verified(captures: &Path) {
    let (code, text) = verify(captures);
    assert_eq!(code, Some(0), "{text}");
}
