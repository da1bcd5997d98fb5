//! Steering decides which worker receives a datagram.

/// The rule that decides which worker receives a datagram.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// Outer source address and VNI: each mirror session stays in order on one worker.
    Session,
    /// Outer source address and port: one busy session is spread over all workers; its file is in
    /// order per outer source port only.
    Flow,
}
