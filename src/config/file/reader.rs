//! A configuration file is read key by key, and goes on behind a fault.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::entry::SessionEntry;
use super::super::near::nearest;
use super::super::origin::{self, Origin, Origins, Place, item, shown};
use super::super::settings::{Output, Outputs, Settings};
use super::fault::{Fault, Text};
use super::schema::{self, KINDS};
use super::value::{Keys, Table, Value, Wrong, quoted};
use crate::setting::Wording;
use crate::setting::key;

/// The key that names files to include.
pub(super) const INCLUDE: &str = "include";

/// The advice on what is to be an output and is none.
const NAMED: &str = "an output has a name: write [output.evidence]";

/// The most bytes of an output's name.
const LONGEST_NAME: usize = 64;

type Key<'t> = Spanned<DeString<'t>>;
type Item<'t> = Spanned<DeValue<'t>>;

/// What is known of a file while it is read.
#[derive(Debug)]
pub(super) struct Reading {
    path: Arc<Path>,
    /// The bytes at which lines end.
    ends: Vec<usize>,
    /// The places of all values.
    pub origins: Origins,
    /// The faults so far.
    pub faults: Vec<Fault>,
    /// The paths of values and of outputs that were given and could not be taken.
    pub failed: BTreeSet<String>,
}

impl Reading {
    pub(super) fn new(text: &Text) -> Self {
        let mut reading = Self {
            path: Arc::clone(&text.path),
            ends: Vec::new(),
            origins: Origins::default(),
            faults: Vec::new(),
            failed: BTreeSet::new(),
        };
        reading.enter(text);
        reading
    }

    /// Goes on with another file.
    pub(super) fn enter(&mut self, text: &Text) {
        self.path = Arc::clone(&text.path);
        self.ends = text.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    }

