//! Planning has errors: settings that are each well formed, but make no sense together or on this
//! host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::origin::Said;
use super::sessions::AllAndOthers;
use super::units;
use crate::route::policy::{OutputNumber, TooManyEntries};
use crate::route::{CompileError, MOST_RULES};
use crate::source::{Listener, TooMany, udp};
use crate::wire::VniRange;

/// The smallest file that has room for its header and a frame.
pub(super) const LEAST_ROTATE_SIZE: u64 = 4096;
/// The shortest time of a file. Files would be too many if they were shorter.
pub(super) const LEAST_ROTATE_TIME: Duration = Duration::from_secs(1);
/// The shortest flush. An idle output would be kept busy by less.
pub(super) const LEAST_FLUSH: Duration = Duration::from_millis(10);
/// The least size of a ring: a page on any machine, and eight jumbo datagrams in any case.
pub(super) const LEAST_RING: u64 = 1 << 17;
/// The largest size of a ring. The kernel makes no larger one.
pub(super) const MOST_RING: u64 = 1 << 30;

/// The reasons why there is no plan for these settings. An error names the setting by where it was
/// said, and tells what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is not enough memory for two chunks per worker.
    #[error(
        "{said} {} is too small for {}; give at least {}{}",
        units::size(*queue), units::plural(*workers, "worker"), units::size(least.next_multiple_of(1024)), units::meant(*queue)
    )]
    Queue {
        /// The setting.
        said: Said,
        /// As asked, in bytes.
        queue: u64,
        /// Workers.
        workers: usize,
        /// The least that would do, in bytes.
        least: u64,
    },
    /// A file must have room for its header and a frame.
    #[error("{said} {} is too small; give at least {}{}", units::size(*size), units::size(LEAST_ROTATE_SIZE), units::meant(*size))]
    RotateSize {
        /// The setting.
        said: Said,
        /// As asked, in bytes.
        size: u64,
    },
    /// One file would be over the budget.
    #[error(
        "{said} {keep} is less than {rotate_said} {rotate}, so one file would be too much; give a smaller {rotate_said}{meant}",
        meant = units::meant(*keep), keep = units::size(*keep), rotate = units::size(*rotate)
    )]
    KeepBytes {
        /// The setting.
        said: Said,
        /// As asked, in bytes.
        keep: u64,
        /// The setting of a file's size.
        rotate_said: Said,
        /// A file's size, in bytes.
        rotate: u64,
    },
    /// The kernel takes an int and doubles it.
    #[error("{said} {} is too large; the kernel takes less than 1GiB, as 512MiB", units::size(*size))]
    ReceiveBuffer {
        /// The setting.
        said: Said,
        /// As asked, in bytes.
        size: u64,
    },
    /// A socket is named, and none is wanted.
    #[error("{said} does not go with {socket}; leave out one of them")]
    NoControl {
        /// The setting that there is no socket.
        said: Said,
        /// The setting of its path.
        socket: Said,
    },
    /// The kernel takes no path as long as this.
    #[error("{said}: the path of a socket cannot be longer than {most} bytes; give a shorter one")]
    LongSocket {
        /// The setting.
        said: Said,
        /// The most bytes.
        most: usize,
    },
    /// The setting would do nothing.
    #[error("{0} is for an HTTP port; add http.listen, as [\"127.0.0.1:9479\"]")]
    OnlyHttp(Said),
    /// The setting would do nothing.
    #[error("{0} is for a port for checks; add health.listen, as [\"0.0.0.0:8080\"]")]
    OnlyHealth(Said),
    /// No request could be sent to this name.
    #[error("{said}: {name:?} is no name of a host; write it without scheme and port, as \"sensor-1.example\"")]
    HostName {
        /// The setting.
        said: Said,
        /// The name.
        name: String,
    },
    /// One address would be listened on twice.
    #[error("{said} {address} is given twice; give it once")]
    PortTwice {
        /// The setting.
        said: Said,
        /// The address.
        address: SocketAddr,
    },
    /// There are more addresses than a worker waits on.
    #[error("{0} is given more than {most} times", most = udp::MAX_LISTEN)]
    ListenMany(Said),
    /// The outputs would take more memory than there is.
    #[error("{said} {} is too large: the outputs would take {} MiB, and this host has {} MiB", units::size(*queue), asked >> 20, has >> 20)]
    Memory {
        /// The setting.
        said: Said,
        /// As asked, in bytes.
        queue: u64,
        /// For all outputs together, in bytes.
        asked: u64,
        /// The host's memory, in bytes.
        has: u64,
    },
    /// The rings would take more memory than there is.
    #[error("{said} is too large: the rings would take {} MiB, and this host has {} MiB", asked >> 20, has >> 20)]
    RingMemory {
        /// The setting.
        said: Said,
        /// For all rings together, in bytes.
        asked: u64,
        /// The host's memory, in bytes.
        has: u64,
    },
    /// The setting would do nothing.
    #[error("{0} is for the BPF program; add --source bpf, or --source auto")]
    OnlyBpf(Said),
    /// The kernel makes no larger ring, and a small one holds no datagram.
    #[error("{0} must be from {least} to {most}", least = units::size(LEAST_RING), most = units::size(MOST_RING))]
    Ring(Said),
    /// More is allowed than the program in the kernel has room for.
    #[error("{said}: {error}")]
    Allowed {
        /// The setting.
        said: Said,
        /// The list that is too long.
        error: TooMany,
    },
    /// A list has all and some.
    #[error("{said}: {error}")]
    AllAndOthers {
        /// The setting.
        said: Said,
        /// The fault of the list.
        error: AllAndOthers,
    },
    /// An idle output would be kept busy.
    #[error("{0} is too short; give at least {least}ms", least = LEAST_FLUSH.as_millis())]
    Flush(Said),
    /// Nobody wants a file for every frame.
    #[error("{0} is too short; give at least {least}s", least = LEAST_ROTATE_TIME.as_secs())]
    RotateTime(Said),
    /// One address is part of the other.
    #[error("{said} {wide} includes {narrow}; give one of them")]
    ListenOverlap {
        /// The setting.
        said: Said,
        /// The setting of the address before.
        other: Said,
        /// The address that includes the other.
        wide: Listener,
        /// The other.
        narrow: Listener,
    },
    /// A link-local address is that of an interface.
    #[error("{} {listen}: there is no interface {name}; there are: {ours}", cannot_listen(said))]
    NoInterface {
        /// The setting.
        said: Said,
        /// The address and the interface.
        listen: String,
        /// The interface.
        name: String,
        /// The interfaces of the host.
        ours: String,
    },
    /// Something is asked for that only user space can do.
    #[error("{said} redirect does not go with {with}: {why}")]
    Redirect {
        /// The setting that asks for redirection.
        said: Said,
        /// The setting that does not go with it.
        with: Said,
        /// The obstacle, and what to do about it.
        why: &'static str,
    },
    /// Something is asked for that a capture has not.
    #[error("{with} does not go with a capture in {said}: {why}")]
    Capture {
        /// The setting that asks for a capture.
        said: Said,
        /// The setting that does not go with it.
        with: Said,
        /// The obstacle, and what to do about it.
        why: &'static str,
    },
    /// A tun interface has no Ethernet header that a tag could be in.
    #[error("{0} is for an interface with Ethernet headers; use a tap")]
    TagOnTun(Said),
    /// A number is out of its range.
    #[error("{said} {value} must be {}", units::range(*least, *most))]
    Number {
        /// The setting.
        said: Said,
        /// As asked.
        value: u64,
        /// The least that does.
        least: u64,
        /// The most that does.
        most: u64,
    },
    /// VNIs have bits that are not looked at, so that they never come.
    #[error("{said} {vnis} has bits that {mask_said} leaves out; write {left}, or leave the mask out")]
    Masked {
        /// The setting.
        said: Said,
        /// The mask.
        mask_said: Said,
        /// The VNIs.
        vnis: VniRange,
        /// What the mask leaves of them.
        left: VniRange,
    },
    /// The program is asked for, and nothing is listened for that it takes.
    #[error(
        "{said} asks for the program, which takes VXLAN, VXLAN-GPE and GENEVE, and {listen} has none of these; write one there, or udp for the source"
    )]
    NoVni {
        /// The setting of the source.
        said: Said,
        /// That of the addresses.
        listen: Said,
    },
    /// A command is none.
    #[error("{said}: {fault}")]
    Command {
        /// The setting.
        said: Said,
        /// The fault of the command.
        fault: String,
    },
    /// A filter expression cannot be used.
    #[error("{said}: {error}")]
    Filter {
        /// The setting.
        said: Said,
        /// The fault of the expression.
        error: CompileError,
    },
    /// Two outputs have one name.
    #[error("{}the interface name {name} is taken by another output; choose another", in_file(said))]
    OutputName {
        /// The setting.
        said: Said,
        /// The setting of the other output; `None` where the name is kept for files.
        other: Option<Said>,
        /// The name.
        name: String,
    },
    /// Two outputs write to one directory.
    #[error("{said} {} is that of another output; choose another", directory.display())]
    SameDirectory {
        /// The setting.
        said: Said,
        /// The setting of the other output.
        other: Said,
        /// The directory.
        directory: PathBuf,
    },
    /// Nothing is usual for the port.
    #[error(
        "{said} port {port} is not one that an encapsulation usually has; say what comes there, as geneve:0.0.0.0:{port}"
    )]
    ListenAuto {
        /// The setting.
        said: Said,
        /// The port.
        port: u16,
    },
    /// One port has two encapsulations.
    #[error("{said} port {port} has another encapsulation already; a port has one")]
    ListenMixed {
        /// The setting.
        said: Said,
        /// The setting of the other.
        other: Said,
        /// The port.
        port: u16,
    },
    /// Two entries for sessions have one name.
    #[error("{said} {name} is that of another entry; choose another, for it is in paths")]
    SessionName {
        /// The setting.
        said: Said,
        /// The setting of the other entry.
        other: Said,
        /// The name.
        name: String,
    },
    /// No session comes as far as an entry.
    #[error(
        "no session comes to this entry, for one before takes all of its sessions; put it before that one, or leave it out"
    )]
    Unreachable {
        /// The entry.
        said: Said,
        /// The entry before.
        other: Said,
    },
    /// An entry has frames dropped, and says what becomes of them.
    #[error("{said} is for frames that go somewhere, and drop says that they do not; leave one of them out")]
    Dropped {
        /// The setting.
        said: Said,
        /// The setting that has them dropped.
        drop: Said,
    },
    /// An entry names an output that is not there.
    #[error("{said}: there is no output {name}; there are: {ours}")]
    NoOutput {
        /// The setting.
        said: Said,
        /// The name.
        name: String,
        /// The outputs that there are.
        ours: String,
    },
    /// An entry names an output that has no number.
    #[error(
        "{said}: {name} is not among the first {most} outputs, and an entry can name no others; put it before those that no entry \
         names", most = OutputNumber::MOST
    )]
    OutputBeyond {
        /// The setting.
        said: Said,
        /// The name.
        name: String,
    },
    /// No host can have an interface of this name.
    #[error("{said}: an interface cannot be named {name:?}, for {reason}; choose another name")]
    InterfaceName {
        /// The setting.
        said: Said,
        /// The name.
        name: String,
        /// The fault of the name.
        reason: &'static str,
    },
    /// An entry names no output at all.
    #[error("{0} names none; leave it out for all, or write drop = true")]
    NoOutputs(Said),
    /// An entry names a group, and does not say what it is for.
    #[error("{0} is for duplicates, of which this entry says nothing; write dedup = \"drop\", or leave it out")]
    GroupAlone(Said),
    /// There are too many entries for sessions.
    #[error("{error}")]
    Entries {
        /// The first that is too many.
        said: Said,
        /// How many there are.
        error: TooManyEntries,
    },
    /// Two rules have one number.
    #[error("{said} has two rules with the number {number} for the same direction; give one of them another")]
    RuleNumber {
        /// The later of them.
        said: Said,
        /// The other.
        other: Said,
        /// Their number.
        number: u32,
    },
    /// There are too many rules.
    #[error("{said} has {count} rules; there can be {MOST_RULES}")]
    Rules {
        /// The first that is too many.
        said: Said,
        /// How many there are.
        count: usize,
    },
    /// A directory is none.
    #[error("{said}: {fault}")]
    Directory {
        /// The setting.
        said: Said,
        /// The fault of the directory.
        fault: String,
    },
    /// The same address is given twice.
    #[error("{said} {listener} is given twice")]
    ListenTwice {
        /// The setting.
        said: Said,
        /// Where it was given before.
        other: Said,
        /// The address.
        listener: Listener,
    },
}

