//! Some senders number what they send. A number that never comes was lost before the sensor had it.
//!
//! A gap counts as missed at once, and what fills it later counts as late, so that both counts only
//! grow: what was lost is their difference. The last [`WINDOW`] numbers are remembered one by one.
//! Within them the order does not matter, and a number that comes again counts once. Numbers have
//! 32 bits and begin anew behind the last.
//!
//! Something else comes from further away: a packet that took very long, one that is forged, or the
//! sender after it has begun anew. So numbers from there have to go on for a while ([`GOES_ON`])
//! before they are believed, and nothing of the numbers so far may come meanwhile. Where they are
//! larger, what is between was lost. Where they are smaller, or larger by half of all numbers, the
//! sender has begun anew, and what it had sent last is not known: that counts as a restart and not
//! as a loss. Smaller ones follow the last number there is, too: so few of them as a sender that
//! begins anew hardly ever is before its last one ([`OVER_THE_END`]) are a loss. A sender that
//! begins anew within the window is told by numbers that come again one after the other
//! ([`COMES_AGAIN`]).

use super::SessionId;

/// The numbers that are remembered: those before the next one.
const WINDOW: u32 = 1024;
/// Bits of a word.
const BITS: u32 = u64::BITS;
/// Numbers that have to come from elsewhere.
const GOES_ON: u32 = 16;
/// Numbers that can be missing where the next one that comes is smaller.
const OVER_THE_END: u32 = 1 << 20;
/// Numbers that have to come again one after the other.
const COMES_AGAIN: u32 = 64;

/// What a number told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Numbers that should have come before this one.
    pub(crate) missed: u64,
    /// Numbers that had counted as missed, and came now.
    pub(crate) late: u64,
    /// Times that the sender has begun anew.
    pub(crate) restarts: u64,
}

/// The numbers of one session.
#[derive(Debug)]
struct Sequence {
    run: Run,
    /// Numbers that came again one after the other, and the last of them.
    again: (u32, u32),
    elsewhere: Option<Elsewhere>,
}

/// Numbers from further away than the window.
#[derive(Debug)]
struct Elsewhere {
    run: Run,
    first: u32,
    taken: u32,
    /// Numbers that came behind the first and are before it.
    before: u64,
    told: Told,
}

/// Numbers that go on.
#[derive(Debug)]
struct Run {
    next: u32,
    /// A bit for each of the numbers before, by the number's remainder: whether it came.
    came: [u64; (WINDOW / BITS) as usize],
}

/// The place of a number in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Ahead, with so many missing before it.
    Ahead(u32),
    /// Behind, and had not come yet.
    Late,
    /// Behind, and had come.
    Again,
    /// Outside of the window.
    Far,
}

impl Run {
    /// Begins behind this number. What is before it is not expected.
    fn behind(number: u32) -> Self {
        let mut run = Self::amid(number);
        run.forget_before(number);
        run
    }

    /// Begins behind this number. What is before it can come yet.
    fn amid(number: u32) -> Self {
        let mut run = Self { next: number.wrapping_add(1), came: [0; (WINDOW / BITS) as usize] };
        run.mark(number, true);
        run
    }

    /// Expects nothing any more of what is before this number.
    fn forget_before(&mut self, number: u32) {
        let next = self.next;
        let window = (1..=WINDOW).map(|n| next.wrapping_sub(n));
        window.filter(|n| is_before(*n, number)).for_each(|n| self.mark(n, true));
    }

    /// The word of a number, and its bit there.
    const fn place(number: u32) -> (usize, u64) {
        let place = number % WINDOW;
        ((place / BITS) as usize, 1 << (place % BITS))
    }

    fn mark(&mut self, number: u32, came: bool) {
        let (word, bit) = Self::place(number);
        if came { self.came[word] |= bit } else { self.came[word] &= !bit }
    }

    fn has(&self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        self.came[word] & bit != 0
    }

    fn take(&mut self, number: u32) -> Place {
        let ahead = number.wrapping_sub(self.next);
        if ahead < WINDOW {
            (0..ahead).for_each(|missing| self.mark(self.next.wrapping_add(missing), false));
            self.mark(number, true);
            self.next = number.wrapping_add(1);
            return Place::Ahead(ahead);
        }
        if self.next.wrapping_sub(number) > WINDOW {
            return Place::Far;
        }
        if self.has(number) {
            return Place::Again;
        }
        self.mark(number, true);
        Place::Late
    }
}

