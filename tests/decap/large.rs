//! A large capture takes no more memory than a small one, and says how far it is.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use crate::terminal::terminal;
use crate::{pcap, records, wrapped};

/// The most memory that stripping takes, in KiB.
const LIMIT: u64 = 64 << 10;
/// Bytes of the wrap.
const WRAP: usize = 50;

/// Makes a capture of `bytes` bytes or a little more, of frames of many sizes and a few sessions.
/// Returns the bytes of the frames without their wraps, record headers included.
fn write(path: &Path, bytes: usize) -> usize {
    let frames: Vec<_> = (0..1000).map(|n| wrapped(&vec![7; 60 + n * 1400 % 1441], 1 + n as u32 % 3)).collect();
    let once = pcap(&frames);
    let (header, records_once) = once.split_at(24);
    let times = bytes.div_ceil(records_once.len());
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(header).unwrap();
    (0..times).for_each(|_| file.write_all(records_once).unwrap());
    file.flush().unwrap();
    times * (records_once.len() - records(&once).len() * WRAP)
}

/// Returns the most memory that a process has had so far, in KiB.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn decap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
    command.arg("decap").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn memory_is_bounded_however_large_the_capture_is() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in.pcap");
    let length = 24 + write(&input, 400 << 20);
    let mut child = decap(&[input.to_str().unwrap(), "-o", "-"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // More than a pipe holds is still to be written when all but that is read.
    let last = 1 << 20;
    let read = std::io::copy(&mut (&mut out).take((length - last) as u64), &mut std::io::sink()).unwrap();
    let peak = peak(&child);
    assert_eq!(read as usize + out.read_to_end(&mut Vec::new()).unwrap(), length);
    assert!(child.wait().unwrap().success());
    assert!(peak < LIMIT, "{peak} KiB");
}

#[test]
fn memory_is_bounded_with_a_directory_for_each_session_too() {
    let directory = tempfile::tempdir().unwrap();
    let (input, into) = (directory.path().join("in.pcap"), directory.path().join("captures"));
    write(&input, 100 << 20);
    let mut command = decap(&["-", "--into", into.to_str().unwrap()]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::copy(&mut File::open(&input).unwrap(), &mut stdin).unwrap();
    // It waits for more, and has all but what the pipe holds.
    let peak = peak(&child);
    drop(stdin);
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(peak < LIMIT, "{peak} KiB");
}

/// Strips a capture with a standard error as `stderr` says, and returns what that has got.
fn shown(directory: &TempDir, stderr: impl FnOnce(&mut Command) -> Box<dyn Read>) -> String {
    let input = directory.path().join("in.pcap");
    let mut command = decap(&[input.to_str().unwrap(), "-o", "/dev/null"]);
    let mut screen = stderr(&mut command);
    let mut child = command.spawn().unwrap();
    // This has an end of it, too.
    drop(command);
    let mut text = Vec::new();
    // A terminal whose programs have all gone fails to be read, and does not end.
    let _ = screen.read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}

#[test]
fn a_bar_is_shown_on_a_terminal_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory.path().join("in.pcap"), 64 << 20);
    let text = shown(&directory, |command| {
        let (person, programs) = terminal();
        tcsetwinsize(&programs, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        command.env("TERM", "xterm").stderr(programs);
        Box::new(File::from(person))
    });
    assert!(text.contains(" of 64.") && text.contains(" left"), "{text:?}");
    assert!(text.contains("█"), "{text:?}");
    // It is gone at the end: the last thing is to clear its line.
    assert!(text.trim_end_matches('\r').ends_with("\u{1b}[2K"), "{text:?}");

    let text = shown(&directory, |command| {
        let (reader, writer) = std::io::pipe().unwrap();
        command.env("TERM", "xterm").stderr(writer);
        Box::new(reader)
    });
    assert_eq!(text, "");
}
