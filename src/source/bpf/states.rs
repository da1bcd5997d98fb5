//! User space tells the program and the rings by one map what to do: `struct state` of
//! `capture.bpf.c`.

use aya::maps::{Array, MapData, MapError};

use super::plan::Kept;

/// `struct state`: three words, eight of bits, two of bytes to keep, one more, and padding.
type State = [u32; 16];

/// The map, and its content, which speaks to the program.
pub(super) struct States {
    map: Array<MapData, State>,
    leave_all: bool,
    only: u32,
    /// The generation of what the program knows. It is never zero, which is what the program knows
    /// of at first.
    generation: u32,
    /// A bit for each address of this host.
    own: [u32; 8],
    kept: Kept,
    only_marked: bool,
    /// The last wish of a reader to be woken. No two wishes are the same for a long time.
    wish: u32,
}

impl States {
    /// Tells a program that begins that it is to leave everything to the stack, which addresses the
    /// host has, and how much to keep.
    pub(super) fn begin(map: Array<MapData, State>, own: [u32; 8], kept: Kept) -> Result<Self, MapError> {
        let mut states = Self { map, leave_all: true, only: 0, generation: 1, own, kept, only_marked: false, wish: 0 };
        states.tell()?;
        Ok(states)
    }

    fn tell(&mut self) -> Result<(), MapError> {
        let mut state = State::default();
        (state[0], state[1], state[2]) = (u32::from(self.leave_all), self.only, self.generation);
        state[3..11].copy_from_slice(&self.own);
        (state[11], state[12], state[13]) = (self.kept.payload, self.kept.copy, u32::from(self.only_marked));
        self.map.set(0, state, 0)
    }

    /// Has the program leave everything to the stack, or not any more.
    pub(super) fn leave_all(&mut self, leave: bool) -> Result<(), MapError> {
        self.leave_all = leave;
        self.tell()
    }

    /// Has the program take only what these lists have: see `super::lists::only`.
    pub(super) fn take_only(&mut self, only: u32) -> Result<(), MapError> {
        self.only = only;
        self.tell()
    }

    /// Has the program forget what it found in `listening`.
    pub(super) fn forget(&mut self) -> Result<(), MapError> {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.tell()
    }

    /// Has the program look these addresses up.
    pub(super) fn know(&mut self, own: [u32; 8]) -> Result<(), MapError> {
        self.own = own;
        self.tell()
    }

    /// Returns how much the program keeps.
    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// Has the program keep so much from now on.
    pub(super) fn keep(&mut self, kept: Kept) -> Result<(), MapError> {
        self.kept = kept;
        self.tell()
    }

    /// Has the program redirect only sessions that are marked, or all.
    pub(super) fn redirect_only_marked(&mut self, only: bool) -> Result<(), MapError> {
        self.only_marked = only;
        self.tell()
    }

    /// Asks for a wake-up when something comes into the ring. The program takes back the wish that
    /// it has fulfilled, and no later one. So each wish is a number of its own, and none is 0.
    pub(super) fn wake(&mut self, ring: u32) -> Result<(), MapError> {
        self.wish = self.wish.wrapping_add(1).max(1);
        let mut state = State::default();
        state[0] = self.wish;
        self.map.set(ring + 1, state, 0)
    }
}
