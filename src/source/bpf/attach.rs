//! Attaches a program to an interface, and sees whether it still is attached.

use aya::Ebpf;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;

use super::clsact::{self, Clsact};
use super::error::{BpfError, chain};
use super::interface;
use super::plan::Attach;
use crate::sys::rtnetlink::Link;
use crate::sys::tcx;

/// The programs in the object. The names of those at tc are also those of filters on kernels
/// without tcx.
const XDP: &str = "vxtap_xdp";
pub(super) const TC: &str = "vxtap_tc";
pub(super) const ENTERED: &str = "vxtap_entered";

/// The times that a program is loaded where signals come meanwhile.
const TRIES: u32 = 10;

/// The place on an interface where the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Xdp,
    Tc,
}

impl Mode {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Mode::Xdp => "xdp",
            Mode::Tc => "tc",
        }
    }
}

/// The kernel's end of an attachment, which ends when this is dropped. To close the descriptor of a
/// link ends it, so it also ends where the process is killed.
#[derive(Debug)]
pub(super) enum Hold {
    Xdp { _link: XdpLink },
    Tc { _link: SchedClassifierLink },
    Clsact { _clsact: Clsact },
}

/// Says whether the program is still where it was attached. Nobody can tell of a filter.
pub(super) fn is_attached(ebpf: &Ebpf, hold: &Hold, link: &Link) -> bool {
    match hold {
        Hold::Xdp { .. } => match ebpf.program(XDP).map(|program| program.info()) {
            Some(Ok(ours)) => link.xdp == Some(ours.id()),
            _ => true,
        },
        Hold::Tc { .. } => is_at_tc(ebpf, TC, link.index),
        Hold::Clsact { .. } => true,
    }
}

/// Says whether this program is still at tc of the interface with this index. Without tcx nobody
/// can tell, and it passes for attached.
pub(super) fn is_at_tc(ebpf: &Ebpf, program: &str, interface: u32) -> bool {
    let Some(Ok(ours)) = ebpf.program(program).map(|program| program.info()) else { return true };
    tcx::programs_at_ingress(interface).map_or(true, |programs| programs.contains(&ours.id()))
}

/// Attaches the program where it is wanted. `auto` tries XDP first.
pub(super) fn attach(ebpf: &mut Ebpf, name: &str, wanted: Attach) -> Result<(u32, Mode, Hold), BpfError> {
    let link = interface::ethernet(name)?;
    let xdp = |ebpf: &mut Ebpf| Ok((link.index, Mode::Xdp, Hold::Xdp { _link: attach_xdp(ebpf, name)? }));
    let tc = |ebpf: &mut Ebpf| Ok((link.index, Mode::Tc, attach_tc(ebpf, TC, name, link.index)?));
    match wanted {
        Attach::Xdp => xdp(ebpf),
        Attach::Tc => tc(ebpf),
        Attach::Auto => match xdp(ebpf) {
            Ok(attached) => Ok(attached),
            Err(why) => {
                tracing::info!("not at XDP but at tc: {why}");
                tc(ebpf)
            }
        },
    }
}

fn attach_xdp(ebpf: &mut Ebpf, name: &str) -> Result<XdpLink, BpfError> {
    let link = interface::ethernet(name)?;
    let taken = |id| BpfError::XdpTaken { interface: name.to_owned(), program: interface::program_name(id) };
    if let Some(id) = link.xdp {
        return Err(taken(id));
    }
    let program: &mut Xdp = ebpf.program_mut(XDP).ok_or(BpfError::Object(XDP))?.try_into()?;
    if program.fd().is_err() {
        undisturbed(|| program.load())?;
    }
    let driver = interface::driver(name, &link);
    let id = program.attach(name, XdpMode::Driver).map_err(|error| {
        let interface = name.to_owned();
        match number(&error) {
            Some(libc::EOPNOTSUPP) => BpfError::NoXdp { interface, driver },
            Some(libc::EBUSY | libc::EEXIST) => BpfError::XdpTaken { program: "which has just come".into(), interface },
            // Drivers have many reasons and few numbers: too large an MTU, too few queues, no
            // memory.
            Some(_) => BpfError::XdpRefused { interface, driver, mtu: link.mtu, error: chain(&error) },
            None => error.into(),
        }
    })?;
    Ok(program.take_link(id)?)
}

pub(super) fn attach_tc(ebpf: &mut Ebpf, program_name: &'static str, name: &str, index: u32) -> Result<Hold, BpfError> {
    let program = tc_program(ebpf, program_name)?;
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0)) {
        return Ok(Hold::Clsact { _clsact: clsact::attach(program, program_name, name, index)? });
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(name, TcAttachType::Ingress, order)?;
    Ok(Hold::Tc { _link: program.take_link(id)? })
}

/// Returns a program for tc, loaded.
pub(super) fn tc_program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, BpfError> {
    let program: &mut SchedClassifier = ebpf.program_mut(name).ok_or(BpfError::Object(name))?.try_into()?;
    if program.fd().is_err() {
        undisturbed(|| program.load())?;
    }
    Ok(program)
}

/// Loads a program, once more where a signal comes meanwhile: the kernel gives up looking at it
/// then, whatever the signal is for.
fn undisturbed(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..TRIES {
        match load() {
            Err(error) if number(&error) == Some(libc::EAGAIN) => {}
            done => return done,
        }
    }
    load()
}

/// Returns the kernel's number of an error.
fn number(error: &ProgramError) -> Option<i32> {
    interface::os_error(error).and_then(std::io::Error::raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    /// Returns how often a program is loaded whose first attempts end with these errors, and the
    /// last of them where it is not in the end.
    fn load(errors: &[i32]) -> (usize, Option<i32>) {
        let mut times = 0;
        let done = undisturbed(|| {
            times += 1;
            let Some(error) = errors.get(times - 1) else { return Ok(()) };
            Err(SyscallError { call: "bpf_prog_load", io_error: io::Error::from_raw_os_error(*error) }.into())
        });
        (times, done.err().and_then(|error| number(&error)))
    }

    #[test]
    fn a_signal_does_not_keep_a_program_from_being_loaded() {
        assert_eq!(load(&[]), (1, None));
        assert_eq!(load(&[libc::EAGAIN; 3]), (4, None));
        assert_eq!(load(&[libc::EAGAIN, libc::EINVAL, libc::EAGAIN]), (2, Some(libc::EINVAL)), "that is final");
        assert_eq!(load(&[libc::EAGAIN; 100]), (TRIES as usize, Some(libc::EAGAIN)), "there is an end");
    }
}