    /// Returns the place of these bytes.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let line = self.ends.partition_point(|end| *end < span.start) + 1;
        Place { path: Arc::clone(&self.path), line, span }
    }

    pub(super) fn fault(&mut self, title: impl Into<String>, span: Range<usize>, advice: impl Into<Option<String>>) {
        self.unread(title, span, advice, None);
    }

    /// Notes a fault of what is included, with what could not be read for want of a right.
    pub(super) fn unread(
        &mut self,
        title: impl Into<String>,
        span: Range<usize>,
        advice: impl Into<Option<String>>,
        denied: Option<PathBuf>,
    ) {
        let fault = Fault::new(title, self.place(span)).advise(advice).denied(denied);
        self.faults.push(fault);
    }

    /// Reads a table of the file; what it does not say stays in `table`. Its name is `path`.
    fn table(&mut self, path: &str, entries: &DeTable<'_>, table: &mut dyn Table, kind: Option<&Item<'_>>) {
        let kind_key = |key: &&Key<'_>| kind.is_some() && *key.get_ref() == "kind";
        let mut open: Vec<_> = entries.iter().filter(|(key, _)| !kind_key(key)).collect();
        let mut fields = Fields { reading: self, path, open: &mut open, names: Vec::new() };
        table.keys(&mut fields);
        let names = fields.names;
        open.sort_by_key(|(key, _)| key.span().start);
        for (key, _) in open {
            self.unknown(path, key, &names, kind);
        }
    }

    /// Says of a key that it is none of the table at `path`, which has these `names`.
    fn unknown(&mut self, path: &str, key: &Key<'_>, names: &[&'static str], kind: Option<&Item<'_>>) {
        let written = key.get_ref();
        let of = kind.and_then(|kind| kind.get_ref().as_str());
        let elsewhere = match of {
            None if path.starts_with("session[") && written == "from" => Some("write source".to_owned()),
            Some(kind) => elsewhere(written, &format!("[output.NAME] with kind = \"{kind}\"")),
            None if path.starts_with("session[") => elsewhere(written, schema::SESSION),
            None => elsewhere(written, &format!("[{path}]")),
        };
        let advice = match (nearest(written, names.iter().copied()), elsewhere) {
            (Some(near), _) if near.replace('_', "-") == written.as_ref() => format!("write {near}"),
            (_, Some(elsewhere)) => elsewhere,
            (Some(near), None) => format!("do you mean {near}?"),
            (None, None) => format!("it has {}", names.join(", ")),
        };
        let what = of.map_or_else(|| shown(path), |kind| format!("an output of kind {}", quoted(kind)));
        let mut fault = Fault::new(format!("{what} has no key {written}"), self.place(key.span())).advise(advice);
        if let Some(kind) = kind {
            fault = fault.label("unknown for this kind").and(self.place(kind.span()), "the kind");
        }
        self.faults.push(fault);
    }

    /// Reads the whole file into `settings`, which have the sessions of included files already.
    pub(super) fn settings(&mut self, root: &DeTable<'_>, settings: &mut Settings) {
        for (key, item) in sorted(root) {
            match key.get_ref().as_ref() {
                // It was read before.
                INCLUDE => continue,
                "output" => {
                    match self.outputs(key, item) {
                        Some(outputs) => settings.output = outputs,
                        None => _ = self.failed.insert(key::OUTPUT.to_owned()),
                    }
                    continue;
                }
                "session" => {
                    self.sessions(key, item, &mut settings.session);
                    continue;
                }
                _ => {}
            }
            let name = key.get_ref().as_ref();
            let mut tables = schema::tables(settings);
            let found = tables.iter_mut().find(|(table, _)| *table == name);
            match (found, item.get_ref()) {
                (Some((name, table)), DeValue::Table(entries)) => {
                    self.origins.note(*name, Origin::File(self.place(key.span())));
                    self.table(name, entries, *table, None);
                }
                (Some(("sessions", _)), DeValue::Array(entries)) if entries.iter().all(|e| e.get_ref().is_table()) => {
                    let advice = format!("write {} for each entry", schema::SESSION);
                    self.fault("sessions is a table, and this is an entry for sessions", key.span(), advice);
                }
                (Some((name, _)), _) => {
                    self.fault(format!("{name} is a table"), key.span(), format!("write [{name}], and its keys below"));
                }
                (None, _) => self.unknown_table(key),
            }
        }
    }

    /// Reads a file that another includes.
    pub(super) fn included(&mut self, root: &DeTable<'_>, sessions: &mut Vec<SessionEntry>) {
        for (key, item) in sorted(root) {
            if key.get_ref() == "session" {
                self.sessions(key, item, sessions);
            } else {
                let advice =
                    format!("write {} here, and all else into the file that includes this one", schema::SESSION);
                self.fault(format!("an included file has no {}", key.get_ref()), key.span(), advice);
            }
        }
    }

    /// Reads the patterns of the files that are to be included, each with its place.
    pub(super) fn include(&mut self, root: &DeTable<'_>) -> Vec<(String, Range<usize>)> {
        let Some(given) = root.get(INCLUDE) else { return Vec::new() };
        let mut patterns: Vec<String> = Vec::new();
        for Wrong { span, fault, advice } in patterns.read(given).err().into_iter().flatten() {
            self.fault(format!("{INCLUDE}: {fault}"), span, advice);
        }
        let spans = match given.get_ref() {
            DeValue::Array(items) => items.iter().filter(|item| item.get_ref().is_str()).map(Spanned::span).collect(),
            _ => vec![given.span()],
        };
        patterns.into_iter().zip(spans).collect()
    }

    /// Reads entries for sessions, behind those that there are.
    fn sessions(&mut self, key: &Key<'_>, item: &Item<'_>, sessions: &mut Vec<SessionEntry>) {
        let advice = || format!("there can be many: write {} with brackets twice", schema::SESSION);
        let DeValue::Array(entries) = item.get_ref() else {
            return self.fault("session is no list of tables", key.span(), advice());
        };
        for entry in entries.iter() {
            let DeValue::Table(fields) = entry.get_ref() else {
                self.fault("this is no table, and so no entry for sessions", entry.span(), advice());
                continue;
            };
            let path = origin::item("session", sessions.len());
            // Of a table with a header, the header alone is shown.
            self.origins.note(path.clone(), Origin::File(self.place(entry.span())));
            let mut read = SessionEntry::default();
            self.table(&path, fields, &mut read, None);
            sessions.push(read);
        }
    }

    /// Says that nothing has this name at the top of the file.
    fn unknown_table(&mut self, key: &Key<'_>) {
        let mut settings = Settings::default();
        let known = schema::tables(&mut settings).map(|(name, _)| name);
        let advice = match nearest(key.get_ref(), known.into_iter().chain(["output", "session", INCLUDE])) {
            Some("output") => "do you mean [output.NAME]?".into(),
            Some("session") => format!("do you mean {}?", schema::SESSION),
            Some(INCLUDE) => format!("do you mean {INCLUDE}?"),
            Some(near) => format!("do you mean [{near}]?"),
            None => match elsewhere(key.get_ref(), "") {
                Some(elsewhere) => elsewhere,
                None => format!("there are [{}], {} and [output.NAME]", known.join("], ["), schema::SESSION),
            },
        };
        self.fault(format!("there is no {} here", key.get_ref()), key.span(), advice);
    }

    /// Reads the outputs, in the order in which they stand in the file.
    fn outputs(&mut self, key: &Key<'_>, item: &Item<'_>) -> Option<Outputs> {
        let DeValue::Table(entries) = item.get_ref() else {
            self.fault("output is a table of outputs by their names", key.span(), NAMED.to_owned());
            return None;
        };
        if entries.is_empty() {
            self.fault("there is no output in this table", key.span(), NAMED.to_owned());
            return None;
        }
        let mut outputs = Vec::new();
        for (key, item) in sorted(entries) {
            let name = key.get_ref().as_ref();
            match self.output(name, key, item) {
                Some(output) => outputs.push((name.to_owned(), output)),
                None => _ = self.failed.insert(key::output(name)),
            }
        }
        Some(Outputs(outputs))
    }

    /// Reads an output. One that cannot be taken is noted by whoever asks.
    fn output(&mut self, name: &str, key: &Key<'_>, item: &Item<'_>) -> Option<Output> {
        let path = key::output(name);
        let DeValue::Table(fields) = item.get_ref() else {
            self.fault(format!("{path} is no table, and so no output"), key.span(), NAMED.to_owned());
            return None;
        };
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            let advice = format!("write 1 to {LONGEST_NAME} characters that can be printed");
            self.fault("an output cannot have this name", key.span(), advice);
            return None;
        }
        self.origins.note(path.clone(), Origin::File(self.place(key.span())));
        let kinds = || KINDS.map(quoted).join(", ");
        let Some(item) = fields.get("kind") else {
            let all = KINDS.into_iter().filter_map(|kind| Some((kind, schema::of_kind(kind)?)));
            let fits = |output: &mut Output| {
                let names = schema::names(output);
                fields.keys().filter(|key| names.contains(&key.get_ref().as_ref())).count()
            };
            let most = all.map(|(kind, mut output)| (fits(&mut output), kind)).max_by_key(|(fits, _)| *fits);
            let advice = match most {
                Some((1.., kind @ "pcap")) => format!("write kind = {}", quoted(kind)),
                _ => format!("write kind = one of {}", kinds()),
            };
            self.fault(format!("{path} does not say its kind"), key.span(), advice);
            return None;
        };
        let kind = item.get_ref().as_str();
        let Some(mut output) = kind.and_then(schema::of_kind) else {
            let advice = match kind.and_then(|kind| nearest(kind, KINDS)) {
                Some(near) => format!("do you mean {}? It is one of {}", quoted(near), kinds()),
                None => format!("write one of {}", kinds()),
            };
            let title = match kind {
                Some(kind) => format!("{path}.kind: there is no {}", quoted(kind)),
                None => format!("{path}.kind: this is no word"),
            };
            self.fault(title, item.span(), advice);
            return None;
        };
        self.origins.note(format!("{path}.kind"), Origin::File(self.place(item.span())));
        self.table(&path, fields, &mut output, Some(item));
        Some(output)
    }
}

