//! What a sensor tells, as families.

use std::collections::BTreeMap;

use super::family::{Families, Labels};
use super::names;
use super::process::waiting;
use super::sessions::{Accounts, Named, named};
use crate::ledger::{self, Histogram, Reading, Snapshot, Totals};
use crate::view::{OutputState, Status, View};

/// All that a sensor tells at a time.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) snapshot: Snapshot,
    pub(super) status: Status,
    pub(super) named: Vec<Named>,
    /// How long the outputs take for what comes at once, by name.
    pub(super) durations: BTreeMap<String, Histogram>,
    /// Bytes of the captures of outputs, by name.
    pub(super) archived: BTreeMap<String, u64>,
    /// Bytes that are to be free on the outputs' file systems, by name.
    pub(super) reserves: BTreeMap<String, u64>,
    /// The time at which the configuration that is in force was read, in seconds.
    pub(super) configured: f64,
    /// Bytes that wait in the receive buffers of each worker's sockets.
    pub(super) waiting: Option<Vec<u64>>,
    /// Bytes in each worker's rings.
    pub(super) rings: Vec<u64>,
}

impl Moment {
    /// Looks at a sensor.
    pub(super) fn of(view: &View) -> Self {
        let (snapshot, facts) = (view.snapshot(), view.facts());
        let reserve = |output: &str| facts.budgets.get(output)?.free_of(view.space(output)?.total);
        let budgets = facts.budgets.keys();
        Self {
            reserves: budgets.filter_map(|output| Some((output.clone(), reserve(output)?))).collect(),
            configured: view.last_applied().unwrap_or(snapshot.started).seconds(),
            status: view.status(),
            named: named(&facts.policy),
            durations: view.ledger.outputs.durations(),
            archived: view.ledger.outputs.archived(),
            waiting: waiting(view.backlogs().map(|(sockets, _)| sockets)),
            rings: view.backlogs().map(|(_, bytes)| bytes).collect(),
            snapshot,
        }
    }

    /// Returns what it tells as families, but for sessions.
    pub(super) fn families(&self) -> Families {
        let mut families = Families::default();
        self.add_sensor(&mut families);
        self.add_counters(&mut families);
        for worker in &self.status.workers {
            families.seconds(
                "vxtap_worker_busy_seconds",
                "The time that the worker did not spend waiting.",
                vec![("worker", worker.worker.to_string())],
                worker.busy_seconds,
            );
        }
        let by_worker = |bytes: &[u64]| -> Vec<(Labels, u64)> {
            let labels = |worker: usize| vec![("worker", worker.to_string())];
            bytes.iter().enumerate().map(|(worker, bytes)| (labels(worker), *bytes)).collect()
        };
        for (labels, bytes) in by_worker(self.waiting.as_deref().unwrap_or_default()) {
            let help = "Bytes in the receive buffers of the worker's sockets, with what the kernel needs beside.";
            families.gauge("vxtap_socket_queue_bytes", help, labels, bytes);
        }
        for (labels, bytes) in by_worker(&self.rings) {
            let help = "Bytes of records in the rings of the program in the kernel that the worker has not read; 0 \
                        without one.";
            families.gauge("vxtap_ring_used_bytes", help, labels, bytes);
        }
        for output in &self.status.outputs {
            self.add_output(&mut families, output);
        }
        for (output, durations) in &self.durations {
            families.durations(
                "vxtap_output_write_seconds",
                "How long the output took for a chunk of frames.",
                vec![("output", output.clone())],
                durations.clone(),
            );
        }
        families
    }

