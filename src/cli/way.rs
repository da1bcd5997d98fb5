//! The way to receive is one of a few words, or names a capture.

use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command};

use crate::source::Way;

/// Reads `udp`, `bpf`, `auto`, or `file:` with a path behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WayParser;

impl TypedValueParser for WayParser {
    type Value = Way;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Way, clap::Error> {
        match Way::of_file(value) {
            Some(way) => Ok(way),
            None => EnumValueParser::<Way>::new().parse_ref(command, arg, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        // A name that stands for others would be typed as it is.
        Some(Box::new(<Way as clap::ValueEnum>::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value)))
    }
}