/// Says what cannot be done, by the name of the setting where a file has it.
fn cannot_listen(said: &Said) -> String {
    format!("{}cannot listen on", in_file(said))
}

/// Names a setting where a file has it. The command line is named by what follows.
fn in_file(said: &Said) -> String {
    said.place().map(|_| format!("{said}: ")).unwrap_or_default()
}

impl PlanError {
    /// Says whether what is wrong may pass by itself: something of the host is late.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoInterface { .. })
    }

    /// Returns the settings that the error is about, each with a word on it: the one that is to be
    /// changed first.
    #[must_use]
    pub(super) fn about(&self) -> Vec<(&Said, &'static str)> {
        match self {
            Self::Queue { said, .. }
            | Self::RotateSize { said, .. }
            | Self::ReceiveBuffer { said, .. }
            | Self::LongSocket { said, .. }
            | Self::PortTwice { said, .. }
            | Self::OnlyHttp(said)
            | Self::OnlyHealth(said)
            | Self::HostName { said, .. }
            | Self::ListenMany(said)
            | Self::ListenAuto { said, .. }
            | Self::Memory { said, .. }
            | Self::RingMemory { said, .. }
            | Self::OnlyBpf(said)
            | Self::Ring(said)
            | Self::Allowed { said, .. }
            | Self::AllAndOthers { said, .. }
            | Self::Flush(said)
            | Self::RotateTime(said)
            | Self::NoInterface { said, .. }
            | Self::Number { said, .. }
            | Self::Command { said, .. }
            | Self::Filter { said, .. }
            | Self::Directory { said, .. }
            | Self::NoOutput { said, .. }
            | Self::OutputBeyond { said, .. }
            | Self::InterfaceName { said, .. }
            | Self::NoOutputs(said)
            | Self::GroupAlone(said)
            | Self::Entries { said, .. }
            | Self::Rules { said, .. }
            | Self::TagOnTun(said)
            | Self::OutputName { said, other: None, .. } => vec![(said, "")],
            Self::KeepBytes { said, rotate_said, .. } => {
                vec![(said, "all files together"), (rotate_said, "one file")]
            }
            Self::ListenMixed { said, other, .. } | Self::ListenOverlap { said, other, .. } => {
                vec![(said, "this one"), (other, "and this one")]
            }
            Self::NoControl { said, socket } => vec![(said, "none is wanted"), (socket, "one is named")],
            Self::ListenTwice { said, other, .. } => vec![(said, "again"), (other, "first here")],
            Self::NoVni { said, listen } => vec![(said, "the program"), (listen, "what it does not take")],
            Self::Masked { said, mask_said, .. } => vec![(said, ""), (mask_said, "the mask")],
            Self::Unreachable { said, other } => vec![(said, "this entry"), (other, "the one before")],
            Self::Dropped { said, drop } => vec![(said, ""), (drop, "the frames go nowhere")],
            Self::RuleNumber { said, other, .. } => vec![(said, "again"), (other, "first here")],
            Self::SessionName { said, other, .. }
            | Self::OutputName { said, other: Some(other), .. }
            | Self::SameDirectory { said, other, .. } => {
                vec![(said, "taken"), (other, "by this one")]
            }
            Self::Capture { said, with, .. } => vec![(with, "does not go with it"), (said, "a capture is asked for")],
            Self::Redirect { said, with, .. } => vec![(with, "does not go with it"), (said, "redirect is asked for")],
        }
    }
}
