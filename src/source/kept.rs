//! Sockets that the service manager has kept are taken over from the process before this one, with
//! what came to them meanwhile.
//!
//! It is all of them or none. A group of sockets has an order, in which a session has its place
//! ([`Steering::Session`](super::Steering::Session)). Where a socket is closed, the last of the
//! group moves into its place. So sockets of another number of workers, or for other addresses, are
//! closed, and new ones are bound. What that costs is counted as `kernel_dropped`. A socket that a
//! unit has opened (`handed`) stays open whatever happens, and is of one worker.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use super::bind::BindError;
use super::drops::DropCounter;
use super::fit::{bound, carrier_of, fault};
use super::group::drain;
use super::handed::{self, Handed};
use super::owner::Rule;
use super::port::Listener;
use crate::service::{self, Drops, Record, Records, Store};
use crate::sys::socket;
use crate::wire::Carrier;

/// The kinds of sockets in the names of what is kept.
const UDP: &str = "udp";
const GRE: &str = "gre";
/// The name of what was counted.
pub(super) const STATE: &str = "state";
/// The place in a group of the socket that takes nothing, in words.
const BEHIND: &str = "all";

/// Returns the name by which the socket of a worker is kept.
pub(super) fn name(listener: Listener, worker: usize) -> String {
    let kind = match listener.carrier {
        Carrier::Udp => UDP,
        Carrier::Ip => GRE,
    };
    service::name(kind, format_args!("{}/{worker}", listener.address))
}

/// Returns the name by which the socket behind those of the workers is kept.
pub(super) fn name_behind(address: SocketAddr) -> String {
    service::name(UDP, format_args!("{address}/{BEHIND}"))
}

/// The sockets that were taken over, and what was counted of them.
#[derive(Debug, Default)]
pub(super) struct Kept {
    groups: Vec<Group>,
    records: Option<Records>,
    /// False where what was counted is of other sockets, too, or goes by another steering. The
    /// kernel's counters go on then, and nothing else.
    goes_on: bool,
    /// Datagrams that were lost with sockets that were not taken over.
    pub(super) lost: u64,
}

/// The sockets of a listener.
#[derive(Debug)]
struct Group {
    listener: Listener,
    /// The sockets of the workers that have not got theirs yet, the first worker's last.
    sockets: Vec<Socket>,
    behind: Option<Socket>,
    /// True where datagrams are queued, or may be, that another filter has steered.
    has_others: bool,
    /// Where a unit has opened the socket: whether no process has counted its drops yet.
    handed: Option<bool>,
}

