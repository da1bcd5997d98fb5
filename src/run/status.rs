//! A running sensor shows a live line on a terminal, else a log line now and then; and it tells
//! what is worth a warning.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use indicatif::HumanCount;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::lines;
use crate::console::Console;
use crate::ledger::{Ledger, Losses, OutputDrop, Snapshot, Totals};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::record::Timestamp;
use crate::route::Registry;
use crate::setting::Wording;

/// The time between two drawings of the live line, and between two looks for warnings.
const EVERY: Duration = Duration::from_secs(1);
/// The time between two log lines where nobody watches.
const LOG: Duration = Duration::from_secs(10);
/// The time for which the end of a sensor waits for the terminal.
const PATIENCE: Duration = Duration::from_millis(500);
/// New sessions that have a line of their own in a second; the others share some.
const NAMED: usize = 5;

/// Takes the ledger as it is now, without the sessions.
fn look(ledger: &Ledger) -> Snapshot {
    Snapshot::of(ledger, Timestamp::from_ns(0), Vec::new())
}

/// Something that the catalogue has a warning for: the output, where it is one's, the reason and
/// the warning.
type Alarm = (Option<String>, &'static str, &'static str);

/// Counts how often what the catalogue has a warning for has happened.
fn alarms(snapshot: &Snapshot) -> BTreeMap<Alarm, u64> {
    let of_outputs = snapshot.outputs.iter().map(|(name, output)| (Some(name.clone()), output.readings()));
    let mut alarms = BTreeMap::new();
    for (output, readings) in of_outputs.chain([(None, snapshot.terms())]) {
        for reading in readings {
            if let Some(warning) = reading.facts.warning {
                let reason = reading.reason.unwrap_or(reading.group.unwrap_or(reading.label));
                *alarms.entry((output.clone(), reason, warning)).or_default() += reading.value;
            }
        }
    }
    alarms
}

/// The content of a line.
#[derive(Debug)]
struct Report {
    ledger: Snapshot,
    losses: Losses,
    at: Instant,
}

impl Report {
    fn of(ledger: &Ledger, at: Instant) -> Self {
        let ledger = look(ledger);
        Self { losses: Losses::of(&ledger), ledger, at }
    }

    /// Returns datagrams and megabytes a second since `before`.
    fn rates(&self, before: &Self) -> (f64, f64) {
        let elapsed = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        let (now, before) = (&self.ledger.datagrams, &before.ledger.datagrams);
        (rate(now.received, before.received), rate(now.received_bytes, before.received_bytes) / 1e6)
    }

    /// Writes the line for a terminal, which may be narrow: what was lost is at its beginning.
    fn line(&self, before: &Self, sessions: u32) -> String {
        let lost = self.losses.lost_since(&before.losses);
        let besides = self.losses.besides_since(&before.losses);
        let (packets, megabytes) = self.rates(before);
        let received = HumanCount(self.ledger.datagrams.received);
        let parts = [
            if lost.is_empty() { "nothing lost".into() } else { format!("LOST {lost}") },
            besides,
            format!("{packets:.0} datagrams/s"),
            format!("{megabytes:.1} MB/s"),
            format!("{sessions} session{}", if sessions == 1 { "" } else { "s" }),
            format!("{received} received"),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
    }

    /// Logs the line. `metrics` has the text of an object, for programs.
    fn log(&self, before: &Self, sessions: u32, metrics: Option<String>) {
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        let (packets, megabytes) = self.rates(before);
        let lane_full: u64 = self.ledger.outputs.values().map(|o| o.dropped[OutputDrop::LaneFull.label()]).sum();
        tracing::info!(
            datagrams_per_s = packets.round(),
            mb_per_s = (megabytes * 10.0).round() / 10.0,
            sessions,
            received = self.ledger.datagrams.received,
            lost = self.losses.total(),
            losses = said(self.losses.lost_since(&before.losses)),
            besides = said(self.losses.besides_since(&before.losses)),
            kernel_dropped = self.ledger.datagrams.kernel_dropped,
            lane_full,
            metrics,
            "status"
        );
    }
}

/// Shows how a sensor does.
#[derive(Debug)]
struct Status {
    line: Option<ProgressBar>,
    /// The report of the last live line or log line.
    shown: Report,
    /// The counts at the last look for warnings.
    warned: BTreeMap<Alarm, u64>,
    /// The number of sessions that had come when that was said last.
    sessions: u64,
    ledger: Arc<Ledger>,
    registry: Arc<Registry>,
    /// What programs are told beside.
    metrics: Option<Arc<Metrics>>,
    /// How warnings call settings.
    wording: Wording,
}

/// A status that is shown, by a thread of its own. A terminal that does not take what is written to
/// it, as one that was stopped with Ctrl-S, must hold up nobody.
#[derive(Debug)]
pub(super) struct Shown {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Shown {
    /// Takes the live line away, if the terminal lets it.
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// Shows how the sensor does.
///
/// # Errors
/// A thread cannot be created.
pub(super) fn show(
    pipeline: &Pipeline,
    console: &Console,
    metrics: &Arc<Metrics>,
    wording: Wording,
) -> io::Result<Shown> {
    let metrics = console.is_json().then(|| Arc::clone(metrics));
    let mut status = Status::new(pipeline, console, metrics, wording);
    let (stop, stopped) = bounded(0);
    let (sender, ended) = bounded(1);
    thread::Builder::new().name("vxtap-status".into()).spawn(move || {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            status.update(Instant::now());
        }
        status.clear();
        let _ = sender.try_send(());
    })?;
    Ok(Shown { stop, ended })
}

impl Status {
    fn new(pipeline: &Pipeline, console: &Console, metrics: Option<Arc<Metrics>>, wording: Wording) -> Self {
        let shown = Report::of(&pipeline.ledger, Instant::now());
        let line = console.is_terminal().then(|| {
            let line = console.show(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                line.set_style(style);
            }
            line
        });
        Self {
            line,
            warned: alarms(&shown.ledger),
            shown,
            sessions: 0,
            ledger: Arc::clone(&pipeline.ledger),
            registry: Arc::clone(&pipeline.registry),
            metrics,
            wording,
        }
    }

