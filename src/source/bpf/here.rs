//! Finds out which datagrams that come to the host are the sensor's, as the host is now.

use std::collections::HashSet;

use super::error::BpfError;
use super::interface;
use super::place::{self, Listened, SourceKey};
use crate::source::Listener;

/// The places where the sensor listens, whatever addresses the host has.
pub(super) struct Here {
    /// The addresses that the sensor's sockets are bound to, and what comes there.
    pub(super) listen: Vec<Listener>,
    /// True where datagrams for any address are the sensor's.
    pub(super) any_address: bool,
    /// The interfaces that the program is attached to, or is going to be.
    pub(super) interfaces: Vec<String>,
}

impl Here {
    /// Returns the endpoints of what the program is to take now, with what comes there, and the
    /// addresses of the host.
    pub(super) fn look(&self) -> Result<(HashSet<Listened>, HashSet<SourceKey>), BpfError> {
        let interfaces = interface::all();
        let endpoints =
            place::endpoints(&self.listen, self.any_address, &self.interfaces, &interfaces, &interface::links()?);
        Ok((endpoints, place::own(&interfaces)))
    }
}
