//! `vxtap watch` has a running sensor send it frames as they come.
//!
//! It asks on the control socket, and one loop does the rest: it waits for the sensor, for whoever
//! takes the frames, and for a signal, so that none of them holds it up. While whoever takes the
//! frames is slow, it reads nothing from the sensor, and so the sensor's queue fills: it is the
//! sensor that drops frames and counts them, and it says how many when the watch is over.

pub mod extcap;
mod frames;
mod response;
mod taker;

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::frames::Frames;
use self::response::Content;
use self::taker::{Taker, is_gone};
use crate::control::head::Head;
use crate::control::{Client, ClientError};

/// The time between two looks whether a signal has come.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The time for which the sensor's answer is waited for.
const ANSWER: Duration = Duration::from_secs(15);
/// The time for which the end is waited for, from the signal on.
const END: Duration = Duration::from_secs(2);
/// Why it is over where the end did not come by then.
const UNTAKEN: &str = "ended as asked, before all was taken";
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// What is to be watched, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The name of a session, or VNI and source; all sessions where there is none.
    pub session: Option<String>,
    /// The expression that frames satisfy.
    pub filter: Option<String>,
    /// Bytes of a frame that are wanted at most.
    pub snaplen: Option<u32>,
    /// Frames after which it ends.
    pub count: Option<u64>,
    /// The time after which it ends.
    pub duration: Option<Duration>,
}

impl Asked {
    /// Returns the path that a sensor is asked for.
    fn path(&self) -> String {
        let words = [
            ("session", self.session.clone()),
            ("filter", self.filter.clone()),
            ("snaplen", self.snaplen.map(|bytes| bytes.to_string())),
            ("limit", self.count.map(|frames| frames.to_string())),
            ("duration", self.duration.map(|duration| format!("{}ms", duration.as_millis()))),
        ];
        let mut path = "/watch".to_owned();
        for (name, value) in words.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            path.push(if path.contains('?') { '&' } else { '?' });
            path += name;
            path.push('=');
            escape(&value, &mut path);
        }
        path
    }
}

/// Appends a value as a query has it.
fn escape(value: &str, to: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

/// The place where the frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Standard output.
    Standard,
    /// A file or a named pipe.
    File(PathBuf),
}

/// The reasons why a watch cannot begin, or ends early.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no sensor, or it refuses.
    #[error(transparent)]
    Sensor(#[from] ClientError),
    /// The sensor does not answer as it should.
    #[error("cannot watch: {0}")]
    Answer(io::Error),
    /// Frames cannot be written.
    #[error("cannot write frames to {to}: {error}")]
    Write {
        /// The place.
        to: String,
        /// The error that the kernel returned.
        error: io::Error,
    },
}

/// What has come of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Frames that were written.
    pub frames: u64,
    /// Frames that came faster than they were taken; none where the sensor did not say.
    pub dropped: Option<u64>,
    /// Frames of all sessions that were redirected in front of the sensor, and so did not come.
    pub redirected: u64,
    /// Why it is over; none where the sensor is gone and did not say it.
    pub why: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frame{} came", self.frames, if self.frames == 1 { "" } else { "s" })?;
        match self.dropped {
            Some(0) => f.write_str(", none was dropped")?,
            Some(dropped) => write!(f, ", {dropped} were dropped because they were not taken as fast as they came")?,
            None => f.write_str(", and it is not known how many were dropped")?,
        }
        if self.redirected > 0 {
            write!(f, ", {} of all sessions were redirected and did not come", self.redirected)?;
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => f.write_str(": the sensor went away"),
        }
    }
}

/// Watches until the end, or until `stop`.
///
/// # Errors
/// There is no sensor, it refuses, or frames cannot be written.
pub fn run(client: &Client, asked: &Asked, to: &To, stop: &AtomicBool) -> Result<Outcome, WatchError> {
    let mut stream = client.connect_local()?;
    let (head, rest) = ask(&mut stream, &asked.path()).map_err(WatchError::Answer)?;
    if head.status != 200 || !head.is_chunked() {
        return Err(refused(&head, rest, stream).into());
    }
    if let Some(note) = head.get("vxtap-note") {
        tracing::warn!("{note}");
    }
    let output = head.get("vxtap-output").unwrap_or_default().to_owned();
    tracing::info!(output, "watching; Ctrl-C ends it");
    let taker = match to {
        To::Standard => Taker::standard(),
        To::File(path) => Taker::of(path),
    };
    let write = |error| WatchError::Write { to: to.to_string(), error };
    let watch = Watch { stream, content: Content::new(), taker: taker.map_err(write)?, frames: Frames::new() };
    watch
        .run(rest, stop, || {
            let _ = client.order(&format!("/watch/end?output={output}"));
        })
        .map_err(|failed| match failed {
            Failed::Read(error) => WatchError::Answer(error),
            Failed::Write(error) => write(error),
        })
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Asks, and returns the head of the answer with what has come behind it.
fn ask(stream: &mut UnixStream, path: &str) -> io::Result<(Head, Vec<u8>)> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n");
    // One that refuses before it has read may have closed already, and what it said is there.
    let sent = stream.write_all(request.as_bytes());
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            sent?;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sensor has ended"));
        }
        bytes.extend(buffer.iter().take(n));
        if let Some((head, length)) = Head::read(&bytes)? {
            bytes.drain(..length);
            return Ok((head, bytes));
        }
    }
}

