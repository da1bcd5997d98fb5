//! `vxtap replay` plays captures as mirror traffic.
//!
//! Each Ethernet frame of the captures becomes the payload of one VXLAN datagram, as a cloud's
//! traffic mirror would send it: outer UDP source port chosen by the inner flow
//! ([`crate::wire::flow`]), UDP checksum zero, hop limit 255, DF clear. The frames leave in the
//! order of the files.
//!
//! ```text
//! CaptureReader ──frame──▶ Schedule ──when due──▶ Sender: batch ──sendmmsg──▶ socket of a port
//! ```
//!
//! A datagram's source port is its socket's, so there are up to 128 connected sockets, opened when
//! first needed. One batch goes through one socket; to keep the order, a frame of another port ends
//! the batch.
//!
//! Nothing is lost silently. Frames that the kernel does not take are in the [`Report`], by reason,
//! and a damaged capture is sent up to the damage.

mod pace;
mod report;
mod sender;

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::read::{CaptureReader, ReadError};
use crate::wire::VniRange;

pub use pace::Pace;
pub use report::Report;

use pace::Schedule;
use sender::Sender;

/// The longest sleep before the stop flag is looked at again.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A capture to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// A capture that is part of the program.
    Memory {
        /// The name that messages give it.
        name: &'static str,
        /// The file's bytes.
        bytes: &'static [u8],
    },
}

/// What to send, where to, and how, is in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Captures, in the order in which they are sent.
    pub inputs: Vec<Input>,
    /// The address that the datagrams go to.
    pub to: SocketAddr,
    /// VNIs that frames take turns in.
    pub vni: VniRange,
    /// The pace at which frames are due.
    pub pace: Pace,
    /// How many times all inputs are sent.
    pub loops: u64,
    /// Source address of the datagrams; the route decides if there is none.
    pub from: Option<IpAddr>,
    /// True where the outer UDP checksum is computed; otherwise it is zero.
    pub checksum: bool,
    /// True where a progress bar is drawn, if standard error is a terminal.
    pub progress: bool,
}

/// The reasons why nothing, or nothing more, can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(ReadError),
    /// An input that is not a regular file is to be played several times, but can be read only
    /// once.
    #[error("{} is not a regular file, so it can be played only once: copy it to a file, or leave out --loop", .0.display())]
    Once(PathBuf),
    /// Source and target address are of different kinds.
    #[error("the source address {from} and the target {to} are not both IPv4 or both IPv6")]
    Family {
        /// The source address asked for.
        from: IpAddr,
        /// The target.
        to: SocketAddr,
    },
    /// The source address is not one of this host's.
    #[error("{from} is not an address of this host; `ip address` lists those that --from can have")]
    NotOurs {
        /// The source address asked for.
        from: IpAddr,
    },
    /// An outer source port is not free.
    #[error("cannot bind UDP port {port} of {from}, one of 65408 to 65535 that mirror traffic comes from: {source}{}", advice(.source))]
    Bind {
        /// The source address.
        from: IpAddr,
        /// The port.
        port: u16,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The target cannot be reached from here.
    #[error("cannot send to {to}: {source}{}", advice(.source))]
    Connect {
        /// The target.
        to: SocketAddr,
        /// The error that the system returned.
        source: io::Error,
    },
    /// A socket cannot be made as needed.
    #[error("cannot {action}: {source}{}", advice(.source))]
    Socket {
        /// The step that failed.
        action: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
}

/// Says what to do about an error of the system; the text is appended to the error.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "; another program holds it: `ss -unap` shows which. Replays share ports only if the same user runs them"
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "; there is no route: see `ip route get ADDR`",
        Some(libc::EACCES | libc::EPERM) => {
            "; is it a broadcast address, or does a firewall or a security module forbid it?"
        }
        Some(libc::EINVAL) => {
            "; a link-local target needs its interface as in [fe80::1%2]:4789, and a loopback source reaches only \
             this host"
        }
        Some(libc::EMFILE | libc::ENFILE) => "; replay needs up to 128 sockets: raise the limit, see `ulimit -n`",
        Some(libc::EAFNOSUPPORT) => "; this host has no such addresses, is IPv6 turned off?",
        _ => "",
    }
}

