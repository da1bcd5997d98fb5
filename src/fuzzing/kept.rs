//! Inputs that reached something new are kept, in one file for each target.
//!
//! Such a file has, for each input, its length in four bytes (little-endian) and then its bytes.

use std::path::{Path, PathBuf};

/// Returns the folder of the package that this code was compiled from.
pub(super) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the inputs that were kept for a target; none where there is no file of them.
///
/// # Panics
/// The file is not whole.
#[must_use]
pub fn kept(target: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file(target)).unwrap_or_default();
    let (mut rest, mut inputs) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().expect("a length");
        let (input, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = behind;
    }
    inputs
}

/// Returns the file that keeps these inputs for a target, and its bytes.
#[must_use]
pub fn pack(target: &str, inputs: &[Vec<u8>]) -> (PathBuf, Vec<u8>) {
    let length = |input: &[u8]| u32::try_from(input.len()).expect("an input of a fuzzer").to_le_bytes();
    let bytes = inputs.iter().flat_map(|input| [&length(input)[..], input].concat()).collect();
    (file(target), bytes)
}

fn file(target: &str) -> PathBuf {
    package().join("fuzz/kept").join(target)
}