/// Says whether a number is before another, by the shorter way around.
const fn is_before(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) > 1 << 31
}

impl Told {
    fn add(&mut self, place: Place) {
        match place {
            Place::Ahead(missing) => self.missed += u64::from(missing),
            Place::Late => self.late += 1,
            Place::Again | Place::Far => {}
        }
    }
}

impl Sequence {
    fn new(number: u32) -> Self {
        Self { run: Run::behind(number), again: (0, 0), elsewhere: None }
    }

    fn take(&mut self, number: u32) -> Told {
        let mut told = Told::default();
        match self.run.take(number) {
            Place::Far => return self.far(number),
            Place::Again => {
                let (count, last) = self.again;
                let goes_on = count > 0 && number == last.wrapping_add(1);
                self.again = (if goes_on { count + 1 } else { 1 }, number);
                if self.again.0 == COMES_AGAIN {
                    *self = Self::new(number);
                    told.restarts = 1;
                }
            }
            place => {
                told.add(place);
                self.again = (0, 0);
            }
        }
        self.elsewhere = None;
        told
    }

    fn far(&mut self, number: u32) -> Told {
        let begin = || Elsewhere { run: Run::amid(number), first: number, taken: 0, before: 0, told: Told::default() };
        let elsewhere = self.elsewhere.get_or_insert_with(begin);
        match elsewhere.run.take(number) {
            Place::Far => *elsewhere = begin(),
            // The first of them, or one that tells nothing.
            Place::Again => {}
            place => {
                elsewhere.told.add(place);
                elsewhere.before += u64::from(is_before(number, elsewhere.first));
                elsewhere.taken += 1;
            }
        }
        if elsewhere.taken + 1 < GOES_ON {
            return Told::default();
        }
        let Some(Elsewhere { mut run, first, before, mut told, .. }) = self.elsewhere.take() else {
            return Told::default();
        };
        let between = first.wrapping_sub(self.run.next);
        let most = if first < self.run.next { OVER_THE_END } else { 1 << 31 };
        if between < most {
            told.missed += u64::from(between);
        } else {
            told.restarts = 1;
            told.late -= before;
            run.forget_before(first);
        }
        *self = Self { run, again: (0, 0), elsewhere: None };
        told
    }
}

/// The numbers of a worker's sessions.
#[derive(Debug, Default)]
pub(crate) struct Sequences(Vec<Option<Box<Sequence>>>);

impl Sequences {
    /// Takes the number of a frame of this session. Those beyond the limit are not told apart, and
    /// tell nothing.
    pub(crate) fn take(&mut self, session: SessionId, number: u32) -> Told {
        if session == SessionId::OVERFLOW {
            return Told::default();
        }
        if self.0.len() <= session.index() {
            self.0.resize_with(session.index() + 1, || None);
        }
        match self.0.get_mut(session.index()) {
            Some(Some(sequence)) => sequence.take(number),
            Some(none) => {
                *none = Some(Box::new(Sequence::new(number)));
                Told::default()
            }
            None => Told::default(),
        }
    }

