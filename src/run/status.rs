//! What a running sensor says of itself: a live line on a terminal, else a log line now and then; and what is worth a warning.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressStyle};

use super::lines;
use crate::console::Console;
use crate::ledger::{Ledger, Losses, OutputDrop, Overflow, Snapshot, thousands};
use crate::pipeline::Pipeline;
use crate::record::Timestamp;
use crate::route::Registry;

/// How often the live line is drawn, and warnings are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// How often a log line is written where nobody watches.
const LOG: Duration = Duration::from_secs(10);
/// How long the end of a sensor waits for the terminal.
const PATIENCE: Duration = Duration::from_millis(500);
/// New sessions that have a line of their own in a second; the others share some.
const NAMED: usize = 5;

/// Counters that the status shows.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    received: u64,
    bytes: u64,
    kernel: u64,
    lanes: u64,
    overflow: u64,
    redirect: u64,
}

impl Seen {
    fn of(ledger: &Ledger) -> Self {
        Self {
            received: ledger.sum(|w| &w.received),
            bytes: ledger.sum(|w| &w.received_bytes),
            kernel: ledger.sum(|w| &w.kernel_dropped),
            lanes: ledger.outputs_dropped(OutputDrop::LaneFull),
            overflow: ledger.sum(|w| &w.overflow),
            redirect: ledger.outputs_dropped(OutputDrop::RedirectLost),
        }
    }
}

/// What was lost so far.
fn losses(ledger: &Ledger) -> Losses {
    let overflow = Overflow { frames: ledger.sum(|w| &w.overflow), bytes: 0 };
    Losses::of(&Snapshot::of(ledger, Timestamp::from_ns(0), Vec::new(), overflow))
}

/// What a line tells.
#[derive(Debug)]
struct Report {
    seen: Seen,
    losses: Losses,
    at: Instant,
}

impl Report {
    /// Datagrams and megabytes a second since `before`.
    fn rates(&self, before: &Self) -> (f64, f64) {
        let elapsed = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        (rate(self.seen.received, before.seen.received), rate(self.seen.bytes, before.seen.bytes) / 1e6)
    }

    /// For a terminal, which may be narrow: what was lost is at its beginning.
    fn line(&self, before: &Self, sessions: u32) -> String {
        let lost = self.losses.lost_since(&before.losses);
        let besides = self.losses.besides_since(&before.losses);
        let (packets, megabytes) = self.rates(before);
        let received = thousands(self.seen.received);
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

    fn log(&self, before: &Self, sessions: u32) {
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        let (packets, megabytes) = self.rates(before);
        tracing::info!(
            datagrams_per_s = packets.round(),
            mb_per_s = (megabytes * 10.0).round() / 10.0,
            sessions,
            received = self.seen.received,
            lost = self.losses.total(),
            losses = said(self.losses.lost_since(&before.losses)),
            besides = said(self.losses.besides_since(&before.losses)),
            kernel_dropped = self.seen.kernel,
            lane_full = self.seen.lanes,
            "status"
        );
    }
}

/// Shows how a sensor does.
#[derive(Debug)]
struct Status {
    line: Option<ProgressBar>,
    /// In the last line or log line.
    shown: Report,
    /// At the last look for warnings.
    warned: Seen,
    sessions: u32,
    ledger: Arc<Ledger>,
    registry: Arc<Registry>,
}

/// A status that is shown, by a thread of its own: a terminal that does not take what is written to it, as one that was stopped with
/// Ctrl-S, must hold up nobody.
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
/// What creating a thread returns.
pub(super) fn show(pipeline: &Pipeline, console: &Console) -> io::Result<Shown> {
    let mut status = Status::new(pipeline, console);
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
    fn new(pipeline: &Pipeline, console: &Console) -> Self {
        let seen = Seen::of(&pipeline.ledger);
        let line = console.is_terminal().then(|| {
            let line = console.show(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                line.set_style(style);
            }
            line
        });
        Self {
            line,
            shown: Report { seen, losses: losses(&pipeline.ledger), at: Instant::now() },
            warned: seen,
            sessions: 0,
            ledger: Arc::clone(&pipeline.ledger),
            registry: Arc::clone(&pipeline.registry),
        }
    }

    fn update(&mut self, now: Instant) {
        self.warn();
        if self.line.is_none() && now.duration_since(self.shown.at) < LOG {
            return;
        }
        let report = Report { seen: Seen::of(&self.ledger), losses: losses(&self.ledger), at: now };
        let sessions = self.registry.count();
        match &self.line {
            Some(line) => {
                line.set_message(report.line(&self.shown, sessions));
                line.tick();
            }
            None => report.log(&self.shown, sessions),
        }
        self.shown = report;
    }

    /// Called once a second: one line at most for each cause.
    fn warn(&mut self) {
        let seen = Seen::of(&self.ledger);
        let before = self.warned;
        if seen.kernel > before.kernel {
            let more = seen.kernel - before.kernel;
            tracing::warn!(
                more,
                total = seen.kernel,
                "the kernel dropped datagrams: the sensor is too slow, or --receive-buffer too small for the burst"
            );
        }
        if seen.lanes > before.lanes {
            let more = seen.lanes - before.lanes;
            tracing::warn!(more, total = seen.lanes, "an output is behind and its --queue is full: frames dropped");
        }
        if seen.redirect > before.redirect {
            let more = seen.redirect - before.redirect;
            tracing::warn!(
                more,
                total = seen.redirect,
                "redirected frames did not enter the interface: it has just gone down, or the kernel's queue to it was full (raise it with: \
                 sysctl -w net.core.netdev_max_backlog=10000)"
            );
        }
        if seen.overflow > before.overflow {
            let more = seen.overflow - before.overflow;
            tracing::warn!(
                more,
                total = seen.overflow,
                "frames of sessions beyond --max-sessions go to the overflow file"
            );
        }
        self.warned = seen;
        self.new_sessions();
    }

    fn new_sessions(&mut self) {
        let new = self.registry.since(self.sessions);
        self.sessions += u32::try_from(new.len()).unwrap_or(u32::MAX);
        let (named, further) = new.split_at(new.len().min(NAMED));
        for (_, session) in named {
            tracing::info!(source = %session.address(), vni = session.vni.get(), "new mirror session");
        }
        for line in lines::of(further.iter().map(|(_, session)| session.to_string())) {
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
        let report = |seconds| Report {
            seen: Seen::of(&ledger),
            losses: losses(&ledger),
            at: start + Duration::from_secs(seconds),
        };
        let before = report(0);
        worker.received.add(10_792);
        worker.received_bytes.add(15_000_000);
        let well = report(2);
        assert_eq!(well.line(&before, 3), "nothing lost  5396 datagrams/s  7.5 MB/s  3 sessions  10,792 received");
        pcap.dropped(OutputDrop::DiskFull).add(5442);
        worker.dropped(DropReason::VniFlagClear).add(7);
        worker.unselected.add(40);
        (0..40).for_each(|_| worker.unselected_vnis.add(Vni::new(7).unwrap()));
        worker.overflow.add(3);
        let full = report(3);
        let line = full.line(&well, 3);
        let lost = "LOST pcap disk_full 5,442 (+5,442), vni_flag_clear 7 (+7)  unselected 40 (+40) [VNI 7], overflow 3 (+3)  0 datagrams/s";
        assert!(line.starts_with(lost), "{line}");
        let later = report(4).line(&full, 3);
        assert!(later.starts_with("LOST pcap disk_full 5,442, vni_flag_clear 7  unselected 40"), "{later}");
    }
}
