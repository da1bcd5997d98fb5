//! `vxtap check` looks at what the sensor stands on, and says what is amiss and how to mend it.
//!
//! ```text
//!  RunPlan ──────────────┐
//!                        ├──▶ one function a topic ──▶ findings ──▶ Report ──▶ text, JSON
//!  the host ──▶ facts ───┘
//! ```
//!
//! `look.rs` reads the facts and changes nothing. The functions that judge them know only what they
//! are handed.

mod capture;
mod clock;
mod directory;
pub mod finding;
mod hold;
mod hook;
pub mod host;
mod interface;
mod kernel;
mod look;
mod memory;
mod port;
pub mod report;
mod sensor;
mod speed;
mod tap;
mod unit;
pub mod watch;
mod words;

pub use finding::{Finding, Level};
pub use report::Report;

#[cfg(test)]
mod tests {
    use crate::cli;
    use crate::config::RunPlan;
    use crate::host::HostFacts;

    /// Makes the plan of `vxtap run` with these words, on a host that nobody looked at.
    pub(super) fn plan(words: &str) -> RunPlan {
        plan_on(words, &HostFacts::unknown())
    }

    /// Makes the plan of `vxtap run` with these words on this host.
    pub(super) fn plan_on(words: &str, host: &HostFacts) -> RunPlan {
        let words = ["vxtap", "run"].into_iter().chain(words.split_whitespace()).map(Into::into);
        match cli::parse(words).unwrap().command {
            cli::Command::Run(args) => RunPlan::new(&args.settings(), host).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
