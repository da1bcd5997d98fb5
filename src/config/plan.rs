//! The validated plan of `vxtap run`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::allow::AllowPlan;
use super::sessions::{self, AllAndOthers};
use super::{address, queue, redirect, units};
use procfs::Current;

use crate::archive::{ArchivePlan, BudgetPlan, MinFree};
use crate::cli::{RunArgs, TapMode};
use crate::lane::{CHUNK_MEMORY, LanePlan, WhenFull};
use crate::pipeline::{Destination, OutputPlan, PipelinePlan};
use crate::route::{Selection, Share};
use crate::sink::file::{FilePlan, allowed_open_files};
use crate::sink::interface::{InterfacePlan, Kind};
use crate::source::bpf::{Attach, BpfPlan, rings};
use crate::source::udp::{self, UdpPlan};
use crate::source::{Allowed, SourcePlan, TooMany, Way};
use crate::wire::vxlan;

/// What `vxtap run` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// Where and how it receives.
    pub source: SourcePlan,
    /// Which sessions it lets in.
    pub allow: AllowPlan,
    /// What it does with what it receives.
    pub pipeline: PipelinePlan,
    /// How long it runs, where that is limited.
    pub duration: Option<Duration>,
}

/// Arguments that are each well formed but make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not enough memory for two chunks per worker.
    #[error(
        "--queue {} is too small for {}; give at least {}{}",
        units::size(*queue), units::plural(*workers, "worker"), units::size(least.next_multiple_of(1024)), units::meant(*queue)
    )]
    Queue {
        /// As asked, in bytes.
        queue: u64,
        /// Workers.
        workers: usize,
        /// What would do, in bytes.
        least: u64,
    },
    /// A file must have room for its header and a frame.
    #[error("--rotate-size {} is too small; give at least {}{}", units::size(*.0), units::size(LEAST_ROTATE_SIZE), units::meant(*.0))]
    RotateSize(u64),
    /// One file would be over the budget.
    #[error(
        "--keep-bytes {keep} is less than --rotate-size {rotate}, so one file would be too much; give a smaller --rotate-size{meant}",
        meant = units::meant(*keep), keep = units::size(*keep), rotate = units::size(*rotate)
    )]
    KeepBytes {
        /// As asked, in bytes.
        keep: u64,
        /// A file's size, in bytes.
        rotate: u64,
    },
    /// The kernel takes an int and doubles it.
    #[error("--receive-buffer {} is too large; the kernel takes less than 1GiB, as 512MiB", units::size(*.0))]
    ReceiveBuffer(u64),
    /// More addresses than a worker waits on.
    #[error("--listen is given more than {} times", udp::MAX_LISTEN)]
    ListenMany,
    /// More memory than there is.
    #[error("--queue {} is too large: the outputs would take {} MiB, and this host has {} MiB", units::size(*queue), asked >> 20, has >> 20)]
    Memory {
        /// As asked, in bytes.
        queue: u64,
        /// For all outputs together, in bytes.
        asked: u64,
        /// What the host has, in bytes.
        has: u64,
    },
    /// More memory than there is.
    #[error("--ring is too large: the rings would take {} MiB, and this host has {} MiB", asked >> 20, has >> 20)]
    RingMemory {
        /// For all rings together, in bytes.
        asked: u64,
        /// What the host has, in bytes.
        has: u64,
    },
    /// It would do nothing.
    #[error("{0} is for the BPF program; add --source bpf, or --source auto")]
    OnlyBpf(&'static str),
    /// The kernel makes no larger one, and a small one holds no datagram.
    #[error("--ring must be from {} to {}", units::size(LEAST_RING), units::size(MOST_RING))]
    Ring,
    /// More than the program in the kernel has room for.
    #[error("{0}")]
    Allowed(#[from] TooMany),
    /// A list of all and of some.
    #[error("{option}: {error}")]
    AllAndOthers {
        /// The option.
        option: &'static str,
        /// What is wrong.
        error: AllAndOthers,
    },
    /// An idle output would be kept busy.
    #[error("--flush is too short; give at least {}ms", LEAST_FLUSH.as_millis())]
    Flush,
    /// Nobody wants a file for every frame.
    #[error("--rotate-time is too short; give at least {}s", LEAST_ROTATE_TIME.as_secs())]
    RotateTime,
    /// One address is part of the other.
    #[error("--listen {0} includes {1}; give one of them")]
    ListenOverlap(SocketAddr, SocketAddr),
    /// A link-local address is that of an interface.
    #[error("cannot listen on {listen}: there is no interface {name}; there are: {ours}")]
    NoInterface {
        /// The address and the interface.
        listen: String,
        /// The interface.
        name: String,
        /// The interfaces of the host.
        ours: String,
    },
    /// Something that only user space can do.
    #[error("--tap-mode redirect does not go with {with}: {why}")]
    Redirect {
        /// The option.
        with: &'static str,
        /// What is in the way, and what to do.
        why: &'static str,
    },
    /// Two outputs of one name.
    #[error("the interface name {0} is taken by another output; choose another")]
    InterfaceName(String),
    /// The same address twice.
    #[error("--listen {0} is given twice")]
    ListenTwice(SocketAddr),
}

/// The name of the pcap output.
const FILES: &str = "pcap";
/// How long a frame for an interface waits for more: a reader expects it at once.
const INTERFACE_LINGER: Duration = Duration::from_millis(1);
const LEAST_ROTATE_SIZE: u64 = 4096;
const LEAST_ROTATE_TIME: Duration = Duration::from_secs(1);
const LEAST_FLUSH: Duration = Duration::from_millis(10);
const MOST_RECEIVE_BUFFER: u64 = (1 << 30) - 1;
/// Bytes of a payload that are kept whatever the snap length.
const KEPT_HEADERS: usize = 128;
/// A page on any machine; eight jumbo datagrams in any case.
const LEAST_RING: u64 = 1 << 17;
const MOST_RING: u64 = 1 << 30;
const RING: u64 = 16 << 20;

impl RunPlan {
    /// The plan that these arguments ask for.
    ///
    /// # Errors
    /// What makes no sense, and what would.
    pub fn resolve(args: &RunArgs) -> Result<Self, PlanError> {
        let listen = address::resolve(&args.listen)?;
        let workers = args.workers.map_or_else(default_workers, usize::from);
        let receive_buffer = u32::try_from(args.receive_buffer)
            .ok()
            .filter(|n| u64::from(*n) <= MOST_RECEIVE_BUFFER)
            .ok_or(PlanError::ReceiveBuffer(args.receive_buffer))?;
        if args.rotate_size < LEAST_ROTATE_SIZE {
            return Err(PlanError::RotateSize(args.rotate_size));
        }
        if let Some(keep) = args.keep_bytes
            && keep < args.rotate_size
        {
            return Err(PlanError::KeepBytes { keep, rotate: args.rotate_size });
        }
        if args.rotate_time < LEAST_ROTATE_TIME {
            return Err(PlanError::RotateTime);
        }
        if args.flush < LEAST_FLUSH {
            return Err(PlanError::Flush);
        }
        redirect::check(args)?;
        let memory = procfs::Meminfo::current().map(|memory| memory.mem_total).ok();
        let queue = args.queue.unwrap_or_else(|| queue::by_default(workers, queue::outputs(args), memory));
        let pipeline = PipelinePlan {
            reserved_bits: args.reserved_bits,
            max_sessions: args.max_sessions,
            count: args.count,
            outputs: outputs(args, workers, queue)?,
        };
        let asked = pipeline.queue_memory(workers) as u64;
        if let Some(has) = memory
            && asked > has
        {
            return Err(PlanError::Memory { queue, asked, has });
        }
        let allow = match &args.allow {
            Some(file) => AllowPlan::File(file.clone()),
            None => AllowPlan::Given(given(args)?),
        };
        let steering = args.steer;
        let bpf = bpf(args, &pipeline)?;
        let rings = rings(steering, workers).unwrap_or(workers);
        let asked = u64::from(bpf.ring).saturating_mul(rings as u64);
        if args.source != Way::Udp
            && let Some(has) = memory
            && asked > has
        {
            return Err(PlanError::RingMemory { asked, has });
        }
        if args.source == Way::Udp
            && let Some(option) = only_bpf(args)
        {
            return Err(PlanError::OnlyBpf(option));
        }
        let udp = UdpPlan { listen, workers, steering, receive_buffer };
        Ok(Self { source: SourcePlan { way: args.source, udp, bpf }, allow, pipeline, duration: args.duration })
    }
}

/// An option that was given and that sockets have no use for.
fn only_bpf(args: &RunArgs) -> Option<&'static str> {
    let given = [
        ("--interface", !args.interface.is_empty()),
        ("--attach", args.attach.is_some()),
        ("--ring", args.ring.is_some()),
        ("--any-address", args.any_address),
        ("--verify-checksum", args.verify_checksum),
    ];
    given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
}

