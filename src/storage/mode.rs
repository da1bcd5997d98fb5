//! Files are written past the page cache, or not.

/// Says which files are written past the page cache.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// All, four at a time.
    On,
    /// None.
    #[default]
    Off,
    // A file goes back to the page cache where a second brings less than 16 MiB.
    /// Those that get more than 64 MiB within a second, as long as less than half of --queue
    /// waits for the disk.
    Auto,
}
