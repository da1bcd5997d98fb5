//! Captures are hashed by an algorithm, or by `none`, as people say it.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::evidence::Algorithm;

/// The hash of files, if they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashing(pub Option<Algorithm>);

const ALL: [Hashing; 3] = [Hashing(Some(Algorithm::Sha256)), Hashing(Some(Algorithm::Blake3)), Hashing(None)];

impl ValueEnum for Hashing {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            Some(algorithm) => algorithm.to_possible_value(),
            None => Some(PossibleValue::new("none").help("Nothing: all that can be compared are sizes")),
        }
    }
}

impl Serialize for Hashing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.map_or("none", Algorithm::key))
    }
}

impl<'de> Deserialize<'de> for Hashing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = ALL.into_iter().find(|hashing| hashing.0.map_or("none", Algorithm::key) == name);
        found.ok_or_else(|| de::Error::unknown_variant(&name, &["sha256", "blake3", "none"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_typed() {
        for hashing in ALL {
            let typed = hashing.to_possible_value().unwrap();
            let written = serde_json::to_value(hashing).unwrap();
            assert_eq!(written, typed.get_name());
            assert_eq!(serde_json::from_value::<Hashing>(written).unwrap(), hashing);
        }
        assert!(serde_json::from_str::<Hashing>("\"md5\"").is_err());
    }
}
