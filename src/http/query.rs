//! A query is what a request asks for behind the path.

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

/// The words behind the `?` of a request, and what it accepts as an answer.
#[derive(Debug, Default)]
pub struct Query {
    words: Vec<(String, String)>,
    accept: Option<String>,
}

impl Query {
    pub(super) fn of(parts: &Parts) -> Self {
        let accept = |headers: &HeaderMap| Some(headers.get(header::ACCEPT)?.to_str().ok()?.to_owned());
        Self { words: words(parts.uri.query().unwrap_or_default()), accept: accept(&parts.headers) }
    }

    /// Returns the value of the word `name`; the last one where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.words.iter().rev().find(|(word, _)| word == name).map(|(_, value)| value.as_str())
    }

    /// Returns the number that the word `name` has as its value, if the word is there.
    ///
    /// # Errors
    /// The value is no whole number; the text says so.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, String> {
        let read =
            |value: &str| value.parse().map_err(|_| format!("{name}={value}: that is no number that can be here"));
        self.get(name).map(read).transpose()
    }

    /// Returns the header `Accept`.
    pub fn accept(&self) -> Option<&str> {
        self.accept.as_deref()
    }
}

#[cfg(test)]
impl Query {
    /// Makes the query that has these words.
    pub(crate) fn from_words(text: &str) -> Self {
        Self { words: words(text), accept: None }
    }
}

fn words(text: &str) -> Vec<(String, String)> {
    let words = text.split('&').filter(|word| !word.is_empty());
    words
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(name, value)| (plain(name), plain(value)))
        .collect()
}

/// Takes the escapes out of a word: `%20` and `+` are spaces.
fn plain(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = || u8::from_str_radix(word.get(at + 1..at + 3)?, 16).ok();
        match (byte, escaped()) {
            (b'%', Some(escaped)) => {
                plain.push(escaped);
                at += 3;
                continue;
            }
            (b'+', _) => plain.push(b' '),
            _ => plain.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_with_their_escapes() {
        let query = Query::from_words("top=5&filter=tcp+port%20443%26x&&flag&top=7&e=100%&f=%zz%é&g=%c3%a9");
        assert_eq!(query.get("filter"), Some("tcp port 443&x"));
        assert_eq!((query.get("flag"), query.get("none")), (Some(""), None));
        assert_eq!((query.get("e"), query.get("f"), query.get("g")), (Some("100%"), Some("%zz%é"), Some("é")));
        assert_eq!(query.number("top"), Ok(Some(7_u32)));
        assert_eq!(query.number::<u32>("none"), Ok(None));
        assert!(query.number::<u32>("e").is_err());
    }
}
