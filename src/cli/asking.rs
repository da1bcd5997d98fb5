//! The commands that ask a running sensor.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::units::duration;
use crate::top::Sort;

/// Whom to ask.
#[derive(Debug, Args)]
pub struct SocketArgs {
    /// The control socket of the sensor. [default: /run/vxtap/control]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

/// Whom to ask, and how to show the answer.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `vxtap ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Leave out all sessions but the N with the most frames.
    #[arg(long, value_name = "N")]
    pub top: Option<u32>,
}

/// `vxtap top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Ask a sensor over HTTP instead, at the address of its `http.listen`.
    #[arg(long, value_name = "http://HOST:PORT", value_parser = url, conflicts_with = "control")]
    pub url: Option<String>,
    /// The time between two looks.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    pub interval: Duration,
    /// The order of the sessions at first.
    #[arg(long, value_enum, default_value_t = Sort::Rate)]
    pub sort: Sort,
    /// Print one table of what happens during one interval, and end.
    #[arg(long)]
    pub once: bool,
}

/// Reads the place of a sensor, and returns its host and port.
fn url(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not as http://127.0.0.1:9479");
    if text.starts_with("https:") {
        return Err("a sensor speaks no TLS: write http://, through ssh -L or a proxy where it is elsewhere".into());
    }
    let place = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', '@', ' ']) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    port.parse::<u16>().map_err(|_| wrong())?;
    Ok(place.to_owned())
}

/// Reads the time between two looks.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(100) || interval > Duration::from_secs(3600) {
        return Err("from 100ms to 1h".into());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        for (text, place) in [
            ("http://127.0.0.1:9479", "127.0.0.1:9479"),
            ("http://[::1]:9479/", "[::1]:9479"),
            ("sensor-1:80", "sensor-1:80"),
        ] {
            assert_eq!(url(text).unwrap(), place);
        }
        for text in [
            "",
            "sensor",
            "http://sensor",
            "http://:9479",
            "http://a:99999",
            "http://a:+9",
            "http://u@a:9",
            "http://a/b:9",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
        assert!(url("https://a:9").unwrap_err().contains("TLS"));
        assert!(interval("50ms").is_err() && interval("2h").is_err());
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
    }
}
