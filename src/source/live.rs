//! A live source is one that others send to, whether the sensor is ready or not.

use std::fmt::Debug;
use std::io;
use std::thread;
use std::time::Duration;

use super::backlog::Backlog;
use super::datagram::{Datagram, Received, Source};

/// The time after which an idle source that is no live one is asked again.
const NAP: Duration = Duration::from_millis(1);

/// A source that receives from the network.
///
/// ```text
/// begin ──▶ receive* ──▶ refuse_further ──▶ receive* ──▶ refused
///           wait                            until nothing is left
/// ```
///
/// Before `begin` and after `refuse_further` nothing enters the source. A datagram that was sent
/// before `begin` is counted nowhere, for nobody was listening yet. One that is sent after
/// `refuse_further` is counted by `refused`. The counters can be asked for at any time.
pub trait LiveSource: Source {
    /// Accepts datagrams from now on.
    ///
    /// # Errors
    /// The source failed, and is of no more use.
    fn begin(&mut self) -> io::Result<()>;

    /// Waits until there is something to receive, up to `timeout`.
    ///
    /// # Errors
    /// The source failed, and is of no more use.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Returns how long datagrams can be left to gather without loss, at the highest rate to be
    /// expected.
    fn patience(&self) -> Duration;

    /// Returns how many datagrams the kernel has dropped so far instead of delivering them here.
    fn kernel_dropped(&mut self) -> u64;

    /// Returns how many copies of broadcast and multicast datagrams the kernel has delivered here
    /// that another worker has received.
    fn copies(&self) -> u64 {
        0
    }

    /// Says whether another worker has frames of the same sessions that come over UDP.
    fn shares_sessions(&self) -> bool {
        false
    }

    /// Returns where to look for what waits to be received. By default nothing does.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    /// Refuses every further datagram; what has come before can still be received. A source that
    /// is kept for the process after this one refuses nothing and reads no more: what is there
    /// stays there.
    fn refuse_further(&mut self);

    /// Returns how many bytes of the kernel's memory have what is left to the process after this
    /// one.
    fn left_queued(&self) -> u64 {
        0
    }

    /// Writes down what the process after this one has to know: what was counted, and that the
    /// worker has received so many datagrams, or has ended with them.
    fn write_down(&mut self, received: u64, ended: bool) {
        let _ = (received, ended);
    }

    /// Returns how many datagrams were refused since [`LiveSource::refuse_further`].
    fn refused(&mut self) -> u64;

    /// Says whether the source was stopped before its end. A source that others send to has no end.
    fn cut_short(&self) -> bool {
        false
    }
}

/// A source that refuses everything: only its counter is of use.
pub(crate) trait Refusing: Send + Debug {
    /// Returns how many datagrams were refused: see [`LiveSource::refused`].
    fn refused(&mut self) -> u64;
}

impl<S: LiveSource + Send + Debug> Refusing for S {
    fn refused(&mut self) -> u64 {
        LiveSource::refused(self)
    }
}

/// A source that has all its datagrams at once, as a file has them, where a live one is asked for.
///
/// Nobody sends to such a source, so it drops and refuses nothing. To refuse further datagrams is
/// to end it, wherever it is: [`LiveSource::cut_short`] says whether it had more.
#[derive(Debug)]
pub struct Offline<S> {
    source: S,
    /// True where it lends no more.
    ended: bool,
    /// True where all that it has was lent.
    is_over: bool,
    /// True where it lent nothing when it was asked last, and has not ended.
    is_idle: bool,
}

impl<S> Offline<S> {
    /// Puts `source`, which ends by itself, where a live one is asked for.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self { source, ended: false, is_over: false, is_idle: false }
    }
}

impl<S: Source> Source for Offline<S> {
    fn receive(&mut self, limit: usize, deliver: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Received> {
        if self.ended {
            return Ok(Received::End);
        }
        let received = self.source.receive(limit, deliver)?;
        self.is_over = received == Received::End;
        self.is_idle = received == Received::Datagrams(0);
        Ok(received)
    }
}

impl<S: Source> LiveSource for Offline<S> {
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        // Nothing tells when a source that is no live one has more, so it is asked now and then.
        if self.is_idle {
            thread::sleep(timeout.min(NAP));
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn kernel_dropped(&mut self) -> u64 {
        0
    }

    fn refuse_further(&mut self) {
        self.ended = true;
    }

    fn refused(&mut self) -> u64 {
        0
    }

    fn cut_short(&self) -> bool {
        self.ended && !self.is_over
    }
}
