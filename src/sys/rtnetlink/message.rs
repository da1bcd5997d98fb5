//! Messages to the kernel and its answers have a header, a body, and attributes, in the byte order
//! of the machine.

/// Length of a message header: length u32, type u16, flags u16, sequence number u32, port u32.
pub(super) const HEADER_LEN: usize = 16;
/// Length of an attribute header: length u16, type u16.
const ATTRIBUTE_LEN: usize = 4;
/// Length of `struct ifinfomsg`: family u8, padding u8, type u16, index i32, flags u32, change mask
/// u32.
pub(super) const IFINFO_LEN: usize = 16;
/// Length of `struct tcmsg`: family u8, padding, index i32, handle u32, parent u32, info u32.
pub(super) const TCMSG_LEN: usize = 20;

/// linux/netlink.h, where libc lacks it.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message that is being built.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Begins a message of type `kind` with `body`.
    pub(super) fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    pub(super) fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut body = [0; IFINFO_LEN];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body[12..16].copy_from_slice(&change.to_ne_bytes());
        Self::new(kind, libc::NLM_F_ACK, &body)
    }

    pub(super) fn traffic_control(kind: u16, flags: i32, index: u32, handle: u32, parent: u32, info: u32) -> Self {
        let mut body = [0; TCMSG_LEN];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&handle.to_ne_bytes());
        body[12..16].copy_from_slice(&parent.to_ne_bytes());
        body[16..20].copy_from_slice(&info.to_ne_bytes());
        Self::new(kind, flags, &body)
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_LEN + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that holds attributes.
    pub(super) fn nested(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Self {
        let at = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        let mut message = inside(self);
        let length = u16::try_from(message.0.len() - at).unwrap_or(u16::MAX);
        message.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Yields type and value of each attribute in `bytes`, up to the first that is not whole.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Finds the value of the first attribute of this type.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Returns text without its terminating zero.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
