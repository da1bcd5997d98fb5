//! Fuzz targets read bytes of a stranger's choice, and say what must hold whatever the bytes are.
//!
//! This room is compiled for tests, and with `--cfg fuzzing` for the fuzzer in `fuzz/`. A
//! [`Target`] is a function that panics where a promise of the code is broken. The fuzzer finds
//! bytes for it, and `fuzz/kept` has those that once reached something new. Tests run the targets
//! over these and over the seeds, so that what was found once stays mended.
//!
//! A new parser of bytes that others send or write has a line in [`TARGETS`].

mod captures;
mod kept;
mod packets;
mod programs;
mod seeds;
mod texts;

pub use kept::{kept, pack};

/// A function to feed with bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name in commands, and of the file in `fuzz/kept`.
    pub name: &'static str,
    /// Reads the bytes. Panics where something does not hold that must.
    pub run: fn(&[u8]),
    /// Makes bytes to begin with, of the fixtures and of the corpus of captures where that is.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: packets::frames, seeds: seeds::frames },
    Target { name: "tunnels", run: packets::tunnels, seeds: seeds::tunnels },
    Target { name: "layers", run: packets::layers, seeds: seeds::layers },
    Target { name: "captures", run: captures::captures, seeds: seeds::captures },
    Target { name: "salvage", run: captures::salvage, seeds: seeds::salvage },
    Target { name: "decap", run: captures::decap, seeds: seeds::captures },
    Target { name: "manifest", run: texts::manifest, seeds: seeds::manifest },
    Target { name: "names", run: texts::names, seeds: seeds::names },
    Target { name: "values", run: texts::values, seeds: seeds::values },
    Target { name: "configuration", run: texts::configuration, seeds: seeds::configuration },
    Target { name: "documents", run: texts::documents, seeds: seeds::documents },
    Target { name: "programs", run: programs::programs, seeds: seeds::programs },
    Target { name: "expressions", run: programs::expressions, seeds: seeds::expressions },
];

/// Finds a target.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

#[cfg(test)]
mod tests;
