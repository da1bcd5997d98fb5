//! A crash leaves part files behind, and nobody writes to them any more.
//!
//! The directory is locked, so a part file that is there at the start is nobody's. It is cut at its
//! last whole record and published with `.recovered` in its name. Where it is damaged, with more
//! behind than a torn record or in a field of its header, what is whole is copied, with the header
//! as it has to be, and the file itself moved aside. So is what has no whole record.
//!
//! Files of this process that it could not complete go the same way.

mod announced;
mod aside;
mod find;
mod make;
mod outcome;
mod work;

pub(super) use work::Recovery;
