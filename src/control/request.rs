//! A request is an order to the thread that conducts the sensor.

use serde::Serialize;
use tokio::sync::oneshot;

/// An order.
#[derive(Debug)]
pub(crate) enum Request {
    /// The file is to be read again, and what it says to be made so.
    Reload(Reply<Applied>),
    /// The files that are written to are to be completed.
    Cut(Reply<Cut>),
}

/// What has come of reading a file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Applied {
    /// The file.
    pub(crate) path: String,
    /// What has changed, in sentences; none where it is not known or nothing has.
    pub(crate) changed: Vec<String>,
    /// What happened, in a sentence.
    pub(crate) said: String,
    /// What is still to come, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// The files that were written to are being completed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cut {
    /// Always true.
    pub(crate) cut: bool,
}

/// The way back to whoever gave an order. Where it is dropped, the sensor ends.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Result<T, String>>);

impl<T> Reply<T> {
    /// Makes a way back, and the end where the reply arrives.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T, String>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Replies: what came of it, or why it is refused. Whoever asked may have gone.
    pub(crate) fn send(self, outcome: Result<T, String>) {
        let _ = self.0.send(outcome);
    }

    /// Says whether whoever asked has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}