/// Bytes of a payload that an output needs which keeps `snaplen` bytes of a frame: one more, by which it sees that it has cut something; in any
/// case enough for the headers that tell of the frame's original length.
pub(super) fn kept(snaplen: usize) -> u32 {
    u32::try_from(snaplen.saturating_add(vxlan::HEADER_LEN + 1).max(KEPT_HEADERS)).unwrap_or(u32::MAX)
}

/// What a program in the kernel can do for this pipeline.
fn bpf(args: &RunArgs, pipeline: &PipelinePlan) -> Result<BpfPlan, PlanError> {
    let ring =
        u32::try_from(args.ring.unwrap_or(RING)).ok().filter(|n| (LEAST_RING..=MOST_RING).contains(&u64::from(*n)));
    // The longest that any output keeps. A checksum needs all.
    let snaplen = pipeline.outputs.iter().map(|output| output.lane.snaplen).max().unwrap_or(usize::MAX);
    let keep = if args.verify_checksum { u32::MAX } else { kept(snaplen) };
    // Without any there is nothing to drop, and the program needs no memory for lists.
    let lists = args.allow.is_some() || !args.vni.is_empty() || !args.from.is_empty();
    Ok(BpfPlan {
        interfaces: args.interface.clone(),
        attach: match args.tap_mode {
            TapMode::Redirect => Attach::Tc,
            TapMode::Inject => args.attach.unwrap_or(Attach::Auto),
        },
        ring: ring.ok_or(PlanError::Ring)?.next_power_of_two(),
        keep,
        redirect: redirect::plan(args, pipeline),
        // A number of datagrams is exact only where each comes by here, and so is a checksum that nobody looked at yet.
        early: lists && args.count.is_none() && !args.verify_checksum,
        any_address: args.any_address,
        verify_checksum: args.verify_checksum,
    })
}

