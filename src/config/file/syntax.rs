//! A file that is not TOML is answered with what TOML wants.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::fault::{Fault, Text};
use super::reader::Reading;
use super::value::quoted;

/// Turns the errors of the parser into faults: the first of each line, of which others follow. A
/// file that is not in UTF-8 has that one fault.
/// `root` is what could be made of the text all the same.
pub(super) fn faults(errors: &[Error], root: &DeTable<'_>, text: &Text, reading: &Reading) -> Vec<Fault> {
    if let Some(broken) = &text.broken {
        let fault = Fault::new("this is not text in UTF-8", reading.place(broken.clone()));
        return vec![fault.advise("save the file in UTF-8".to_owned())];
    }
    let mut faults: Vec<Fault> = Vec::new();
    let mut lines = HashSet::new();
    for error in errors {
        let at = error.span().unwrap_or(text.text.len()..text.text.len());
        let place = reading.place(at.clone());
        if lines.insert(place.line) {
            let fault = Fault::new(error.message(), place).advise(advice(error.message(), &text.text, at.start));
            let first = if error.message().contains(TWICE) { first(root, &text.text, &at) } else { None };
            faults.push(match first {
                Some(first) => fault.label("again").and(reading.place(first), "first here"),
                None => fault,
            });
        }
    }
    faults
}

/// What the parser says of a key that is there already.
const TWICE: &str = "duplicate key";

/// Finds where a key that is given `again` was given first: the one before that is called the same.
fn first(root: &DeTable<'_>, text: &str, again: &Range<usize>) -> Option<Range<usize>> {
    let written = text.get(again.clone())?;
    // Of two headers, the table has the place of the later.
    let start = text.get(..again.start)?.rfind('\n').map_or(0, |end| end + 1);
    let header = text.get(start..)?.lines().next()?;
    if header.trim_start().starts_with('[') {
        let before = text.get(..start)?.split_inclusive('\n').scan(0, |at, line| {
            *at += line.len();
            Some((*at - line.len(), line.trim_end()))
        });
        let (at, same) = before.into_iter().find(|(_, line)| *line == header.trim_end())?;
        return Some(at..at + same.len());
    }
    let mut open = vec![root];
    let mut found: Option<Range<usize>> = None;
    while let Some(table) = open.pop() {
        for (key, value) in table.iter() {
            let span = key.span();
            let is_before = span.end <= again.start && found.as_ref().is_none_or(|found| found.start < span.start);
            if is_before && text.get(span.clone()) == Some(written) {
                found = Some(span);
            }
            open.extend(value.get_ref().as_table());
            let items = value.get_ref().as_array().into_iter().flat_map(|items| items.iter());
            open.extend(items.filter_map(|item| item.get_ref().as_table()));
        }
    }
    found
}

/// The most characters of a line that advice repeats.
const MOST_REPEATED: usize = 80;

/// Cuts what advice repeats of a line.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST_REPEATED) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// Says what to write instead.
fn advice(message: &str, text: &str, at: usize) -> String {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let is_value = at > start + line.find('=').unwrap_or(line.len());
    let has_value = line.contains('=');
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), value.split('#').next().unwrap_or_default().trim()),
        None => (line.trim(), ""),
    };
    let (line, key, value) = (&*cut(line), &*cut(key), &*cut(value));
    if message.contains(TWICE) {
        return "say it once; a list has brackets: [1, 2]".into();
    }
    if message.contains("unclosed table") {
        return format!("write {}]", line.trim_end());
    }
    if message.contains("array") || message.contains("recurse") || message.contains("comma") {
        return "close the list with ], and put a comma between its items".into();
    }
    if message.contains("basic string") || message.contains("literal string, expected") {
        return format!("close the text: {key} = \"{}\"", value.trim_matches('"'));
    }
    if is_value && !value.is_empty() {
        return format!("a text stands in quotes: {}", quoted(value));
    }
    if line.trim_start().starts_with(';') || line.trim_start().starts_with("//") {
        return "a comment begins with #".into();
    }
    if let Some((key, value)) = line.split_once(':') {
        return match value.trim() {
            "" => format!("a table is written [{}]", key.trim()),
            value => format!("a value stands behind =: {} = {value}", key.trim()),
        };
    }
    match key.split_once(' ') {
        Some((key, value)) if !has_value => format!("a value stands behind =: {key} = {}", value.trim()),
        _ if value.is_empty() && has_value => "write a value, or leave the key out".into(),
        _ => "write it as key = value, below a [table]".into(),
    }
}
