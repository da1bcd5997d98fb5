//! A sensor has another process run its commands, so that it can give up what they need.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::thread;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use super::command::{Errand, Failure, shed_capabilities};
use super::message::{Answer, Ask, MOST};

/// The name of the command that a helper runs as.
const COMMAND: &str = "hook-helper";

/// The helper of this process, from when it has one.
static OF_PROCESS: OnceLock<Helper> = OnceLock::new();

/// What a helper may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HelperPlan {
    /// The configuration file that has the commands, if there is one.
    pub config: Option<PathBuf>,
    /// Without such a file: the command, and the directory of its output.
    pub given: Option<(String, PathBuf)>,
}

/// A process that runs commands for this one.
pub(super) struct Helper {
    socket: OwnedFd,
    waiting: Mutex<Waiting>,
}

/// Those who wait for the end of a command, by the numbers that they asked with.
#[derive(Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, Sender<Option<Failure>>>,
    /// True once the helper has ended.
    is_over: bool,
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A helper that nobody listens to yet.
#[derive(Debug)]
pub struct Started {
    helper: Helper,
    child: Child,
}

impl HelperPlan {
    /// Starts the helper. It has no more rights than a command needs, and ends with this process.
    ///
    /// # Errors
    /// There is no process, or no socket.
    pub fn start(&self) -> io::Result<Started> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // A longer command than fits is refused when it is to be run.
        let _ = sockopt::set_socket_send_buffer_size(&ours, MOST);
        let mut command = Command::new("/proc/self/exe");
        command.arg0("vxtap").arg(COMMAND);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if let Some((on_publish, directory)) = &self.given {
            command.arg("--on-publish").arg(on_publish).arg("--write").arg(directory);
        }
        command.stdin(theirs).stdout(io::stderr()).process_group(0);
        // What a thread gives up it cannot take back, and what it starts does not have.
        let start = || {
            shed_capabilities()?;
            if !geteuid().is_root() {
                let none = CapabilitySet::empty();
                set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
            }
            set_no_new_privs(true)?;
            command.spawn()
        };
        let child = thread::scope(|scope| {
            thread::Builder::new()
                .spawn_scoped(scope, start)?
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has panicked")))
        })?;
        Ok(Started { helper: Helper { socket: ours, waiting: Mutex::default() }, child })
    }
}

impl Started {
    /// Has all commands of this process run by the helper from now on.
    ///
    /// # Errors
    /// There is no thread.
    pub fn attend(self) -> io::Result<()> {
        let Self { helper, mut child } = self;
        let helper = OF_PROCESS.get_or_init(|| helper);
        let hear = move || {
            helper.hear();
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::error!("the process that runs commands has ended ({status}): none is run; restart the sensor");
        };
        thread::Builder::new().name("vxtap-hooks".into()).spawn(hear)?;
        Ok(())
    }
}

impl Helper {
    /// Returns the helper of this process, if it has one.
    pub(super) fn of_process() -> Option<&'static Self> {
        OF_PROCESS.get()
    }

    /// Has the helper run a command, and waits for its end.
    ///
    /// # Errors
    /// It could not be begun, or is no success.
    pub(super) fn run(&self, errand: &Errand) -> Result<(), Failure> {
        let (sender, answer) = bounded(1);
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        if waiting.is_over {
            return Err(gone());
        }
        waiting.answers.insert(number, sender);
        drop(waiting);
        if let Err(failure) = self.ask(&Ask::new(number, errand)) {
            self.waiting.lock().answers.remove(&number);
            return Err(failure);
        }
        answer.recv().unwrap_or_else(|_| Some(gone())).map_or(Ok(()), Err)
    }

    fn ask(&self, ask: &Ask) -> Result<(), Failure> {
        let packet = serde_json::to_vec(ask).map_err(|error| Failure::Ended(error.to_string()))?;
        loop {
            match send(&self.socket, &packet, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::MSGSIZE) => return Err(Failure::Ended(format!("it is too long: {} bytes", packet.len()))),
                Err(_) => return Err(gone()),
            }
        }
    }

    /// Hears how commands have ended, until the helper ends.
    fn hear(&self) {
        let mut packet = vec![0; MOST];
        loop {
            match recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
                Ok((0, _)) => break,
                Ok((length, _)) => self.take(packet.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let mut waiting = self.waiting.lock();
        waiting.is_over = true;
        waiting.answers.clear();
    }

    fn take(&self, packet: &[u8]) {
        if let Ok(Answer { number, failure }) = serde_json::from_slice(packet)
            && let Some(waits) = self.waiting.lock().answers.remove(&number)
        {
            let _ = waits.send(failure);
        }
    }
}

/// Says that nobody runs commands any more. Captures stay owed, and the next start goes on with
/// them.
fn gone() -> Failure {
    Failure::NotBegun("the process that runs commands has ended; restart the sensor".into())
}

/// Returns a helper that this process listens to, and the socket to serve it at.
#[cfg(test)]
pub(super) fn pair() -> (std::sync::Arc<Helper>, OwnedFd) {
    let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let helper = std::sync::Arc::new(Helper { socket, waiting: Mutex::default() });
    let hears = std::sync::Arc::clone(&helper);
    thread::spawn(move || hears.hear());
    (helper, theirs)
}

#[cfg(test)]
impl Helper {
    /// Has the other end see that nobody asks any more.
    pub(super) fn close(&self) {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).unwrap();
    }
}
