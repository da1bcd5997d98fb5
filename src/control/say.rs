//! The answers of a sensor become text for people, or stay JSON for scripts.

use std::fmt::Write;

use serde::Deserialize;

use super::client::{Client, ClientError};
use crate::session::whence;
use crate::view::{OutputState, State, Status};

/// Has the sensor read its file again, and returns what has changed.
///
/// # Errors
/// There is no answer, or the file cannot be in force.
pub fn reload(client: &Client, json: bool) -> Result<String, ClientError> {
    let answer = client.order("/reload")?;
    if json {
        return Ok(answer);
    }
    let Reloaded { said, warning } = read(client, &answer)?;
    Ok(match warning {
        None => format!("{said}\n"),
        Some(warning) => format!("{said}\n{warning}\n"),
    })
}

/// Has the sensor complete the files that it writes to.
///
/// # Errors
/// There is no answer.
pub fn cut(client: &Client, json: bool) -> Result<String, ClientError> {
    let answer = client.order("/cut")?;
    Ok(if json { answer } else { "the files that are written to are being completed\n".into() })
}

/// Returns the ledger as it is now; with `top`, the so many sessions that have most of the frames.
///
/// # Errors
/// There is no answer.
pub fn ledger(client: &Client, top: Option<u32>, json: bool) -> Result<String, ClientError> {
    let format = if json { "json" } else { "text" };
    let top = top.map(|top| format!("&top={top}")).unwrap_or_default();
    client.get(&format!("/ledger?format={format}{top}"))
}

/// Returns the configuration that is in force.
///
/// # Errors
/// There is no answer.
pub fn config(client: &Client) -> Result<String, ClientError> {
    client.get("/config")
}

/// Returns how the sensor does.
///
/// # Errors
/// There is no answer.
pub fn status(client: &Client, json: bool) -> Result<String, ClientError> {
    let answer = client.get("/status")?;
    if json { Ok(answer) } else { Ok(in_words(&read(client, &answer)?)) }
}

/// Returns the sessions of the sensor.
///
/// # Errors
/// There is no answer.
pub fn sessions(client: &Client, json: bool) -> Result<String, ClientError> {
    let answer = client.get("/sessions")?;
    if json { Ok(answer) } else { Ok(table(&read(client, &answer)?)) }
}

fn read<'a, T: Deserialize<'a>>(client: &Client, answer: &'a str) -> Result<T, ClientError> {
    serde_json::from_str(answer).map_err(|_| ClientError::Strange(client.place().clone()))
}

#[derive(Deserialize)]
struct Reloaded {
    said: String,
    warning: Option<String>,
}

