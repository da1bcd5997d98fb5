//! A file that is not TOML is answered with what TOML wants.

use std::collections::HashSet;

use toml::de::Error;

use super::fault::{Fault, Text};
use super::reader::Reading;
use super::value::quoted;

/// Turns the errors of the parser into faults: the first of each line, of which others follow.
pub(super) fn faults(errors: &[Error], text: &Text, reading: &Reading) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut lines = HashSet::new();
    for error in errors {
        let at = error.span().unwrap_or(text.text.len()..text.text.len());
        let place = reading.place(at.clone());
        if lines.insert(place.line) {
            faults.push(Fault::new(error.message(), place).advise(advice(error.message(), &text.text, at.start)));
        }
    }
    faults
}

/// Says what to write instead.
fn advice(message: &str, text: &str, at: usize) -> String {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), value.split('#').next().unwrap_or_default().trim()),
        None => (line.trim(), ""),
    };
    let is_value = at > start + line.find('=').unwrap_or(line.len());
    if message.contains("duplicate key") {
        return "say it once; a list has brackets: [1, 2]".into();
    }
    if message.contains("unclosed table") {
        return format!("write {}]", line.trim_end());
    }
    if message.contains("array") || message.contains("comma") {
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
        Some((key, value)) if !line.contains('=') => format!("a value stands behind =: {key} = {}", value.trim()),
        _ if value.is_empty() && line.contains('=') => "write a value, or leave the key out".into(),
        _ => "write it as key = value, below a [table]".into(),
    }
}
