//! A program of the classic BPF decides on frames: `bpf(4)` of the BSDs, in libpcap `bpf_filter`.
//!
//! A program is validated when it is made, once, and translated into what runs fast. Running it
//! follows libpcap in everything: a load beyond the captured bytes ends it and takes nothing, and
//! so does a division by an `X` that is zero; registers have 32 bits and wrap.

use crate::sys::pcap::Instruction;

/// Memory words that a program has.
const MEMORY: usize = 16;
/// The most instructions of a program. libpcap compiles a list of a thousand addresses into fewer.
const MOST: usize = 65_536;

/// The reasons why instructions are no program. None of them occurs in what libpcap compiles, but
/// for the jump backwards of `protochain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// There is nothing, or too much.
    #[error("the program has {0} instructions; it can have from 1 to {MOST}")]
    Length(usize),
    /// A jump leads backwards, or out of the program.
    #[error("instruction {0} of the program jumps out of it, or back")]
    Jump(usize),
    /// The program does not end with a return.
    #[error("the program does not end with a return")]
    End,
    /// There is no such memory word.
    #[error("instruction {0} of the program uses a memory word that there is not")]
    Memory(usize),
    /// A constant makes no sense for what is done with it: a division by zero, or a shift of 32
    /// bits or more.
    #[error("instruction {0} of the program divides by zero, or shifts too far")]
    Constant(usize),
    /// There is no such instruction.
    #[error("instruction {at} of the program is unknown: {code:#06x}")]
    Unknown {
        /// The instruction's number.
        at: usize,
        /// Its code.
        code: u16,
    },
}

/// The other operand of an operation on `A`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    K(u32),
    X,
}

/// The arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Math {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
}

/// A comparison of `A` with `X`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// Where a comparison leads: the places of the next instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways {
    yes: u16,
    no: u16,
}

/// One step. Places are absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    ReturnK(u32),
    ReturnA,
    Word(u32),
    Half(u32),
    Byte(u32),
    WordAtX(u32),
    HalfAtX(u32),
    ByteAtX(u32),
    /// `X` becomes the length of the IPv4 header that begins at this place.
    HeaderLength(u32),
    Length,
    LengthX,
    Set(u32),
    SetX(u32),
    Recall(u8),
    RecallX(u8),
    Store(u8),
    StoreX(u8),
    Go(u16),
    /// Comparisons with a constant have variants of their own, which are the commonest.
    IfEqual(u32, Ways),
    IfAnyBit(u32, Ways),
    IfGreater(u32, Ways),
    IfGreaterOrEqual(u32, Ways),
    IfX(Test, Ways),
    /// Says whether `A` is one of so many `values`, which are those of this place and the next.
    IfOneOf(u16, Ways),
    /// A load from the place, and the comparison with the other number that follows it.
    WordIs(u32, u32, Ways),
    HalfIs(u32, u32, Ways),
    ByteIs(u32, u32, Ways),
    /// A load from the place, and `IfOneOf` that follows it.
    WordIsOneOf(u32, u16, Ways),
    HalfIsOneOf(u32, u16, Ways),
    ByteIsOneOf(u32, u16, Ways),
    And(u32),
    ShiftRight(u32),
    Math(Math, Operand),
    Negate,
    ToX,
    FromX,
}

/// A program that was validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    ops: Box<[Op]>,
    /// What each comparison for equality compares with, by its place.
    values: Box<[u32]>,
}

impl Program {
    /// Validates and translates `instructions`.
    ///
    /// # Errors
    /// They could jump out of the program or back, end without a return, use memory that there is
    /// not, divide by a zero, or are not known.
    pub(crate) fn new(instructions: &[Instruction]) -> Result<Self, ProgramError> {
        let count = instructions.len();
        if count == 0 || count > MOST {
            return Err(ProgramError::Length(count));
        }
        let ops: Result<Box<[Op]>, _> =
            instructions.iter().enumerate().map(|(at, i)| translate(at, i, count)).collect();
        let mut ops = ops?;
        if !matches!(ops.last(), Some(Op::ReturnK(_) | Op::ReturnA)) {
            return Err(ProgramError::End);
        }
        let values = ops.iter().map(|op| if let Op::IfEqual(k, _) = op { *k } else { 0 }).collect();
        join(&mut ops);
        Ok(Self { ops, values })
    }

