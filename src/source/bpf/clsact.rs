//! Attaches the program at tc on kernels before 6.6, as a filter of the queueing discipline
//! `clsact`.
//!
//! There is no descriptor whose end takes such a filter away. So the filter of a sensor that was
//! killed stays, and puts datagrams into rings that nobody reads. The next sensor removes it. It
//! must not remove the filter of a sensor that lives, which looks the same. So a sensor binds a
//! name as long as it has a filter on an interface, and the kernel takes that name back from the
//! dead.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::error::BpfError;

/// A filter, and the right to have it. The filter goes when this value is dropped.
#[derive(Debug)]
pub(super) struct Clsact {
    _link: SchedClassifierLink,
    _claim: UnixDatagram,
}

/// Puts a loaded program in front of an interface's stack, in place of a dead sensor's of this
/// name.
pub(super) fn attach(
    program: &mut SchedClassifier,
    program_name: &str,
    interface: &str,
    index: u32,
) -> Result<Clsact, BpfError> {
    let claim = claim(interface, index)?;
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(ProgramError::from(error).into()),
    }
    match tc::qdisc_detach_program(interface, TcAttachType::Ingress, program_name) {
        Ok(()) => tracing::warn!(interface, "removed the filter of a sensor that was killed"),
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ProgramError::from(error).into()),
    }
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
    Ok(Clsact { _link: program.take_link(id)?, _claim: claim })
}

/// Binds a name that one process at a time can have in a network namespace.
fn claim(interface: &str, index: u32) -> Result<UnixDatagram, BpfError> {
    let name = SocketAddr::from_abstract_name(format!("vxtap/tc/{index}"));
    name.and_then(|name| UnixDatagram::bind_addr(&name)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BpfError::FilterTaken(interface.to_owned()),
        _ => BpfError::Os { call: "bind of a name for the filter", error },
    })
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::on_loopback;
    use super::*;
    use crate::sink::namespace::{Namespace, sh};
    use std::mem;
    use std::net::UdpSocket;

    fn filters() -> usize {
        sh("tc filter show dev lo ingress").lines().filter(|line| line.contains("vxtap_tc direct-action")).count()
    }

    #[test]
    fn a_filter_takes_datagrams_and_that_of_a_dead_sensor_is_replaced() {
        let Some(_namespace) = Namespace::enter() else { return };
        let (program, mut rings) = on_loopback(None);
        let attach = || program.with_tc("vxtap_tc", |tc| attach(tc, "vxtap_tc", "lo", 1));
        let first = attach().unwrap();
        assert_eq!(filters(), 1);
        assert!(matches!(attach(), Err(BpfError::FilterTaken(name)) if name == "lo"), "of a sensor that lives");
        assert_eq!(filters(), 1);

        // A sensor that is killed takes no filter away.
        let Clsact { _link, _claim } = first;
        mem::forget(_link);
        drop(_claim);
        assert_eq!(filters(), 1);
        let second = attach().unwrap();
        assert_eq!(filters(), 1, "in its place");

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"a datagram", "127.0.0.1:4789").unwrap();
        assert_eq!(program.counts(0).unwrap().taken, 1);
        let record = super::super::record::Record::parse(rings[0].peek().unwrap()).unwrap();
        assert_eq!(record.payload, b"a datagram");
        drop(second);
        assert_eq!(filters(), 0);
    }
}
