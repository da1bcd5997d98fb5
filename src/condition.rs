//! The condition of an output says whether it takes frames, and why not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time after which a step of an output's thread is one that does not end. A write to a disk
/// that is merely slow ends before.
const STUCK: Duration = Duration::from_secs(5);

/// The parts of an output that can fail by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The interface that frames enter.
    Interface,
    /// The place where captures are written.
    Captures,
}

/// The condition of an output. The output's threads note what they find; no frame passes here, and
/// whoever asks waits for none of them.
#[derive(Debug)]
pub(crate) struct Condition {
    troubles: Mutex<BTreeMap<Part, String>>,
    /// Times are told from here on.
    epoch: Instant,
    /// The nanosecond in which the thread began the step that it is in; 0 between two steps.
    step: AtomicU64,
    /// True from the moment on at which the output's thread runs no more.
    ended: AtomicBool,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            troubles: Mutex::default(),
            epoch: Instant::now(),
            step: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

impl Condition {
    /// Notes why this part takes no frames, or that it takes some.
    pub(crate) fn note(&self, part: Part, trouble: Option<String>) {
        let mut troubles = self.troubles.lock();
        match trouble {
            Some(why) => drop(troubles.insert(part, why)),
            None => drop(troubles.remove(&part)),
        }
    }

    /// Notes that the output's thread begins a step of its work.
    pub(crate) fn step_begins(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.step.store(now.max(1), Ordering::Relaxed);
    }

    /// Notes that the step is done.
    pub(crate) fn step_ends(&self) {
        self.step.store(0, Ordering::Relaxed);
    }

    /// Notes that the output's thread runs no more.
    pub(crate) fn end(&self) {
        self.step_ends();
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Says why the output takes no frames any more, unless it is only slow: its thread has ended,
    /// or a part of it has failed.
    pub(crate) fn failure(&self) -> Option<String> {
        if self.ended.load(Ordering::Relaxed) {
            return Some("its thread has ended".into());
        }
        self.troubles.lock().values().next().cloned()
    }

    /// Says why the output takes no frames now; none where it does. That it takes fewer than come
    /// is no reason.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble_at(Instant::now())
    }

    fn trouble_at(&self, now: Instant) -> Option<String> {
        if self.ended.load(Ordering::Relaxed) {
            return Some("its thread has ended".into());
        }
        let begun = self.step.load(Ordering::Relaxed);
        let lasts = now.duration_since(self.epoch).saturating_sub(Duration::from_nanos(begun));
        let stuck = (begun > 0 && lasts >= STUCK).then(|| format!("it has not answered for {} s", lasts.as_secs()));
        let all: Vec<String> = stuck.into_iter().chain(self.troubles.lock().values().cloned()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_takes_frames_until_one_of_its_parts_does_not() {
        let condition = Condition::default();
        assert_eq!(condition.trouble(), None);
        condition.note(Part::Captures, Some("the disk is full".into()));
        condition.note(Part::Interface, Some("it is down".into()));
        assert_eq!(condition.trouble().unwrap(), "it is down; the disk is full");
        condition.note(Part::Interface, None);
        condition.note(Part::Captures, Some("read-only".into()));
        assert_eq!(condition.trouble().unwrap(), "read-only");
        condition.note(Part::Captures, None);
        assert_eq!(condition.trouble(), None);
        condition.end();
        assert_eq!(condition.trouble().unwrap(), "its thread has ended");
    }

    #[test]
    fn a_step_that_does_not_end_is_trouble_and_a_long_silence_is_none() {
        let condition = Condition::default();
        let later = condition.epoch + Duration::from_hours(1);
        assert_eq!(condition.trouble_at(later), None);
        condition.step_begins();
        let soon = Instant::now() + STUCK - Duration::from_secs(1);
        assert_eq!(condition.trouble_at(soon), None);
        let late = condition.epoch + STUCK + Duration::from_secs(2);
        assert!(condition.trouble_at(late).unwrap().starts_with("it has not answered for "));
        condition.step_ends();
        assert_eq!(condition.trouble_at(later), None);
    }
}
