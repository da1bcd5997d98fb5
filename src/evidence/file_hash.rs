//! The hash of a file's bytes says by what algorithm it was made.
//!
//! In a line the hash is one field with the algorithm's name, `"sha256": "ba78..."` or `"blake3":
//! "6437..."`, which is what `sha256sum` and `b3sum` print. A directory can have files of both, and
//! some without: whoever compares takes the algorithm from the line.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufReader, Read, Write};

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::{Digest, Hasher};

/// Bytes of a file that are read at a time.
const PIECE: usize = 256 * 1024;

/// The algorithm by which files are hashed.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Algorithm {
    // FIPS 180-4.
    /// SHA-256, as `sha256sum` prints it. One core hashes 1.8 GB/s.
    #[default]
    Sha256,
    // With its default length of 32 bytes and without a key.
    /// BLAKE3, as `b3sum` prints it. One core hashes three times as much.
    Blake3,
}

impl Algorithm {
    /// All algorithms.
    pub(crate) const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Blake3];

    /// Returns the name of the field that a line has for a hash by it.
    #[must_use]
    pub(crate) fn key(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Blake3 => "blake3",
        }
    }
}

/// The hash of a file's bytes, written as 64 hexadecimal digits. Two hashes of different algorithms
/// are never equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHash {
    /// SHA-256.
    Sha256(Digest),
    /// BLAKE3.
    Blake3(blake3::Hash),
}

impl FileHash {
    /// Returns the hash of `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = FileHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the algorithm by which the hash was made, and can be compared.
    #[must_use]
    pub(crate) fn algorithm(self) -> Algorithm {
        match self {
            FileHash::Sha256(_) => Algorithm::Sha256,
            FileHash::Blake3(_) => Algorithm::Blake3,
        }
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileHash::Sha256(hash) => fmt::Display::fmt(hash, f),
            FileHash::Blake3(hash) => fmt::Display::fmt(hash, f),
        }
    }
}

/// Writes the hash as the one field of a map, for `#[serde(flatten)]`.
impl Serialize for FileHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.algorithm().key(), &format_args!("{self}"))?;
        map.end()
    }
}

/// Reads the hash from a map that has exactly one of the fields.
impl<'de> Deserialize<'de> for FileHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        optional::deserialize(deserializer)?.ok_or_else(|| D::Error::custom("there is no hash"))
    }
}

/// The content of the field that a line has for BLAKE3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blake3(blake3::Hash);

impl<'de> Deserialize<'de> for Blake3 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&*text);
        hash.map(Blake3).map_err(|_| D::Error::custom("not a BLAKE3; it has 64 hexadecimal digits"))
    }
}

/// The fields that a line may have for the hash of a file.
#[derive(Debug, Deserialize)]
pub(super) struct Hashes {
    pub(super) sha256: Option<Digest>,
    pub(super) blake3: Option<Blake3>,
}

impl Hashes {
    /// Returns the hash that the fields say; none where they say none.
    pub(super) fn hash(self) -> Result<Option<FileHash>, &'static str> {
        match (self.sha256, self.blake3) {
            (None, None) => Ok(None),
            (Some(hash), None) => Ok(Some(FileHash::Sha256(hash))),
            (None, Some(Blake3(hash))) => Ok(Some(FileHash::Blake3(hash))),
            (Some(_), Some(_)) => Err("two hashes of one file"),
        }
    }
}

/// Reads and writes a hash that may be missing, for `#[serde(flatten, with = "optional")]`. Serde's
/// own `Option` would take a hash that cannot be read for none, and its file would pass for one
/// that was not hashed.
pub(super) mod optional {
    use serde::de::Error as _;
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::evidence::file_hash::{FileHash, Hashes};

    pub(crate) fn serialize<S: Serializer>(hash: &Option<FileHash>, serializer: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => hash.serialize(serializer),
            None => serializer.serialize_map(Some(0))?.end(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FileHash>, D::Error> {
        Hashes::deserialize(deserializer)?.hash().map_err(D::Error::custom)
    }
}

/// A hasher computes the hash of a file that comes in pieces. BLAKE3 is fast with large pieces
/// alone: from 64 KiB on it hashes 6.5 GB/s, of 4 KiB 2.7 GB/s.
#[derive(Debug, Clone)]
pub(crate) struct FileHasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Hasher),
    Blake3(Box<blake3::Hasher>),
}

