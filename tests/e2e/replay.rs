//! `vxtap replay` runs in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::netns::Namespace;
use crate::process::{Process, eventually, on_one_core};
use crate::sensor::VXTAP;

/// A running replay.
pub(crate) struct Replay(pub(crate) Process);

/// What a replay said at its end.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) code: Option<i32>,
    /// Frames that the kernel took.
    pub(crate) frames: u64,
    /// All it printed.
    pub(crate) text: String,
}

/// Starts to play these captures, with more arguments, which are split at spaces. Port 0 stands for
/// none.
pub(crate) fn start(namespace: &Namespace, to: SocketAddr, files: &[&Path], arguments: &str) -> Replay {
    let mut command = namespace.command(VXTAP);
    let address = if to.port() == 0 { to.ip().to_string() } else { to.to_string() };
    command.arg("replay").args(files).args(["--to", &address]).args(arguments.split_whitespace());
    Replay(on_one_core(|| Process::start(&mut command, None)))
}

/// Plays captures to their end.
#[track_caller]
pub(crate) fn replay(namespace: &Namespace, to: SocketAddr, files: &[&Path], arguments: &str) -> Sent {
    start(namespace, to, files, arguments).ended()
}

/// Plays captures to their end; fails unless these many frames, all there are, have left.
#[track_caller]
pub(crate) fn replay_all(namespace: &Namespace, to: SocketAddr, files: &[&Path], arguments: &str, frames: usize) {
    let sent = replay(namespace, to, files, arguments);
    assert_eq!((sent.code, sent.frames), (Some(0), frames as u64), "{}", sent.text);
}

/// Waits until each CPU has had nothing queued for a moment. What is sent over a virtual cable
/// waits in such a queue for the CPU to receive it, and on a busy machine that can be long after
/// the sender has ended.
#[track_caller]
pub(crate) fn all_has_come_through() {
    let mut behind: BTreeSet<usize> = queued().into_keys().collect();
    let mut nothing_is = || {
        for (cpu, packets) in queued() {
            if packets == 0 {
                behind.remove(&cpu);
            }
        }
        behind.is_empty()
    };
    // Mostly it takes no longer than a few looks.
    eventually("what was sent has come through", || (0..20).any(|_| nothing_is()));
}

/// Returns how many received packets wait for the stack, by CPU: the columns of
/// net/core/net-procfs.c, in hexadecimal.
fn queued() -> BTreeMap<usize, u32> {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let number = |word: &str| u32::from_str_radix(word, 16).unwrap();
    // Before Linux 5.10 there are fewer columns, and the length of the queue is not told.
    let lengths = text.lines().map(|line| line.split_whitespace().nth(11).map_or(0, number));
    lengths.enumerate().collect()
}

impl Replay {
    #[track_caller]
    pub(crate) fn ended(mut self) -> Sent {
        let code = self.0.wait().code();
        let lines: Vec<String> = self.0.stdout.all().into_iter().chain(self.0.stderr.all()).collect();
        let text = lines.join("\n");
        let number = |line: &str| -> Option<u64> {
            let (number, _) = line.strip_prefix("sent ")?.split_once(' ')?;
            number.replace(',', "").parse().ok()
        };
        let frames = lines.iter().find_map(|line| number(line));
        let frames = frames.unwrap_or_else(|| panic!("replay does not say what it sent: {code:?}: {text}"));
        all_has_come_through();
        Sent { code, frames, text }
    }
}
