//! The program is attached to an interface. The interface is followed as it goes and comes back,
//! and where somebody else detaches the program.

use aya::Ebpf;

use super::attach::{self, Hold, Mode};
use super::error::BpfError;
use super::interface;
use super::plan::Attach;
use crate::episode::Episode;

/// An interface that the program is attached to, or was and will be.
#[derive(Debug)]
pub(super) struct Attached {
    interface: String,
    /// Number of the interface and the attachment. `None` while there is none.
    pub(super) hold: Option<(u32, Hold)>,
    /// Lasts while the program cannot be attached again.
    refused: Episode,
}

impl Attached {
    /// Attaches the program to an interface.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses the program there.
    pub(super) fn new(ebpf: &mut Ebpf, interface: &str, wanted: Attach) -> Result<(Self, Mode), BpfError> {
        let (index, mode, hold) = attach::attach(ebpf, interface, wanted)?;
        Ok((Self { interface: interface.to_owned(), hold: Some((index, hold)), refused: Episode::default() }, mode))
    }

    /// Looks whether the program is still attached, and attaches it again where it is not and can
    /// be.
    pub(super) fn tend(&mut self, ebpf: &mut Ebpf, wanted: Attach) {
        let link = interface::ethernet(&self.interface);
        // An interface that cannot be asked now is not gone: to detach and attach again resets some
        // drivers.
        if matches!(link, Err(BpfError::Os { .. })) {
            return;
        }
        let interface = &self.interface;
        let index = link.as_ref().ok().map(|link| link.index);
        if self.hold.as_ref().is_some_and(|(attached_to, _)| index != Some(*attached_to)) {
            self.hold = None;
            tracing::warn!(interface, "the interface is gone; the program goes on when it is back");
        }
        if let (Some((_, hold)), Ok(link)) = (&self.hold, &link)
            && !attach::is_attached(ebpf, hold, link)
        {
            self.hold = None;
            tracing::warn!(interface, "somebody has detached the program; attaching it again");
        }
        if self.hold.is_none() && link.is_ok() {
            match attach::attach(ebpf, interface, wanted) {
                Ok((index, mode, hold)) => {
                    self.hold = Some((index, hold));
                    self.refused.ends();
                    tracing::info!(interface, attached = mode.label(), "the interface is back");
                }
                Err(error) => {
                    if self.refused.begins() {
                        tracing::warn!(%error, "datagrams come through the socket");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::interface::ethernet;
    use super::super::program::{Program, tests::plan};
    use super::*;
    use crate::sink::namespace::{Namespace, sh};
    use crate::source::bpf::BpfPlan;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_program_at_xdp_that_somebody_has_detached_is_attached_again() {
        let Some(_namespace) = Namespace::enter() else { return };
        sh("ip link add v0 type veth peer name v1");
        let at_xdp = BpfPlan { attach: Attach::Xdp, interfaces: vec!["v0".into()], ..plan(None) };
        let listen = ["127.0.0.1:4789".parse().unwrap()];
        let (program, _rings) = Program::load(&at_xdp, &listen, &["v0".into()], 1, true).unwrap();
        program.attach("v0").unwrap();
        let attached = || ethernet("v0").unwrap().xdp;
        let ours = attached();
        assert!(ours.is_some());
        program.displace("v1");
        // Between fork and exec, a child of another test holds a copy of the descriptor, and with
        // it the attachment.
        let end = Instant::now() + Duration::from_secs(10);
        while attached().is_some() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(attached(), None);
        program.tend();
        assert_eq!(attached(), ours);
    }
}
