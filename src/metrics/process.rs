//! The process and its sockets, as the kernel tells of them.

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats};

use super::family::Families;

/// Returns the bytes that wait in the receive buffers of sockets that have one of these ports; none
/// where `/proc` does not tell.
pub(super) fn waiting(listen: &[String]) -> Option<u64> {
    let ports: Vec<u16> =
        // What comes there may stand in front.
        listen.iter().filter_map(|listener| listener.rsplit_once(':')?.1.parse().ok()).collect();
    // A host without IPv6 has one table.
    let tables = [procfs::net::udp(), procfs::net::udp6()];
    let entries = tables.into_iter().flatten().reduce(|all, more| all.into_iter().chain(more).collect())?;
    let ours = entries.iter().filter(|entry| ports.contains(&entry.local_address.port()));
    Some(ours.map(|entry| u64::from(entry.rx_queue)).sum())
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
        let [ours, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let listen = ours.local_addr().unwrap().to_string();
        let waiting = || waiting(std::slice::from_ref(&listen)).unwrap();
        other.send_to(&[0; 100], other.local_addr().unwrap()).unwrap();
        assert_eq!(waiting(), 0);
        ours.send_to(&[0; 100], ours.local_addr().unwrap()).unwrap();
        assert!(waiting() > 100, "it is counted with what the kernel needs beside");
        ours.recv(&mut [0; 100]).unwrap();
        assert_eq!(waiting(), 0);
    }
}
