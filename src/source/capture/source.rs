//! A capture is a source that ends.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::counts::Counts;
use super::opened::{Frames, Input, OpenError, Opened};
use super::packets::{Came, Packets};
use crate::record::Timestamp;
use crate::record::read::{Frame, ReadError};
use crate::setting::Wording;
use crate::source::datagram::{Datagram, Received, Source};
use crate::wire::captured::{Carried, Framing, Other, Ports, Uncarried, carried, carried_whole};
use crate::wire::outer::OuterError;

/// Frames that are looked at in a turn at most. Others wait for the worker meanwhile.
const LOOK: usize = 4096;

/// The reason why a capture was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is damaged, or no capture.
    #[error(transparent)]
    Damaged(ReadError),
    /// It cannot be read, or decompressed, from there on.
    #[error("{error}; at byte {offset} of the capture, behind {frames} whole frame{}", if *.frames == 1 { "" } else { "s" })]
    Broken {
        /// The fault.
        error: ReadError,
        /// Bytes of the capture, decompressed, that were read before.
        offset: u64,
        /// Frames before it.
        frames: u64,
    },
}

impl Unread {
    /// Says that a capture could be read only up to there.
    pub(crate) fn at(error: ReadError, offset: u64, frames: u64) -> Unread {
        match error {
            error @ ReadError::Io { .. } => Unread::Broken { error, offset, frames },
            error => Unread::Damaged(error),
        }
    }
}

/// What is known of a capture while it is read, and afterwards.
#[derive(Debug)]
pub struct Readout {
    name: String,
    packets: Mutex<Packets>,
    unread: Mutex<Option<Unread>>,
}

impl Readout {
    /// Returns why the capture was not read to its end, if that is so, and forgets it.
    pub fn take_unread(&self) -> Option<Unread> {
        self.unread.lock().take()
    }

    /// Returns the reasons for which frames of a mirror are no whole datagram, and how many are.
    #[must_use]
    pub fn unwhole(&self) -> Vec<(&'static str, u64)> {
        self.packets.lock().counts.outers_by_reason().collect()
    }

    /// Returns how many fragments nobody knows to be of a mirror, or not.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.packets.lock().counts.unknown
    }

    /// Notes that no frame comes any more, and why not if that is too early.
    fn over(&self, unread: Option<Unread>) -> Reading {
        *self.unread.lock() = unread;
        Reading::Over
    }

    /// Says in the log what the frames were, of which the ledger has `received`.
    pub(crate) fn tell(&self, received: u64, wording: Wording) {
        let mut packets = self.packets.lock();
        packets.end();
        let counts = &packets.counts;
        let listed = |(label, frames): (&str, u64)| format!(", {label} {frames}");
        let others: String = counts.others_by_reason().map(listed).collect();
        let outer: String = counts.outers_by_reason().map(listed).collect();
        let Counts { read, joined, unknown, .. } = *counts;
        let mut text = format!("{read} frames of {} were read, {received} of a mirror", self.name);
        if joined > 0 {
            text += &format!(", {joined} more that are fragments of these");
        }
        if !others.is_empty() {
            text += &wording.put(&format!("; not of a mirror (--listen says what is){others}"));
        }
        if unknown > 0 {
            text += &format!("; unknown {unknown}, fragments whose first piece is not in it");
        }
        match outer.as_str() {
            "" => tracing::info!("{text}"),
            outer => tracing::warn!("{text}; of a mirror and no whole datagram{outer}"),
        }
    }
}

/// A source that lends the datagrams of mirrors in a capture.
#[derive(Debug)]
pub struct CaptureSource {
    /// The frames; none once they are over.
    frames: Reading,
    ports: Ports,
    readout: Arc<Readout>,
}

#[derive(Debug)]
enum Reading {
    /// Nothing has been read.
    Opened(Opened),
    Begun(Box<Frames>),
    Over,
}

impl CaptureSource {
    /// Opens the capture `path`. Frames to these ports are of mirrors.
    ///
    /// # Errors
    /// It cannot be opened, or is no file: nobody could end a sensor that waits for a stream.
    pub(crate) fn open(path: &Path, ports: Ports) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let is_stream = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        if is_stream {
            let source = io::Error::other("it is no file but a stream, which vxtap decap reads");
            return Err(OpenError { name, source });
        }
        let opened = Opened::open(&Input::File(path.to_owned()))?;
        let readout = Arc::new(Readout { name, packets: Mutex::default(), unread: Mutex::default() });
        Ok(Self { frames: Reading::Opened(opened), ports, readout })
    }

    /// Returns what is known of the capture.
    pub(crate) fn readout(&self) -> Arc<Readout> {
        Arc::clone(&self.readout)
    }
}

impl Source for CaptureSource {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        self.frames = match std::mem::replace(&mut self.frames, Reading::Over) {
            Reading::Opened(opened) => match opened.reader(&Arc::default()) {
                Ok(frames) => Reading::Begun(Box::new(frames)),
                Err(error) => self.readout.over(Some(Unread::at(error, 0, 0))),
            },
            reading => reading,
        };
        let Reading::Begun(frames) = &mut self.frames else { return Ok(Received::End) };
        let mut packets = self.readout.packets.lock();
        let mut lent = 0;
        for _ in 0..LOOK {
            if lent >= limit {
                break;
            }
            let unread = match frames.next_frame() {
                Ok(Some(ref frame)) => {
                    lent += usize::from(lend(frame, &self.ports, &mut packets, deliver));
                    continue;
                }
                Ok(None) => None,
                Err(error) => Some(Unread::at(error, frames.offset(), packets.counts.read)),
            };
            self.frames = self.readout.over(unread);
            break;
        }
        match (lent, &self.frames) {
            (0, Reading::Over) => Ok(Received::End),
            _ => Ok(Received::Datagrams(lent)),
        }
    }
}