    /// Forgets sessions, whose numbers others can get.
    pub(crate) fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(sequence) = self.0.get_mut(session.index()) {
                *sequence = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(missed: u64, late: u64, restarts: u64) -> Told {
        Told { missed, late, restarts }
    }

    fn sum(numbers: impl IntoIterator<Item = u32>) -> Told {
        let mut numbers = numbers.into_iter();
        let mut sequence = Sequence::new(numbers.next().unwrap());
        numbers.map(|number| sequence.take(number)).fold(Told::default(), |sum, told| Told {
            missed: sum.missed + told.missed,
            late: sum.late + told.late,
            restarts: sum.restarts + told.restarts,
        })
    }

    #[test]
    fn gaps_are_missed_and_what_fills_them_is_late() {
        assert_eq!(sum([0, 1, 2, 3]), told(0, 0, 0));
        assert_eq!(sum([5, 6, 9, 10, 8, 8, 9]), told(2, 1, 0));
        assert_eq!(sum([5, 4, 3, 6]), told(0, 0, 0), "what was before the first is not expected");
        assert_eq!(sum([u32::MAX - 1, u32::MAX, 2, 0, 0, 3]), told(2, 1, 0));
        assert_eq!(sum([0; 500]), told(0, 0, 0), "one that numbers nothing");
        assert_eq!(sum((0..200).flat_map(|n| [n, n])), told(0, 0, 0), "each twice");
        // By two ways, of which one takes longer.
        assert_eq!(sum((0..500).flat_map(|n| [n + 300, n])), told(0, 0, 0));
    }

    #[test]
    fn a_sender_that_begins_anew_has_lost_nothing() {
        assert_eq!(sum((90_000..95_000).chain(0..100)), told(0, 0, 1));
        assert_eq!(sum((0..500).chain(0..2000)), told(0, 0, 1), "within the window");
        assert_eq!(sum((0..40).chain(0..2000)), told(0, 0, 0), "nobody can tell, and nothing is lost");
        assert_eq!(sum((90_000..95_000).chain([0, 1, 3, 2, 5]).chain(6..100)), told(2, 1, 1));
        assert_eq!(sum((4_000_000_000..4_000_001_000).chain(0..100)), told(0, 0, 1));
        assert_eq!(sum((0..100).chain(4_294_960_000..4_294_960_100)), told(0, 0, 1), "over the end");
        let swapped = (90_000..95_000).chain([3, 1, 0, 2]).chain(4..100).chain([3, 1]).chain(100..200);
        assert_eq!(sum(swapped), told(0, 0, 1));
        assert_eq!(sum((90_000..95_000).chain([5, 6]).chain(7..100).chain([1, 2]).chain(100..200)), told(0, 0, 1));
    }

    #[test]
    fn much_can_be_lost_at_once_and_single_numbers_from_far_tell_nothing() {
        assert_eq!(sum((0..10).chain(1_000_010..1_000_100)), told(1_000_000, 0, 0));
        assert_eq!(sum((0..10).chain(1034..1050)), told(1024, 0, 0), "just beyond the window");
        assert_eq!(sum((0..10).chain(1033..1034)), told(1023, 0, 0), "just within");
        assert_eq!(sum((0..10).chain([3001, 3000]).chain(3002..3100).chain([2999, 2999])), told(2991, 2, 0));
        let over_the_end = (u32::MAX - 1500..=u32::MAX - 1000).chain(2000..2200);
        assert_eq!(sum(over_the_end), told(3000, 0, 0));
        let forged = (5000..6000).flat_map(|n| [n, n * 700_001, 3_000_000_000 + n]);
        assert_eq!(sum(forged), told(0, 0, 0));
        let very_late = (10_000..10_100).chain(3000..3015).chain(10_100..10_200);
        assert_eq!(sum(very_late), told(0, 0, 0));
    }

    #[test]
    fn sessions_are_counted_apart_and_forgotten() {
        let mut sequences = Sequences::default();
        let [a, b] = [1, 2].map(SessionId);
        for (session, number, missed) in
            [(a, 7, 0), (b, 100, 0), (a, 9, 1), (b, 101, 0), (SessionId::OVERFLOW, 1, 0), (SessionId::OVERFLOW, 9, 0)]
        {
            assert_eq!(sequences.take(session, number), told(missed, 0, 0));
        }
        sequences.forget(&[a]);
        assert_eq!((sequences.take(a, 50).missed, sequences.take(b, 103).missed), (0, 1));
    }

    proptest! {
        /// Whatever is lost, comes again, or comes in another order within the window: what is
        /// lost is exact, once nothing is on its way any more.
        #[test]
        fn what_is_lost_is_exact(
            first: u32,
            fates in prop::collection::vec((0u8..10, 0u32..400, 0u32..400), 1..3000),
        ) {
            let mut arrivals = Vec::new();
            let mut lost = 0u64;
            let last = fates.len() as u32 + 1;
            for (number, (fate, delay, more)) in (1u32..).zip(&fates) {
                match fate {
                    0 => lost += 1,
                    1 => arrivals.extend([(number + delay, number), (number + more, number)]),
                    2 => arrivals.push((number + delay, number)),
                    _ => arrivals.push((number, number)),
                }
            }
            arrivals.push((last, last));
            arrivals.sort_by_key(|(time, _)| *time);
            let numbers = std::iter::once(0).chain(arrivals.into_iter().map(|(_, number)| number));
            let told = sum(numbers.map(|number| first.wrapping_add(number)));
            prop_assert_eq!((told.missed - told.late, told.restarts), (lost, 0));
        }
    }
}