/// Returns the keys of a table in the order in which they stand in the file.
fn sorted<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Item<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The keys of a table that are read one by one.
struct Fields<'r, 't, 'i> {
    reading: &'r mut Reading,
    path: &'r str,
    /// The keys of the file that nobody asked for yet.
    open: &'r mut Vec<(&'t Key<'i>, &'t Item<'i>)>,
    /// The keys that were asked for.
    names: Vec<&'static str>,
}

impl Keys for Fields<'_, '_, '_> {
    fn key(&mut self, name: &'static str, value: &mut dyn Value) {
        self.names.push(name);
        let Some(at) = self.open.iter().position(|(key, _)| *key.get_ref() == name) else { return };
        let (_, given) = self.open.swap_remove(at);
        let path = format!("{}.{name}", self.path);
        let reading = &mut *self.reading;
        reading.origins.note(path.clone(), Origin::File(reading.place(given.span())));
        if let DeValue::Array(items) = given.get_ref() {
            for (index, one) in items.iter().enumerate() {
                reading.origins.note(item(&path, index), Origin::File(reading.place(one.span())));
            }
        }
        for Wrong { span, fault, advice } in value.read(given).err().into_iter().flatten() {
            reading.fault(
                format!("{}: {}", shown(&path), Wording::Keys.put(&fault)),
                span,
                advice.as_deref().map(|advice| Wording::Keys.put(advice).into_owned()),
            );
            reading.failed.insert(path.clone());
        }
    }
}

/// Says where a key belongs that is none of the table `here`: to another table, or under the name
/// that stands in the file for the flag of this name.
fn elsewhere(written: &str, here: &str) -> Option<String> {
    let all = schema::all();
    let of = |table: &str| all.iter().find(|(other, _)| other == table).map(|(_, names)| names.as_slice());
    if let Some((table, _)) = all.iter().find(|(table, names)| table != here && names.contains(&written)) {
        return Some(format!("{written} belongs below {table}"));
    }
    let flag = format!("--{}", written.replace('_', "-"));
    let key = key::ALL.iter().find(|key| key.flag == flag)?;
    let name = key.path.rsplit('.').next()?;
    if of(here).is_some_and(|names| names.contains(&name)) {
        return Some(format!("write {name}"));
    }
    let table = match key.path.split_once('.')? {
        ("output", field) if field.starts_with("pcap.") || field.starts_with("each.") => {
            "[output.NAME] with kind = \"pcap\"".to_owned()
        }
        ("output", "pcap") => return None,
        ("output", _) => "[output.NAME] with kind = \"tap\"".to_owned(),
        (table, _) => format!("[{table}]"),
    };
    Some(format!("write {name} below {table}"))
}