impl Kept {
    /// Takes over the sockets of so many workers for these listeners, and closes others. Which
    /// worker receives a datagram goes by this rule from now on.
    ///
    /// # Errors
    /// A unit has opened a socket that does not fit.
    pub(super) fn take(listen: &[Listener], workers: usize, rule: Rule, store: &Store) -> Result<Self, BindError> {
        let state = store.take(STATE);
        let handed = handed::take(listen, workers, store)?;
        let mut found: Vec<(String, Socket)> = [UDP, GRE]
            .into_iter()
            .flat_map(|kind| store.take_all(kind))
            .map(|(name, socket)| (name, socket.into()))
            .collect();
        // What a unit has opened is kept beside as well.
        found.retain(|(of, _)| !handed.iter().any(|handed| *of == name(handed.listener, 0)));
        if found.is_empty() && handed.is_empty() {
            return Ok(Self::default());
        }
        let records = state.and_then(|state| {
            let records = service::read(state);
            if let Err(error) = &records {
                tracing::warn!("what the process before this one has counted is of no use: {error}");
            }
            records.ok()
        });
        let is_other = |listener: &Listener| !handed.iter().any(|handed| handed.listener.is_at(listener));
        let others: Vec<Listener> = listen.iter().copied().filter(is_other).collect();
        let wanted: Vec<String> = others.iter().flat_map(|listener| names_of(*listener, workers)).collect();
        let why = if found.is_empty() {
            None
        } else if found.len() != wanted.len() || found.iter().any(|(name, _)| !wanted.contains(name)) {
            Some("the addresses to listen on, or the number of workers, are others".to_owned())
        } else {
            others.iter().find_map(|listener| misfit(*listener, workers, &found))
        };
        let handed = handed.into_iter().map(|Handed { listener, socket, is_new }| Group {
            listener,
            sockets: vec![socket],
            behind: None,
            has_others: false,
            handed: Some(is_new),
        });
        let mut groups: Vec<Group> = handed.collect();
        if let Some(why) = why {
            let lost = discard(found, records.as_ref(), &why, store);
            return Ok(Self { groups, records, goes_on: false, lost });
        }
        let is_new = groups.iter().any(|group| group.handed == Some(true));
        let is_known = !is_new && records.as_ref().is_some_and(|records| records.workers.len() == workers);
        if is_known || !found.is_empty() {
            say(records.as_ref().filter(|_| is_known));
        }
        // By another steering, other datagrams are copies.
        let has_others = |listener: &Listener| has_others(*listener, workers, rule, records.as_ref());
        let is_mixed = listen.iter().any(has_others);
        let goes_on = is_known && !is_mixed;
        if is_mixed && records.is_some() {
            // Once there is another filter, what was written down is not true of what is queued. A
            // process that dies between the two must not leave it.
            store.close([STATE]);
        }
        let kept: &[Listener] = if found.is_empty() { &[] } else { &others };
        let mut named = |name: String| found.extract_if(.., |(of, _)| *of == name).map(|(_, socket)| socket).next();
        groups.extend(kept.iter().map(|&listener| Group {
            listener,
            sockets: (0..workers).rev().filter_map(|worker| named(name(listener, worker))).collect(),
            behind: named(name_behind(listener.address)),
            has_others: has_others(&listener),
            handed: None,
        }));
        Ok(Self { groups, records, goes_on, lost: 0 })
    }

    fn group(&self, listener: Listener) -> Option<&Group> {
        self.groups.iter().find(|group| group.listener.is_at(&listener))
    }

    fn group_mut(&mut self, listener: Listener) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.listener.is_at(&listener))
    }

    /// Says whether the sockets of this listener were taken over.
    pub(super) fn has(&self, listener: Listener) -> bool {
        self.group(listener).is_some()
    }

    /// Says whether a unit has opened the socket of this listener.
    pub(super) fn is_handed(&self, listener: Listener) -> bool {
        self.group(listener).is_some_and(|group| group.handed.is_some())
    }

    /// Returns the socket of the next worker, where it was taken over.
    pub(super) fn next(&mut self, listener: Listener) -> Option<Socket> {
        self.group_mut(listener)?.sockets.pop()
    }

    /// Returns the socket behind those of the workers, where it was taken over.
    pub(super) fn behind(&mut self, listener: Listener) -> Option<Socket> {
        self.group_mut(listener)?.behind.take()
    }

    /// Says whether datagrams are queued in the sockets of this listener, or may be, that another
    /// filter has steered.
    pub(super) fn has_others(&self, listener: Listener) -> bool {
        self.group(listener).is_some_and(|group| group.has_others)
    }

    /// Returns the counter of drops of a worker's socket that was taken over. It has all drops of
    /// one that no process has had before.
    pub(super) fn drop_counter(&self, worker: usize, listener: Listener, socket: &Socket) -> io::Result<DropCounter> {
        if self.group(listener).and_then(|group| group.handed) == Some(true) {
            return Ok(DropCounter::default());
        }
        let record = self.records.as_ref().and_then(|records| records.workers.get(worker));
        let counter = drop_counter(record, listener.address, socket)?;
        Ok(if self.goes_on { counter } else { DropCounter::at(counter.last(), 0) })
    }

    /// Returns what was counted.
    pub(super) fn records(&self) -> Option<&Records> {
        self.records.as_ref().filter(|_| self.goes_on)
    }

    /// Returns what was counted, where that does not go on.
    pub(super) fn left_off(&self) -> Option<&Records> {
        self.records.as_ref().filter(|_| !self.goes_on)
    }

    /// Returns what a worker has counted.
    pub(super) fn record(&self, worker: usize) -> Option<&Record> {
        self.records()?.workers.get(worker)
    }
}

