//! A sensor does not start for one of these reasons.

use std::io;

use super::signals::Ending;
use crate::config::allow::AllowError;
use crate::control::DoorError;
use crate::pipeline::OutputError;
use crate::sandbox::SandboxError;
use crate::source::OpenError;

/// The reason why the sensor could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody knows what is allowed.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// Nothing can be received.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// Nothing can be delivered.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The sensor cannot answer where it is to.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// There is no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// There is nobody to run commands.
    #[error("cannot start the process that runs the commands of --on-publish: {0}")]
    Helper(io::Error),
    /// What the sensor is to give up it cannot.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The sensor was to end before it received.
    #[error("ended before anything was received")]
    Ended(Ending),
}

impl StartError {
    /// Says whether the sensor may start later without any change to how it is started: something
    /// is not there yet, or is still in use.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Source(error) => error.may_pass(),
            Self::Output(error) => error.may_pass(),
            Self::Door(error) => error.may_pass(),
            Self::Allow(_) | Self::Thread(_) | Self::Helper(_) | Self::Sandbox(_) | Self::Ended(_) => false,
        }
    }
}
