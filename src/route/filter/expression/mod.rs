//! A filter expression is text in tcpdump's language, and a program for each kind of frame.

use std::fmt;

use super::cbpf::{Program, ProgramError};
use super::words::{Unwanted, unwanted};
use crate::sys::pcap::{self, Instruction, PcapError};
use crate::wire::{Encapsulation, LinkType};

/// The reasons why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// There is no expression in the text.
    #[error("there is no expression; write one as 'tcp port 443', or leave the setting out")]
    Empty,
    /// libpcap is not on this host. The text is the loader's.
    #[error(
        "expressions are compiled by libpcap, which is not here ({0}); install it (Debian, Ubuntu: apt install libpcap0.8; Fedora: dnf install libpcap)"
    )]
    NoLibrary(String),
    /// An address would have to be looked up.
    #[error("\"{word}\" is no word of the language{}, and names are not looked up; write an address", like.map(|like| format!(" (is {like} meant?)")).unwrap_or_default())]
    Name {
        /// The word.
        word: String,
        /// The word of the language that it resembles.
        like: Option<&'static str>,
    },
    /// The expression is one of Wireshark's.
    #[error(
        "\"{0}\" is of a display filter of Wireshark; the language is tcpdump's, as 'host 10.0.0.1 and tcp port 443' (man pcap-filter)"
    )]
    DisplayFilter(String),
    /// The program would have a loop.
    #[error(
        "\"protochain\" needs a loop, which a program here cannot have; write 'ip6 proto N', or compare bytes as ip6[40]"
    )]
    Protochain,
    /// libpcap refuses the expression. The text is libpcap's.
    #[error("libpcap says: {0}; man pcap-filter has the language, as 'tcp port 443 and not host 10.0.0.1'")]
    Refused(String),
    /// The program would ask the kernel for something that is no part of a frame.
    #[error(
        "\"inbound\", \"outbound\" and \"ifindex\" are of an interface of this host, which a mirrored frame never had; \
         rules have a direction, and entries a source"
    )]
    OfTheHost,
    /// What libpcap made is no program.
    #[error("libpcap made a program that cannot be used: {0}")]
    Program(#[from] ProgramError),
}

/// A filter expression that was compiled.
#[derive(Clone, PartialEq, Eq)]
pub struct Expression {
    text: String,
    /// The program for frames of each link type; none where no frame of that type is taken, as by
    /// `ether host ...` none without an Ethernet header.
    programs: Vec<(LinkType, Option<Program>)>,
}

/// Shows the text alone: the programs follow from it.
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles `text` for frames of every link type that an encapsulation has.
    ///
    /// # Errors
    /// libpcap is not on this host or refuses the expression, or the expression has a name or a
    /// loop in it.
    pub fn new(text: &str) -> Result<Self, CompileError> {
        let mut programs: Vec<(LinkType, Option<Program>)> = Vec::new();
        for link_type in Encapsulation::ALL.map(Encapsulation::link_type) {
            if programs.iter().any(|(known, _)| *known == link_type) {
                continue;
            }
            let program = match compile(text, link_type.number()) {
                Ok(program) => Some(program),
                // What is said of Ethernet makes no sense elsewhere; what makes none on Ethernet is
                // a mistake.
                Err(CompileError::Refused(_)) if link_type != LinkType::Ethernet => None,
                Err(error) => return Err(error),
            };
            programs.push((link_type, program));
        }
        Ok(Self { text: text.to_owned(), programs })
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Says whether the expression takes a frame of which these bytes were captured, and which had
    /// `original` bytes.
    #[inline]
    #[must_use]
    pub fn takes(&self, link_type: LinkType, frame: &[u8], original: u32) -> bool {
        let program = self.programs.iter().find(|(other, _)| *other == link_type);
        program.and_then(|(_, program)| program.as_ref()).is_some_and(|program| program.matches(frame, original))
    }
}

/// Compiles `text` for frames of a link type of captures (`LINKTYPE_*`).
fn compile(text: &str, link_type: u16) -> Result<Program, CompileError> {
    if text.trim().is_empty() {
        return Err(CompileError::Empty);
    }
    match unwanted(text) {
        Some(Unwanted::Name(word, like)) => return Err(CompileError::Name { word, like }),
        Some(Unwanted::Display(word)) => return Err(CompileError::DisplayFilter(word)),
        Some(Unwanted::Protochain) => return Err(CompileError::Protochain),
        None => {}
    }
    let instructions = pcap::compile(text, dlt(link_type)).map_err(|error| match error {
        PcapError::Missing(why) => CompileError::NoLibrary(why),
        PcapError::Refused(why) => CompileError::Refused(why),
    })?;
    if instructions.iter().any(asks_the_kernel) {
        return Err(CompileError::OfTheHost);
    }
    Ok(Program::new(&instructions)?)
}

/// Says whether an instruction reads what only Linux has for a packet (`SKF_AD_OFF` and the like,
/// linux/filter.h): libpcap takes it that programs are for a socket of this host.
fn asks_the_kernel(instruction: &Instruction) -> bool {
    /// `BPF_LD` or `BPF_LDX`, at an absolute place.
    const LOADS: [u16; 2] = [0x20, 0x21];
    /// `SKF_LL_OFF`, the lowest.
    const LOWEST: u32 = 0xffe0_0000;
    LOADS.contains(&(instruction.code & 0xe7)) && instruction.k >= LOWEST
}

/// Returns the number that libpcap has for a link type of captures. It has other numbers inside
/// (`DLT_*`) where systems did not agree: of what occurs here, for bare IP packets.
fn dlt(link_type: u16) -> i32 {
    match link_type {
        101 => 12,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
