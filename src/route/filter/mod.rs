//! Filters say which frames are kept: expressions in tcpdump's language.

mod cbpf;
mod expression;
mod words;

pub use expression::{CompileError, Expression};
