//! A change is refused for one of these reasons.

use std::fmt;

/// The reason for which a plan cannot take the place of another while the sensor runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// These settings need a restart.
    Restart(Vec<String>),
    /// An output would get the directory or the interface of another one that has not finished
    /// there.
    Held {
        /// What both would have: a directory or an interface.
        what: &'static str,
        /// The output that is to have it.
        output: String,
        /// The output that has it.
        other: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(settings) => {
                let verb = if settings.len() == 1 { "needs" } else { "need" };
                write!(f, "{} {verb} a restart", settings.join(", "))
            }
            Self::Held { what, output, other } => write!(
                f,
                "output {output} is to have the {what} that output {other} has: reload without {other} first, and with {output} \
                 when the log says that {other} has finished"
            ),
        }
    }
}
