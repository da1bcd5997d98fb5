//! The doors are opened before the sensor receives, and answered at when it does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use super::faces;
use super::kept;
use super::plan::{ControlPlan, Ports};
use super::request::Request;
use crate::health::Arrivals;
use crate::http::{Door, DoorError, Server};
use crate::metrics::Metrics;
use crate::service::Store;
use crate::view::View;

/// Orders that wait for the thread that conducts the sensor. There are never more connections.
const ORDERS: usize = 32;

/// The doors of a sensor, behind which nobody answers yet. Those who come wait.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    control: Option<Door>,
    http: Vec<Door>,
    names: Vec<String>,
    health: Vec<Door>,
}

impl Doors {
    /// Opens what the plan asks for, or takes it over from the process before this one.
    ///
    /// # Errors
    /// A socket cannot be made, or an address not be listened on. A socket that nobody asked for is
    /// done without.
    pub(crate) fn open(plan: &ControlPlan, store: &Store) -> Result<Self, DoorError> {
        let control = match plan.socket.as_ref().map(|socket| (socket, Door::unix(&socket.path))) {
            None => None,
            Some((_, Ok(door))) => Some(door),
            Some((socket, Err(error))) if socket.is_asked => return Err(error),
            Some((_, Err(error))) => {
                tracing::warn!(
                    "there is no control socket: {error}; --control names another one, --no-control asks for none"
                );
                None
            }
        };
        let http = tcp(&plan.http, store)?;
        let health = tcp(&plan.health, store)?;
        say(plan, control.is_some());
        Ok(Self { control, http, names: plan.http.names.clone(), health })
    }

    /// Has a thread answer at the doors. There is none where there is no door.
    ///
    /// # Errors
    /// There is no thread, or the kernel has no more of something.
    pub(crate) fn answer(self, view: &Arc<View>, arrivals: &Arc<Arrivals>, metrics: &Arc<Metrics>) -> io::Result<Desk> {
        let (conductor, requests) = bounded(ORDERS);
        let control = self.control.map(|door| (door, faces::control(view, arrivals, metrics, &conductor)));
        let http = self.http.into_iter().map(|door| (door, faces::http(view, metrics, &self.names)));
        let health = self.health.into_iter().map(|door| (door, faces::health(view, arrivals)));
        let faces: Vec<_> = control.into_iter().chain(http).chain(health).collect();
        let server = if faces.is_empty() { None } else { Some(Server::start(faces)?) };
        Ok(Desk { requests, _conductor: Some(conductor), _server: server })
    }
}

/// Says where the sensor answers, and where nobody can ask although the port is open.
fn say(plan: &ControlPlan, is_there: bool) {
    let socket = plan.socket.as_ref().filter(|_| is_there).map(|socket| socket.path.display().to_string());
    let ports = plan.http.listen.iter().map(|address| format!("http://{address}"));
    let checks = plan.health.listen.iter().map(|address| format!("http://{address}/healthz"));
    let places: Vec<String> = socket.into_iter().chain(ports).chain(checks).collect();
    if !places.is_empty() {
        tracing::info!("questions are answered at {}", places.join(" "));
    }
    let is_for_others = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    if let Some(address) = plan.http.listen.iter().find(is_for_others)
        && plan.http.allow.iter().all(|network| network.addr().is_loopback())
    {
        tracing::warn!(
            "{address} is for other hosts, and [http] allow lets in this one alone: name those that may ask"
        );
    }
}

/// Opens ports.
fn tcp(ports: &Ports, store: &Store) -> Result<Vec<Door>, DoorError> {
    ports.listen.iter().map(|address| kept::door(*address, ports.allow.clone(), store)).collect()
}

/// The place where orders arrive. The thread that answers ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Desk {
    requests: Receiver<Request>,
    /// Without a control socket nobody else has a sender, and a channel without one says so all the
    /// time.
    _conductor: Option<Sender<Request>>,
    _server: Option<Server>,
}

/// A desk where nothing arrives.
impl Default for Desk {
    fn default() -> Self {
        Self { requests: never(), _conductor: None, _server: None }
    }
}

impl Desk {
    /// Receives orders, until this is closed.
    pub(crate) fn requests(&self) -> &Receiver<Request> {
        &self.requests
    }

    /// Takes no more orders: those that wait, and those that come, are refused. Questions are
    /// answered until this is dropped.
    pub(crate) fn close(&mut self) {
        // Whoever sends to a channel without a receiver learns it.
        self.requests = never();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::TryRecvError;

    use super::*;
    use crate::pipeline::decap::{ReservedBits, Timestamps};
    use crate::pipeline::{Pipeline, PipelinePlan};
    use crate::source::Front;
    use crate::source::prepared::Prepared;
    use crate::view::Facts;

    #[test]
    fn whoever_waits_for_orders_waits_where_nobody_can_give_any() {
        let plan = PipelinePlan {
            reserved_bits: ReservedBits::Accept,
            vni_mask: crate::wire::VniMask::ALL,
            timestamps: Timestamps::Arrival,
            max_sessions: 10,
            count: None,
            policy: Arc::default(),
            outputs: Vec::new(),
        };
        let sources = Vec::<Prepared>::new();
        let pipeline = Pipeline::start(&plan, &Arc::default(), sources, Front::default()).unwrap();
        let view = Arc::new(View::new(&pipeline, Facts::default()));
        let metrics = Arc::new(Metrics::new(Arc::clone(&view)));
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        for http in [Vec::new(), listen] {
            let plan = ControlPlan { http: Ports { listen: http, ..Ports::default() }, ..ControlPlan::default() };
            let desk = Doors::open(&plan, &Store::default()).unwrap().answer(&view, &Arc::default(), &metrics).unwrap();
            assert_eq!(desk.requests().try_recv().err(), Some(TryRecvError::Empty), "{plan:?}");
        }
        let _ = pipeline.end();
    }
}
