//! The answer to a watch comes in chunks, with what has become of the watch behind the last.

use std::io;

use crate::control::head::{field, strange, value};

/// The most bytes of a line.
const MOST: usize = 16 << 10;

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
    use crate::control::head::Head;

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
        for wrong in ["x\r\n", "1\r\nab\r\n", "-1\r\n"] {
            assert!(Content::new().read(wrong.as_bytes(), &mut Vec::new()).is_err(), "{wrong:?}");
        }
        assert!(Content::new().read(&[b' '; MOST + 1], &mut Vec::new()).is_err());
        let mut half = Content::new();
        half.read(b"5\r\nabc", &mut Vec::new()).unwrap();
        assert!(!half.is_whole());
    }
}