impl FileHasher {
    /// Makes a hasher that has no bytes yet.
    #[must_use]
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Hasher::default()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Adds the next piece.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => drop(hasher.update(bytes)),
        }
    }

    /// Returns the hash of all that `source` yields, which is read in pieces of 256 KiB.
    ///
    /// # Errors
    /// Reading the source fails.
    pub(crate) fn read(mut self, source: impl Read) -> io::Result<FileHash> {
        // A copy hands on what such a reader has in its buffer, without one of its own.
        io::copy(&mut BufReader::with_capacity(PIECE, source), &mut self)?;
        Ok(self.finish())
    }

    /// Returns the hash of all pieces.
    #[must_use]
    pub(crate) fn finish(self) -> FileHash {
        match self.0 {
            State::Sha256(hasher) => FileHash::Sha256(hasher.finish()),
            State::Blake3(hasher) => FileHash::Blake3(hasher.finalize()),
        }
    }
}

impl Write for FileHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    /// The output of `printf abc | sha256sum` and `printf abc | b3sum`.
    const ABC: [(Algorithm, &str); 2] = [
        (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (Algorithm::Blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    ];

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fixed {
        before: u8,
        #[serde(flatten)]
        hash: FileHash,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Optional {
        before: u8,
        #[serde(flatten, with = "optional")]
        hash: Option<FileHash>,
    }

    #[test]
    fn is_what_the_tools_print_in_whatever_pieces_it_comes() {
        for (algorithm, abc) in ABC {
            assert_eq!(FileHash::of(algorithm, b"abc").to_string(), abc);
            let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
            for size in [1, 1000, 1024, 65_536, 199_999] {
                let mut hasher = FileHasher::new(algorithm);
                bytes.chunks(size).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.finish(), FileHash::of(algorithm, &bytes));
                let twice = bytes.chain(&bytes[..size]);
                let whole = [&bytes, &bytes[..size]].concat();
                assert_eq!(FileHasher::new(algorithm).read(twice).unwrap(), FileHash::of(algorithm, &whole));
            }
        }
        // The same bytes of a hash by another algorithm are another hash.
        let FileHash::Sha256(digest) = FileHash::of(Algorithm::Sha256, b"abc") else { panic!() };
        let other = FileHash::Blake3(blake3::Hash::from_hex(digest.to_string()).unwrap());
        assert_ne!(FileHash::Sha256(digest), other);
    }

    #[test]
    fn is_one_field_with_the_name_of_its_algorithm() {
        for (algorithm, abc) in ABC {
            let hash = FileHash::of(algorithm, b"abc");
            let text = format!(r#"{{"before":1,"{}":"{abc}"}}"#, algorithm.key());
            let (fixed, optional) = (Fixed { before: 1, hash }, Optional { before: 1, hash: Some(hash) });
            assert_eq!((to_string(&fixed).unwrap(), to_string(&optional).unwrap()), (text.clone(), text.clone()));
            assert_eq!((from_str::<Fixed>(&text).unwrap(), from_str::<Optional>(&text).unwrap()), (fixed, optional));
        }
        let none = Optional { before: 1, hash: None };
        assert_eq!(to_string(&none).unwrap(), r#"{"before":1}"#);
        assert_eq!(from_str::<Optional>(r#"{"before":1}"#).unwrap(), none);
        assert!(from_str::<Fixed>(r#"{"before":1}"#).is_err(), "there has to be one");
    }

    #[test]
    fn what_cannot_be_read_does_not_pass_for_no_hash() {
        let [(_, sha256), (_, blake3)] = ABC;
        let both = format!(r#""sha256":"{sha256}","blake3":"{blake3}""#);
        let twice = format!(r#""sha256":"{sha256}","sha256":"{sha256}""#);
        for fields in [r#""sha256":"12""#, r#""blake3":"12""#, r#""blake3":"é""#, r#""sha256":7"#, &both, &twice] {
            let text = format!(r#"{{"before":1,{fields}}}"#);
            assert!(from_str::<Optional>(&text).is_err() && from_str::<Fixed>(&text).is_err(), "{text}");
        }
    }
}
