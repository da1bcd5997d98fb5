//! The outputs are capture files and interfaces.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::{LEAST_ROTATE_SIZE, LEAST_ROTATE_TIME, PlanError};
use super::super::key;
use super::super::sessions::only;
use super::super::settings::{FILES, Files, Interface, Output, Settings, TapMode};
use super::queue;
use crate::archive::{ArchivePlan, BudgetPlan, MinFree};
use crate::host::HostFacts;
use crate::lane::{CHUNK_MEMORY, LanePlan, WhenFull};
use crate::pipeline::{Destination, OutputPlan};
use crate::route::{Expression, Selection, Share};
use crate::sink::file::{Clock, FilePlan, open_files};
use crate::sink::interface::{InterfacePlan, Kind};

/// The time that a frame for an interface waits for more: a reader expects the frame at once.
const INTERFACE_LINGER: Duration = Duration::from_millis(1);

/// Plans all outputs, with `queue_bytes` each for `workers` workers.
///
/// # Errors
/// An output cannot be as it is asked for, two have one name, or the memory does not do.
pub(super) fn plan(
    settings: &Settings,
    host: &HostFacts,
    workers: usize,
    queue_bytes: u64,
) -> Result<Vec<OutputPlan>, PlanError> {
    let queue = usize::try_from(queue_bytes).unwrap_or(usize::MAX);
    let mut outputs: Vec<OutputPlan> = Vec::new();
    let mut expressions = Expressions { settings, known: Vec::new() };
    for (name, output) in &settings.output.0 {
        match output {
            Output::Pcap(asked) => {
                check(settings, name, asked)?;
                let expression = expressions.compile(name, asked.filter.as_deref())?;
                let selection = Selection { expression, ..Selection::default() };
                outputs.push(OutputPlan { selection, ..files(settings, host, name, asked, Memory { queue, workers }) });
            }
            Output::Tap(asked) | Output::Tun(asked) => {
                let kind = if matches!(output, Output::Tap(_)) { Kind::Tap } else { Kind::Tun };
                let expression = expressions.compile(name, asked.filter.as_deref())?;
                outputs.extend(interfaces(settings, name, asked, kind, expression, Memory { queue, workers })?);
            }
        }
    }
    check_names(&outputs)?;
    if outputs.iter().any(|output| output.lane.chunks < 2) {
        return Err(PlanError::Queue {
            said: settings.origins.said(&key::QUEUE),
            queue: queue_bytes,
            workers,
            least: queue::least(workers),
        });
    }
    Ok(outputs)
}

/// The expressions that were compiled, each once: outputs with one in common share it.
struct Expressions<'a> {
    settings: &'a Settings,
    known: Vec<Arc<Expression>>,
}

impl Expressions<'_> {
    /// Compiles the expression of the output `name`, if it has one.
    fn compile(&mut self, name: &str, text: Option<&str>) -> Result<Option<Arc<Expression>>, PlanError> {
        let Some(text) = text else { return Ok(None) };
        if let Some(known) = self.known.iter().find(|known| known.text() == text) {
            return Ok(Some(Arc::clone(known)));
        }
        let said = || self.settings.origins.said_of(&key::FILTER, name);
        let new = Expression::new(text).map_err(|error| PlanError::Filter { said: said(), error })?;
        let new = Arc::new(new);
        self.known.push(Arc::clone(&new));
        Ok(Some(new))
    }
}

/// Says whether each output has a name of its own, by which the ledger has it.
fn check_names(outputs: &[OutputPlan]) -> Result<(), PlanError> {
    let mut names = HashSet::new();
    for output in outputs {
        // The name of the files is kept for them, also where there are none.
        let is_kept = output.to.files().is_none() && output.name == FILES;
        if is_kept || !names.insert(output.name.as_str()) {
            return Err(PlanError::OutputName(output.name.clone()));
        }
    }
    Ok(())
}

/// The memory that an output has for its queue.
#[derive(Clone, Copy)]
struct Memory {
    /// The bytes of the queue, for all workers together.
    queue: usize,
    workers: usize,
}

