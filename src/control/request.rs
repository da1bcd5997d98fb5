//! A request is an order to the thread that conducts the sensor.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::route::{Expression, Wanted};
use crate::sink::watch::Watching;

/// An order.
#[derive(Debug)]
pub(crate) enum Request {
    /// The file is to be read again, and what it says to be made so.
    Reload(Reply<Applied>),
    /// The files that are written to are to be completed.
    Cut(Reply<Cut>),
    /// Somebody wants to watch.
    Watch(WatchOrder, Reply<WatchBegun>),
    /// The watch of this output is to end.
    EndWatch(String, Reply<Ended>),
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

/// What is to be watched.
#[derive(Debug)]
pub(crate) struct WatchOrder {
    /// The sessions.
    pub(crate) wanted: Wanted,
    /// The expression that the frames satisfy.
    pub(crate) expression: Option<Arc<Expression>>,
    /// Bytes of a frame that are kept at most.
    pub(crate) snaplen: u32,
    /// Frames after which it ends.
    pub(crate) limit: Option<u64>,
    /// The time after which it ends.
    pub(crate) duration: Option<Duration>,
}

/// A watch that has begun.
#[derive(Debug)]
pub(crate) struct WatchBegun {
    /// The name of the output.
    pub(crate) output: String,
    /// Where the frames come.
    pub(crate) watching: Watching,
    /// What whoever watches should know.
    pub(crate) note: Option<String>,
}

/// A watch has been ended.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ended {
    /// Always true.
    pub(crate) ended: bool,
}

/// The end where a reply arrives.
pub(super) type Replied<T> = oneshot::Receiver<Result<T, String>>;

/// The way back to whoever gave an order. Where it is dropped, the sensor ends.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Result<T, String>>);

impl<T> Reply<T> {
    /// Makes a way back, and the end where the reply arrives.
    pub(crate) fn new() -> (Self, Replied<T>) {
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
