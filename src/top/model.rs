//! The model has the last two samples, and what somebody chose to see of them.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use super::feed::{Sample, SessionAccount};
use crate::console::printable;
use crate::control::ClientError;
use crate::session::whence;
use crate::view::{Loss, OutputState, State};

/// Rates that are kept for the picture of the last minutes.
const HISTORY: usize = 300;

/// The order of the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Most frames a second first.
    Rate,
    /// Most bytes a second first.
    Bytes,
    /// Most frames so far first.
    Frames,
    /// Most frames lost first.
    Lost,
    /// The one that was silent the longest first.
    Silent,
    /// By name, or by source and VNI.
    Name,
}

impl Sort {
    pub(super) const ALL: [Sort; 6] = [Sort::Rate, Sort::Bytes, Sort::Frames, Sort::Lost, Sort::Silent, Sort::Name];

    /// The order in a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Bytes => "bytes",
            Sort::Frames => "frames",
            Sort::Lost => "lost",
            Sort::Silent => "silent",
            Sort::Name => "name",
        }
    }

    /// The next order.
    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionRow {
    /// Its name, or its source and VNI.
    pub(super) name: String,
    pub(super) source: String,
    pub(super) vni: u32,
    pub(super) description: String,
    /// Frames a second.
    pub(super) rate: f64,
    /// Megabytes a second.
    pub(super) megabytes: f64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Its frames that outputs lost.
    pub(super) lost: u64,
    /// Frames of it that outputs lost since the sample before.
    pub(super) newly_lost: u64,
    /// Its frames that another session had delivered before.
    pub(super) duplicates: u64,
    /// Seconds since its last frame.
    pub(super) silent: f64,
}

/// An output as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OutputRow {
    pub(super) state: OutputState,
    /// Frames a second.
    pub(super) rate: f64,
    /// Megabytes a second.
    pub(super) megabytes: f64,
    pub(super) written: u64,
    /// Frames that it lost.
    pub(super) dropped: u64,
    /// Frames that it lost since the sample before.
    pub(super) newly_dropped: u64,
}

/// Something that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// The output that lost it, where it is one's.
    pub(super) output: Option<String>,
    /// The place and the reason, in words.
    pub(super) what: String,
    pub(super) count: u64,
    /// What was lost since the sample before.
    pub(super) newly: u64,
}

/// What comes in all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    /// Datagrams a second.
    pub(super) datagrams: f64,
    /// Megabytes a second.
    pub(super) megabytes: f64,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Model {
    /// The place where the sensor answers.
    pub(super) place: String,
    before: Option<Sample>,
    pub(super) now: Option<Sample>,
    /// The reason for which there is no newer sample.
    pub(super) silent: Option<String>,
    /// Datagrams a second, the newest last.
    pub(super) history: VecDeque<u64>,
    pub(super) sort: Sort,
    /// True where the order is the other way round.
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// True while the filter is being typed.
    pub(super) types: bool,
    pub(super) helps: bool,
    /// True while nothing new is shown.
    pub(super) paused: bool,
    /// Sessions above the first that is shown.
    pub(super) skipped: usize,
    /// Sessions that were shown at once.
    pub(super) page: usize,
}

impl Model {
    pub(super) fn new(place: String, sort: Sort) -> Self {
        Self {
            place,
            before: None,
            now: None,
            silent: None,
            history: VecDeque::new(),
            sort,
            reversed: false,
            filter: String::new(),
            types: false,
            helps: false,
            paused: false,
            skipped: 0,
            page: 1,
        }
    }

    /// Takes what the sensor said, or why it says nothing.
    pub(super) fn take(&mut self, sample: Result<Sample, ClientError>) {
        if self.paused {
            return;
        }
        match sample {
            Ok(sample) => {
                // Another process has other counters.
                let is_same = self.now.as_ref().is_some_and(|now| now.status.started == sample.status.started);
                self.before = self.now.take().filter(|_| is_same);
                self.now = Some(sample);
                self.silent = None;
                if self.before.is_some() {
                    self.history.push_back(self.datagrams_a_second());
                    while self.history.len() > HISTORY {
                        self.history.pop_front();
                    }
                }
            }
            Err(error) => self.silent = Some(printable(&error.to_string())),
        }
    }