/// The outputs, with `queue_bytes` each for `workers` workers.
fn outputs(args: &RunArgs, workers: usize, queue_bytes: u64) -> Result<Vec<OutputPlan>, PlanError> {
    let queue = usize::try_from(queue_bytes).unwrap_or(usize::MAX);
    let mut outputs = Vec::new();
    if !args.no_write {
        // A quarter of the output's memory gathers records per session, the rest is chunks.
        let buffer_memory = queue / 4;
        let chunks = (queue - buffer_memory) / workers / CHUNK_MEMORY;
        let files = FilePlan {
            directory: args.write.clone(),
            rotate_size: args.rotate_size,
            rotate_frames: args.rotate_frames,
            rotate_time: args.rotate_time,
            snaplen: args.snaplen,
            // A record waits in its lane for half of --flush at most, and for a quarter and a sweep in the output.
            linger: args.flush / 4,
            buffer_memory,
            open_files: allowed_open_files(),
            format: args.format,
            compression: args.compress,
            direct: args.direct,
            archive: ArchivePlan {
                sync: args.sync,
                hash: args.hash.0,
                budget: BudgetPlan {
                    keep_bytes: args.keep_bytes,
                    keep_files: args.keep_files,
                    keep_age: args.keep_age,
                    // Zero leaves nothing free, and nothing is removed for it.
                    min_free: args.min_free.filter(|min| *min != MinFree::Bytes(0)),
                    reserve: args.min_free.is_none().then_some(MinFree::Usual),
                },
                on_publish: args.on_publish.clone(),
            },
        };
        outputs.push(OutputPlan {
            name: FILES.into(),
            selection: Selection::default(),
            lane: LanePlan {
                chunks,
                linger: args.flush / 2,
                snaplen: args.snaplen as usize,
                sessions: args.max_sessions,
                when_full: WhenFull::Drop,
            },
            to: Destination::Files(files),
        });
    }
    let asked = args.tap.iter().map(|a| (a, Kind::Tap)).chain(args.tun.iter().map(|a| (a, Kind::Tun)));
    for (interface, kind) in asked {
        for (name, share) in shares(&interface.name, args.tap_count) {
            if name == FILES || outputs.iter().any(|output: &OutputPlan| output.name == name) {
                return Err(PlanError::InterfaceName(name));
            }
            let redirect = args.tap_mode == TapMode::Redirect;
            let plan = InterfacePlan { name: name.clone(), kind, mtu: args.tap_mtu };
            outputs.push(OutputPlan {
                selection: Selection { vnis: interface.vnis.clone(), share },
                lane: LanePlan {
                    chunks: queue / workers / CHUNK_MEMORY,
                    linger: INTERFACE_LINGER,
                    snaplen: usize::MAX,
                    sessions: args.max_sessions,
                    when_full: WhenFull::Drop,
                },
                to: if redirect { Destination::Redirect(plan) } else { Destination::Interface(plan) },
                name,
            });
        }
    }
    if outputs.iter().any(|output| output.lane.chunks < 2) {
        return Err(PlanError::Queue { queue: queue_bytes, workers, least: queue::least(workers) });
    }
    Ok(outputs)
}

