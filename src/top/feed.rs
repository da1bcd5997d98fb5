//! A thread asks the sensor how it does, again and again.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use serde::Deserialize;

use crate::control::{Client, ClientError};
use crate::record::Timestamp;
use crate::view::Status;

/// The most sessions that are asked for: those with the most frames.
const SESSIONS: u32 = 4096;

/// What a sensor said of itself at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) ledger: Account,
}

/// The part of the ledger that is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) outputs: BTreeMap<String, OutputAccount>,
    pub(super) sessions: Vec<SessionAccount>,
}

/// The part of an output's account that is shown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputAccount {
    pub(super) written: u64,
    pub(super) written_bytes: u64,
}

/// A session's account.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SessionAccount {
    pub(super) source: String,
    pub(super) vni: u32,
    #[serde(default)]
    pub(super) encapsulation: Option<String>,
    #[serde(default)]
    pub(super) scope: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) lost: u64,
    #[serde(default)]
    pub(super) duplicates: u64,
    pub(super) last: Timestamp,
}

/// Asks once.
///
/// # Errors
/// There is no answer, or none that can be read.
pub(super) fn ask(client: &Client) -> Result<Sample, ClientError> {
    let strange = |_| ClientError::Strange(client.place().clone());
    let status = serde_json::from_str(&client.get("/status")?).map_err(strange)?;
    let ledger = client.get(&format!("/ledger?top={SESSIONS}"))?;
    let at = Instant::now();
    Ok(Sample { at, status, ledger: serde_json::from_str(&ledger).map_err(strange)? })
}

/// The samples of a thread that asks.
#[derive(Debug)]
pub(super) struct Feed {
    samples: Receiver<Result<Sample, ClientError>>,
}

impl Feed {
    /// Has a thread ask each `interval`.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(client: Client, interval: Duration) -> io::Result<Self> {
        let (sender, samples) = bounded(1);
        thread::Builder::new().name("vxtap-top".into()).spawn(move || {
            loop {
                thread::sleep(interval);
                // It ends when nobody looks any more, or with the process.
                if sender.send(ask(&client)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { samples })
    }

    /// Returns the next answer, if it is there.
    pub(super) fn next(&self) -> Option<Result<Sample, ClientError>> {
        self.samples.try_recv().ok()
    }
}
