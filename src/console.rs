//! The console is standard error: log lines, and below them a live status line or a progress bar
//! where it is a terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing::{Dispatch, Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::whose;

/// The look of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Says whether text on standard output is to have colours.
#[must_use]
pub fn output_has_colours() -> bool {
    io::stdout().is_terminal() && wants_colours()
}

/// Leaves out what a terminal would take for an order.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The most log lines that wait to be written.
const LINES: usize = 4096;

/// Standard error, shared by log lines and bars.
#[derive(Debug, Clone, Default)]
pub struct Console {
    bars: MultiProgress,
    /// The look of log lines, once they are sent here.
    format: Arc<OnceLock<LogFormat>>,
}

/// A field of an event that has the text of an object. In a line of JSON it is that object.
const OBJECT: &str = "metrics";
/// The field of the output that a line is about.
const OUTPUT: &str = "output";

impl Console {
    /// Sends log lines to the console. `verbose` counts `-v`; the environment variable `VXTAP_LOG`
    /// takes precedence.
    ///
    /// Lines are written by a thread of their own, so that a standard error which is not read holds
    /// up nobody. When too many wait, further ones are lost. The lines that wait are written when
    /// the guard is dropped, as far as that takes a second at most.
    pub fn log(&self, format: LogFormat, verbose: u8) -> WorkerGuard {
        self.format.get_or_init(|| format);
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES)
            .thread_name("vxtap-log")
            .finish(Lines(self.clone()));
        // Setting the logger fails where one is set already, as in tests. Then that one stays.
        let _ = logger(format, verbose, lines).try_init();
        guard
    }

    /// Has the lines that `say` logs be the last of standard error. The lines that wait are written
    /// before, and what other threads log from then on is lost.
    pub fn last(&self, lines: WorkerGuard, format: LogFormat, verbose: u8, say: impl FnOnce()) {
        drop(lines);
        let console = self.clone();
        tracing::dispatcher::with_default(&logger(format, verbose, move || Lines(console.clone())), say);
    }

    /// Says whether a person is watching.
    #[must_use]
    pub(crate) fn is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Says whether programs read the log lines.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format.get(), Some(LogFormat::Json))
    }

    /// Says whether text on standard error is to have colours.
    #[must_use]
    pub fn has_colours(&self) -> bool {
        self.is_terminal() && wants_colours()
    }

    /// Shows how much of `length` bytes has been done. The bar is hidden where standard error is
    /// not a terminal.
    #[must_use]
    pub(crate) fn progress(&self, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        self.show(ProgressBar::new(length).with_style(style))
    }

    /// Shows a bar below the log lines.
    #[must_use]
    pub(crate) fn show(&self, bar: ProgressBar) -> ProgressBar {
        self.bars.add(bar)
    }
}

/// Formats log lines for `writer`.
fn logger<W>(format: LogFormat, verbose: u8, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("VXTAP_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && wants_colours())
        .with_writer(writer);
    match format {
        LogFormat::Text => builder.finish().into(),
        LogFormat::Json => builder.json().map_event_format(Objects).finish().into(),
    }
}

/// Writes log lines as JSON. A line of a thread that works for an output names that output.
struct Objects(Format<Json>);

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let has = |field| event.metadata().fields().field(field).is_some();
        let output = if has(OUTPUT) { None } else { whose::output() };
        if output.is_none() && !has(OBJECT) {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        if has(OBJECT) {
            line = with_object(line);
        }
        writer.write_str(&with_output(line, output.as_deref()))
    }
}

/// Puts the name of an output among the fields of a line.
fn with_output(mut line: String, output: Option<&str>) -> String {
    // What comes before the fields has none of these signs within a string.
    let fields = "\"fields\":{";
    if let Some((at, output)) = line.find(fields).map(|at| at + fields.len()).zip(output) {
        line.insert_str(at, &format!("\"{OUTPUT}\":{},", serde_json::Value::from(output)));
    }
    line
}

/// Puts an object in place of its text. A line without one stays as it is.
fn with_object(mut line: String) -> String {
    // Within a string these quotes have a backslash in front of them.
    let key = format!("\"{OBJECT}\":");
    if let Some(at) = line.find(&format!("{key}\"")).map(|at| at + key.len()) {
        let mut texts = serde_json::Deserializer::from_str(&line[at..]).into_iter::<String>();
        if let Some(Ok(text)) = texts.next() {
            let end = at + texts.byte_offset();
            line.replace_range(at..end, &text);
        }
    }
    line
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gives_a_terminal_orders() {
        assert_eq!(printable("a\x1b[31mb\n"), "a [31mb ");
    }

    #[test]
    fn the_text_of_an_object_becomes_the_object() {
        let line = |fields: &str| format!("{{\"level\":\"INFO\",\"fields\":{{{fields}}}}}\n");
        let text = line(r#""message":"say \"metrics\":\"x\"","metrics":"{\"a\":{\"b\":1}}","lost":0"#);
        let object = line(r#""message":"say \"metrics\":\"x\"","metrics":{"a":{"b":1}},"lost":0"#);
        assert_eq!(with_object(text), object);
        assert_eq!(with_object(object.clone()), object);
        assert_eq!(with_object(line("")), line(""));
    }

    #[test]
    fn a_line_names_the_output_that_it_is_about() {
        let line = |fields: &str| format!("{{\"level\":\"INFO\",\"fields\":{{{fields}}}}}\n");
        let text = line(r#""message":"say \"fields\":{ twice""#);
        let named = line(r#""output":"pcap \"1\"","message":"say \"fields\":{ twice""#);
        assert_eq!(with_output(text.clone(), Some("pcap \"1\"")), named);
        assert_eq!(with_output(text.clone(), None), text);
    }
}
