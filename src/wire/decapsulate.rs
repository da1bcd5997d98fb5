//! Each encapsulation has its decapsulator, found by the table.

use super::gre;
use super::table::encapsulations;
use super::tunnel::{Decapsulated, DropReason, Encapsulation};

/// Declares [`Encapsulation::decapsulate`] by the table.
macro_rules! decapsulators {
    ($($(#[$meta:meta])+ $Variant:ident = $label:literal, $module:ident $(, over UDP $listener:literal [$($port:literal),+])?;)+) => {
        impl Encapsulation {
            /// Takes the encapsulation off a payload of UDP or, where it is GRE, of IP. The
            /// payload arrived with `arrived` bytes, which is more than there are where not all of
            /// them were kept. Copies nothing.
            ///
            /// What the frame's session belongs to is in [`Decapsulated::encapsulation`]: GRE
            /// carries several.
            ///
            /// # Errors
            /// The payload yields no frame, for the reason that is returned.
            #[inline]
            pub fn decapsulate(self, payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
                match self { $(Encapsulation::$Variant => super::$module::decapsulate(payload, arrived),)+ }
            }
        }
    };
}

encapsulations!(decapsulators);

impl Encapsulation {
    /// Returns the encapsulation that a payload names which came as this one: GRE can announce
    /// ERSPAN, whatever comes of that.
    #[must_use]
    pub fn named_in(self, payload: &[u8]) -> Self {
        if self == Encapsulation::Gre && gre::announces_erspan(payload) { Encapsulation::Erspan } else { self }
    }
}
