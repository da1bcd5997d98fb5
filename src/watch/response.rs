//! The answer to a watch comes in chunks, with what has become of the watch behind the last.

use std::io;

/// The most bytes of a head, or of a line behind it.
const MOST: usize = 16 << 10;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The headers, their names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head to its empty line, if `bytes` have all of it. Returns it with its length.
    ///
    /// # Errors
    /// This is no answer of HTTP.
    pub(super) fn read(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
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
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Says whether the content comes in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

/// Reads a line with a name and a value.
fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers is no sensor")
}

/// The content of an answer, as far as it was read.
#[derive(Debug)]
pub(super) struct Content {
    part: Part,
    /// A line that is not whole yet.
    line: Vec<u8>,
    /// What stands behind the last chunk, by names in lower case.
    trailers: Vec<(String, String)>,
}

/// The part of the content that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The line with the length of a chunk.
    Length,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The end of the line behind a chunk.
    Gap,
    /// A line behind the last chunk.
    Trailer,
    /// Nothing.
    End,
}

impl Content {
    pub(super) fn new() -> Self {
        Self { part: Part::Length, line: Vec::new(), trailers: Vec::new() }
    }

    /// Says whether all of it has come.
    pub(super) fn is_whole(&self) -> bool {
        self.part == Part::End
    }

    /// Returns what was said behind the last chunk.
    pub(super) fn trailer(&self, name: &str) -> Option<&str> {
        value(&self.trailers, name)
    }

    /// Reads on, and appends what the chunks hold to `content`.
    ///
    /// # Errors
    /// These are no chunks.
    pub(super) fn read(&mut self, mut bytes: &[u8], content: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() && self.part != Part::End {
            if let Part::Chunk(left) = self.part {
                let (now, rest) = bytes.split_at(left.min(bytes.len()));
                content.extend_from_slice(now);
                bytes = rest;
                self.part = if now.len() == left { Part::Gap } else { Part::Chunk(left - now.len()) };
                continue;
            }
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (now, rest) = bytes.split_at(end);
            self.line.extend_from_slice(now);
            bytes = rest;
            if self.line.len() > MOST {
                return Err(strange());
            }
            if now.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(std::str::from_utf8(&line).map_err(|_| strange())?.trim_end())?;
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self, line: &str) -> io::Result<()> {
        self.part = match self.part {
            Part::Length => {
                let length = line.split(';').next().unwrap_or_default().trim();
                match usize::from_str_radix(length, 16).map_err(|_| strange())? {
                    0 => Part::Trailer,
                    length => Part::Chunk(length),
                }
            }
            Part::Gap if line.is_empty() => Part::Length,
            Part::Gap => return Err(strange()),
            Part::Trailer if line.is_empty() => Part::End,
            part => {
                self.trailers.extend(field(line));
                part
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVxtap-Output: watch:1\r\n\r\n";
        let body = b"5\r\nab\r\nc\r\nA;x=y\r\n0123456789\r\n0\r\nVxtap-Dropped: 7\r\nVxtap-End: it was: so\r\n\r\n";
        let all = [&head[..], body].concat();
        for cut in 1..all.len() {
            let (mut kept, mut content, mut out) = (Vec::new(), Content::new(), Vec::new());
            let mut seen: Option<Head> = None;
            for part in all.chunks(cut) {
                kept.extend_from_slice(part);
                if seen.is_none() {
                    let Some((head, length)) = Head::read(&kept).unwrap() else { continue };
                    seen = Some(head);
                    kept.drain(..length);
                }
                content.read(&std::mem::take(&mut kept), &mut out).unwrap();
            }
            let head = seen.unwrap();
            assert_eq!((head.status, head.is_chunked(), head.get("vxtap-output")), (200, true, Some("watch:1")));
            assert_eq!(out, b"ab\r\nc0123456789");
            assert!(content.is_whole());
            assert_eq!(
                (content.trailer("vxtap-dropped"), content.trailer("vxtap-end")),
                (Some("7"), Some("it was: so"))
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        assert!(Head::read(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(Head::read(&[b'x'; MOST + 1]).is_err());
        for wrong in ["x\r\n", "1\r\nab\r\n", "-1\r\n"] {
            assert!(Content::new().read(wrong.as_bytes(), &mut Vec::new()).is_err(), "{wrong:?}");
        }
        assert!(Content::new().read(&[b' '; MOST + 1], &mut Vec::new()).is_err());
        let mut half = Content::new();
        half.read(b"5\r\nabc", &mut Vec::new()).unwrap();
        assert!(!half.is_whole());
    }
}
