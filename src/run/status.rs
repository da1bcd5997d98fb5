//! What a running sensor says of itself: a live line on a terminal, else a log line now and then; and what is worth a warning.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::Console;
use crate::ledger::{Ledger, OutputDrop, thousands};
use crate::pipeline::Pipeline;
use crate::route::Registry;

/// How often the live line is drawn, and warnings are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// How often a log line is written where nobody watches.
const LOG: Duration = Duration::from_secs(10);
/// How long the end of a sensor waits for the terminal.
const PATIENCE: Duration = Duration::from_millis(500);
/// New sessions named in a second; the others are counted.
const NAMED: u32 = 5;

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

/// Shows how a sensor does.
#[derive(Debug)]
struct Status {
    line: Option<ProgressBar>,
    /// At the last line or log line, and when.
    shown: (Seen, Instant),
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
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                line.set_style(style);
            }
            line
        });
        Self {
            line,
            shown: (seen, Instant::now()),
            warned: seen,
            sessions: 0,
            ledger: Arc::clone(&pipeline.ledger),
            registry: Arc::clone(&pipeline.registry),
        }
    }

    fn update(&mut self, now: Instant) {
        self.warn();
        let elapsed = now.duration_since(self.shown.1);
        if self.line.is_none() && elapsed < LOG {
            return;
        }
        let seen = Seen::of(&self.ledger);
        let rate = |now: u64, before: u64| (now - before) as f64 / elapsed.as_secs_f64();
        let (packets, megabytes) =
            (rate(seen.received, self.shown.0.received), rate(seen.bytes, self.shown.0.bytes) / 1e6);
        let sessions = self.registry.count();
        match &self.line {
            Some(line) => {
                line.set_message(format!(
                    "{packets:.0} datagrams/s  {megabytes:.1} MB/s  {sessions} sessions  {} received  \
                     dropped: {} kernel, {} lanes",
                    thousands(seen.received),
                    thousands(seen.kernel),
                    thousands(seen.lanes),
                ));
                line.tick();
            }
            None => tracing::info!(
                datagrams_per_s = packets.round(),
                mb_per_s = (megabytes * 10.0).round() / 10.0,
                sessions,
                received = seen.received,
                kernel_dropped = seen.kernel,
                lane_full = seen.lanes,
                "status"
            ),
        }
        self.shown = (seen, now);
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
        let known = self.sessions;
        for (_, key) in self.registry.since(known) {
            if self.sessions - known < NAMED {
                tracing::info!(source = %key.source(), vni = key.vni.get(), "new mirror session");
            }
            self.sessions += 1;
        }
        if self.sessions - known > NAMED {
            tracing::info!(more = self.sessions - known - NAMED, total = self.sessions, "further new mirror sessions");
        }
    }

    /// Takes the live line away.
    fn clear(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
