//! Texts are read: lines of manifests, names of files, configurations, documents.

use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;

use super::captures::in_memory;
use crate::config::address::Listen;
use crate::config::aws;
use crate::config::entry::Name;
use crate::config::file::{Config, ConfigError, write};
use crate::config::kept::Tls;
use crate::config::listener::Listener;
use crate::config::port::Port;
use crate::config::rules::{Network, PortRange, Protocol};
use crate::config::sessions::Item;
use crate::config::units::{Free, Size, Span, Wait};
use crate::evidence::{Contents, Digest, Line, Lines, names};
use crate::host::HostFacts;
use crate::record::Timestamp;
use crate::record::compress::Compression;
use crate::route::slice::Slice;
use crate::session::Session;
use crate::wire::{Encapsulation, Scope, VniRange};

/// A manifest, with its lines.
pub(super) fn manifest(data: &[u8]) {
    let mut lines = Lines::new(data);
    let mut rest = data;
    while let Some(read) = lines.next_line().expect("memory can be read") {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a line that is whole");
        let (line, behind) = rest.split_at(end);
        assert_eq!(read.hash, Digest::of(line));
        rest = &behind[1..];
        let Ok(line) = read.line else { continue };
        assert_eq!(read.previous, Some(line.previous));
        let text = serde_json::to_vec(&line).expect("a line can be written");
        let again: Line = serde_json::from_slice(&text).expect("a line that was written can be read");
        assert_eq!(again, line);
    }
    assert_eq!(lines.end() + lines.torn(), data.len() as u64);
    assert_eq!(lines.torn(), rest.len() as u64);
    let mut contents = Contents::default();
    contents.read(&mut Lines::new(data)).expect("memory can be read");
    assert!(contents.captures.iter().all(|entry| names::is_complete_path(&entry.path)));
    assert!(contents.chained <= contents.captures.len());
    assert!(contents.unremoved.iter().all(|entry| names::is_removable_path(&entry.path)));
    assert!(!contents.is_broken || contents.unremoved.is_empty());
}

/// The name of a directory or a file, or the path of a capture.
pub(super) fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(session) = Session::from_directory_name(text) {
        assert_eq!(session.directory_name(), text, "a session has one name");
    }
    if let Some(session) = names::parse_session(text) {
        let path = format!("{text}/x");
        assert_eq!(names::session(session.as_ref(), names::given(&path)), text);
        assert!(names::is_inside(&path));
    }
    if names::is_removable_path(text) {
        assert!(names::is_complete_path(text) && names::is_capture_path(text) && names::is_inside(text));
        assert!(text.split('/').all(|name| !matches!(name, "" | "." | "..")), "{text}");
        assert!(names::before(text).iter().all(|name| name.starts_with(text.split('/').next().unwrap_or_default())));
    }
    if let Some(names) = names::Names::of_part(Path::new(text)) {
        let _ = (names.recovered(1), names.recovered(2), names.another(2));
    }
}

/// A value is read, and what is written of it is the same value.
fn value<T: FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    match written.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "{text:?} is written as {written:?}"),
        Err(_) => panic!("{text:?} is written as {written:?}, which cannot be read"),
    }
}

/// A value as people type it.
pub(super) fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    value::<Compression>(text);
    if let Ok(encapsulation) = text.parse::<Encapsulation>() {
        assert_eq!(encapsulation.label(), text);
    }
    value::<Free>(text);
    value::<Item<IpNet>>(text);
    value::<Item<VniRange>>(text);
    value::<Listen>(text);
    value::<Listener>(text);
    value::<Name>(text);
    value::<Network>(text);
    value::<Port>(text);
    value::<PortRange>(text);
    value::<Protocol>(text);
    value::<Scope>(text);
    value::<Size>(text);
    value::<Slice>(text);
    value::<Span>(text);
    value::<Timestamp>(text);
    value::<Tls>(text);
    value::<Wait>(text);
}

/// A configuration file.
pub(super) fn configuration(data: &[u8]) {
    let Ok(text) = String::from_utf8(data.to_vec()) else { return };
    // What is included is read from files.
    if text.contains("include") {
        return;
    }
    let parse = |text: String| Config::parse(Path::new("vxtap.toml"), text);
    let (settings, plan) = match parse(text).and_then(|config| config.plan(&HostFacts::unknown())) {
        Ok(planned) => planned,
        Err(ConfigError::Faults { faults, .. }) => {
            assert!(faults.lines().count() > 0 && !faults.render(true).is_empty());
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let written = write(&settings).expect("a file can say what a file said");
    let again = parse(written.clone()).and_then(|config| config.plan(&HostFacts::unknown()));
    let (settings, same) = again.unwrap_or_else(|error| panic!("{written}\n{error}"));
    assert_eq!(same, plan, "{written}");
    assert_eq!(write(&settings).expect("it was written before"), written);
}

/// Documents of AWS, with a zero between them: sessions, interfaces and filters.
pub(super) fn documents(data: &[u8]) {
    let files: Vec<_> = data.splitn(3, |byte| *byte == 0).map(in_memory).collect();
    let [sessions, interfaces, filters @ ..] = &files[..] else { return };
    let filters = filters.first().map(|(_, path)| path.as_path());
    let Ok(converted) = aws::convert(&sessions.1, &interfaces.1, filters) else { return };
    let config = Config::parse(Path::new("aws.toml"), converted.text.clone());
    let entries = config.unwrap_or_else(|error| panic!("{}\n{error}", converted.text)).settings.session;
    assert_eq!(entries.len(), converted.entries);
}
