//! The outputs are capture files and interfaces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::{LEAST_ROTATE_SIZE, LEAST_ROTATE_TIME, PlanError};
use super::super::sessions::only;
use super::super::settings::{FILES, Files, Interface, Output, Settings, TapMode, TapTag};
use super::expressions::Expressions;
use super::queue;
use crate::archive::{ArchivePlan, BudgetPlan, MinFree};
use crate::host::HostFacts;
use crate::lane::{CHUNK_MEMORY, LanePlan, WhenFull};
use crate::pipeline::{Destination, OutputPlan};
use crate::route::{Expression, Selection, Share};
use crate::setting::key;
use crate::sink::file::{Clock, FilePlan, open_files};
use crate::sink::interface::{InterfacePlan, Kind, fault_of_name};

/// The time that a frame for an interface waits for more: a reader expects the frame at once.
const INTERFACE_LINGER: Duration = Duration::from_millis(1);
/// The most bytes of a session's tag.
const TAG_BYTES: u32 = 8;

/// The most interfaces that conversations are spread over.
pub(super) const MOST_INTERFACES: u32 = 64;

/// The outputs as they are planned.
pub(super) struct Outputs {
    pub outputs: Vec<OutputPlan>,
    /// The name of each in the settings, where one can stand for several.
    pub asked_as: Vec<String>,
}

/// Plans all outputs, with `queue_bytes` each for `workers` workers. Adds to `wrong` what cannot be
/// as it is asked for: an output, two that have one name or directory, or the memory for all.
pub(super) fn plan<'s>(
    settings: &'s Settings,
    host: &HostFacts,
    workers: usize,
    queue_bytes: u64,
    expressions: &mut Expressions<'s>,
    wrong: &mut Vec<PlanError>,
) -> Outputs {
    let queue = usize::try_from(queue_bytes).unwrap_or(usize::MAX);
    let mut outputs: Vec<OutputPlan> = Vec::new();
    let mut asked_as: Vec<String> = Vec::new();
    for (name, output) in &settings.output.0 {
        let memory = Memory { queue, workers };
        let said = || settings.origins.said_of(&key::FILTER, name);
        let expression = expressions.compile(output.filter(), said, wrong);
        match output {
            Output::Pcap(asked) => {
                check(settings, name, asked, wrong);
                let selection = Selection { expression, ..Selection::default() };
                outputs.push(OutputPlan { selection, ..files(settings, host, name, asked, memory) });
            }
            Output::Tap(asked) | Output::Tun(asked) => {
                let kind = if matches!(output, Output::Tap(_)) { Kind::Tap } else { Kind::Tun };
                match interfaces(settings, name, asked, kind, expression, memory) {
                    Ok(planned) => outputs.extend(planned),
                    Err(error) => wrong.push(error),
                }
            }
        }
        for output in outputs.get(asked_as.len()..).unwrap_or_default() {
            wrong.extend(check_interface(settings, name, output));
        }
        asked_as.resize(outputs.len(), name.clone());
    }
    check_names(settings, &outputs, &asked_as, wrong);
    if outputs.iter().any(|output| output.lane.chunks < 2) {
        wrong.push(PlanError::Queue {
            said: settings.origins.said(&key::QUEUE),
            queue: queue_bytes,
            workers,
            least: queue::least(workers),
        });
    }
    Outputs { outputs, asked_as }
}

/// Says whether each output has a name of its own, by which the ledger has it, and an interface or
/// a directory of its own. `asked_as` has the names by which the settings have them.
fn check_names(settings: &Settings, outputs: &[OutputPlan], asked_as: &[String], wrong: &mut Vec<PlanError>) {
    let said = |key: &key::Key, name: &str| settings.origins.said_of(key, name);
    let named = |name: &str| {
        let is_files = settings.output.files().any(|(files, _)| files == name);
        said(if is_files { &key::NO_WRITE } else { &key::TAP }, name)
    };
    let (mut names, mut interfaces, mut directories) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (output, asked) in outputs.iter().zip(asked_as) {
        let asked = asked.as_str();
        let taken = |name: &str, other: Option<&str>| {
            let (said, other) = (named(asked), other.map(named));
            PlanError::OutputName { said, other, name: name.to_owned() }
        };
        let interface = match &output.to {
            Destination::Files(_) | Destination::Watch(_) | Destination::Stream(_) => None,
            Destination::Interface(plan) | Destination::Redirect(plan) => Some(plan.name.as_str()),
        };
        let interface_of = interface.and_then(|interface| interfaces.insert(interface, asked));
        // The name of the files is kept for them, also where there are none.
        let is_kept = interface.is_some() && output.name == FILES;
        let other = names.insert(output.name.as_str(), asked);
        if is_kept || other.is_some() {
            wrong.push(taken(&output.name, other));
        } else if let (Some(interface), Some(other)) = (interface, interface_of) {
            wrong.push(taken(interface, Some(other)));
        }
        if let Some(files) = output.to.files()
            && let Some(other) = directories.insert(files.directory.as_path(), asked)
        {
            let (said, other) = (said(&key::WRITE, asked), said(&key::WRITE, other));
            wrong.push(PlanError::SameDirectory { said, other, directory: files.directory.clone() });
        }
    }
}

