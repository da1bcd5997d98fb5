//! A plan says what becomes of complete files, as it was asked for.

use std::time::Duration;

use super::room::BudgetPlan;
use crate::evidence::Algorithm;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::setting::Wording;

/// The time for which the end waits for commands.
const PATIENCE: Duration = Duration::from_secs(3);

/// The part that is sure to survive a loss of power.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// What the kernel has written by then: usually all that is older than half a minute.
    #[default]
    None,
    /// All of a file that has its final name: file, manifest and directory are synced around the
    /// renaming.
    Publish,
}

/// Says what becomes of complete files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePlan {
    /// Says whether files are synced before they are published.
    pub sync: Sync,
    /// The algorithm by which files are hashed, so that they can be told from changed ones. With
    /// none, files are known by nothing but their size. A file that cannot be salvaged after a
    /// crash is rare, and is hashed all the same.
    pub hash: Option<Algorithm>,
    /// The captures to keep, and the room to leave.
    pub budget: BudgetPlan,
    /// The command that is run for each published file.
    pub on_publish: Option<String>,
    /// The time for which the end waits for commands; none where the next process is to begin at
    /// once, which goes on with them.
    pub patience: Option<Duration>,
    /// The names by which the log calls settings.
    pub wording: Wording,
}

impl Default for ArchivePlan {
    fn default() -> Self {
        Self {
            sync: Sync::default(),
            hash: Some(Algorithm::default()),
            budget: BudgetPlan::default(),
            on_publish: None,
            patience: Some(PATIENCE),
            wording: Wording::default(),
        }
    }
}

/// The way in which the files of an archive are encoded, as their lines say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    /// The format of the records.
    pub format: Format,
    /// The compression of the whole, if there is one.
    pub compression: Option<Compression>,
}
