//! What is found now and then becomes a judgement that does not flap.

use std::time::{Duration, Instant};

use crate::view::Ready;

/// The time for which something is to be otherwise before the judgement follows. The checks of a
/// balancer are 5 to 30 s apart, and a moment is no reason to move traffic, there or back.
const HYSTERESIS: Duration = Duration::from_secs(10);

/// The judge of whether a sensor may be sent traffic.
#[derive(Debug, Default)]
pub(super) struct Judge {
    judged: Ready,
    /// The time since when what is found is other than what is judged.
    otherwise: Option<Instant>,
}

impl Judge {
    /// Hears the reasons against it as of `now`, and returns the judgement.
    pub(super) fn hear(&mut self, reasons: Vec<String>, now: Instant) -> &Ready {
        let ready = reasons.is_empty();
        if ready == self.judged.ready {
            self.otherwise = None;
            self.judged.reasons = reasons;
        } else if now.duration_since(*self.otherwise.get_or_insert(now)) >= HYSTERESIS {
            self.otherwise = None;
            self.judged = Ready { ready, reasons };
        }
        &self.judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_follows_what_lasts_and_nothing_else() {
        let start = Instant::now();
        let mut judge = Judge::default();
        let mut ready = |seconds, reasons: &[&str]| {
            let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            let judged = judge.hear(reasons, start + Duration::from_secs(seconds));
            (judged.ready, judged.reasons.join("; "))
        };
        let well = (true, String::new());
        assert_eq!(ready(0, &[]), well);
        assert_eq!(ready(100, &["a"]), well);
        assert_eq!(ready(109, &["a"]), well);
        assert_eq!(ready(109, &[]), well, "it is over before ten seconds");
        assert_eq!(ready(110, &["a"]), well, "which begin anew");
        assert_eq!(ready(119, &["b"]), well);
        assert_eq!(ready(120, &["b"]), (false, "b".into()), "one reason after the other is no end of it");
        assert_eq!(ready(121, &["a", "b"]), (false, "a; b".into()));
        assert_eq!(ready(130, &[]), (false, "a; b".into()), "what was found is said as long as it is judged");
        assert_eq!(ready(139, &[]), (false, "a; b".into()));
        assert_eq!(ready(139, &["a"]), (false, "a".into()));
        assert_eq!(ready(200, &[]), (false, "a".into()));
        assert_eq!(ready(210, &[]), well);
    }
}
