//! `vxtap replay` plays captures as mirror traffic.
//!
//! Each Ethernet frame of the captures becomes the payload of one datagram, of VXLAN or another
//! [`Wrap`], as a cloud's traffic mirror would send it: outer UDP source port chosen by the inner
//! flow ([`crate::wire::flow`]), UDP checksum zero, hop limit 255, DF clear. The frames leave in
//! the order of the files.
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

mod error;
mod pace;
mod plan;
mod report;
mod sender;
mod wrap;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::console::Console;
use crate::record::read::{CaptureReader, ReadError};

pub use self::error::ReplayError;
pub use self::pace::Pace;
pub use self::plan::{Input, ReplayPlan};
pub use self::report::Report;
pub use self::wrap::Wrap;

use self::pace::Schedule;
use self::sender::Sender;

/// The longest sleep before the stop flag is looked at again.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Sends what the plan says, until it is done or `stop` becomes true.
///
/// # Errors
/// A file cannot be opened, or a socket cannot be made or connected, before anything is sent. Later
/// failures, errors of single frames, and damaged captures are in the report instead.
pub fn run(plan: &ReplayPlan, stop: &AtomicBool, console: &Console) -> Result<Report, ReplayError> {
    let sizes = plan.inputs.iter().map(Input::size).collect::<Result<Vec<u64>, _>>().map_err(ReplayError::Open)?;
    if plan.loops > 1 {
        for input in &plan.inputs {
            input.can_be_played_again()?;
        }
    }
    let mut replay = Replay {
        sender: Sender::new(plan, stop)?,
        schedule: Schedule::new(plan.pace, Instant::now()),
        bar: plan.progress.then(|| console.progress(sizes.iter().sum::<u64>().saturating_mul(plan.loops))),
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