/// Lends the datagram that a frame is, or that it completes. Returns whether there is one.
#[inline]
fn lend(frame: &Frame<'_>, ports: &Ports, packets: &mut Packets, deliver: &mut impl FnMut(&Datagram<'_>)) -> bool {
    packets.counts.read += 1;
    let Some(framing) = Framing::of(frame.link_type) else {
        packets.counts.other(Other::LinkType);
        return false;
    };
    let uncarried = match carried(framing, frame.data, ports) {
        Ok(carried) => return lend_carried(frame, &carried, packets, deliver),
        Err(uncarried) => uncarried,
    };
    match uncarried {
        Uncarried::Other(reason) => {
            packets.other(framing, frame, reason);
            packets.counts.other(reason);
        }
        Uncarried::Outer(reason) => match packets.outer(framing, frame, reason) {
            Came::Nothing => {}
            Came::Other => packets.counts.other(Other::NoTunnel),
            Came::Whole { of, bytes } => match carried_whole(of, &bytes, ports) {
                Ok(carried) => return lend_carried(frame, &carried, packets, deliver),
                Err(Uncarried::Other(reason)) => packets.counts.other(reason),
                Err(Uncarried::Outer(reason)) => packets.counts.outer(reason),
            },
        },
    }
    false
}

/// Lends a datagram. One of which the capture kept too little for a frame is none.
#[inline]
fn lend_carried(
    frame: &Frame<'_>,
    carried: &Carried<'_>,
    packets: &mut Packets,
    deliver: &mut impl FnMut(&Datagram<'_>),
) -> bool {
    let Carried { source, port, encapsulation, payload, length } = *carried;
    if payload.len() < length && encapsulation.decapsulate(payload, length).is_err() {
        packets.counts.outer(OuterError::CutShort);
        return false;
    }
    let timestamp = Timestamp::from_ns(frame.timestamp);
    deliver(&Datagram { payload, length, source, port, encapsulation, timestamp, ..Datagram::empty() });
    true
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::wire::Encapsulation;

    fn open(bytes: &[u8]) -> (tempfile::NamedTempFile, CaptureSource) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut ports = Ports::none(false);
        ports.add(4789, Encapsulation::Vxlan);
        let source = CaptureSource::open(file.path(), ports).unwrap();
        (file, source)
    }

    /// Receives until the end, at most `limit` at a time. Returns how many came in each turn.
    fn turns(source: &mut CaptureSource, limit: usize) -> Vec<usize> {
        let mut turns = Vec::new();
        loop {
            let mut lent = 0;
            let received = source.receive(limit, &mut |datagram| {
                assert_eq!((datagram.port, datagram.length), (4789, datagram.payload.len()));
                lent += 1;
            });
            match received.unwrap() {
                Received::Datagrams(n) => {
                    assert_eq!(n, lent);
                    turns.push(n);
                }
                Received::End => {
                    assert_eq!((lent, source.receive(limit, &mut |_| panic!()).unwrap()), (0, Received::End));
                    return turns;
                }
            }
        }
    }

    const CAPTURE: &[u8] = include_bytes!("../../../fixtures/outer/ipv4.pcap");

    #[test]
    fn it_lends_no_more_than_it_is_asked_for_and_ends() {
        let all: usize = turns(&mut open(CAPTURE).1, usize::MAX).iter().sum();
        assert!(all > 5);
        let (_file, mut source) = open(CAPTURE);
        let by_threes = turns(&mut source, 3);
        assert_eq!(by_threes.iter().sum::<usize>(), all);
        assert!(by_threes.iter().all(|n| *n <= 3), "{by_threes:?}");
        let readout = source.readout();
        assert!(readout.take_unread().is_none());
        let counts = &readout.packets.lock().counts;
        assert_eq!(counts.read, all as u64 + counts.not_received());
    }

    #[test]
    fn one_frame_is_told_as_one() {
        let broken = |frames| {
            let fault = ReadError::Io { name: "x".into(), source: io::ErrorKind::UnexpectedEof.into() };
            Unread::at(fault, 9, frames).to_string()
        };
        assert!(broken(1).ends_with("; at byte 9 of the capture, behind 1 whole frame"), "{}", broken(1));
        assert!(broken(0).ends_with("behind 0 whole frames") && broken(2).ends_with("behind 2 whole frames"));
    }

    #[test]
    fn what_is_wrong_is_known_behind_what_is_whole() {
        let whole: usize = turns(&mut open(CAPTURE).1, 100).iter().sum();
        for (bytes, least) in [(&CAPTURE[..CAPTURE.len() - 1], whole - 1), (b"no capture at all, but long enough", 0)] {
            let (_file, mut source) = open(bytes);
            assert_eq!(turns(&mut source, 100).iter().sum::<usize>(), least);
            assert!(source.readout().take_unread().is_some());
        }
    }

    #[test]
    fn of_a_compressed_capture_that_yields_nothing_the_byte_is_told() {
        let (_file, mut source) = open(&[0x28, 0xb5, 0x2f, 0xfd]);
        assert!(turns(&mut source, 100).is_empty());
        let told = source.readout().take_unread().unwrap().to_string();
        let end = ": the compressed stream ends before its end mark; at byte 0 of the capture, behind 0 whole frames";
        assert!(told.ends_with(end), "{told}");
    }
}
