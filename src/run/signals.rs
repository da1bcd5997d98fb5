//! SIGINT, SIGTERM and SIGHUP: the first asks to end, the second ends at once.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

/// Delivers the first signal. From its creation on, a second one ends the process at once, with 128 plus its number.
#[derive(Debug)]
pub struct Signals {
    /// Receives the name of the first signal.
    pub received: Receiver<&'static str>,
}

impl Signals {
    /// Takes over the signals of the process.
    ///
    /// # Errors
    /// What `sigaction(2)` or creating a thread returns.
    pub fn new() -> io::Result<Self> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (sender, received) = bounded(1);
        thread::Builder::new().name("vxtap-signals".into()).spawn(move || {
            for signal in signals.forever() {
                if sender.try_send(low_level::signal_name(signal).unwrap_or("signal")).is_err() {
                    low_level::exit(128 + signal);
                }
            }
        })?;
        Ok(Self { received })
    }
}