/// The interfaces that `name` stands for, and the share of each. With a count, the number at the end of the name is that of the first.
fn shares(name: &str, count: Option<u32>) -> Vec<(String, Option<Share>)> {
    let Some(of) = count else { return vec![(name.to_owned(), None)] };
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let first: u32 = name.get(stem.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (0..of).map(|index| (format!("{stem}{}", first.saturating_add(index)), Some(Share { index, of }))).collect()
}

/// What `--vni` and `--from` let in.
fn given(args: &RunArgs) -> Result<Allowed, PlanError> {
    let both = |option| move |error| PlanError::AllAndOthers { option, error };
    let vnis = sessions::only(args.vni.iter().copied()).map_err(both("--vni"))?;
    let sources = sessions::only(args.from.iter().copied()).map_err(both("--from"))?;
    Ok(Allowed::new(vnis.map(FromIterator::from_iter), sources.map(FromIterator::from_iter))?)
}

/// Half the cores: the kernel's own part of receiving, which is the larger, and the outputs take the rest.
fn default_workers() -> usize {
    (thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 256)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli;
    use crate::evidence::Algorithm;
    use clap::Parser;

    pub(in super::super) fn plan(more: &[&str]) -> Result<RunPlan, PlanError> {
        let words = ["vxtap", "run", "--listen", "127.0.0.1:4789"].iter().chain(more);
        match cli::Cli::try_parse_from(words).unwrap().command {
            cli::Command::Run(args) => RunPlan::resolve(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults() {
        let plan = plan(&["--workers", "2"]).unwrap();
        assert_eq!(plan.allow, AllowPlan::Given(Allowed::default()), "all");
        assert_eq!(plan.pipeline.max_sessions, 1024);
        let queue = queue::by_default(2, 1, procfs::Meminfo::current().map(|memory| memory.mem_total).ok());
        let memory = plan.pipeline.queue_memory(2) as u64;
        assert!(memory <= queue, "--queue bounds the memory");
        assert!(memory > queue - (4 << 20), "and is used");
    }

    #[test]
    fn interfaces_are_outputs() {
        let names = |more: &[&str]| {
            let plan = plan(more).unwrap();
            plan.pipeline.outputs.into_iter().map(|o| (o.name, o.selection.share.map(|s| s.index))).collect::<Vec<_>>()
        };
        let own = |name: &str| (name.to_owned(), None);
        assert_eq!(names(&["--tap", "m", "--tun", "t"]), [own("pcap"), own("m"), own("t")]);
        assert_eq!(names(&["--tap", "m", "--no-write"]), [own("m")]);
        let share = |name: &str, index| (name.to_owned(), Some(index));
        assert_eq!(names(&["--tap", "m0", "--tap-count", "2", "--no-write"]), [share("m0", 0), share("m1", 1)]);
        assert_eq!(names(&["--tap", "m8", "--tap-count", "3"])[1..], [share("m8", 0), share("m9", 1), share("m10", 2)]);
        assert_eq!(names(&["--tap", "m", "--tap-count", "2"])[1..], [share("m0", 0), share("m1", 1)]);
        for twice in [["--tap", "m", "--tun", "m"], ["--tap", "pcap", "--tap", "n"]] {
            assert!(matches!(plan(&twice), Err(PlanError::InterfaceName(_))));
        }
    }

    #[test]
    fn the_program_keeps_what_the_outputs_need() {
        let bpf = |more: &[&str]| plan(&[&["--source", "auto"], more].concat()).unwrap().source.bpf;
        assert_eq!(bpf(&["--snaplen", "200"]).keep, 209);
        assert_eq!(bpf(&["--snaplen", "1"]).keep, 128);
        assert_eq!(bpf(&["--snaplen", "200", "--tap", "m"]).keep, u32::MAX, "an interface takes whole frames");
        assert_eq!(bpf(&["--snaplen", "200", "--verify-checksum"]).keep, u32::MAX);
        assert!(bpf(&["--vni", "9,2"]).early);
        assert!(bpf(&["--allow", "list"]).early && !bpf(&[]).early, "without lists there is nothing to drop");
        assert!(!bpf(&["--vni", "9", "--count", "5"]).early, "each is to be counted as it comes");
        assert_eq!(bpf(&["--ring", "5MB"]).ring, 8 << 20);
        for size in ["64KiB", "2GiB"] {
            assert_eq!(plan(&["--source", "bpf", "--ring", size]), Err(PlanError::Ring));
        }
        assert_eq!(bpf(&[]).ring, 16 << 20);
        for option in ["--ring 5MB", "--attach tc", "--interface eth0", "--any-address", "--verify-checksum"] {
            let words: Vec<&str> = option.split(' ').collect();
            assert_eq!(plan(&words), Err(PlanError::OnlyBpf(words[0])), "sockets have no use for it");
        }
    }

    #[test]
    fn captures_are_hashed_as_they_are_to_be() {
        let hash = |more: &[&str]| match plan(more).unwrap().pipeline.outputs.remove(0).to {
            Destination::Files(files) => files.archive.hash,
            other => panic!("{other:?}"),
        };
        assert_eq!(hash(&[]), Some(Algorithm::Sha256));
        assert_eq!(hash(&["--hash", "sha256"]), Some(Algorithm::Sha256));
        assert_eq!(hash(&["--hash", "blake3"]), Some(Algorithm::Blake3));
        assert_eq!(hash(&["--hash", "none"]), None);
        let nothing = ["vxtap", "run", "--tap", "m", "--no-write", "--hash", "blake3"];
        assert!(cli::Cli::try_parse_from(nothing).is_err(), "no files, no hashes");
    }

    #[test]
    fn the_last_room_of_the_file_system_is_left_unless_somebody_says_how_much() {
        let budget = |more: &[&str]| match plan(more).unwrap().pipeline.outputs.remove(0).to {
            Destination::Files(files) => files.archive.budget,
            other => panic!("{other:?}"),
        };
        let usual = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
        assert_eq!(budget(&[]), usual);
        assert_eq!(budget(&["--keep-files", "5"]), BudgetPlan { keep_files: Some(5), ..usual });
        assert_eq!(budget(&["--min-free", "0"]), BudgetPlan::default(), "all of it may be used");
        let ten = BudgetPlan { min_free: Some(MinFree::Permille(100)), ..BudgetPlan::default() };
        assert_eq!(budget(&["--min-free", "10%"]), ten);
    }

    #[test]
    fn the_unit_leaves_a_tenth_of_the_file_system_free() {
        let unit = include_str!("../../systemd/vxtap.service");
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        // What systemd makes of it.
        let line = line.replace("%%", "%");
        let cli::Command::Run(args) = cli::Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        let Destination::Files(files) = RunPlan::resolve(&args).unwrap().pipeline.outputs.remove(0).to else {
            panic!()
        };
        assert_eq!(files.archive.budget.min_free, Some(MinFree::Permille(100)));
    }

    #[test]
    fn the_help_says_what_units_are() {
        let mut command = <cli::Cli as clap::CommandFactory>::command();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["10^9", "1GiB is 2^30", "1m, 1M a minute, a month", "0 leaves no room and removes nothing"] {
            assert!(help.contains(words), "{words:?} is to be in: {help}");
        }
    }

    #[test]
    fn what_is_allowed_is_given_or_in_a_file() {
        let allow = |more: &[&str]| plan(more).unwrap().allow;
        let vnis = sessions::vnis("2,5-7,9").unwrap();
        let sources = ["10.0.0.1/32", "fd00::/64"].map(|source| source.parse().unwrap()).into_iter().collect();
        let given = ["--vni", "9,2", "--vni", "5-7", "--from", "fd00::/64,10.0.0.1"];
        assert_eq!(allow(&given), AllowPlan::Given(Allowed::new(vnis, Some(sources)).unwrap()));
        assert_eq!(allow(&["--vni", "all", "--from", "all"]), AllowPlan::Given(Allowed::default()));
        for twice in [["--vni", "all,5"], ["--from", "10.0.0.1,all"]] {
            assert!(matches!(plan(&twice), Err(PlanError::AllAndOthers { option, .. }) if option == twice[0]));
        }
        assert_eq!(allow(&["--allow", "list"]), AllowPlan::File("list".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let refused = |more: &[&str]| plan(more).unwrap_err();
        let PlanError::Queue { least, .. } = refused(&["--queue", "1MiB", "--workers", "4"]) else { panic!() };
        assert!(plan(&["--queue", &least.to_string(), "--workers", "4"]).is_ok());
        assert!(plan(&["--queue", &(least - 8).to_string(), "--workers", "4"]).is_err());
        assert!(matches!(refused(&["--keep-bytes", "500MiB"]), PlanError::KeepBytes { .. }));
        let text = refused(&["--keep-bytes", "500MiB"]).to_string();
        assert!(text.starts_with("--keep-bytes 500MiB is less than --rotate-size 1GiB, "), "{text}");
        assert!(plan(&["--keep-bytes", "500MiB", "--rotate-size", "100MiB"]).is_ok());
        assert_eq!(refused(&["--rotate-size", "100"]), PlanError::RotateSize(100));
        assert_eq!(refused(&["--receive-buffer", "1GiB"]), PlanError::ReceiveBuffer(1 << 30));
        assert!(matches!(refused(&["--listen", "127.0.0.1:4789"]), PlanError::ListenTwice(_)));
        for wide in ["0.0.0.0:4789", "[::]:4789"] {
            assert!(matches!(refused(&["--listen", wide]), PlanError::ListenOverlap(..)));
        }
        assert!(plan(&["--listen", "[::1]:4789", "--listen", "0.0.0.0:8472"]).is_ok());
        assert!(matches!(refused(&["--queue", "10TiB"]), PlanError::Memory { .. }));
        assert_eq!(refused(&["--flush", "1us"]), PlanError::Flush);
        assert_eq!(refused(&["--rotate-time", "1ms"]), PlanError::RotateTime);
    }
}
