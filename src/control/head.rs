//! The head of an answer of HTTP, as clients read it.

use std::io;

/// The most bytes of a head.
pub(super) const MOST: usize = 16 << 10;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The headers, their names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head to its empty line, if `bytes` have all of it. Returns it with its length.
    ///
    /// # Errors
    /// This is no answer of HTTP.
    pub(crate) fn read(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > MOST { Err(strange()) } else { Ok(None) };
        };
        let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| strange())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = status.and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(field).collect();
        Ok(Some((Self { status: status.ok_or_else(strange)?, headers }, end + 4)))
    }

    /// Returns the value of a header.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Says whether the content comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

/// Reads a line with a name and a value.
pub(crate) fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// Returns the value of a field; names are in lower case.
pub(crate) fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// The error of what is no answer of a sensor.
pub(crate) fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers is no sensor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_head_is_told() {
        assert!(Head::read(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(Head::read(&[b'x'; MOST + 1]).is_err());
        assert_eq!(Head::read(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
    }
}