/// Says whether files of this size and time, and their budget, go together.
fn check(settings: &Settings, name: &str, files: &Files) -> Result<(), PlanError> {
    let said = |key| settings.origins.said_of(key, name);
    let rotate = files.rotate_size.0;
    if rotate < LEAST_ROTATE_SIZE {
        return Err(PlanError::RotateSize { said: said(&key::ROTATE_SIZE), size: rotate });
    }
    if let Some(keep) = files.keep_bytes.map(|keep| keep.0)
        && keep < rotate
    {
        let (said, rotate_said) = (said(&key::KEEP_BYTES), said(&key::ROTATE_SIZE));
        return Err(PlanError::KeepBytes { said, keep, rotate_said, rotate });
    }
    if files.rotate_time.0 < LEAST_ROTATE_TIME {
        return Err(PlanError::RotateTime(said(&key::ROTATE_TIME)));
    }
    Ok(())
}

/// Plans the output for capture files.
fn files(settings: &Settings, host: &HostFacts, name: &str, files: &Files, memory: Memory) -> OutputPlan {
    let flush = settings.delivery.flush.0;
    // A quarter of the output's memory gathers records per session, the rest is chunks.
    let buffer_memory = memory.queue / 4;
    let plan = FilePlan {
        directory: files.directory.clone(),
        rotate_size: files.rotate_size.0,
        rotate_frames: files.rotate_frames,
        rotate_time: files.rotate_time.0,
        clock: Clock::Wall,
        snaplen: files.snaplen,
        // A record waits in its lane for half of that time at most, and for a quarter and a sweep
        // in the output.
        linger: flush / 4,
        buffer_memory,
        open_files: open_files(host.descriptors),
        format: files.format,
        compression: files.compress,
        direct: files.direct,
        archive: archive(files),
    };
    OutputPlan {
        name: name.to_owned(),
        selection: Selection::default(),
        lane: LanePlan {
            chunks: (memory.queue - buffer_memory) / memory.workers / CHUNK_MEMORY,
            linger: flush / 2,
            snaplen: files.snaplen as usize,
            sessions: settings.sessions.max,
            when_full: WhenFull::Drop,
        },
        to: Destination::Files(plan),
    }
}

/// Plans what becomes of complete files.
fn archive(files: &Files) -> ArchivePlan {
    let min_free = files.min_free.map(|free| free.0);
    ArchivePlan {
        sync: files.sync,
        hash: files.hash.0,
        budget: BudgetPlan {
            keep_bytes: files.keep_bytes.map(|keep| keep.0),
            keep_files: files.keep_files,
            keep_age: files.keep_age.map(|keep| keep.0),
            // Zero leaves nothing free, and nothing is removed for it.
            min_free: min_free.filter(|min| *min != MinFree::Bytes(0)),
            reserve: min_free.is_none().then_some(MinFree::Usual),
        },
        on_publish: files.on_publish.clone(),
    }
}

/// Plans the outputs that the output `name` stands for: an interface, or as many as share what
/// there is.
fn interfaces(
    settings: &Settings,
    name: &str,
    asked: &Interface,
    kind: Kind,
    expression: Option<Arc<Expression>>,
    memory: Memory,
) -> Result<Vec<OutputPlan>, PlanError> {
    let both = |error| PlanError::AllAndOthers { said: settings.origins.said_of(&key::INTERFACE_VNI, name), error };
    let vnis = only(asked.vni.iter().copied()).map_err(both)?.map(FromIterator::from_iter);
    let redirect = asked.mode == TapMode::Redirect;
    let output = |(name, share): (String, Option<Share>)| {
        let plan = InterfacePlan { name: name.clone(), kind, mtu: asked.mtu };
        OutputPlan {
            selection: Selection { vnis: Option::clone(&vnis), share, expression: expression.clone() },
            lane: LanePlan {
                chunks: memory.queue / memory.workers / CHUNK_MEMORY,
                linger: INTERFACE_LINGER,
                snaplen: usize::MAX,
                sessions: settings.sessions.max,
                when_full: WhenFull::Drop,
            },
            to: if redirect { Destination::Redirect(plan) } else { Destination::Interface(plan) },
            name,
        }
    };
    Ok(shares(asked.interface.as_deref().unwrap_or(name), asked.count).into_iter().map(output).collect())
}

/// Returns the interfaces that `name` stands for, and the share of each. With a count, the number
/// at the end of the name is that of the first.
fn shares(name: &str, count: Option<u32>) -> Vec<(String, Option<Share>)> {
    let Some(of) = count else { return vec![(name.to_owned(), None)] };
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let first: u32 = name.get(stem.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (0..of).map(|index| (format!("{stem}{}", first.saturating_add(index)), Some(Share { index, of }))).collect()
}
