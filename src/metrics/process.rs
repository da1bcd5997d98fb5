//! The process, as the kernel tells of it. The names are those that all exporters have.

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats};

use super::family::Families;

/// Numbers of this process.
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
