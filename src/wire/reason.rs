//! Sets of reasons: each is declared in one line, and has a label and a help text from there.

/// A fixed set of reasons, by which something is counted.
pub trait Reason: Copy + 'static {
    /// All reasons, in the order of their numbers.
    const EVERY: &'static [Self];

    /// The stable label, as the ledger has it.
    fn name(self) -> &'static str;

    /// What the reason stands for, in a sentence.
    fn help(self) -> &'static str;

    /// Its place in [`Reason::EVERY`].
    fn number(self) -> usize;
}

/// Declares an enum of reasons: `Variant = "label",` with a comment above, which is its help text. The enum has the
/// constant `ALL`, the function `label`, and is a [`Reason`].
macro_rules! reasons {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[doc = $help:literal])+ $Variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $Name { $($(#[doc = $help])+ $Variant,)+ }

        impl $Name {
            /// All reasons, in the order of their discriminants.
            pub const ALL: [$Name; [$($label),+].len()] = [$($Name::$Variant),+];

            /// The stable label used in the ledger.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $($Name::$Variant => $label,)+ }
            }
        }

        impl $crate::wire::Reason for $Name {
            const EVERY: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                self.label()
            }

            fn help(self) -> &'static str {
                match self { $($Name::$Variant => concat!($($help),+),)+ }
            }

            #[inline]
            fn number(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use reasons;

reasons! {
    /// Why a received datagram yielded no inner frame.
    pub enum DropReason {
        /// The datagram was larger than the receive slot, so its end is missing (`MSG_TRUNC`).
        TruncatedDatagram = "truncated_datagram",
        /// Fewer bytes than the 8 of a VXLAN header.
        ShortVxlanHeader = "short_vxlan_header",
        /// The I flag is clear: the header carries no valid VNI (RFC 7348 section 5).
        VniFlagClear = "vni_flag_clear",
        /// A reserved bit is set and the policy is to reject (`--reserved-bits reject`).
        ReservedBits = "reserved_bits",
        /// The inner frame is shorter than an Ethernet header.
        RuntInnerFrame = "runt_inner_frame",
        /// The UDP checksum is not that of the datagram, where the sensor verifies it and not the kernel
        /// (`--verify-checksum`).
        WrongChecksum = "wrong_checksum",
    }
}
