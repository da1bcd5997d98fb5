//! The watch looks after an interface while frames enter it.
//!
//! Whoever may change interfaces can take away what keeps the host from hearing and speaking there:
//! the filter, as with `tc qdisc del dev NAME clsact`, or another setting. So a thread of its own
//! looks at all of them when the kernel says that something about the interface has changed, and
//! four times a second in any case. Where something is wrong, the interface is closed for frames
//! first, those of a [`Feeder`] too, then what is wrong is mended, if the process may, and the
//! interface is opened again.

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::Interface;
use super::complaint::is_denied;
use super::fault::Fault;
use crate::condition::{Condition, Part};
use crate::episode::Episode;
use crate::sys::rtnetlink::{Link, Notices, RouteSocket};
use crate::whose;

/// The time after which the settings are looked at in any case: not of each is there a notice.
const EVERY: Duration = Duration::from_millis(250);
/// The least time from one look to the next, whatever happens to the interface.
const PAUSE: Duration = Duration::from_millis(20);
/// The least time between two lines in the log about what was mended.
const LOG: Duration = Duration::from_secs(1);

/// Something that puts frames into the interface besides the output.
pub(crate) trait Feeder: Send + Debug {
    /// Hears that the interface of this name is there and up, and that the host is deaf to it.
    ///
    /// # Errors
    /// The reason why nothing can be put there.
    fn begin(&mut self, interface: &str) -> Result<(), Box<dyn Error>>;

    /// Hears that the interface is down or gone, or that the host is not deaf to it. Frames must
    /// come to the output.
    ///
    /// # Errors
    /// The reason why they may not.
    fn pause(&mut self) -> Result<(), Box<dyn Error>>;
}

/// The state by which the thread and the output tell each other what each has found.
#[derive(Debug)]
struct Shared {
    /// Twice the number of the interface, 0 while there is none, and 1 more where no frame is to
    /// enter it: one word, so that what is found out about one interface is never taken to be about
    /// the next.
    state: AtomicU64,
    over: AtomicBool,
    /// A descriptor that can be read when the thread is to look at once.
    wake: OwnedFd,
}

/// Returns the value of [`Shared::state`] for the interface of this number.
fn state(index: u32, closed: bool) -> u64 {
    u64::from(index) << 1 | u64::from(closed)
}

impl Shared {
    fn index(&self) -> u32 {
        u32::try_from(self.state.load(Ordering::Acquire) >> 1).unwrap_or(0)
    }

