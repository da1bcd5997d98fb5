//! A setting has names, and a text names it as whoever runs the sensor says it.

pub(crate) mod key;
mod wording;

pub(crate) use wording::Wording;