#[derive(Deserialize)]
struct Sessions {
    count: u32,
    limit: u32,
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Session {
    source: String,
    vni: u32,
    encapsulation: Option<String>,
    scope: Option<String>,
    name: Option<String>,
    description: Option<String>,
    frames: u64,
    bytes: u64,
    last: String,
}

fn in_words(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| _ = writeln!(text, "{name:<9} {value}");
    let state = match status.state {
        State::Receiving => "receiving",
        State::Draining => "draining",
    };
    line(
        "sensor",
        format!("vxtap {}, process {}, {state} for {}", status.version, status.pid, lasted(status.uptime_seconds)),
    );
    line("ready", if status.ready { "yes".into() } else { format!("no: {}", status.reasons.join("; ")) });
    line("listen", format!("{} ({})", status.listen.join(" "), status.source));
    for worker in &status.workers {
        let busy = format!("busy for {:.1} s so far", worker.busy_seconds);
        let stalls = if worker.idle_seconds >= 1.0 {
            format!(", last turn {:.1} s ago", worker.idle_seconds)
        } else {
            String::new()
        };
        line("worker", format!("{}: {busy}{stalls}", worker.worker));
    }
    line("sessions", format!("{} of {} at most", status.sessions.count, status.sessions.limit));
    for output in &status.outputs {
        line("output", in_a_line(output));
    }
    line("sandbox", status.sandbox.describe());
    let config = &status.config;
    line("config", config.path.clone().unwrap_or_else(|| "by flags, no file".into()));
    if let Some(last) = &config.last {
        let outcome = match &last.error {
            None => "applied".to_owned(),
            Some(error) => format!("refused: {error}"),
        };
        line(
            "reload",
            format!("{} applied, {} refused; the last at {}: {outcome}", config.applied, config.refused, last.at),
        );
    }
    text
}

fn in_a_line(output: &OutputState) -> String {
    let to = output.directory.as_ref().or(output.interface.as_ref());
    let to = to.filter(|to| **to != output.name).map(|to| format!(" to {to}")).unwrap_or_default();
    let up = match &output.reason {
        None if output.up => "up".to_owned(),
        reason => format!("DOWN: {}", reason.as_deref().unwrap_or("unknown")),
    };
    let (waits, most) = (output.queue_bytes >> 20, output.queue_limit_bytes >> 20);
    let free = output.free_bytes.map(|free| format!(", {} MiB free", free >> 20)).unwrap_or_default();
    format!("{} ({}){to}: {up}, {waits} of {most} MiB wait{free}", output.name, output.kind)
}

/// Returns a time in words of two units at most.
fn lasted(seconds: f64) -> String {
    let seconds = std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e12)).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn table(sessions: &Sessions) -> String {
    let mut rows = vec![["SOURCE", "VNI", "NAME", "FRAMES", "BYTES", "LAST FRAME", "DESCRIPTION"].map(str::to_owned)];
    for session in &sessions.sessions {
        // Seconds are as fine as people read.
        let last = session.last.split('.').next().unwrap_or_default().to_owned();
        let (name, description) = (session.name.clone(), session.description.clone());
        rows.push([
            whence(session.encapsulation.as_deref(), &session.source, session.scope.as_deref()),
            session.vni.to_string(),
            name.unwrap_or_else(|| "-".into()),
            session.frames.to_string(),
            session.bytes.to_string(),
            format!("{last}Z"),
            description.unwrap_or_default(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            1 | 3 | 4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    _ = writeln!(text, "{} of {} sessions at most", sessions.count, sessions.limit);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_in_a_table() {
        let sessions = r#"{"schema":1,"now":"","count":3,"limit":1024,"sessions":[
            {"encapsulation":"vxlan","source":"10.0.1.5","vni":7,"name":"web-1","description":"eni-1","frames":12,"bytes":1200,
             "first":"2026-11-30T02:59:00.000000001Z","last":"2026-11-30T03:00:00.000000001Z"},
            {"source":"192.0.2.10","vni":100,"frames":3,"bytes":30,"first":"","last":"2026-11-30T03:00:01.000000001Z"},
            {"encapsulation":"erspan","source":"10.0.1.5","scope":"0x5","vni":7,"frames":1,"bytes":60,
             "first":"","last":"2026-11-30T03:00:01.000000001Z"}]}"#;
        let text = table(&serde_json::from_str(sessions).unwrap());
        let wanted = "\
SOURCE                     VNI  NAME   FRAMES  BYTES  LAST FRAME            DESCRIPTION
10.0.1.5                     7  web-1      12   1200  2026-11-30T03:00:00Z  eni-1
192.0.2.10                 100  -           3     30  2026-11-30T03:00:01Z
erspan 10.0.1.5 scope 0x5    7  -           1     60  2026-11-30T03:00:01Z
3 of 1024 sessions at most
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_time_has_two_units() {
        for (seconds, words) in
            [(0.2, "0 s"), (61.0, "1 min 1 s"), (3661.0, "1 h 1 min"), (90_000.0, "1 d 1 h"), (-1.0, "0 s")]
        {
            assert_eq!(lasted(seconds), words);
        }
    }
}
