//! Filters say which frames are kept: expressions in tcpdump's language, and rules as those of a
//! cloud's mirror.

mod cbpf;
mod expression;
mod rules;
mod words;

#[cfg(any(test, fuzzing))]
pub(crate) use cbpf::Program;
pub use expression::{CompileError, Expression};
pub use rules::{Action, MOST_RULES, Ports, Rule, Rules, RulesError};
