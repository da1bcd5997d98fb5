//! What came lately, by session.
//!
//! A thread notes now and then what was counted by then. What came lately is what is counted now,
//! less that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::ledger::SessionTotals;
use crate::record::Timestamp;
use crate::session::{Label, Session};
use crate::view::{SCHEMA, View};

/// The time between two notes. What came lately came in the last one to two of these.
const EVERY: Duration = Duration::from_secs(10);
/// What whoever asks is told beside the answer.
const NOTE: &str = "what arrives is no measure of health, and never a balancer's criterion: a quiet night would take \
                    every sensor out; ask /healthz for that";

/// Frames and bytes of each session, when they were noted.
#[derive(Debug, Default)]
struct Noted {
    at: Option<Instant>,
    counted: HashMap<Session, (u64, u64)>,
}

/// The last two notes, the older one first.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<[Noted; 2]>);

/// What came lately.
#[derive(Debug, Serialize)]
pub(crate) struct Arriving {
    schema: u32,
    note: &'static str,
    now: Timestamp,
    /// The time that is meant by lately.
    seconds: f64,
    /// True where anything came.
    arriving: bool,
    /// The sessions that sent something, those with the most frames first.
    sessions: Vec<Arrived>,
    /// The others that are known.
    silent: Vec<Silent>,
}

/// What came of one session.
#[derive(Debug, Serialize)]
struct Arrived {
    #[serde(flatten)]
    who: Who,
    frames: u64,
    bytes: u64,
    frames_per_second: f64,
}

/// A session of which nothing came.
#[derive(Debug, Serialize)]
struct Silent {
    #[serde(flatten)]
    who: Who,
    silent_seconds: u64,
}

/// A session, and when its last frame came.
#[derive(Debug, Serialize)]
struct Who {
    #[serde(flatten)]
    session: Session,
    #[serde(flatten)]
    label: Label,
    last: Timestamp,
}

impl Arrivals {
    /// Notes what is counted, if it is time to.
    pub(super) fn note(&self, view: &View, now: Instant) {
        let is_due = self.0.lock()[1].at.is_none_or(|at| now.duration_since(at) >= EVERY);
        if is_due {
            self.take(&view.sessions(), now);
        }
    }

    fn take(&self, sessions: &[SessionTotals], now: Instant) {
        let counted = sessions.iter().map(|totals| (totals.session, (totals.frames, totals.bytes))).collect();
        let mut notes = self.0.lock();
        notes.swap(0, 1);
        notes[1] = Noted { at: Some(now), counted };
    }

    /// Says what came lately.
    pub(crate) fn lately(&self, view: &View) -> Arriving {
        self.of(view.sessions(), view.uptime(), Instant::now(), Timestamp::now())
    }

    fn of(&self, sessions: Vec<SessionTotals>, uptime: Duration, now: Instant, time: Timestamp) -> Arriving {
        let notes = self.0.lock();
        // In the first seconds all that came came lately.
        let seconds = notes[0].at.map_or(uptime, |at| now.duration_since(at)).as_secs_f64();
        let (mut arrived, mut silent) = (Vec::new(), Vec::new());
        for SessionTotals { session, label, frames, bytes, last, .. } in sessions {
            let before = notes[0].counted.get(&session).copied().unwrap_or_default();
            // A session that was forgotten and came back counts from the beginning.
            let before = if frames < before.0 { (0, 0) } else { before };
            let (frames, bytes) = (frames - before.0, bytes.saturating_sub(before.1));
            let who = Who { session, label, last };
            if frames > 0 {
                arrived.push(Arrived { who, frames, bytes, frames_per_second: frames as f64 / seconds.max(0.001) });
            } else {
                let silent_seconds = time.ns().saturating_sub(last.ns()) / 1_000_000_000;
                silent.push(Silent { who, silent_seconds });
            }
        }
        arrived.sort_by_key(|session| std::cmp::Reverse(session.frames));
        let arriving = !arrived.is_empty();
        Arriving { schema: SCHEMA, note: NOTE, now: time, seconds, arriving, sessions: arrived, silent }
    }
}

