//! Those who asked for a file to be read again wait for what comes of it.

use crate::control::{Applied, Reply};

/// Those who wait. Reads are numbered in the order in which they are asked for, which is that of
/// their answers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Reads that were asked for.
    asked: u64,
    /// Reads that were answered.
    answered: u64,
    /// Those who wait for a read of this number.
    waiting: Vec<(u64, Reply<Applied>)>,
}

impl Asked {
    /// Notes that a read was asked for. One that waits already is for all who ask before it begins.
    pub(super) fn note(&mut self, is_new: bool) {
        self.asked += u64::from(is_new);
    }

    /// Has somebody wait for the read that was asked for last.
    pub(super) fn wait(&mut self, reply: Reply<Applied>) {
        if self.asked == self.answered {
            return reply.send(Err("the file cannot be read any more: please report this".into()));
        }
        // Whoever has gone needs no place.
        self.waiting.retain(|(_, reply)| !reply.is_gone());
        self.waiting.push((self.asked, reply));
    }

    /// Notes that the next read was answered.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }

    /// Says whether a read was asked for that has no answer yet.
    pub(super) fn is_open(&self) -> bool {
        self.asked > self.answered
    }

    /// Tells those who asked for the read that was answered last what came of it.
    pub(super) fn tell(&mut self, outcome: &Result<Applied, String>) {
        let (told, waiting) = self.waiting.drain(..).partition(|(number, _)| *number <= self.answered);
        self.waiting = waiting;
        let told: Vec<_> = told;
        told.into_iter().for_each(|(_, reply)| reply.send(outcome.clone()));
    }

    /// Lets all go that wait: nothing comes of it any more.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(said: &str) -> Result<Applied, String> {
        Err(said.to_owned())
    }

    #[test]
    fn each_hears_of_a_read_that_began_after_it_asked() {
        let mut asked = Asked::default();
        let ask = |asked: &mut Asked, is_new| {
            let (reply, mut replied) = Reply::new();
            asked.note(is_new);
            asked.wait(reply);
            move || replied.try_recv().ok().map(Result::unwrap_err)
        };
        let mut one = ask(&mut asked, true);
        // The first read has begun. The next one is for both of these.
        let mut two = ask(&mut asked, true);
        let mut three = ask(&mut asked, false);
        asked.answered();
        asked.tell(&outcome("first"));
        assert_eq!((one(), two(), three()), (Some("first".into()), None, None));
        // A signal asked for this one, and nobody waits for it.
        asked.answered();
        asked.tell(&outcome("second"));
        assert_eq!((two(), three()), (Some("second".into()), Some("second".into())));
        let mut four = ask(&mut asked, true);
        drop(ask(&mut asked, true));
        assert_eq!(asked.waiting.len(), 2);
        asked.abandon();
        assert_eq!(four(), None);
        // Nobody reads any more, so nobody is to wait.
        (0..2).for_each(|_| asked.answered());
        let mut five = ask(&mut asked, false);
        assert!(five().is_some_and(|said| said.contains("cannot be read any more")));
    }
}