/// Returns what the sensor says why it refuses.
fn refused(head: &Head, mut text: Vec<u8>, stream: UnixStream) -> ClientError {
    let _ = stream.take(BUFFER as u64).read_to_end(&mut text);
    ClientError::Refused { status: head.status, text: String::from_utf8_lossy(&text).trim_end().to_owned() }
}

/// A watch that has begun.
#[derive(Debug)]
struct Watch {
    stream: UnixStream,
    content: Content,
    taker: Taker,
    frames: Frames,
}

/// The side that failed.
enum Failed {
    Read(io::Error),
    Write(io::Error),
}

impl Watch {
    /// Carries frames to whoever takes them, beginning with those in `rest`. Has the sensor `end`
    /// when nobody does any more, or `stop` says so.
    fn run(mut self, rest: Vec<u8>, stop: &AtomicBool, end: impl Fn()) -> Result<Outcome, Failed> {
        self.content.read(&rest, self.taker.room()).map_err(Failed::Read)?;
        let mut buffer = vec![0; BUFFER];
        let (mut until, mut is_gone_taker) = (None, false);
        loop {
            if until.is_none() && (is_gone_taker || stop.load(Ordering::Relaxed)) {
                end();
                until = Some(Instant::now() + END);
            }
            if is_gone_taker {
                self.taker.room();
            }
            if self.content.is_whole() && self.taker.is_idle() {
                return Ok(self.outcome());
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                let outcome = self.outcome();
                return Ok(Outcome { why: outcome.why.or(Some(UNTAKEN.into())), ..outcome });
            }
            let (taker, sensor) = self.wait(is_gone_taker).map_err(Failed::Read)?;
            if is_gone(taker) {
                is_gone_taker = true;
            } else if taker.contains(PollFlags::OUT) {
                match self.taker.write() {
                    Ok(written) => self.frames.see(written),
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => is_gone_taker = true,
                    Err(error) => return Err(Failed::Write(error)),
                }
            }
            if !sensor.is_empty() && self.taker.is_idle() {
                match self.stream.read(&mut buffer) {
                    // The sensor has gone, and did not say how it was.
                    Ok(0) => return Ok(self.outcome()),
                    Ok(n) => {
                        let bytes = buffer.get(..n).unwrap_or_default();
                        self.content.read(bytes, self.taker.room()).map_err(Failed::Read)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(self.outcome()),
                    Err(error) => return Err(Failed::Read(error)),
                }
            }
        }
    }

    /// Waits for whoever takes the frames, and for the sensor where nothing waits to be taken.
    /// Returns what has happened to them.
    fn wait(&self, is_gone_taker: bool) -> io::Result<(PollFlags, PollFlags)> {
        let reads = self.taker.is_idle() && !self.content.is_whole();
        let sensor = if reads { PollFlags::IN } else { PollFlags::empty() };
        let mut both = [PollFd::new(&self.stream, sensor), self.taker.awaited()];
        // One that is gone says so all the time, and so does a sensor that is done.
        let awaited = match (reads, is_gone_taker) {
            (true, true) => both.get_mut(..1),
            (false, false) => both.get_mut(1..),
            _ => both.get_mut(..),
        };
        match poll(awaited.unwrap_or_default(), Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => Ok((both[1].revents(), both[0].revents())),
            Err(error) => Err(error.into()),
        }
    }

    fn outcome(&self) -> Outcome {
        let number = |name| self.content.trailer(name).and_then(|number| number.parse().ok());
        Outcome {
            frames: self.frames.count(),
            dropped: number("vxtap-dropped"),
            redirected: number("vxtap-redirected").unwrap_or(0),
            why: self.content.trailer("vxtap-end").map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests;