/// Says whether a host can have the interface that a file asks for. One that the command line asks
/// for is refused where it is made.
fn check_interface(settings: &Settings, asked: &str, output: &OutputPlan) -> Option<PlanError> {
    let (Destination::Interface(plan) | Destination::Redirect(plan)) = &output.to else { return None };
    let said = settings.origins.said_of(&key::TAP, asked);
    said.place()?;
    let reason = fault_of_name(&plan.name)?;
    Some(PlanError::InterfaceName { said, name: plan.name.clone(), reason })
}

/// The memory that an output has for its queue.
#[derive(Clone, Copy)]
struct Memory {
    /// The bytes of the queue, for all workers together.
    queue: usize,
    workers: usize,
}

/// Says whether files of this size and time, and their budget, go together.
fn check(settings: &Settings, name: &str, files: &Files, wrong: &mut Vec<PlanError>) {
    let said = |key| settings.origins.said_of(key, name);
    let rotate = files.rotate_size.0;
    if rotate < LEAST_ROTATE_SIZE {
        wrong.push(PlanError::RotateSize { said: said(&key::ROTATE_SIZE), size: rotate });
    }
    if let Some(keep) = files.keep_bytes.map(|keep| keep.0)
        && keep < rotate
    {
        let (said, rotate_said) = (said(&key::KEEP_BYTES), said(&key::ROTATE_SIZE));
        wrong.push(PlanError::KeepBytes { said, keep, rotate_said, rotate });
    }
    if files.rotate_time.0 < LEAST_ROTATE_TIME {
        wrong.push(PlanError::RotateTime(said(&key::ROTATE_TIME)));
    }
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
        clock: if settings.receive.source.file().is_some() { Clock::Frames } else { Clock::Wall },
        snaplen: files.snaplen,
        // A record waits in its lane for half of that time at most, and for a quarter and a sweep
        // in the output.
        linger: flush / 4,
        buffer_memory,
        open_files: open_files(host.descriptors),
        format: files.format,
        bare_ip: files.bare_ip,
        compression: files.compress,
        direct: files.direct,
        archive: archive(files, host.keeps_sockets),
    };
    OutputPlan {
        name: name.to_owned(),
        selection: Selection::default(),
        lane: LanePlan {
            chunks: (memory.queue - buffer_memory) / memory.workers / CHUNK_MEMORY,
            linger: flush / 2,
            snaplen: files.snaplen as usize,
            sessions: settings.sessions.max,
            when_full: when_full(settings),
        },
        to: Destination::Files(plan),
        essential: files.essential,
    }
}

/// Says what becomes of a frame for which there is no room: one of a capture can wait.
fn when_full(settings: &Settings) -> WhenFull {
    if settings.receive.source.file().is_some() { WhenFull::Wait } else { WhenFull::Drop }
}

/// Plans what becomes of complete files.
fn archive(files: &Files, keeps_sockets: bool) -> ArchivePlan {
    let usual = ArchivePlan::default();
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
        patience: usual.patience.filter(|_| !keeps_sockets),
        ..usual
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
    let tags = (asked.tag == TapTag::Session).then(|| settings.sessions.tag_map.clone());
    if tags.is_some() && kind == Kind::Tun {
        return Err(PlanError::TagOnTun(settings.origins.said_of(&key::TAP_TAG, name)));
    }
    let output = |(name, (interface, share)): (String, (String, Option<Share>))| {
        // The MTU counts no tags, but readers have buffers for a packet and perhaps one of them.
        let mtu = if tags.is_some() { asked.mtu.saturating_add(TAG_BYTES) } else { asked.mtu };
        let plan = InterfacePlan { name: interface, kind, mtu, tags: tags.clone() };
        OutputPlan {
            selection: Selection { vnis: Option::clone(&vnis), share, expression: expression.clone() },
            lane: LanePlan {
                chunks: memory.queue / memory.workers / CHUNK_MEMORY,
                linger: INTERFACE_LINGER,
                snaplen: usize::MAX,
                sessions: settings.sessions.max,
                when_full: when_full(settings),
            },
            to: if redirect { Destination::Redirect(plan) } else { Destination::Interface(plan) },
            essential: asked.essential,
            name,
        }
    };
    let interfaces = shares(asked.interface.as_deref().unwrap_or(name), asked.count);
    let names = shares(name, asked.count).into_iter().map(|(name, _)| name);
    Ok(names.zip(interfaces).map(output).collect())
}

/// Returns the interfaces that `name` stands for, and the share of each. With a count, the number
/// at the end of the name is that of the first.
fn shares(name: &str, count: Option<u32>) -> Vec<(String, Option<Share>)> {
    let Some(of) = count else { return vec![(name.to_owned(), None)] };
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let first: u32 = name.get(stem.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (0..of.min(MOST_INTERFACES))
        .map(|index| (format!("{stem}{}", first.saturating_add(index)), Some(Share { index, of })))
        .collect()
}
