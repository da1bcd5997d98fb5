//! A capture is read in place of sockets, and does not go together with what only those have.

use super::super::address::Listen;
use super::super::error::PlanError;
use super::super::settings::{Receive, Sessions, Settings};
use crate::setting::key;
use crate::source::udp::UdpPlan;
use crate::source::{Listener, Steering};

/// Returns what is a mirror's in the capture that is read, if one is, which no socket listens for
/// then. Adds to `wrong` the settings that a capture has no use for.
pub(super) fn plan(settings: &Settings, udp: &mut UdpPlan, wrong: &mut Vec<PlanError>) -> Vec<Listener> {
    if settings.receive.source.file().is_none() {
        return Vec::new();
    }
    let (receive, origins) = (&settings.receive, &settings.origins);
    let with = [
        (
            receive.workers.is_some_and(|workers| workers > 1),
            origins.said(&key::WORKERS),
            "one thread reads it; leave the option out",
        ),
        (receive.steer != Steering::Session, origins.said(&key::STEER), "one thread reads it; leave the option out"),
        (
            receive.buffer != Receive::default().buffer,
            origins.said(&key::RECEIVE_BUFFER),
            "the kernel holds nothing of it; leave the option out",
        ),
        (
            settings.sessions.idle != Sessions::default().idle,
            origins.said(&key::SESSION_IDLE),
            "its sessions are of another time, and none is forgotten; leave the option out",
        ),
        (
            settings.health.drain.is_some_and(|drain| !drain.0.is_zero()),
            origins.said(&key::HEALTH_DRAIN),
            "nobody sends it, so that nothing comes late; leave the option out",
        ),
    ];
    let of_sockets = receive
        .listen
        .iter()
        .enumerate()
        .filter(|(_, listener)| !matches!(listener.at, Listen::Any(port) if port != 0 || listener.is_over_ip()));
    let of_sockets = of_sockets.map(|(index, _)| {
        (
            true,
            origins.said_item(&key::LISTEN, index),
            "packets in it are taken by port, whatever address they are for; give the port alone, as 4789",
        )
    });
    let all = with.into_iter().chain(of_sockets).filter(|(is_asked, ..)| *is_asked);
    wrong.extend(all.map(|(_, with, why)| PlanError::Capture { said: origins.said(&key::SOURCE), with, why }));
    std::mem::take(&mut udp.listen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::with_listen as resolve;
    use super::*;
    use crate::lane::WhenFull;
    use crate::sink::file::Clock;
    use crate::wire::Carrier;

    fn read(more: &[&str]) -> Result<super::super::RunPlan, PlanError> {
        resolve(&[&["--source", "file:x.pcap"], more].concat())
    }

    #[test]
    fn frames_wait_and_one_worker_reads() {
        let plan = read(&["--listen", "4789", "--listen", "gre", "--tap", "m", "--workers", "1"]).unwrap();
        assert_eq!((plan.source.udp.workers, plan.source.udp.listen.len()), (1, 0));
        let mirrors: Vec<_> = plan.source.mirrors.iter().map(|one| (one.carrier, one.address.port())).collect();
        assert_eq!(mirrors, [(Carrier::Udp, 4789), (Carrier::Ip, 0), (Carrier::Ip, 0)]);
        assert_eq!((plan.session_idle, plan.drain), (Duration::MAX, Duration::ZERO));
        assert_eq!(plan.pipeline.outputs[0].to.files().unwrap().clock, Clock::Frames);
        assert!(plan.pipeline.outputs.iter().all(|output| output.lane.when_full == WhenFull::Wait));
        let usual = read(&[]).unwrap().source;
        assert_eq!((usual.mirrors.len(), usual.mirrors[0].address.port(), usual.udp.workers), (1, 4789, 1));
        let live = resolve(&["--listen", "4789"]).unwrap();
        assert_eq!((live.source.mirrors.len(), live.source.udp.listen.len()), (0, 1));
        assert!(live.pipeline.outputs.iter().all(|output| output.lane.when_full == WhenFull::Drop));
    }

    #[test]
    fn what_a_network_has_is_refused_by_name() {
        for (more, named) in [
            (&["--workers", "2"][..], "--workers"),
            (&["--steer", "flow"], "--steer"),
            (&["--receive-buffer", "1MiB"], "--receive-buffer"),
            (&["--session-idle", "1h"], "--session-idle"),
            (&["--listen", "8472", "--listen", "10.0.0.7"], "--listen"),
            (&["--listen", "erspan:10.0.0.7"], "--listen"),
            (&["--listen", "0"], "--listen"),
        ] {
            let refused = read(more).unwrap_err();
            assert!(
                matches!(&refused, PlanError::Capture { with, .. } if with.to_string() == named),
                "{more:?}: {refused}"
            );
        }
        for more in [&["--interface", "eth0"][..], &["--verify-checksum"], &["--any-address"], &["--attach", "tc"]] {
            assert!(matches!(read(more), Err(PlanError::OnlyBpf(_))), "{more:?}");
        }
    }
}
