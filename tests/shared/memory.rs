//! How much memory a process has, the program itself apart.

use std::fs;

use rustix::process::Pid;

/// Returns a line of a process's status that tells of memory, in bytes.
pub(crate) fn status(pid: Pid, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Returns the most memory that a process ever had, in bytes, without the program itself: how many
/// pages of files are there is up to the kernel, and a build for tests has many.
pub(crate) fn peak_memory(pid: Pid) -> u64 {
    status(pid, "VmHWM:").saturating_sub(program(pid))
}

/// Returns what the memory of a process has of files, in bytes: the program and its libraries.
pub(crate) fn program(pid: Pid) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{}/smaps", pid.as_raw_nonzero())).unwrap();
    let mut of_a_file = false;
    let mut bytes = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            // The first line of a mapping has its addresses, and what is mapped at its end.
            [addresses, ..] if addresses.contains('-') => {
                of_a_file = fields.get(5).is_some_and(|of| of.starts_with('/'))
            }
            ["Rss:", kib, "kB"] if of_a_file => bytes += kib.parse::<u64>().unwrap() * 1024,
            _ => {}
        }
    }
    bytes
}