impl Who {
    fn words(&self) -> String {
        match &self.label.name {
            Some(name) => format!("{name} ({})", self.session),
            None => self.session.to_string(),
        }
    }
}

impl Arriving {
    /// Writes it for people.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![match self.arriving {
            true => format!("arriving, in the last {:.0} s:", self.seconds),
            false => format!("nothing has arrived in the last {:.0} s", self.seconds),
        }];
        lines.extend(self.sessions.iter().map(|Arrived { who, frames, frames_per_second, .. }| {
            format!("  {}: {frames} frames, {frames_per_second:.1}/s", who.words())
        }));
        lines.extend(self.silent.iter().map(|Silent { who, silent_seconds }| {
            format!("  {}: silent, the last frame came {silent_seconds} s ago", who.words())
        }));
        lines.push(format!("({NOTE})\n"));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;
    use std::net::Ipv4Addr;

    fn totals(vni: u32, frames: u64) -> SessionTotals {
        SessionTotals {
            session: Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(vni).unwrap()),
            label: Label::default(),
            frames,
            bytes: frames * 100,
            first: Timestamp::from_ns(0),
            last: Timestamp::from_ns(40_000_000_000),
            lost: 0,
            duplicates: 0,
            upstream: Default::default(),
        }
    }

    #[test]
    fn what_came_since_the_note_before_the_last_came_lately() {
        let (arrivals, start) = (Arrivals::default(), Instant::now());
        let lately = |seconds: u64, sessions: Vec<SessionTotals>| {
            let passed = Duration::from_secs(seconds);
            let arriving = arrivals.of(sessions, passed, start + passed, Timestamp::from_ns(100_000_000_000));
            let sent = arriving.sessions.iter().map(|one| (one.who.session.vni.get(), one.frames)).collect::<Vec<_>>();
            (sent, arriving.silent.iter().map(|one| one.who.session.vni.get()).collect::<Vec<_>>(), arriving.seconds)
        };
        let note = |seconds, sessions: &[SessionTotals]| arrivals.take(sessions, start + Duration::from_secs(seconds));
        assert_eq!(lately(4, vec![totals(1, 7)]), (vec![(1, 7)], vec![], 4.0), "from the start");
        note(10, &[totals(1, 7), totals(2, 5)]);
        assert_eq!(lately(12, vec![totals(1, 9)]), (vec![(1, 9)], vec![], 12.0));
        note(20, &[totals(1, 9), totals(2, 5)]);
        let now = vec![totals(1, 9), totals(2, 9), totals(3, 1)];
        assert_eq!(lately(25, now), (vec![(2, 4), (1, 2), (3, 1)], vec![], 15.0));
        note(30, &[totals(1, 9), totals(2, 9)]);
        assert_eq!(lately(32, vec![totals(1, 9), totals(2, 3)]), (vec![(2, 3)], vec![1], 12.0), "2 came back");
    }

    #[test]
    fn the_text_says_that_it_is_no_measure_of_health() {
        let arrivals = Arrivals::default();
        let (at, time) = (Instant::now(), Timestamp::from_ns(100_000_000_000));
        let text = arrivals.of(vec![totals(1, 7)], Duration::from_secs(2), at, time).text();
        assert!(text.starts_with("arriving, in the last 2 s:\n") && text.contains(": 7 frames, 3.5/s\n"), "{text}");
        arrivals.take(&[totals(1, 7)], at);
        arrivals.take(&[totals(1, 7)], at);
        let text = arrivals.of(vec![totals(1, 7)], Duration::ZERO, at + EVERY, time).text();
        assert!(text.starts_with("nothing has arrived in the last 10 s\n"), "{text}");
        assert!(text.contains("silent, the last frame came 60 s ago\n"), "{text}");
        assert!(text.contains("never a balancer's criterion"), "{text}");
    }
}