    /// Says whether the program takes a frame of which these bytes were captured, and which had
    /// `original` bytes.
    #[inline]
    #[must_use]
    pub(crate) fn matches(&self, frame: &[u8], original: u32) -> bool {
        self.run(frame, original) != 0
    }

    /// Runs the program, and returns what it returns: the bytes to keep of the frame.
    pub(crate) fn run(&self, frame: &[u8], original: u32) -> u32 {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        let mut memory = [0u32; MEMORY];
        macro_rules! load {
            ($read:expr) => {
                match $read {
                    Some(value) => a = value,
                    None => return 0,
                }
            };
        }
        // Every way leads forward to a return, so the loop ends.
        while let Some(op) = self.ops.get(at) {
            at += 1;
            match *op {
                Op::ReturnK(k) => return k,
                Op::ReturnA => return a,
                Op::Word(k) => load!(word(frame, k)),
                Op::Half(k) => load!(half(frame, k)),
                Op::Byte(k) => load!(byte(frame, k)),
                Op::WordAtX(k) => load!(x.checked_add(k).and_then(|k| word(frame, k))),
                Op::HalfAtX(k) => load!(x.checked_add(k).and_then(|k| half(frame, k))),
                Op::ByteAtX(k) => load!(x.checked_add(k).and_then(|k| byte(frame, k))),
                Op::HeaderLength(k) => match byte(frame, k) {
                    Some(first) => x = (first & 0xf) << 2,
                    None => return 0,
                },
                Op::Length => a = original,
                Op::LengthX => x = original,
                Op::Set(k) => a = k,
                Op::SetX(k) => x = k,
                // The mask changes nothing, and tells the compiler that the word is there.
                Op::Recall(k) => a = memory[usize::from(k) % MEMORY],
                Op::RecallX(k) => x = memory[usize::from(k) % MEMORY],
                Op::Store(k) => memory[usize::from(k) % MEMORY] = a,
                Op::StoreX(k) => memory[usize::from(k) % MEMORY] = x,
                Op::Go(to) => at = usize::from(to),
                Op::IfEqual(k, ways) => at = ways.of(a == k),
                Op::IfAnyBit(k, ways) => at = ways.of(a & k != 0),
                Op::IfGreater(k, ways) => at = ways.of(a > k),
                Op::IfGreaterOrEqual(k, ways) => at = ways.of(a >= k),
                Op::IfX(test, ways) => {
                    at = ways.of(match test {
                        Test::Equal => a == x,
                        Test::Greater => a > x,
                        Test::GreaterOrEqual => a >= x,
                        Test::AnyBit => a & x != 0,
                    });
                }
                Op::IfOneOf(count, ways) => at = ways.of(self.has(at - 1, count, a)),
                Op::WordIs(k, value, ways) => {
                    load!(word(frame, k));
                    at = ways.of(a == value);
                }
                Op::HalfIs(k, value, ways) => {
                    load!(half(frame, k));
                    at = ways.of(a == value);
                }
                Op::ByteIs(k, value, ways) => {
                    load!(byte(frame, k));
                    at = ways.of(a == value);
                }
                Op::WordIsOneOf(k, count, ways) => {
                    load!(word(frame, k));
                    at = ways.of(self.has(at, count, a));
                }
                Op::HalfIsOneOf(k, count, ways) => {
                    load!(half(frame, k));
                    at = ways.of(self.has(at, count, a));
                }
                Op::ByteIsOneOf(k, count, ways) => {
                    load!(byte(frame, k));
                    at = ways.of(self.has(at, count, a));
                }
                Op::And(k) => a &= k,
                Op::ShiftRight(k) => a >>= k % 32,
                Op::Math(math, operand) => load!(math.of(a, operand.value(x))),
                Op::Negate => a = a.wrapping_neg(),
                Op::ToX => x = a,
                Op::FromX => a = x,
            }
        }
        0
    }