    fn update(&mut self, now: Instant) {
        let report = Report::of(&self.ledger, now);
        self.warn(&report.ledger);
        if self.line.is_none() && now.duration_since(self.shown.at) < LOG {
            return;
        }
        let sessions = self.registry.count();
        match &self.line {
            Some(line) => {
                line.set_message(report.line(&self.shown, sessions));
                line.tick();
            }
            None => {
                let metrics = self.metrics.as_ref().map(|metrics| Value::from(metrics.object()).to_string());
                report.log(&self.shown, sessions, metrics);
            }
        }
        self.shown = report;
    }

    /// Warns, with one line at most for each cause. Called once a second.
    fn warn(&mut self, ledger: &Snapshot) {
        let alarms = alarms(ledger);
        for (alarm, total) in &alarms {
            let more = total.saturating_sub(self.warned.get(alarm).copied().unwrap_or(0));
            let (output, reason, warning) = alarm;
            if more > 0 {
                tracing::warn!(output = output.as_deref(), reason, more, total, "{}", self.wording.put(warning));
            }
        }
        self.warned = alarms;
        self.new_sessions();
    }

    fn new_sessions(&mut self) {
        let (new, known) = self.registry.new_since(self.sessions);
        self.sessions = known;
        let (named, further) = new.split_at(new.len().min(NAMED));
        for (session, name) in named {
            let (source, vni) = (session.address(), session.vni.get());
            let encapsulation = session.encapsulation.label_unless_default();
            let scope = session.scope.map(tracing::field::display);
            tracing::info!(session = name.as_deref(), encapsulation, %source, scope, vni, "new mirror session");
        }
        for line in lines::of(further.iter().map(|(session, _)| session.to_string())) {
            tracing::info!(total = self.sessions, "further new mirror sessions: {line}");
        }
    }

    /// Takes the live line away.
    fn clear(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Output;
    use crate::wire::{DropReason, Vni};

    #[test]
    fn the_line_begins_with_what_is_lost_whatever_the_reason() {
        let mut ledger = Ledger::default();
        let worker = ledger.worker();
        let mut output = Output { name: "pcap".into(), ends: Vec::new() };
        let pcap = output.end();
        ledger.outputs.push(output);
        let start = Instant::now();
        let report = |seconds| Report::of(&ledger, start + Duration::from_secs(seconds));
        let before = report(0);
        worker.received.add(10_792);
        worker.received_bytes.add(15_000_000);
        let well = report(2);
        assert_eq!(well.line(&before, 3), "nothing lost  5396 datagrams/s  7.5 MB/s  3 sessions  10,792 received");
        pcap.dropped(OutputDrop::DiskFull).add(5442);
        worker.dropped(DropReason::VniFlagClear).add(7);
        worker.unselected.add(40);
        (0..40).for_each(|_| worker.unselected_vnis.add(Vni::new(7).unwrap()));
        worker.overflow.frames.add(3);
        let full = report(3);
        let line = full.line(&well, 3);
        let lost = "LOST pcap disk_full 5,442 (+5,442), vni_flag_clear 7 (+7)  unselected 40 (+40) [VNI 7], overflow 3 (+3)  0 datagrams/s";
        assert!(line.starts_with(lost), "{line}");
        let later = report(4).line(&full, 3);
        assert!(later.starts_with("LOST pcap disk_full 5,442, vni_flag_clear 7  unselected 40"), "{later}");
    }
}
