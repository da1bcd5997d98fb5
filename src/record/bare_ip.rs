//! Packets that came without an Ethernet header are written in one of two forms.

/// The form of IP packets that came without an Ethernet header.
///
/// The comments of the variants are the text of `vxtap run --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BareIp {
    /// Behind an Ethernet header that is made up, so that all frames are of one kind.
    #[default]
    Ethernet,
    /// As they came, with link type RAW (101). Classic pcap has one link type: where a session has
    /// Ethernet frames, too, it gets all behind an Ethernet header.
    Raw,
}
