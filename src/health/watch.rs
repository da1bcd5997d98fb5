//! A thread looks how the sensor does, and judges.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::arrivals::Arrivals;
use super::judge::Judge;
use crate::view::View;

/// The time between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// A thread that judges, which ends with this value. Nothing holds it up.
#[derive(Debug)]
pub(crate) struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Has a thread judge the sensor of `view`, and put the judgement there. It notes in `arrivals`
    /// what came.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub(crate) fn start(view: Arc<View>, arrivals: Arc<Arrivals>) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let mut judge = Judge::default();
        thread::Builder::new().name("vxtap-health".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // What is free is not known then. It is asked for again the next time.
                let _ = view.look_at_space();
                let now = Instant::now();
                arrivals.note(&view, now);
                view.note_pace(now);
                view.judge(judge.hear(reasons(&view), now).clone());
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// Returns what speaks against sending this sensor traffic now.
fn reasons(view: &View) -> Vec<String> {
    let outputs = view.troubles().into_iter().map(|(output, why)| format!("output {output}: {why}"));
    view.stalls().into_iter().chain(outputs).collect()
}
