//! A file that is not TOML is answered with what TOML wants.

use toml::de::Error;

use super::fault::{Fault, Text};
use super::reader::Reading;

/// Turns an error of the parser into a fault.
pub(super) fn fault(error: &Error, text: &Text, reading: &Reading) -> Fault {
    let at = error.span().unwrap_or(text.text.len()..text.text.len());
    let advice = advice(error.message(), &text.text, at.start);
    Fault::new(error.message(), reading.place(at)).advise(advice)
}

/// Says what to write instead, where that can be guessed.
fn advice(message: &str, text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    if message.contains("duplicate key") {
        return Some("say it once; a list has brackets: [1, 2]".into());
    }
    if message.contains("unclosed table") {
        return Some(format!("write {}]", line.trim_end()));
    }
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_word = !value.is_empty() && !value.contains(['"', '\'', '[', '{', ',']);
    (is_word && at >= start + key.len()).then(|| format!("a text stands in quotes: \"{value}\""))
}
