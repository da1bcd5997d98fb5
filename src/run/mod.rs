//! `vxtap run` takes the sensor from start to end.

mod allow_log;
mod asked;
mod confine;
mod error;
mod lines;
mod reload;
mod reread;
mod service;
mod signals;
mod status;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, at, never, select};

pub use self::confine::confine;
pub use self::error::StartError;
use self::reload::{Running, planned, warn_of_file_limit};
use self::reread::{AskedFile, Reread};
use self::service::Service;
pub use self::signals::{Ending, Hangup, Signals};
use crate::config::RunPlan;
use crate::config::file::ConfigError;
use crate::console::Console;
use crate::control::{Desk, Doors};
use crate::health::{self, Arrivals};
use crate::host;
use crate::metrics::Metrics;
use crate::pipeline::{Outcome, Pipeline};
use crate::record::compress;
use crate::sandbox::Sandbox;
use crate::service::{Manager, Store};
use crate::source::capture::Readout;
use crate::source::{self, Listener, Opened, Sources};
use crate::view::{Facts, View};

/// The time between two looks for outputs that were taken away and have finished.
const FINISHING: Duration = Duration::from_millis(200);
/// The time between two steps of forgetting sessions.
const EXPIRING: Duration = Duration::from_millis(100);
/// The time between two looks for sessions to forget at most.
const SELDOM: Duration = Duration::from_secs(60);
/// The text that says what SIGXCPU means.
const NO_TIME_LEFT: &str = "the processor time that the sensor may use is used up (RLIMIT_CPU or RLIMIT_RTTIME: \
                            `ulimit -t`, LimitCPU= of a unit)";

/// A sensor that receives.
#[derive(Debug)]
pub struct Sensor {
    running: Running,
    /// What others see of it.
    pub view: Arc<View>,
    /// Where others ask.
    doors: Doors,
    /// The addresses that it listens on.
    pub addresses: Vec<std::net::SocketAddr>,
    /// What is known of the capture that it reads in place of sockets.
    pub capture: Option<Arc<Readout>>,
    /// What it has given up.
    sandbox: Arc<Sandbox>,
    /// The way to the service manager.
    manager: Arc<Manager>,
}

/// Starts the sensor, unless `signals` tell that it is to end while it waits for a file. What the
/// process before this one has left is in `store`. Once all is open the sensor gives up what
/// `sandbox` says.
///
/// # Errors
/// The list of what is allowed is not known, nothing can be received or delivered, there is no
/// thread, or the sensor was to end before. Nothing is left behind then.
pub fn start(
    plan: &RunPlan,
    signals: &Signals,
    store: &Arc<Store>,
    mut sandbox: Sandbox,
) -> Result<Sensor, StartError> {
    let (allowed, file) = AskedFile::allowed(plan, &signals.received)?;
    store.complain();
    host::raise_descriptor_limit();
    let Opened { sources, addresses, receive_buffer, front, description } =
        source::open(&plan.source, &allowed, store)?;
    let udp = &plan.source.udp;
    if receive_buffer < udp.receive_buffer {
        tracing::warn!(
            "the receive buffer is {receive_buffer} bytes instead of {wanted}, so bursts may be lost in the kernel; \
             raise the limit with: sysctl -w net.core.rmem_max={wanted}",
            wanted = udp.receive_buffer,
        );
    }
    let doors = Doors::open(&plan.control, store)?;
    allow_log::log(&allowed);
    let allowed = Arc::new(allowed);
    sandbox.drop_capabilities(matches!(sources, Sources::Bpf(_)))?;
    let mut capture = None;
    let pipeline = match sources {
        Sources::Udp(sources) => Pipeline::start(&plan.pipeline, &allowed, sources, front),
        Sources::Bpf(sources) => Pipeline::start(&plan.pipeline, &allowed, sources, front),
        Sources::Capture(sources, readout) => {
            capture = Some(readout);
            Pipeline::start(&plan.pipeline, &allowed, sources, front)
        }
    }?;
    if let Some(compression) = plan.pipeline.outputs.iter().find_map(|output| output.to.files()?.compression) {
        let mib = (compress::memory(compression) * plan.pipeline.max_sessions as usize) >> 20;
        let text = format!("a compressor for each session: at most {mib} MiB for --max-sessions of them");
        tracing::info!(%compression, "{}", plan.wording.put(&text));
    }
    warn_of_file_limit(plan);
    let confined = match sandbox.seal() {
        Ok(confined) => confined,
        Err(error) => {
            let _ = pipeline.end();
            return Err(error.into());
        }
    };
    for missing in &confined.missing {
        tracing::warn!("the sandbox is not whole: {missing}");
    }
    tracing::debug!("sandbox: {}", confined.describe());
    let bound =
        addresses.iter().zip(&udp.listen).map(|(address, listener)| Listener { address: *address, ..*listener });
    // In a capture nothing is bound, and these are a mirror's.
    let listen: Vec<String> =
        bound.chain(plan.source.mirrors.iter().copied()).map(|listener| listener.to_string()).collect();
    let outputs: Vec<String> = plan.pipeline.outputs.iter().map(|output| output.to.name()).collect();
    tracing::info!(
        listen = %listen.join(" "),
        way = %description,
        workers = udp.workers,
        memory = %format!("{}MiB", plan.pipeline.queue_memory(udp.workers) >> 20),
        outputs = %outputs.join(" "),
        "receiving"
    );
    store.let_go();
    let facts = planned(Facts { listen, source: description, sandbox: confined, ..Facts::default() }, plan);
    let view = Arc::new(View::new(&pipeline, facts));
    let running = Running::new(pipeline, plan.clone(), Reread::new(file), Arc::clone(&view));
    Ok(Sensor { running, view, doors, addresses, capture, sandbox: Arc::new(sandbox), manager: store.manager() })
}