/// Sends what the plan says, until it is done or `stop` becomes true.
///
/// # Errors
/// A file cannot be opened, or a socket cannot be made or connected, before anything is sent. Later
/// failures, errors of single frames, and damaged captures are in the report instead.
pub fn run(plan: &ReplayPlan, stop: &AtomicBool) -> Result<Report, ReplayError> {
    let sizes = plan.inputs.iter().map(Input::size).collect::<Result<Vec<u64>, _>>().map_err(ReplayError::Open)?;
    if plan.loops > 1 {
        for input in &plan.inputs {
            input.can_be_played_again()?;
        }
    }
    let mut replay = Replay {
        sender: Sender::new(plan, stop)?,
        schedule: Schedule::new(plan.pace, Instant::now()),
        bar: plan.progress.then(|| progress_bar(sizes.iter().sum::<u64>().saturating_mul(plan.loops))),
        stop,
    };
    let started = Instant::now();
    // Each error is kept with the number of its input. Each turn may find another error, but mostly
    // it is the same again.
    let mut damaged: Vec<(usize, ReadError)> = Vec::new();
    let mut played = 0u64;
    'all: for _ in 0..plan.loops {
        for (number, (input, size)) in plan.inputs.iter().zip(&sizes).enumerate() {
            let ended = match input {
                Input::File(path) => replay.play(CaptureReader::open(path), played)?,
                Input::Memory { name, bytes } => replay.play(CaptureReader::new(*bytes, *name), played)?,
            };
            played = played.saturating_add(*size);
            if let Err(error) = ended {
                let text = error.to_string();
                if !damaged.iter().any(|(of, known)| *of == number && known.to_string() == text) {
                    damaged.push((number, error));
                }
            }
            if stop.load(Ordering::Relaxed) {
                break 'all;
            }
        }
    }
    if let Some(bar) = &replay.bar {
        bar.finish_and_clear();
    }
    let elapsed = started.elapsed();
    let mut report = replay.sender.finish()?;
    report.elapsed = elapsed;
    report.damaged = damaged.into_iter().map(|(_, error)| error).collect();
    report.interrupted = stop.load(Ordering::Relaxed);
    Ok(report)
}

struct Replay<'a> {
    sender: Sender<'a>,
    schedule: Schedule,
    bar: Option<ProgressBar>,
    stop: &'a AtomicBool,
}

impl Replay<'_> {
    /// Sends one capture. The progress bar shows `played` at its start. The inner result says how
    /// the capture ended.
    fn play<R: Read>(
        &mut self,
        reader: Result<CaptureReader<R>, ReadError>,
        played: u64,
    ) -> Result<Result<(), ReadError>, ReplayError> {
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        self.schedule.begin_capture();
        let ended = loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Ok(()));
            }
            let offset = reader.offset();
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Some(due) = self.schedule.due(frame.timestamp) {
                // The frames in the batch are due already and must not wait for this one.
                self.sender.flush()?;
                if !self.wait(due) {
                    return Ok(Ok(()));
                }
            }
            self.sender.offer(&frame)?;
            if let Some(bar) = &self.bar {
                bar.set_position(played.saturating_add(offset));
            }
        };
        self.sender.flush()?;
        Ok(ended)
    }

    /// Sleeps until `due`; returns `false` if told to stop before.
    fn wait(&self, due: Instant) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(STOP_CHECK));
        }
    }
}

impl Input {
    /// Returns the length in bytes, or 0 if it is not known; an error if the input cannot be
    /// opened.
    fn size(&self) -> Result<u64, ReadError> {
        let path = match self {
            Input::Memory { bytes, .. } => return Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Input::File(path) => path,
        };
        let look = || {
            let metadata = fs::metadata(path)?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // A pipe can be opened only once.
            if metadata.is_file() {
                fs::File::open(path)?;
            }
            Ok(metadata.len())
        };
        look().map_err(|source| ReadError::Io { name: path.display().to_string(), source })
    }

    /// Says whether the input can be read again. A pipe is empty, or its writer gone, when it is
    /// opened again.
    fn can_be_played_again(&self) -> Result<(), ReplayError> {
        match self {
            // A file that has vanished is reported when it is played.
            Input::File(path) if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) => {
                Err(ReplayError::Once(path.clone()))
            }
            Input::File(_) | Input::Memory { .. } => Ok(()),
        }
    }
}

fn progress_bar(length: u64) -> ProgressBar {
    // Indicatif hides the bar where standard error is not a terminal.
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
