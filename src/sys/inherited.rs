//! A service manager hands descriptors over: `sd_listen_fds(3)`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Once;

/// Takes the descriptors that the service manager has handed to this process, each with its name.
/// The second call finds none.
///
/// # Errors
/// The variables of the environment contradict each other, or a descriptor that they tell of is not
/// open. None is taken then, and where all are open they are closed: a port that nobody reads from
/// would stay taken.
pub(crate) fn take() -> io::Result<Vec<(String, OwnedFd)>> {
    static ONCE: Once = Once::new();
    let mut taken = Ok(Vec::new());
    ONCE.call_once(|| {
        // SAFETY: the manager opened these descriptors for this process, whose number it has left
        // beside them, and they are open, as their flags were set just now. Nobody else takes them:
        // this runs once, and one of the two ways below.
        let own = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
        taken = sd_notify::listen_fds_with_names()
            .map(|found| found.map(|(descriptor, name)| (name, own(descriptor))).collect());
        if taken.is_err() {
            sd_notify::listen_fds().into_iter().flatten().for_each(|descriptor| drop(own(descriptor)));
        }
    });
    taken
}