impl Sensor {
    /// Has a signal that asks for it read the configuration file `path` again, which `read` does.
    ///
    /// # Errors
    /// There is no thread.
    pub fn reloaded_by(
        mut self,
        path: PathBuf,
        read: impl Fn() -> Result<RunPlan, ConfigError> + Send + 'static,
    ) -> Result<Self, StartError> {
        self.view.replan(Facts { config: Some(path.clone()), ..(*self.view.facts()).clone() });
        self.running.reread = Reread::new(Some(AskedFile::config(path, Arc::clone(&self.sandbox), read)?));
        Ok(self)
    }

    /// Forgets sessions that have been idle. Returns when to look again.
    fn expire(&mut self) -> Instant {
        let idle = self.running.plan.session_idle;
        let next = match self.running.pipeline.expire(idle) {
            Ok(true) => EXPIRING,
            Ok(false) => (idle / 8).clamp(EXPIRING, SELDOM),
            Err(error) => {
                tracing::warn!("sessions that sent nothing are not forgotten yet: {error}");
                SELDOM
            }
        };
        Instant::now() + next
    }

    /// Says that the sensor is to be sent no more traffic. Returns the time until which it receives
    /// what still comes.
    fn leave(&self, signal: &str) -> Instant {
        let drain = self.running.plan.drain;
        self.view.drain();
        tracing::info!(
            "{signal}: not ready any more; receiving for {} until the traffic has moved; once more to leave at once",
            humantime::format_duration(drain)
        );
        Instant::now() + drain
    }

    /// Lets the sensor run until a signal comes, its time is over, or it ends by itself; then ends
    /// it.
    #[must_use]
    pub fn conduct(mut self, signals: &Signals, console: &Console) -> Outcome {
        let metrics = Arc::new(Metrics::new(Arc::clone(&self.view)));
        let status = status::show(&self.running.pipeline, console, &metrics, self.running.plan.wording)
            .inspect_err(|error| tracing::warn!(%error, "cannot show how the sensor does"))
            .ok();
        let arrivals = Arc::new(Arrivals::default());
        let _watch = health::Watch::start(Arc::clone(&self.view), Arc::clone(&arrivals))
            .inspect_err(|error| tracing::warn!(%error, "cannot judge how the sensor does"))
            .ok();
        let desk = std::mem::take(&mut self.doors).answer(&self.view, &arrivals, &metrics);
        let mut desk = desk.unwrap_or_else(|error| {
            tracing::warn!("nobody can ask how the sensor does: {error}");
            Desk::default()
        });
        let mut over = self.running.plan.duration.map(|duration| Instant::now() + duration);
        let mut failure = None;
        let mut expiry = Instant::now();
        let mut service = Service::begin(&self.view, Arc::clone(&self.manager));
        loop {
            service.tend(&self.running);
            let slow = self.running.reread.slow();
            let (opened, answers) = self.running.answers();
            let finishing = if self.running.tend() { never() } else { after(FINISHING) };
            select! {
                recv(finishing) -> _ => continue,
                recv(at(expiry)) -> _ => {
                    expiry = self.expire();
                    continue;
                }
                recv(service.due()) -> _ => continue,
                recv(signals.cut) -> asked => {
                    if asked.is_ok() {
                        tracing::info!("SIGUSR1: completing the files that are written to");
                        self.running.pipeline.orders.cut();
                        continue;
                    }
                }
                recv(signals.reread) -> asked => {
                    if let Ok(signal) = asked {
                        self.running.reread.ask(signal);
                        continue;
                    }
                }
                recv(desk.requests()) -> request => {
                    request.into_iter().for_each(|request| self.running.heed(request));
                    continue;
                }
                recv(self.running.watches.bell()) -> _ => continue,
                recv(opened) -> opened => {
                    self.running.opened(opened);
                    continue;
                }
                recv(answers) -> answer => {
                    self.running.take(answer);
                    continue;
                }
                recv(slow) -> _ => {
                    self.running.reread.say_slow(self.running.is_opening());
                    continue;
                }
                recv(signals.received) -> ending => match ending {
                    Ok(Ending::Asked(name)) if !self.running.plan.drain.is_zero() => {
                        let ends = self.leave(name);
                        service.says("receiving until the traffic has moved");
                        over = Some(over.map_or(ends, |over| over.min(ends)));
                        continue;
                    }
                    Ok(Ending::Asked(name)) => tracing::info!("{name}: draining; once more to leave at once"),
                    Ok(Ending::NoTimeLeft) => {
                        tracing::error!("SIGXCPU: {NO_TIME_LEFT}: draining");
                        failure = Some(format!("ended, because {NO_TIME_LEFT}"));
                    }
                    Err(_) => {}
                },
                recv(over.map_or_else(never, at)) -> _ => {}
                recv(self.running.pipeline.ended) -> _ => {}
            }
            break;
        }
        service.ends();
        self.view.drain();
        self.view.end();
        self.running.reread.abandon();
        desk.close();
        if let Some(status) = status {
            status.end();
        }
        let (capture, wording) = (self.capture.take(), self.running.plan.wording);
        let mut outcome = self.end();
        if let Some(capture) = capture {
            capture.tell(outcome.snapshot.datagrams.received, wording);
        }
        outcome.failures.extend(failure);
        outcome
    }

    /// Drains what has been received and ends the sensor.
    #[must_use]
    pub(crate) fn end(self) -> Outcome {
        self.running.pipeline.end()
    }
}