    /// Closes or opens the interface of this number, if it is still the one to look after.
    fn close(&self, index: u32, closed: bool) {
        let (from, to) = (state(index, !closed), state(index, closed));
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn look(&self) {
        // The write can only fail by a full counter, which wakes as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A thread that looks after an interface, which ends with this value.
#[derive(Debug)]
pub(in crate::sink) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks after `interface`, and leads `feeder`, which has begun, if there is one. Notes in
    /// `condition` whether frames enter the interface.
    ///
    /// # Errors
    /// The error of creating a thread or a socket.
    pub(in crate::sink) fn start(
        interface: &Interface,
        feeder: Option<Box<dyn Feeder>>,
        condition: Arc<Condition>,
    ) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = AtomicU64::new(state(interface.index, interface.is_closed()));
        let shared = Arc::new(Shared { state, over: AtomicBool::new(false), wake });
        let watcher = Watcher {
            netlink: RouteSocket::open()?,
            notices: Notices::open()?,
            name: interface.name.clone(),
            fed: feeder.map(|feeder| Fed { feeder, begun: Some(interface.index), failing: Episode::default() }),
            said: None,
            mended: Vec::new(),
            mending: Episode::default(),
            condition,
            shared: Arc::clone(&shared),
        };
        let thread =
            thread::Builder::new().name("vxtap-watch".into()).spawn(whose::inherited(move || watcher.run()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says whether no frame is to enter the interface.
    #[inline]
    pub(in crate::sink) fn is_closed(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) & 1 == 1
    }

    /// Looks after this interface from now on, if there is one.
    pub(in crate::sink) fn follow(&self, interface: Option<&Interface>) {
        let now = interface.map_or(0, |interface| state(interface.index, interface.is_closed()));
        self.shared.state.store(now, Ordering::Release);
        self.shared.look();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.look();
        // The thread has no panic to tell of.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A feeder, and the number of the interface that it feeds.
#[derive(Debug)]
struct Fed {
    feeder: Box<dyn Feeder>,
    begun: Option<u32>,
    failing: Episode,
}

impl Fed {
    /// Has the feeder feed the interface of this number, or pause for this reason.
    fn lead(&mut self, name: &str, index: Result<u32, &str>) {
        if index.ok() == self.begun {
            return;
        }
        match if index.is_ok() { self.feeder.begin(name) } else { self.feeder.pause() } {
            Ok(()) => match index {
                Ok(_) => tracing::info!(interface = name, "redirecting into the interface again"),
                Err(why) => tracing::warn!(interface = name, "{why}: no more redirecting until that is over"),
            },
            Err(error) => {
                if self.failing.begins() {
                    tracing::warn!(interface = name, %error, "cannot have the program follow the interface; trying again");
                }
                return;
            }
        }
        self.begun = index.ok();
        self.failing.ends();
    }
}

/// The state of the thread.
#[derive(Debug)]
struct Watcher {
    netlink: RouteSocket,
    notices: Notices,
    name: String,
    fed: Option<Fed>,
    /// The complaint that was said last to keep the interface closed.
    said: Option<String>,
    /// Faults that were mended and are not told yet.
    mended: Vec<String>,
    mending: Episode,
    condition: Arc<Condition>,
    shared: Arc<Shared>,
}

/// The result of a look at an interface.
enum Seen {
    /// There is no interface.
    Gone,
    /// The interface cannot be looked at.
    Hidden(io::Error),
    /// The interface as it is, and the faults that it has.
    There(Link, Vec<Fault>),
}

impl Watcher {
    fn run(mut self) {
        while !self.shared.over.load(Ordering::Acquire) {
            self.look();
            self.notices.wait(self.shared.index(), &self.shared.wake, Instant::now() + EVERY);
            // Resets the counter.
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
            if !self.shared.over.load(Ordering::Acquire) {
                thread::sleep(PAUSE);
            }
        }
        self.mending.ends();
        self.say_mended();
    }

    fn see(&self, index: u32) -> Seen {
        if index == 0 {
            return Seen::Gone;
        }
        let look = || {
            let link = self.netlink.link_of(index)?;
            let faults = Fault::find(&self.netlink, &link)?;
            Ok((link, faults))
        };
        // The look is repeated once: the interface can have gone meanwhile, and a list can have
        // changed while it was read.
        match look().or_else(|_: io::Error| look()) {
            Ok((link, faults)) => Seen::There(link, faults),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Seen::Gone,
            Err(error) => Seen::Hidden(error),
        }
    }

    /// Looks at the interface, closes it where something is wrong, mends that, and opens it.
    fn look(&mut self) {
        let index = self.shared.index();
        let mut seen = self.see(index);
        if let Seen::There(link, faults) = &seen
            && !faults.is_empty()
        {
            self.shared.close(index, true);
            self.lead(Err("this host is not deaf to the interface"));
            let denied = faults.iter().all(|fault| match fault.mend(&self.netlink, link) {
                Err(error) => is_denied(&error),
                Ok(()) => false,
            });
            let before: Vec<String> = faults.iter().map(|fault| fault.complaint(&link.name).what).collect();
            // Without privilege nothing has changed.
            if !denied {
                seen = self.see(index);
            }
            if let Seen::There(link, left) = &seen {
                let left: Vec<String> = left.iter().map(|fault| fault.complaint(&link.name).what).collect();
                self.mended.extend(before.into_iter().filter(|what| !left.contains(what)));
            }
        }
        self.say_mended();
        let trouble = match seen {
            Seen::Gone => {
                self.said = None;
                self.lead(Err("the interface is gone"));
                Some("the interface is gone".into())
            }
            Seen::Hidden(error) => {
                self.shared.close(index, true);
                self.lead(Err("the interface cannot be looked at"));
                let why = format!("its settings cannot be looked at: {error}");
                self.say_closed(why.clone());
                Some(why)
            }
            Seen::There(link, faults) if faults.is_empty() => {
                self.open(index);
                let is_up = link.flags & libc::IFF_UP.cast_unsigned() != 0;
                self.lead(if is_up { Ok(index) } else { Err("the interface is down") });
                (!is_up).then(|| "the interface is down".into())
            }
            Seen::There(link, faults) => {
                let all: Vec<String> = faults.iter().map(|fault| fault.complaint(&link.name).to_string()).collect();
                let why = all.join("; and ");
                self.say_closed(why.clone());
                Some(why)
            }
        };
        self.condition.note(Part::Interface, trouble);
    }

    fn open(&mut self, index: u32) {
        self.shared.close(index, false);
        if self.said.take().is_some() {
            tracing::info!(interface = self.name, "this host is deaf to the interface again: frames enter");
        }
    }

    fn lead(&mut self, index: Result<u32, &str>) {
        if let Some(fed) = &mut self.fed {
            fed.lead(&self.name, index);
        }
    }

    /// Tells what was mended, at the earliest a second after it was last told.
    fn say_mended(&mut self) {
        if self.mended.is_empty() || !self.mending.every(LOG) {
            return;
        }
        let times = self.mended.len();
        let mut what = std::mem::take(&mut self.mended);
        what.sort_unstable();
        what.dedup();
        tracing::warn!(
            interface = self.name,
            times,
            "somebody has changed the interface, which was closed for frames until that was mended: {}",
            what.join("; ")
        );
    }

    fn say_closed(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!(
                interface = self.name,
                "no frame enters the interface (interface_not_deaf) until this is mended: {what}"
            );
            self.said = Some(what);
        }
    }
}

#[cfg(test)]
mod tests;