    /// Seconds between the last two samples; none before the second.
    fn seconds(&self) -> Option<f64> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        Some(now.at.duration_since(before.at).as_secs_f64().max(1e-3))
    }

    /// What was counted a second between the last two samples.
    fn rate(&self, now: u64, before: Option<u64>) -> f64 {
        match (self.seconds(), before) {
            (Some(seconds), Some(before)) => now.saturating_sub(before) as f64 / seconds,
            // A session that is new has all its frames from this interval.
            (Some(seconds), None) => now as f64 / seconds,
            (None, _) => 0.0,
        }
    }

    /// Datagrams a second between the last two samples, in whole numbers.
    fn datagrams_a_second(&self) -> u64 {
        let (Some(before), Some(now)) = (&self.before, &self.now) else { return 0 };
        let ms = now.at.duration_since(before.at).as_millis().max(1);
        let more = u128::from(now.ledger.received.saturating_sub(before.ledger.received));
        u64::try_from(more * 1000 / ms).unwrap_or(u64::MAX)
    }

    pub(super) fn rates(&self) -> Rates {
        let Some(now) = &self.now else { return Rates::default() };
        let before = self.before.as_ref().map(|before| &before.ledger);
        Rates {
            datagrams: self.rate(now.ledger.received, before.map(|ledger| ledger.received)),
            megabytes: self.rate(now.ledger.received_bytes, before.map(|ledger| ledger.received_bytes)) / 1e6,
        }
    }

    /// Returns what is to be said in red: that the sensor says nothing, is not ready, or ends.
    pub(super) fn banner(&self) -> Option<String> {
        if let Some(why) = &self.silent {
            return Some(format!("NO ANSWER: {why}"));
        }
        let status = &self.now.as_ref()?.status;
        if !status.ready {
            return Some(format!("NOT READY: {}", printable(&status.reasons.join("; "))));
        }
        (status.state == State::Draining).then(|| "DRAINING: the sensor is about to end".to_owned())
    }

    /// Returns what was lost, the largest first.
    pub(super) fn losses(&self) -> Vec<Lost> {
        let Some(now) = &self.now else { return Vec::new() };
        let earlier = |loss: &Loss| {
            let before = self.before.as_ref()?;
            let same = before
                .status
                .losses
                .iter()
                .find(|other| (&other.output, &other.reason) == (&loss.output, &loss.reason));
            Some(same.map_or(0, |other| other.count))
        };
        let lost = now.status.losses.iter().map(|loss| {
            let place = loss.output.iter().map(|output| format!("{output} ")).collect::<String>();
            let newly = earlier(loss).map_or(0, |before| loss.count.saturating_sub(before));
            let what = printable(&format!("{place}{}", loss.reason));
            Lost { output: loss.output.clone(), what, count: loss.count, newly }
        });
        lost.collect()
    }

    pub(super) fn outputs(&self) -> Vec<OutputRow> {
        let Some(now) = &self.now else { return Vec::new() };
        let losses = self.losses();
        let rows = now.status.outputs.iter().map(|state| {
            let account = |sample: &Sample| sample.ledger.outputs.get(&state.name).copied().unwrap_or_default();
            let (account, before) = (account(now), self.before.as_ref().map(account));
            let lost = losses.iter().filter(|lost| lost.output.as_ref() == Some(&state.name));
            OutputRow {
                state: state.clone(),
                rate: self.rate(account.written, before.map(|account| account.written)),
                megabytes: self.rate(account.written_bytes, before.map(|account| account.written_bytes)) / 1e6,
                written: account.written,
                dropped: lost.clone().map(|lost| lost.count).sum(),
                newly_dropped: lost.map(|lost| lost.newly).sum(),
            }
        });
        rows.collect()
    }

    /// Returns the sessions that the filter lets through, in the order that was chosen.
    pub(super) fn sessions(&self) -> Vec<SessionRow> {
        let Some(now) = &self.now else { return Vec::new() };
        let before: HashMap<_, _> =
            self.before.iter().flat_map(|before| &before.ledger.sessions).map(|s| (key(s), s)).collect();
        let row = |session: &SessionAccount| {
            let before = before.get(&key(session));
            let last = session.last.ns();
            SessionRow {
                name: printable(&name(session)),
                source: printable(&source(session)),
                vni: session.vni,
                description: printable(session.description.as_deref().unwrap_or_default()),
                rate: self.rate(session.frames, before.map(|before| before.frames)),
                megabytes: self.rate(session.bytes, before.map(|before| before.bytes)) / 1e6,
                frames: session.frames,
                bytes: session.bytes,
                lost: session.lost,
                newly_lost: session.lost.saturating_sub(before.map_or(session.lost, |before| before.lost)),
                duplicates: session.duplicates,
                silent: now.status.now.ns().saturating_sub(last) as f64 / 1e9,
            }
        };
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<_> = now.ledger.sessions.iter().map(row).filter(|row| matches(row, &filter)).collect();
        // Rows that are equal stay in the order of their names.
        rows.sort_by(|a, b| (&a.name, a.vni).cmp(&(&b.name, b.vni)));
        match self.sort {
            Sort::Rate => rows.sort_by(|a, b| b.rate.total_cmp(&a.rate)),
            Sort::Bytes => rows.sort_by(|a, b| b.megabytes.total_cmp(&a.megabytes)),
            Sort::Frames => rows.sort_by_key(|row| Reverse(row.frames)),
            Sort::Lost => rows.sort_by_key(|row| Reverse(row.lost)),
            Sort::Silent => rows.sort_by(|a, b| b.silent.total_cmp(&a.silent)),
            Sort::Name => {}
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }
}

