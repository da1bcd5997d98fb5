use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::sys::pcap;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

const RETURN: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 7 };

/// All codes but those of jumps and returns.
const STEPS: [u16; 38] = [
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c,
    0x24, 0x2c, 0x34, 0x3c, 0x94, 0x9c, 0x54, 0x5c, 0x44, 0x4c, 0xa4, 0xac, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x07, 0x87,
];
const JUMPS: [u16; 9] = [0x05, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d];

/// Constants of which most are places in a frame, or near the bounds of what there is.
fn constants() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 0..80u32,
        2 => Just(u32::MAX),
        1 => (0..80u32).prop_map(|n| u32::MAX - n),
        1 => 28..36u32,
        2 => any::<u32>(),
    ]
}

/// Instructions of which a valid program is made: a code, a constant, and where jumps lead.
fn seeds() -> impl Strategy<Value = Vec<(u16, u32, Index, Index)>> {
    let code = prop_oneof![
        6 => proptest::sample::select(&STEPS[..]),
        3 => proptest::sample::select(&JUMPS[..]),
        3 => Just(0x15u16),
        1 => prop_oneof![Just(0x06u16), Just(0x16)],
    ];
    vec((code, constants(), any::<Index>(), any::<Index>()), 1..40)
}

/// Makes a program whose jumps lead forward, whose constants make sense, and which has written each
/// memory word before it could read it.
fn program(seeds: &[(u16, u32, Index, Index)]) -> Vec<Instruction> {
    let mut made: Vec<Instruction> = (0..16).map(|word| instruction(0x02, 0, 0, word)).collect();
    for (at, (code, k, yes, no)) in seeds.iter().enumerate() {
        let left = (seeds.len() - at).min(200);
        let over = |index: &Index| u8::try_from(index.index(left)).unwrap();
        made.push(match code {
            0x05 => instruction(*code, 0, 0, over(yes).into()),
            // A list of values that all lead to one place.
            0x15 if k % 2 == 0 => instruction(*code, u8::try_from(left - 1).unwrap(), 0, k / 2 % 4),
            code if JUMPS.contains(code) => instruction(*code, over(yes), over(no), *k),
            0x02 | 0x03 | 0x60 | 0x61 => instruction(*code, 0, 0, k % 16),
            0x34 | 0x94 => instruction(*code, 0, 0, (*k).max(1)),
            0x64 | 0x74 => instruction(*code, 0, 0, k % 32),
            code => instruction(*code, 0, 0, *k),
        });
    }
    made.push(RETURN);
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_program_returns_what_it_returns_in_libpcap(
        seeds in seeds(),
        bytes in vec(any::<u8>(), 100),
        lengths in vec(0..=100usize, 10),
        cut in 0..2000u32,
    ) {
        let program = program(&seeds);
        let ours = Program::new(&program).unwrap();
        for length in lengths {
            let (frame, original) = (&bytes[100 - length..], length as u32 + cut);
            let theirs = pcap::filter(&program, frame, original).expect("libpcap finds it valid");
            prop_assert_eq!(ours.run(frame, original), theirs);
            prop_assert_eq!(ours.matches(frame, original), theirs != 0);
        }
    }

    #[test]
    fn whatever_instructions_there_are_a_program_ends(
        parts in vec((prop_oneof![any::<u16>(), 0..0xb2u16], any::<u8>(), any::<u8>(), constants()), 0..12),
        frame in vec(any::<u8>(), 0..100),
    ) {
        let instructions: Vec<_> = parts.into_iter().map(|(code, jt, jf, k)| instruction(code, jt % 4, jf % 4, k)).collect();
        if let Ok(program) = Program::new(&instructions) {
            program.run(&frame, 100);
        }
    }
}

#[test]
fn what_is_no_program_is_refused() {
    let steps = |first: Instruction| Program::new(&[first, RETURN]);
    assert_eq!(Program::new(&[]), Err(ProgramError::Length(0)));
    assert_eq!(Program::new(&vec![RETURN; MOST + 1]), Err(ProgramError::Length(MOST + 1)));
    assert!(Program::new(&vec![RETURN; MOST]).is_ok());
    assert_eq!(Program::new(&[RETURN, instruction(0x00, 0, 0, 1)]), Err(ProgramError::End));
    for jump in [
        instruction(0x15, 0, 1, 5),
        instruction(0x15, 1, 0, 5),
        instruction(0x05, 0, 0, 1),
        instruction(0x05, 0, 0, u32::MAX),
        instruction(0x05, 0, 0, u32::MAX - 1),
    ] {
        assert_eq!(steps(jump), Err(ProgramError::Jump(0)), "{jump:?}");
    }
    for code in [0x60, 0x61, 0x02, 0x03] {
        assert_eq!(steps(instruction(code, 0, 0, 16)), Err(ProgramError::Memory(0)));
        assert_eq!(steps(instruction(code, 0, 0, 256)), Err(ProgramError::Memory(0)));
        assert!(steps(instruction(code, 0, 0, 15)).is_ok());
    }
    for (code, k) in [(0x34, 0), (0x94, 0), (0x64, 32), (0x74, 32)] {
        assert_eq!(steps(instruction(code, 0, 0, k)), Err(ProgramError::Constant(0)));
    }
    assert_eq!(steps(instruction(0xffff, 0, 0, 0)), Err(ProgramError::Unknown { at: 0, code: 0xffff }));
    let known = (0..=u16::MAX).filter(|code| steps(instruction(*code, 0, 0, 1)).is_ok()).count();
    assert_eq!(known, STEPS.len() + JUMPS.len() - 1 + 2, "an unconditional jump by 1 leads out of two instructions");
}

#[test]
fn a_load_beyond_what_was_captured_takes_nothing() {
    let takes = |load: Instruction, x: u32, length: usize| {
        let program = Program::new(&[instruction(0x01, 0, 0, x), load, RETURN]).unwrap();
        program.matches(&vec![1; length], 9_000)
    };
    for (code, bytes) in [(0x20, 4), (0x28, 2), (0x30, 1), (0xb1, 1)] {
        assert!(takes(instruction(code, 0, 0, 10), 0, 10 + bytes));
        assert!(!takes(instruction(code, 0, 0, 10), 0, 9 + bytes));
        assert!(!takes(instruction(code, 0, 0, u32::MAX), 0, 100));
    }
    for (code, bytes) in [(0x40, 4), (0x48, 2), (0x50, 1)] {
        assert!(takes(instruction(code, 0, 0, 10), 20, 30 + bytes));
        assert!(!takes(instruction(code, 0, 0, 10), 20, 29 + bytes));
        assert!(!takes(instruction(code, 0, 0, u32::MAX), 2, 100), "the sum does not wrap");
    }
}
