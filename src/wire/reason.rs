//! A set of reasons has each declared in one line, and a label and a help text from there.

/// A fixed set of reasons, by which something is counted.
pub trait Reason: Copy + 'static {
    /// All reasons, in the order of their numbers.
    const EVERY: &'static [Self];

    /// Returns the stable label, as the ledger has it.
    fn name(self) -> &'static str;

    /// Says what the reason stands for, in a sentence.
    fn help(self) -> &'static str;

    /// Returns its place in [`Reason::EVERY`].
    fn number(self) -> usize;
}

/// Declares an enum of reasons: `Variant = "label",` with a comment above, which is its help text.
/// The enum has the constant `ALL`, the function `label`, and is a [`Reason`].
macro_rules! reasons {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[doc = $help:literal])+ $Variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $Name { $($(#[doc = $help])+ $Variant,)+ }

        impl $Name {
            /// All reasons, in the order of their discriminants.
            pub const ALL: [$Name; [$($label),+].len()] = [$($Name::$Variant),+];

            /// Returns the stable label used in the ledger.
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
