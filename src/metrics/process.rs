//! The process and its sockets, as the kernel tells of them.

use std::collections::HashMap;

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats};

use super::family::Families;

/// Returns the bytes that wait in the receive buffers of each worker's sockets, which have these
/// inodes; none where `/proc` does not tell.
pub(super) fn waiting<'a>(workers: impl Iterator<Item = &'a [u64]>) -> Option<Vec<u64>> {
    // A host without IPv6 has one table.
    let tables = [procfs::net::udp(), procfs::net::udp6()];
    let entries = tables.into_iter().flatten().reduce(|all, more| all.into_iter().chain(more).collect())?;
    let queues: HashMap<u64, u64> = entries.iter().map(|entry| (entry.inode, entry.rx_queue.into())).collect();
    let of = |sockets: &[u64]| sockets.iter().filter_map(|inode| queues.get(inode)).sum();
    Some(workers.map(of).collect())
}

/// Numbers of this process, by names that all exporters have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
    max_fds: Option<u64>,
    started: f64,
}

impl Usage {
    /// Reads them; none where `/proc` does not tell.
    pub(super) fn read() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let booted = KernelStats::current().map(|kernel| kernel.btime as f64).unwrap_or_default();
        let limit = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss * procfs::page_size(),
            open_fds: process.fd_count().ok()? as u64,
            max_fds: limit.and_then(|limit| if let LimitValue::Value(limit) = limit { Some(limit) } else { None }),
            started: booted + stat.starttime as f64 / ticks,
        })
    }

    /// Adds their metrics.
    pub(super) fn add_to(&self, families: &mut Families) {
        let no_labels = Vec::new;
        families.seconds(
            "process_cpu_seconds",
            "Processor time that the process has used.",
            no_labels(),
            self.cpu_seconds,
        );
        let help = "Memory of the process that is resident.";
        families.gauge("process_resident_memory_bytes", help, no_labels(), self.resident_bytes);
        families.gauge("process_open_fds", "Files that the process has open.", no_labels(), self.open_fds);
        if let Some(limit) = self.max_fds {
            families.gauge("process_max_fds", "Files that it may have open.", no_labels(), limit);
        }
        let help = "The time at which the process began.";
        families.number("process_start_time_seconds", help, no_labels(), self.started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn what_nobody_reads_waits() {
        let [ours, other, third] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let inode = |socket: &UdpSocket| rustix::fs::fstat(socket).unwrap().st_ino;
        let workers = [vec![inode(&ours), inode(&third)], vec![]];
        let waiting = || waiting(workers.iter().map(Vec::as_slice)).unwrap();
        other.send_to(&[0; 100], other.local_addr().unwrap()).unwrap();
        assert_eq!(waiting(), [0, 0]);
        ours.send_to(&[0; 100], ours.local_addr().unwrap()).unwrap();
        assert!(waiting()[0] > 100, "it is counted with what the kernel needs beside");
        third.send_to(&[0; 1000], third.local_addr().unwrap()).unwrap();
        assert!(waiting()[0] > 1100 && waiting()[1] == 0);
        ours.recv(&mut [0; 100]).unwrap();
        third.recv(&mut [0; 100]).unwrap();
        assert_eq!(waiting(), [0, 0]);
    }
}