    /// Says whether `a` is one of the `count` values from `first` on.
    #[inline]
    fn has(&self, first: usize, count: u16, a: u32) -> bool {
        let values = self.values.get(first..first + usize::from(count)).unwrap_or_default();
        // All of them are looked at: a branch for each costs more. Four at a time need no loop that
        // is made for many.
        let (fours, rest) = values.as_chunks::<4>();
        let is_in = |found, value: &u32| found | (*value == a);
        fours.iter().flatten().fold(false, is_in) | rest.iter().fold(false, is_in)
    }
}

/// Joins steps that follow each other to one, in the place of the first. The others stay where they
/// are, for those who jump there.
fn join(ops: &mut [Op]) {
    for at in (0..ops.len().saturating_sub(1)).rev() {
        ops[at] = match (ops[at], ops[at + 1]) {
            // A list, as of addresses: where it is not this one, the next is asked for.
            (Op::IfEqual(_, first), Op::IfEqual(_, then)) if first.goes_on(at + 1, then) => Op::IfOneOf(2, then),
            (Op::IfEqual(_, first), Op::IfOneOf(count, then)) if first.goes_on(at + 1, then) => {
                Op::IfOneOf(count + 1, then)
            }
            (Op::Word(k), Op::IfEqual(value, ways)) => Op::WordIs(k, value, ways),
            (Op::Half(k), Op::IfEqual(value, ways)) => Op::HalfIs(k, value, ways),
            (Op::Byte(k), Op::IfEqual(value, ways)) => Op::ByteIs(k, value, ways),
            (Op::Word(k), Op::IfOneOf(count, ways)) => Op::WordIsOneOf(k, count, ways),
            (Op::Half(k), Op::IfOneOf(count, ways)) => Op::HalfIsOneOf(k, count, ways),
            (Op::Byte(k), Op::IfOneOf(count, ways)) => Op::ByteIsOneOf(k, count, ways),
            (op, _) => op,
        };
    }
}

impl Ways {
    /// Says whether a comparison with these ways goes on, where it does not hold, to one at place
    /// `next` with the ways `then`, and both lead to the same place where they hold.
    fn goes_on(self, next: usize, then: Ways) -> bool {
        usize::from(self.no) == next && self.yes == then.yes
    }

    #[inline]
    fn of(self, holds: bool) -> usize {
        // A branch, which the processor foretells, so that the next step begins before this one is
        // decided. Without a word about it the compiler makes a choice that has to wait for the
        // frame, at each step.
        if holds {
            std::hint::cold_path();
            usize::from(self.yes)
        } else {
            usize::from(self.no)
        }
    }
}

impl Operand {
    #[inline]
    fn value(self, x: u32) -> u32 {
        match self {
            Operand::K(k) => k,
            Operand::X => x,
        }
    }
}

impl Math {
    /// Returns the result; none where there is none, which ends the program.
    #[inline]
    fn of(self, a: u32, other: u32) -> Option<u32> {
        Some(match self {
            Math::Add => a.wrapping_add(other),
            Math::Sub => a.wrapping_sub(other),
            Math::Mul => a.wrapping_mul(other),
            Math::Div => return a.checked_div(other),
            Math::Mod => return a.checked_rem(other),
            Math::And => a & other,
            Math::Or => a | other,
            Math::Xor => a ^ other,
            Math::Lsh => a.checked_shl(other).unwrap_or(0),
            Math::Rsh => a.checked_shr(other).unwrap_or(0),
        })
    }
}

