//! The service manager keeps descriptors while there is no process: `FileDescriptorStoreMax=`.
//!
//! A descriptor has a name. The manager hands all that it keeps to the next process, in any order.
//! A name must not have a colon, which stands between names in `$LISTEN_FDNAMES`.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use sd_notify::NotifyState;

use super::manager::Manager;
use crate::host;
use crate::sys::inherited;

/// The time that the manager has to close what it was told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the name of a descriptor: what it is, and which.
pub(crate) fn name(kind: &str, which: impl std::fmt::Display) -> String {
    format!("{kind}/{which}").replace(':', "_")
}

/// The descriptors that the manager has handed over, and the way to have it keep others. By default
/// it has none, and keeps none.
#[derive(Debug, Default)]
pub struct Store {
    manager: Arc<Manager>,
    keeps: bool,
    /// What is wrong with what was handed over, or asked for.
    complaints: Vec<String>,
    /// The descriptors that nobody has taken yet.
    inherited: Mutex<Vec<(String, OwnedFd)>>,
}

impl Store {
    /// Takes what the manager has handed to this process.
    #[must_use]
    pub fn of_process() -> Self {
        let (asked, listens) = (host::asks_to_keep_sockets(), host::has_manager());
        let mut complaints = Vec::new();
        if asked && !listens {
            complaints.push(
                "VXTAP_KEEP_SOCKETS asks for sockets to be kept, and there is no service manager to keep them"
                    .to_owned(),
            );
        }
        let inherited = inherited::take().unwrap_or_else(|error| {
            complaints.push(format!("what the service manager has handed over is of no use: {error}"));
            Vec::new()
        });
        let manager = Arc::new(Manager::of_process());
        Self { manager, keeps: asked && listens, complaints, inherited: Mutex::new(inherited) }
    }

    /// Returns the way to the manager.
    pub(crate) fn manager(&self) -> Arc<Manager> {
        Arc::clone(&self.manager)
    }

    /// Says what is wrong. Nobody hears it before there is a log.
    pub(crate) fn complain(&self) {
        self.complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
    }

    /// Makes a store with these descriptors, which are kept nowhere.
    #[cfg(test)]
    pub(crate) fn with(inherited: Vec<(String, OwnedFd)>) -> Self {
        Self { inherited: Mutex::new(inherited), ..Self::default() }
    }

    /// Has them kept by a manager that listens there.
    #[cfg(test)]
    pub(crate) fn kept_by(self, manager: &std::path::Path) -> Self {
        Self { manager: Arc::new(Manager::at(manager)), keeps: true, ..self }
    }

    /// Says whether descriptors are kept until the next process.
    #[must_use]
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Takes the descriptor of this name; none where there is none, or several.
    pub(crate) fn take(&self, name: &str) -> Option<OwnedFd> {
        let mut found = self.taken(|of| of == name);
        if found.len() > 1 {
            tracing::warn!("{} descriptors are named {name}: none of them is used", found.len());
            drop(found);
            self.close([name]);
            return None;
        }
        found.pop().map(|(_, descriptor)| descriptor)
    }

    /// Takes all descriptors of a kind, with their names.
    pub(crate) fn take_all(&self, kind: &str) -> Vec<(String, OwnedFd)> {
        self.taken(|name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Takes the descriptors that a unit of the manager's has opened and that are such, with the
    /// names that the unit gives them. The manager hands them to each process.
    pub(crate) fn take_handed(&self, is: impl Fn(&OwnedFd) -> bool) -> Vec<(String, OwnedFd)> {
        // A name that this program gives has a kind in front, but for that of the state, which is
        // no socket.
        let is_it = |(name, descriptor): &mut (String, OwnedFd)| !name.contains('/') && is(descriptor);
        self.inherited.lock().extract_if(.., is_it).collect()
    }

    /// Takes the descriptors with such names. A process that keeps nothing leaves none of them with
    /// the manager, which would hand them to the next one with what was counted long before.
    fn taken(&self, is: impl Fn(&str) -> bool) -> Vec<(String, OwnedFd)> {
        let taken: Vec<_> = self.inherited.lock().extract_if(.., |(name, _)| is(name)).collect();
        if !self.keeps {
            taken.iter().for_each(|(name, _)| self.forget(name));
        }
        taken
    }

    /// Has the manager keep a descriptor from now on, until the process is stopped for good. One
    /// that is kept already stays so.
    pub(crate) fn keep(&self, name: &str, descriptor: &impl AsFd) {
        if self.keeps {
            let state = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
            said(name, self.manager.tell(&state, Some(descriptor.as_fd())));
        }
    }

    /// Has the manager keep a descriptor until what is behind it goes away.
    pub(crate) fn keep_while_it_lives(&self, name: &str, descriptor: &impl AsFd) {
        if self.keeps {
            let state = [NotifyState::FdStore, NotifyState::FdName(name)];
            said(name, self.manager.tell(&state, Some(descriptor.as_fd())));
        }
    }

    /// Has the manager close what it keeps under this name.
    pub(crate) fn forget(&self, name: &str) {
        said(name, self.manager.tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)], None));
    }

    /// Has the manager close what it keeps under these names, and waits until it has: until then
    /// what is behind them is in use.
    pub(crate) fn close(&self, names: impl IntoIterator<Item = impl AsRef<str>>) {
        names.into_iter().for_each(|name| self.forget(name.as_ref()));
        if let Err(error) = wait(&self.manager) {
            tracing::warn!("the service manager may not have closed what is of no use: {error}");
        }
    }

    /// Closes what nobody has taken, here and in the manager.
    pub(crate) fn let_go(&self) {
        for (name, descriptor) in std::mem::take(&mut *self.inherited.lock()) {
            drop(descriptor);
            tracing::warn!("the service manager has handed over {name}, which nobody asked for: it is closed");
            self.forget(&name);
        }
    }
}

/// Waits until the manager has done what it was told.
///
/// # Errors
/// It cannot be reached, or takes too long.
fn wait(manager: &Manager) -> io::Result<()> {
    if !host::has_manager() {
        return Ok(());
    }
    // The manager closes the descriptor when it comes to this (sd_notify_barrier(3)).
    let (mut reader, writer) = io::pipe()?;
    manager.tell(&[NotifyState::Custom("BARRIER=1")], Some(writer.as_fd()))?;
    drop(writer);
    let limit = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    // A signal that comes meanwhile is no reason to find what is told here still in use.
    if retry_on_intr(|| poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&limit)))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    reader.read(&mut [0]).map(drop)
}

/// Says that the manager could not be told about this descriptor.
fn said(name: &str, told: io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!("cannot tell the service manager about {name}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_taken_by_its_name_and_of_several_none() {
        assert_eq!(name("udp", "[::]:4789/0"), "udp/[__]_4789/0");
        let descriptor = || OwnedFd::from(tempfile::tempfile().unwrap());
        let names = ["udp/a/0", "tap/x", "state", "tap/x", "udp/a/1", "udpx"];
        let store = Store::with(names.map(|name| (name.to_owned(), descriptor())).into());
        assert!(store.take("state").is_some() && store.take("state").is_none());
        assert!(store.take("tap/x").is_none());
        let names = |found: Vec<(String, OwnedFd)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(store.take_all("udp")), ["udp/a/0", "udp/a/1"]);
        assert_eq!(names(std::mem::take(&mut store.inherited.lock())), ["udpx"]);
    }
}
