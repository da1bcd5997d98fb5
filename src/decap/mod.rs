//! `vxtap decap` takes the wraps of mirrors off captures: the sensor's engine without a network, a
//! configuration or privilege.
//!
//! ```text
//! CaptureReader ──frame──▶ Strip: wraps off ──frame──▶ Step: session, ledger ──lane──▶ output
//! ```
//!
//! The thread that reads takes every step up to the lane, whose chunks the output's thread writes.
//! The output is one file with the frames in their order, or the sensor's own, with a directory for
//! each session. A lane waits here until there is room: nothing is lost for want of it.

mod error;
mod plan;
mod report;
mod strip;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::strip::Strip;
use crate::condition::Condition;
use crate::console::Console;
use crate::lane::{CHUNK_MEMORY, LanePlan, WhenFull};
use crate::pipeline::inline::Inline;
use crate::pipeline::{Destination, OutputPlan};
use crate::record::pcap;
use crate::route::Selection;
use crate::source::capture::{self, Opened};

pub use self::error::{DecapError, Unread};
pub use self::plan::{DecapPlan, Others, To};
pub use self::report::{Read, Report};
pub use crate::pipeline::decap::Timestamps;
pub use crate::source::capture::Input;

/// Sessions that are told apart at most.
const SESSIONS: u32 = 1 << 20;
/// Memory for frames on their way to the output.
const QUEUE: usize = 2 << 20;
/// Frames between two looks at whether to go on.
const LOOK: u64 = 4096;

/// Strips what the plan says, until it is done or `stop` becomes true.
///
/// # Errors
/// A capture cannot be opened, or the output not be made, before anything is stripped. Damaged
/// captures and failures on the way are in the report instead.
pub fn run(plan: &DecapPlan, stop: &Arc<AtomicBool>, console: &Console) -> Result<Report, DecapError> {
    let mut inputs = Vec::with_capacity(plan.inputs.len());
    for input in &plan.inputs {
        inputs.push(Opened::open(input)?);
    }
    if let To::Stream(stream) = &plan.to
        && let Some(path) = &stream.path
        && inputs.iter().any(|input| input.is_same(path))
    {
        return Err(DecapError::Same(path.clone()));
    }
    if let To::Interface(interface) = &plan.to
        && !interface.exists()
    {
        return Err(DecapError::NoInterface(interface.name.clone()));
    }
    let outputs: Vec<OutputPlan> = output(&plan.to).into_iter().collect();
    let mut inline = Inline::start(&outputs, SESSIONS)?;
    inline.step.mask(plan.vni_mask);
    inline.step.take_times_of(plan.timestamps);
    let total = inputs.iter().map(Opened::size).sum::<Option<u64>>();
    let bar = total.map(|total| console.progress(total));
    let mut run = Run { conditions: inline.conditions(), inline, strip: Strip::new(plan), stop };
    let mut captures = Vec::with_capacity(inputs.len());
    let mut before = 0;
    for input in inputs {
        let size = input.size().unwrap_or(0);
        let read = run.capture(input, |offset| {
            if let Some(bar) = &bar {
                bar.set_position(before + offset);
            }
        });
        before += size;
        let ends = matches!(read.unread, Some(Unread::Other { .. }));
        captures.push(read);
        if ends {
            break;
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let Run { inline, strip, .. } = run;
    let counts = strip.end();
    let outcome = inline.end();
    let mut report = Report {
        captures,
        counts,
        ledger: outcome.snapshot,
        failures: outcome.failures,
        others: (!matches!(plan.to, To::Nowhere)).then_some(plan.others),
    };
    if !report.closes() {
        report.failures.push("not every frame read is accounted for: please report this".into());
    }
    Ok(report)
}

/// Plans the output.
fn output(to: &To) -> Option<OutputPlan> {
    let (name, to, snaplen) = match to {
        To::Stream(plan) => ("frames", Destination::Stream(plan.clone()), pcap::WHOLE),
        To::Directory(plan) => ("pcap", Destination::Files((**plan).clone()), plan.snaplen),
        To::Interface(plan) => (plan.name.as_str(), Destination::Interface(plan.clone()), pcap::WHOLE),
        To::Nowhere => return None,
    };
    let lane = LanePlan {
        chunks: QUEUE / CHUNK_MEMORY,
        // Frames do not linger where a live input has to be waited for: see [`Run::capture`].
        linger: Duration::ZERO,
        snaplen: snaplen as usize,
        sessions: 0,
        when_full: WhenFull::Wait,
    };
    Some(OutputPlan { name: name.into(), selection: Selection::default(), lane, to, essential: true })
}

struct Run<'a> {
    inline: Inline,
    strip: Strip,
    conditions: Vec<Arc<Condition>>,
    stop: &'a Arc<AtomicBool>,
}

impl Run<'_> {
    /// Strips one capture. `progress` hears how many bytes of the file were read.
    fn capture(&mut self, input: Opened, progress: impl Fn(u64)) -> Read {
        let (name, is_live, read) = (input.name.clone(), input.size().is_none(), Arc::clone(&input.read));
        let mut frames = 0;
        if self.ends() {
            return self.left(name, frames);
        }
        let mut reader = match input.reader(self.stop) {
            Ok(reader) => reader,
            Err(_) if is_live && self.ends() => return self.left(name, frames),
            Err(error) => return Read { name, frames, unread: Some(capture::Unread::at(error, 0, 0).into()) },
        };
        let unread = loop {
            if frames % LOOK == 0 {
                if self.ends() {
                    return self.left(name, frames);
                }
                progress(read.load(Ordering::Relaxed));
            }
            if is_live && !reader.has_record() {
                // The next frame may be long in coming.
                self.inline.step.tend(Instant::now());
            }
            match reader.next_frame() {
                // It is lent where it is: a copy would wait until all that was written before is
                // in the cache.
                Ok(Some(ref frame)) => {
                    if let Err(reason) = self.strip.frame(frame, &mut self.inline.step) {
                        break Some(Unread::Other { name: name.clone(), frame: frames + 1, reason: reason.label() });
                    }
                    frames += 1;
                }
                Ok(None) => break None,
                // A stream that is waited for no more ends with an error.
                Err(_) if is_live && self.ends() => return self.left(name, frames),
                Err(error) => break Some(capture::Unread::at(error, reader.offset(), frames).into()),
            }
        };
        Read { name, frames, unread }
    }

    /// Tells of a capture of which no more than so many frames are read.
    fn left(&self, name: String, frames: u64) -> Read {
        let interrupted = self.stop.load(Ordering::Relaxed);
        Read { unread: Some(Unread::Left { name: name.clone(), frames, interrupted }), name, frames }
    }

    /// Says whether there is no use in going on.
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.conditions.iter().any(|output| output.failure().is_some())
    }
}
