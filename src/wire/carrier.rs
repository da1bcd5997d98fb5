//! A mirror's packets are carried by UDP, or by IP itself.

/// The protocol below an encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Carrier {
    /// UDP, where a port says what comes.
    #[default]
    Udp,
    /// IP, where the protocol is GRE, which has no port.
    Ip,
}