fn key(session: &SessionAccount) -> (String, u32) {
    (source(session), session.vni)
}

/// Returns what tells a session beside its VNI.
fn source(SessionAccount { source, encapsulation, scope, .. }: &SessionAccount) -> String {
    whence(encapsulation.as_deref(), source, scope.as_deref())
}

fn name(session: &SessionAccount) -> String {
    session.name.clone().unwrap_or_else(|| "-".into())
}

fn matches(row: &SessionRow, filter: &str) -> bool {
    let texts =
        [row.name.to_lowercase(), row.source.to_lowercase(), row.vni.to_string(), row.description.to_lowercase()];
    texts.iter().any(|text| text.contains(filter))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::record::Timestamp;

    /// A sample `second` seconds after the start, with this many datagrams and losses.
    pub(crate) fn sample(start: Instant, second: u64, received: u64, lost: u64) -> Sample {
        let time = |second: u64| format!("2026-11-30T03:00:{second:02}.000000000Z");
        let losses =
            if lost == 0 { json!([]) } else { json!([{"output": "evidence", "reason": "disk_full", "count": lost}]) };
        let status = json!({
            "schema": 1, "version": "0.1.0", "pid": 7, "started": time(0), "now": time(second), "uptime_seconds": second as f64,
            "state": "receiving", "ready": lost == 0, "reasons": if lost == 0 { json!([]) } else { json!(["output evidence: disk full"]) },
            "live": true, "listen": ["0.0.0.0:4789"], "source": "udp",
            "workers": [{"worker": 0, "turns": 5, "idle_seconds": 0.0, "busy_seconds": 1.0}],
            "sessions": {"count": 2, "limit": 1024},
            "outputs": [{"name": "evidence", "kind": "pcap", "up": lost == 0, "reason": null, "directory": "/captures",
                "essential": true, "queue_bytes": 50 << 20, "queue_limit_bytes": 192 << 20, "free_bytes": 5u64 << 40}],
            "config": {"path": null, "applied": 0, "refused": 0, "last": null}, "losses": losses,
        });
        let ledger = json!({
            "received": received, "received_bytes": received * 1000,
            "outputs": {"evidence": {"written": received - lost, "written_bytes": received * 900, "dropped": {"disk_full": lost, "not_ip": received}}},
            "sessions": [
                {"encapsulation": "vxlan", "source": "10.0.1.5", "vni": 7, "name": "web-1", "description": "eni-1",
                 "frames": received / 4, "bytes": received * 500, "first": time(0), "last": time(second)},
                {"encapsulation": "vxlan", "source": "192.0.2.10", "vni": 100,
                 "frames": received * 3 / 4, "bytes": received * 400, "first": time(0), "last": time(0), "lost": lost},
            ],
        });
        Sample {
            at: start + Duration::from_secs(second),
            status: serde_json::from_value(status).unwrap(),
            ledger: serde_json::from_value(ledger).unwrap(),
        }
    }

    /// A model of a sensor that loses as much.
    pub(crate) fn model(lost: u64) -> Model {
        let start = Instant::now();
        let mut model = Model::new("/run/vxtap/control".into(), Sort::Rate);
        model.take(Ok(sample(start, 10, 4000, 0)));
        model.take(Ok(sample(start, 12, 8000, lost)));
        model
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let mut model = model(40);
        assert_eq!(model.rates(), Rates { datagrams: 2000.0, megabytes: 2.0 });
        assert_eq!(model.history, [2000]);
        let (output, what) = (Some("evidence".into()), "evidence disk_full".into());
        assert_eq!(model.losses(), [Lost { output, what, count: 40, newly: 40 }]);
        let [evidence] = &model.outputs()[..] else { panic!() };
        assert_eq!((evidence.rate, evidence.dropped, evidence.newly_dropped), (1980.0, 40, 40));
        let lost = model.sessions().into_iter().map(|row| (row.vni, row.lost, row.newly_lost));
        assert_eq!(lost.collect::<Vec<_>>(), [(100, 40, 40), (7, 0, 0)]);
        assert_eq!(model.banner().unwrap(), "NOT READY: output evidence: disk full");
        // Counters of another process begin anew.
        let mut other = sample(Instant::now(), 1, 10, 0);
        other.status.started = Timestamp::from_ns(5);
        model.take(Ok(other));
        assert_eq!((model.rates(), model.banner()), (Rates::default(), None));
    }

    #[test]
    fn sessions_are_in_the_order_that_was_chosen() {
        let mut model = model(0);
        let names = |model: &Model| model.sessions().into_iter().map(|row| row.vni).collect::<Vec<_>>();
        for (sort, order) in [
            (Sort::Rate, [100, 7]),
            (Sort::Bytes, [7, 100]),
            (Sort::Frames, [100, 7]),
            (Sort::Lost, [100, 7]),
            (Sort::Silent, [100, 7]),
            (Sort::Name, [100, 7]),
        ] {
            model.sort = sort;
            assert_eq!(names(&model), order, "{sort:?}");
        }
        model.reversed = true;
        assert_eq!(names(&model), [7, 100]);
        for (filter, left) in [("WEB", vec![7]), ("192.0", vec![100]), ("eni-", vec![7]), ("nothing", vec![])] {
            model.filter = filter.into();
            assert_eq!(names(&model), left, "{filter}");
        }
    }

    #[test]
    fn a_sensor_that_says_nothing_is_said_and_what_it_said_last_stays() {
        let mut model = model(0);
        model.take(Err(ClientError::None("/run/x".into())));
        assert!(model.banner().unwrap().starts_with("NO ANSWER: no sensor runs here"));
        assert_eq!(model.sessions().len(), 2);
    }

    #[test]
    fn the_orders_follow_one_another() {
        let mut sort = Sort::Rate;
        for _ in Sort::ALL {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Rate);
    }
}
