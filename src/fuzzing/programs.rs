//! Filters say of frames what libpcap says of them.

use crate::route::{Expression, Program};
use crate::sys::pcap::{self, Instruction};
use crate::wire::LinkType;

/// Memory words of a program. libpcap reads what happens to be there where none was written.
const MEMORY: u32 = 16;
/// Bytes of an instruction of an input.
const LENGTH: usize = 7;

/// A byte with the number of instructions, these, and a frame.
///
/// Of an instruction there are the code, two jumps and the constant, each as it is in a program but
/// for the code, of which all that mean something fit into a byte.
pub(super) fn programs(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let Some((instructions, frame)) = rest.split_at_checked(usize::from(*count) * LENGTH) else { return };
    let (instructions, _) = instructions.as_chunks::<LENGTH>();
    let read = instructions.iter().map(|[code, jt, jf, k @ ..]| Instruction {
        code: (*code).into(),
        jt: *jt,
        jf: *jf,
        k: u32::from_le_bytes(*k),
    });
    agree(&with_memory(read), frame);
}

/// Puts instructions behind others that write all memory words.
fn with_memory(instructions: impl Iterator<Item = Instruction>) -> Vec<Instruction> {
    let write = (0..MEMORY).map(|word| Instruction { code: 0x02, jt: 0, jf: 0, k: word });
    write.chain(instructions).collect()
}

/// What is a program here is one for libpcap, and returns the same of the frame, however much of it
/// was captured.
fn agree(instructions: &[Instruction], frame: &[u8]) {
    let Ok(program) = Program::new(instructions) else { return };
    for kept in [frame.len(), frame.len() / 2, 14, 0] {
        let Some(kept) = frame.get(..kept) else { continue };
        let original = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let theirs = pcap::filter(instructions, kept, original).expect("it is valid for libpcap");
        assert_eq!(program.run(kept, original), theirs);
        assert_eq!(program.matches(kept, original), theirs != 0);
    }
}

/// An expression, and behind a zero a frame.
pub(super) fn expressions(data: &[u8]) {
    let (text, frame) = match data.iter().position(|byte| *byte == 0) {
        Some(zero) => (&data[..zero], &data[zero + 1..]),
        None => (data, &[][..]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(expression) = Expression::new(text) else { return };
    let instructions = pcap::compile(text, LinkType::Ethernet.number().into()).expect("it was compiled before");
    // What libpcap makes of `geneve 7 and ip or dst not 2` reads words that nobody wrote, too.
    let instructions = with_memory(instructions.into_iter());
    agree(&instructions, frame);
    let original = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let theirs = pcap::filter(&instructions, frame, original).expect("libpcap made it");
    assert_eq!(expression.takes(LinkType::Ethernet, frame, original), theirs != 0);
}
