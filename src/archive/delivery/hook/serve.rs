//! The process that runs commands for a sensor which has given up to start any.
//!
//! It has what the sensor gives up: it can start programs, read files and reach the network, as
//! commands have to. So it does not take the sensor's word for what to run. It runs the commands
//! that it was started with, or that it finds itself in the configuration file, and each for what
//! is in that output's directory alone. Whoever took over the sensor could have them run again, for
//! captures that are there, and nothing else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::set_name;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::command::{Errand, Failure, PREFIX, SHELL};
use super::message::{Answer, Ask, MOST};

/// Commands that run at the same time at most. Each output of a sensor has four.
const AT_ONCE: usize = 1024;

/// A command that may be run, and the directory that it may be run for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// The command.
    pub command: String,
    /// The directory of its output.
    pub directory: PathBuf,
}

impl Permitted {
    /// Permits a command for what is in a directory.
    #[must_use]
    pub fn new(command: &str, directory: &Path) -> Self {
        Self { command: command.to_owned(), directory: directory.to_owned() }
    }

    fn permits(&self, errand: &Errand) -> bool {
        let is_plain = |below: &Path| below.components().all(|part| matches!(part, Component::Normal(_)));
        self.command == *errand.command && errand.path.strip_prefix(&self.directory).is_ok_and(is_plain)
    }
}

/// Runs commands for the sensor at the other end of `socket` until it ends. `read` returns what may
/// be run; it is asked once at the start, and again for what was not permitted so far.
///
/// # Errors
/// The sensor cannot be heard any more, or signals cannot be caught.
pub fn serve(socket: OwnedFd, read: impl Fn() -> Vec<Permitted> + Send + Sync + 'static) -> io::Result<()> {
    // Without a name of its own it has that of the link that it was started by.
    let _ = set_name(c"vxtap-hooks");
    // Whoever ends a group of processes is to end the sensor, which ends this. Signals are caught,
    // for commands would ignore what is ignored here.
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::default())?;
    }
    let helper = Arc::new(Serving { socket, permitted: Mutex::new(read()), read: Box::new(read), running: 0.into() });
    let mut packet = vec![0; MOST];
    loop {
        let length = match recv(&helper.socket, &mut packet[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(()),
            Ok((length, _)) => length,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Ok(ask) = serde_json::from_slice::<Ask>(packet.get(..length).unwrap_or_default()) else { continue };
        let (number, errand) = (ask.number, ask.errand());
        let serving = Arc::clone(&helper);
        let run = move || serving.answer(number, serving.run(&errand).err());
        let begun = if helper.running.fetch_add(1, Ordering::Relaxed) < AT_ONCE {
            thread::Builder::new().spawn(run).map(drop)
        } else {
            Err(io::Error::from(Errno::AGAIN))
        };
        if let Err(error) = begun {
            helper.answer(number, Some(Failure::NotBegun(format!("cannot start a thread for it: {error}"))));
        }
    }
}

struct Serving {
    socket: OwnedFd,
    /// What may be run. What once was stays so: captures may be owed to a command that was taken
    /// out of the file.
    permitted: Mutex<Vec<Permitted>>,
    read: Box<dyn Fn() -> Vec<Permitted> + Send + Sync>,
    /// Commands that run.
    running: AtomicUsize,
}

impl Serving {
    fn run(&self, errand: &Errand) -> Result<(), Failure> {
        if !self.permits(errand) {
            let why = "the configuration file does not have this command for this directory";
            return Err(Failure::NotBegun(why.into()));
        }
        if let Some((name, _)) = errand.variables.iter().find(|(name, _)| !name.starts_with(PREFIX)) {
            return Err(Failure::Ended(format!("{name} is no variable that a command is told something by")));
        }
        errand.run(Path::new(SHELL))
    }

    fn permits(&self, errand: &Errand) -> bool {
        let permits = |all: &[Permitted]| all.iter().any(|permitted| permitted.permits(errand));
        let mut known = self.permitted.lock();
        if !permits(&known) {
            for new in (self.read)() {
                if !known.contains(&new) {
                    known.push(new);
                }
            }
        }
        permits(&known)
    }

    fn answer(&self, number: u64, failure: Option<Failure>) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        if let Ok(packet) = serde_json::to_vec(&Answer { number, failure }) {
            // Nobody hears it where the sensor has ended.
            let _ = send(&self.socket, &packet, SendFlags::NOSIGNAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::helper::pair;
    use super::*;

    fn errand(command: &str, path: &str) -> Errand {
        Errand { command: command.into(), path: path.into(), variables: vec![("VXTAP_VNI".into(), "7".into())] }
    }

    #[test]
    fn only_what_is_permitted_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let command = format!("echo \"$VXTAP_VNI $1\" >>{}", out.display());
        let (first, later) = (Permitted::new(&command, Path::new("/c")), Permitted::new("exit 3;", Path::new("/c")));
        let reads = AtomicUsize::new(0);
        let read = move || match reads.fetch_add(1, Ordering::Relaxed) {
            0 => vec![first.clone()],
            _ => vec![later.clone()],
        };
        let (helper, socket) = pair();
        let serving = thread::spawn(move || serve(socket, read));
        assert_eq!(helper.run(&errand(&command, "/c/a b")), Ok(()));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "7 /c/a b\n");
        let refused = |errand: Errand| matches!(helper.run(&errand), Err(Failure::NotBegun(_)));
        for path in ["/c/../etc/shadow", "/etc/shadow", "c/a", "/cc/a"] {
            assert!(refused(errand(&command, path)), "{path}");
        }
        assert!(refused(errand("id", "/c/a")));
        // It is in the file by now, and what was there stays.
        assert!(matches!(helper.run(&errand("exit 3;", "/c/a")), Err(Failure::Ended(_))));
        assert_eq!(helper.run(&errand(&command, "/c/b")), Ok(()));
        let preload = Errand { variables: vec![("LD_PRELOAD".into(), "/c/a".into())], ..errand(&command, "/c/c") };
        assert!(matches!(helper.run(&preload), Err(Failure::Ended(_))));
        let long = errand(&"x".repeat(4 * super::super::message::MOST), "/c/a");
        assert!(matches!(helper.run(&long), Err(Failure::Ended(_))));
        helper.close();
        serving.join().unwrap().unwrap();
        assert!(matches!(helper.run(&errand(&command, "/c/d")), Err(Failure::NotBegun(_))));
    }
}