#[inline]
fn word(frame: &[u8], k: u32) -> Option<u32> {
    frame.get(k as usize..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[inline]
fn half(frame: &[u8], k: u32) -> Option<u32> {
    frame.get(k as usize..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into())
}

#[inline]
fn byte(frame: &[u8], k: u32) -> Option<u32> {
    frame.get(k as usize).map(|byte| u32::from(*byte))
}

/// Translates instruction number `at` of `count`.
fn translate(at: usize, instruction: &Instruction, count: usize) -> Result<Op, ProgramError> {
    let Instruction { code, jt, jf, k } = *instruction;
    let memory = || match u8::try_from(k) {
        Ok(word) if usize::from(word) < MEMORY => Ok(word),
        _ => Err(ProgramError::Memory(at)),
    };
    // From the instruction after this one.
    let place = |over: u32| {
        let to = (at + 1).saturating_add(over as usize);
        u16::try_from(to).ok().filter(|_| to < count).ok_or(ProgramError::Jump(at))
    };
    let ways = || Ok(Ways { yes: place(jt.into())?, no: place(jf.into())? });
    let math = |math| {
        let operand = if code & 0x08 == 0 { Operand::K(k) } else { Operand::X };
        let makes_sense = match (math, operand) {
            (Math::Div | Math::Mod, Operand::K(k)) => k != 0,
            (Math::Lsh | Math::Rsh, Operand::K(k)) => k < 32,
            _ => true,
        };
        match (math, operand) {
            _ if !makes_sense => Err(ProgramError::Constant(at)),
            (Math::And, Operand::K(k)) => Ok(Op::And(k)),
            (Math::Rsh, Operand::K(k)) => Ok(Op::ShiftRight(k)),
            _ => Ok(Op::Math(math, operand)),
        }
    };
    // The codes are those of net/bpf.h: class, size or operation, mode or source.
    Ok(match code {
        0x06 => Op::ReturnK(k),
        0x16 => Op::ReturnA,
        0x20 => Op::Word(k),
        0x28 => Op::Half(k),
        0x30 => Op::Byte(k),
        0x40 => Op::WordAtX(k),
        0x48 => Op::HalfAtX(k),
        0x50 => Op::ByteAtX(k),
        0xb1 => Op::HeaderLength(k),
        0x80 => Op::Length,
        0x81 => Op::LengthX,
        0x00 => Op::Set(k),
        0x01 => Op::SetX(k),
        0x60 => Op::Recall(memory()?),
        0x61 => Op::RecallX(memory()?),
        0x02 => Op::Store(memory()?),
        0x03 => Op::StoreX(memory()?),
        0x05 => Op::Go(place(k)?),
        0x15 => Op::IfEqual(k, ways()?),
        0x25 => Op::IfGreater(k, ways()?),
        0x35 => Op::IfGreaterOrEqual(k, ways()?),
        0x45 => Op::IfAnyBit(k, ways()?),
        0x1d => Op::IfX(Test::Equal, ways()?),
        0x2d => Op::IfX(Test::Greater, ways()?),
        0x3d => Op::IfX(Test::GreaterOrEqual, ways()?),
        0x4d => Op::IfX(Test::AnyBit, ways()?),
        0x04 | 0x0c => math(Math::Add)?,
        0x14 | 0x1c => math(Math::Sub)?,
        0x24 | 0x2c => math(Math::Mul)?,
        0x34 | 0x3c => math(Math::Div)?,
        0x94 | 0x9c => math(Math::Mod)?,
        0x54 | 0x5c => math(Math::And)?,
        0x44 | 0x4c => math(Math::Or)?,
        0xa4 | 0xac => math(Math::Xor)?,
        0x64 | 0x6c => math(Math::Lsh)?,
        0x74 | 0x7c => math(Math::Rsh)?,
        0x84 => Op::Negate,
        0x07 => Op::ToX,
        0x87 => Op::FromX,
        _ => return Err(ProgramError::Unknown { at, code }),
    })
}

#[cfg(test)]
mod tests;