/// Returns the counter of drops of a socket that was taken over: it goes on where the record ends,
/// else from now.
pub(super) fn drop_counter(record: Option<&Record>, address: SocketAddr, socket: &Socket) -> io::Result<DropCounter> {
    match record.and_then(|record| record.drops_of(address)) {
        Some(Drops { last, total, .. }) => Ok(DropCounter::at(last, total)),
        None => Ok(DropCounter::at(socket::drops(socket)?, 0)),
    }
}

/// Says whether what is queued in the sockets of a listener goes by another rule, or may: by what
/// the process before this one has written down.
fn has_others(listener: Listener, workers: usize, rule: Rule, records: Option<&Records>) -> bool {
    let wanted = Some(rule.of(listener.encapsulation));
    let is_other = |record: &Record| record.drops_of(listener.address).and_then(|drops| drops.steered) != wanted;
    let is_steered = workers > 1 && listener.carrier == Carrier::Udp;
    is_steered && records.is_none_or(|records| records.workers.iter().any(is_other))
}

/// Returns the names of the sockets that a listener has.
fn names_of(listener: Listener, workers: usize) -> Vec<String> {
    let behind = (workers > 1 && listener.carrier == Carrier::Udp).then(|| name_behind(listener.address));
    (0..workers).map(|worker| name(listener, worker)).chain(behind).collect()
}

/// Says what is wrong with the sockets of a listener, if something is.
fn misfit(listener: Listener, workers: usize, found: &[(String, Socket)]) -> Option<String> {
    names_of(listener, workers).into_iter().find_map(|name| {
        let mut sockets = found.iter().filter(|(of, _)| *of == name).map(|(_, socket)| socket);
        let fault = match (sockets.next(), sockets.next()) {
            (Some(socket), None) => {
                fault(socket, listener, workers > 1).unwrap_or_else(|error| Some(error.to_string()))
            }
            _ => Some("it is missing, or there are several".into()),
        };
        fault.map(|fault| format!("{name}: {fault}"))
    })
}

/// Says that sockets were taken over, and what is known of the process that had them.
fn say(records: Option<&Records>) {
    let Some(records) = records else {
        return tracing::info!("receiving goes on with the sockets of the process before this one");
    };
    let received: u64 = records.workers.iter().map(|record| record.received).sum();
    if records.workers.iter().all(|record| record.ended) {
        tracing::info!(received, "receiving goes on with the sockets of the process before this one");
    } else {
        tracing::warn!(
            received,
            "receiving goes on with the sockets of the process before this one, which did not end by itself: its ledger is lost, and \
             what it had in memory; it had received so many datagrams at least"
        );
    }
}

/// Closes sockets, here and in the service manager, so that others can be bound. Returns how many
/// datagrams are lost by it.
fn discard(found: Vec<(String, Socket)>, records: Option<&Records>, why: &str, store: &Store) -> u64 {
    let (mut queued, mut overflowed) = (0, 0);
    for (name, socket) in &found {
        let place = name.rsplit('/').next().unwrap_or_default();
        if place != BEHIND && carrier_of(socket).is_ok_and(|carrier| carrier.is_some()) {
            // What comes from here on is refused, and shows in the counter of drops.
            let _ = socket::refuse_further(socket);
            queued += drain(socket);
            let record = place.parse().ok().and_then(|worker: usize| records?.workers.get(worker));
            let address = bound(socket).ok().flatten();
            if let (Some(record), Some(address), Ok(now)) = (record, address, socket::drops(socket))
                && let Some(Drops { last, .. }) = record.drops_of(address)
            {
                overflowed += u64::from(now.wrapping_sub(last));
            }
        }
    }
    store.close(found.into_iter().map(|(name, _)| name));
    tracing::warn!(
        queued,
        overflowed,
        "the sockets of the process before this one are closed, and what came to them since then is lost (kernel_dropped): {why}; \
         what comes until there are new ones is counted by nobody"
    );
    queued + overflowed
}
