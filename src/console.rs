//! Standard error: log lines, and below them a live status line or a progress bar where it is a terminal.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Log lines that wait to be written at most.
const LINES: usize = 4096;

/// Standard error, shared by log lines and bars.
#[derive(Debug, Clone, Default)]
pub struct Console {
    bars: MultiProgress,
}

impl Console {
    /// Sends log lines to the console. `verbose` counts `-v`; the environment variable `VXTAP_LOG` takes precedence.
    ///
    /// Lines are written by a thread of their own, so that a standard error which is not read holds up nobody: when too many wait, further
    /// ones are lost. Those that wait are written when the guard is dropped, as far as that takes a second at most.
    pub fn log(&self, format: LogFormat, verbose: u8) -> WorkerGuard {
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES)
            .thread_name("vxtap-log")
            .finish(Lines(self.clone()));
        let level = match verbose {
            0 => "info",
            1 => "debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_env("VXTAP_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(lines);
        // It fails where a logger is set already, as in tests; then that one stays.
        let _ = match format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        guard
    }

    /// Whether a person is watching.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Shows a bar below the log lines.
    #[must_use]
    pub fn show(&self, bar: ProgressBar) -> ProgressBar {
        self.bars.add(bar)
    }
}

/// Writes log lines above the bars.
struct Lines(Console);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