    /// Adds what there is once.
    fn add_sensor(&self, families: &mut Families) {
        let (status, started) = (&self.status, self.snapshot.started.seconds());
        let no_labels = Vec::new;
        families.info("vxtap_build", "Says which program this is.", vec![("version", status.version.clone())]);
        let sandbox = &status.sandbox;
        let none_or = |some: String| if some.is_empty() { "none".into() } else { some };
        families.info(
            "vxtap_sandbox",
            "Says what the sensor has given up: the version of Landlock's rules, whether system calls are filtered, and \
             the capabilities that it has left.",
            vec![
                ("landlock", none_or(sandbox.landlock.map(|version| version.to_string()).unwrap_or_default())),
                ("seccomp", if sandbox.seccomp { "filter" } else { "none" }.into()),
                ("capabilities", none_or(sandbox.capabilities.join(","))),
            ],
        );
        let help = "The time at which the sensor began to receive.";
        families.number("vxtap_start_time_seconds", help, no_labels(), started);
        let help = "By how much the system's clock was set since the sensor began to receive; less than 0 where it \
                    was set back.";
        let stepped = status.now.seconds() - started - status.uptime_seconds;
        families.number("vxtap_clock_stepped_seconds", help, no_labels(), stepped);
        let help = "1 where the sensor may be sent traffic, 0 where it may not.";
        families.gauge("vxtap_ready", help, no_labels(), status.ready.into());
        families.gauge(
            "vxtap_sessions",
            "Mirror sessions that are told apart.",
            no_labels(),
            status.sessions.count.into(),
        );
        let help = "The most sessions that are told apart (--max-sessions).";
        families.gauge("vxtap_sessions_limit", help, no_labels(), status.sessions.limit.into());
        let help = "1 where the configuration file was applied when it was last read, 0 where it was refused.";
        let is_applied = status.config.last.as_ref().is_none_or(|last| last.ok);
        families.gauge("vxtap_config_last_reload_successful", help, no_labels(), is_applied.into());
        let help = "The time at which the configuration that is in force was read.";
        families.number("vxtap_config_last_reload_success_timestamp_seconds", help, no_labels(), self.configured);
        for (result, times) in [("applied", status.config.applied), ("refused", status.config.refused)] {
            let help = "How often the configuration file was read again.";
            families.counter("vxtap_config_reloads", help, vec![("result", result.into())], times);
        }
    }

    /// Adds all counters of the catalogue.
    fn add_counters(&self, families: &mut Families) {
        let Snapshot { datagrams, overflow, expired, outputs, .. } = &self.snapshot;
        add(families, None, &[], datagrams);
        add(families, Some("overflow"), &[], overflow);
        add(families, Some("expired"), &[], expired);
        for (output, totals) in outputs {
            add(families, Some("output"), &[("output", output.clone())], totals);
        }
    }

    /// Adds how an output does.
    fn add_output(&self, families: &mut Families, output: &OutputState) {
        let labels = || vec![("output", output.name.clone())];
        families.gauge(
            "vxtap_output_up",
            "1 where the output takes frames, 0 where it does not.",
            labels(),
            output.up.into(),
        );
        families.gauge(
            "vxtap_output_queue_bytes",
            "Memory of what waits for the output.",
            labels(),
            output.queue_bytes,
        );
        let help = "The most that can wait for the output (--queue).";
        families.gauge("vxtap_output_queue_limit_bytes", help, labels(), output.queue_limit_bytes);
        if let Some(free) = output.free_bytes {
            let help = "Bytes that are free on the file system that the output writes to.";
            families.gauge("vxtap_filesystem_free_bytes", help, labels(), free);
        }
        if let Some(bytes) = self.archived.get(&output.name).filter(|_| output.directory.is_some()) {
            let help = "Bytes of the captures in the output's directory, those that are written to included.";
            families.gauge("vxtap_archive_bytes", help, labels(), *bytes);
        }
        if let Some(reserve) = self.reserves.get(&output.name) {
            let help = "Bytes that are to be free there (--min-free).";
            families.gauge("vxtap_filesystem_reserve_bytes", help, labels(), *reserve);
        }
    }

    /// Credits names with what their sessions counted, and adds their series.
    pub(super) fn add_sessions(&self, accounts: &mut Accounts, families: &mut Families) {
        accounts.look(&self.snapshot);
        accounts.add_to(families, &self.named);
    }
}

/// Adds the counters of a set that is in `group`.
fn add(families: &mut Families, group: Option<&str>, labels: &[(&'static str, String)], totals: &impl Totals) {
    for reading in totals.readings().iter().chain(&totals.gauge()) {
        let Some(stem) = names::stem(group, reading) else { continue };
        let Reading { reason, whole, value, .. } = reading;
        let mut labels: Labels = labels.to_vec();
        labels.extend(reason.map(|reason| ("reason", reason.to_owned())));
        match reading.facts.kind {
            ledger::Kind::Monotonic => families.counter(&stem, whole, labels, *value),
            // It is signed, and for a moment it can be less than nothing.
            ledger::Kind::Gauge => families.number(&stem, whole, labels, value.cast_signed() as f64),
        }
    }
}
