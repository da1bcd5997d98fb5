//! Settings are written as a configuration file that means the same.

use std::fmt::Write;

use super::super::entry::SessionEntry;
use super::super::plan::policy::unreachable;
use super::super::settings::{Outputs, Settings};
use super::schema;
use super::value::{Keys, Table, Value, quoted};

/// A value that a file cannot say.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written: {fault}")]
pub struct WriteError {
    path: String,
    fault: String,
}

/// Writes settings as a configuration file. What is as by default is a comment, so that the file
/// names what can be said.
///
/// # Errors
/// A value is not UTF-8, which a file is.
pub fn write(settings: &Settings) -> Result<String, WriteError> {
    text(settings, true)
}

/// Writes what settings have that is not as by default.
///
/// # Errors
/// A value is not UTF-8, which a file is.
pub(crate) fn changed(settings: &Settings) -> Result<String, WriteError> {
    text(settings, false)
}

/// Writes entries for sessions as a file that others include, each below a comment.
pub(crate) fn write_sessions(entries: &[(String, SessionEntry)]) -> String {
    let mut text = String::new();
    for (comment, entry) in entries {
        let mut section = String::new();
        // All values of an entry can be written: only paths can be what TOML is not.
        let written =
            self::section(&mut section, "[session]", &mut entry.clone(), &mut SessionEntry::default(), Some(""), false);
        if written.is_ok() {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}# {comment}\n{section}"));
        }
    }
    text
}

fn text(settings: &Settings, defaults: bool) -> Result<String, WriteError> {
    let (mut settings, mut default) = (settings.clone(), Settings::default());
    let mut text = String::new();
    for ((name, table), (_, default)) in schema::tables(&mut settings).into_iter().zip(schema::tables(&mut default)) {
        section(&mut text, name, table, default, None, defaults)?;
    }
    // What one file overrules of another is not said any more: here it would be a fault.
    let unreachable = unreachable(&settings.session);
    for (_, entry) in settings.session.iter_mut().enumerate().filter(|(index, _)| !unreachable.contains(index)) {
        section(&mut text, "[session]", entry, &mut SessionEntry::default(), Some(""), false)?;
    }
    if defaults || settings.output != Outputs::default() {
        for (name, output) in &mut settings.output.0 {
            let kind = schema::kind(output);
            let Some(mut default) = schema::of_kind(kind) else { continue };
            let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            let name = if bare { name.clone() } else { quoted(name) };
            let head = format!("kind = {}\n", quoted(kind));
            section(&mut text, &format!("output.{name}"), output, &mut default, Some(&head), defaults)?;
        }
    }
    Ok(text)
}

/// Writes one table; a table with a `head` also where it says nothing more.
fn section(
    text: &mut String,
    name: &str,
    table: &mut dyn Table,
    default: &mut dyn Table,
    head: Option<&str>,
    defaults: bool,
) -> Result<(), WriteError> {
    let wrong = |(key, fault)| WriteError { path: format!("{name}.{key}"), fault };
    let (said, default) = (values(table).map_err(wrong)?, values(default).map_err(wrong)?);
    let mut lines = String::new();
    for ((key, value), (_, default)) in said.iter().zip(&default) {
        match value {
            Some(value) if Some(value) != default.as_ref() => _ = writeln!(lines, "{key} = {value}"),
            Some(value) if defaults => _ = writeln!(lines, "# {key} = {value}"),
            _ => {}
        }
    }
    if lines.is_empty() && head.is_none() {
        return Ok(());
    }
    let gap = if text.is_empty() { "" } else { "\n" };
    text.push_str(&format!("{gap}[{name}]\n{}{lines}", head.unwrap_or_default()));
    Ok(())
}

/// A key and its value in TOML, if it has one.
type Line = (&'static str, Option<String>);

/// Returns the keys of a table with their values, or the key whose value cannot be written and why.
fn values(table: &mut dyn Table) -> Result<Vec<Line>, (&'static str, String)> {
    struct Values(Vec<(&'static str, Result<Option<String>, String>)>);

    impl Keys for Values {
        fn key(&mut self, name: &'static str, value: &mut dyn Value) {
            self.0.push((name, value.write()));
        }
    }

    let mut values = Values(Vec::new());
    table.keys(&mut values);
    values.0.into_iter().map(|(name, value)| Ok((name, value.map_err(|fault| (name, fault))?))).collect()
}
