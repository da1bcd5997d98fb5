//! What was seen is judged: each fault has its sentence, and where there is none all is well.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::flows::Directions;
use super::kernel::{Counters, Sockets};
use super::seen::{Arrived, Elsewhere, Kind, Seen, Session};
use super::sentences::{self as say, Sentence};
use crate::check::finding::Finding;
use crate::check::words::count;
use crate::route::policy::Policy;
use crate::session;

/// Packets below which a share says nothing.
const FEW: u64 = 10;
/// The share, in thousandths, from which duplicates and disorder are said.
const SHARE: u64 = 10;

/// All that there is to judge.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) seen: &'a Seen,
    /// The sessions, each once.
    pub(super) sessions: &'a [Session],
    /// What the kernel has counted meanwhile.
    pub(super) counted: Counters,
    pub(super) sockets: [&'a Sockets; 2],
    /// What the entries of the configuration say of sessions.
    pub(super) policy: &'a Policy,
    /// The interfaces that were watched, by number.
    pub(super) interfaces: &'a HashMap<u32, Interface>,
    /// Packets that came too fast to be watched.
    pub(super) missed: u64,
    pub(super) seconds: f64,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// True where a program at XDP has packets first.
    pub(super) xdp: bool,
    /// True where a program at tc takes packets from the kernel, so that its counters do not have
    /// them.
    pub(super) tc: bool,
}

/// Judges.
pub(super) fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    if let Some(hidden) = evidence.hidden() {
        return vec![hidden];
    }
    let mut findings = evidence.beside();
    findings.extend(evidence.delivery());
    findings.extend(evidence.wholeness());
    findings.extend(evidence.sessions_let_in());
    if findings.is_empty() {
        let is_nothing = evidence.sessions.is_empty() && evidence.seen.beyond == 0;
        findings.push(if is_nothing { evidence.nothing() } else { evidence.arriving() });
    }
    findings
}

impl Evidence<'_> {
    pub(super) fn interface(&self, number: u32) -> String {
        self.interfaces.get(&number).map_or_else(|| format!("interface {number}"), |found| found.name.clone())
    }

    /// Names a session, as the configuration does where it does.
    pub(super) fn name(&self, session: &Session) -> String {
        let named = self.label(session).name.as_ref().map(|name| format!("{name} ("));
        let end = if named.is_some() { ")" } else { "" };
        format!("{}{} VNI {}{end}", named.unwrap_or_default(), session.source, session.vni)
    }

    pub(super) fn label(&self, session: &Session) -> &session::Label {
        &self.policy.plan_of(&session::Session::vxlan(session.mapped(), session.vni), session.port).label
    }

    fn let_in(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| session.let_in)
    }

    /// Finds that a program has all whole datagrams first: what it leaves, such as fragments, says
    /// nothing of the rest.
    fn hidden(&self) -> Option<Finding> {
        let seen = self.seen;
        let is_seen = seen.arrived.values().any(|arrived| arrived.whole > 0);
        if is_seen || !seen.elsewhere.is_empty() || !seen.of_others.is_empty() {
            return None;
        }
        let mut names: Vec<&str> =
            self.interfaces.values().filter(|found| found.xdp).map(|found| found.name.as_str()).collect();
        names.sort_unstable();
        (!names.is_empty()).then(|| say::TAKEN_BY_XDP.of(&[("interface", names.join(", "))]))
    }

    fn nothing(&self) -> Finding {
        let mut ports: Vec<u16> = self.seen.ours.listen.iter().map(|listener| listener.address.port()).collect();
        ports.dedup();
        say::NOTHING_ARRIVES.of(&[
            ("ports", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
            ("port", ports.first().map(u16::to_string).unwrap_or_default()),
            ("seconds", format!("{:.0}", self.seconds)),
        ])
    }

    fn arriving(&self) -> Finding {
        let frames = self.sessions.iter().map(|session| session.frames).sum::<u64>() + self.seen.beyond;
        say::ARRIVING.of(&[
            ("sessions", count(self.sessions.len() as u64, "session")),
            ("frames", count(frames, "frame")),
            ("seconds", format!("{:.0}", self.seconds)),
        ])
    }

    /// Finds what comes beside the addresses and ports that the sensor listens on.
    fn beside(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let [_, sockets] = self.sockets;
        let most = |kind| {
            let unheard = self
                .seen
                .elsewhere
                .iter()
                .filter(|((of, address, port), _)| *of == kind && !sockets.hear(*address, *port));
            unheard.max_by_key(|(_, found)| found.datagrams)
        };
        if let Some(((_, address, port), found)) = most(Kind::Vxlan) {
            let listens_there = self.seen.ours.listen.iter().any(|listen| listen.address.port() == *port);
            let listen = if listens_there { SocketAddr::new(*address, *port).to_string() } else { port.to_string() };
            findings.push(say::WRONG_PORT.of(&[
                ("datagrams", count(found.datagrams, "datagram")),
                ("source", found.source.to_string()),
                ("vni", found.vni.map(|vni| vni.to_string()).unwrap_or_default()),
                ("address", address.to_string()),
                ("port", port.to_string()),
                ("listen", listen),
            ]));
        }
        if let Some((_, found)) = most(Kind::Geneve) {
            findings.push(
                say::GENEVE
                    .of(&[("datagrams", count(found.datagrams, "datagram")), ("source", found.source.to_string())]),
            );
        }
        let of_others = self.seen.of_others.iter().max_by_key(|(_, found)| found.datagrams);
        if let (Some(((address, _), found)), true) = (of_others, self.seen.arrived.is_empty()) {
            let Elsewhere { datagrams, source, interface, .. } = found;
            findings.push(say::OTHER_HOST.of(&[
                ("datagrams", count(*datagrams, "datagram")),
                ("source", source.to_string()),
                ("address", address.to_string()),
                ("interface", self.interface(*interface)),
            ]));
        }
        findings
    }

    /// Finds what becomes of datagrams between the interface and the socket.
    fn delivery(&self) -> Option<Finding> {
        let (number, arrived) = self.seen.arrived.iter().max_by_key(|(_, arrived)| arrived.datagrams)?;
        let Arrived { datagrams, address, port, source, .. } = *arrived;
        let interface = self.interface(*number);
        let [before, after] = self.sockets;
        // Datagrams with a wrong checksum are dropped at the socket, too, however much room it has.
        let dropped = after.drops(port).saturating_sub(before.drops(port)).min(self.counted.no_room);
        if dropped > 0 {
            let words = [("lost", count(dropped, "datagram")), ("port", port.to_string())];
            return Some(say::RECEIVE_BUFFER.of(&words));
        }
        let lost = datagrams.saturating_sub(self.counted.udp);
        // What a program takes, and what nobody has read yet, the kernel has not counted.
        let is_counted = !self.interfaces.get(number).is_some_and(|found| found.tc) && !after.wait(port);
        if is_counted && lost >= (datagrams / 20).max(3) {
            // A few packets that come the wrong way do not explain that many.
            let sentence = if self.counted.reverse_path >= lost.div_ceil(2) { say::RP_FILTER } else { say::FIREWALL };
            return Some(sentence.of(&[
                ("lost", lost.to_string()),
                ("datagrams", count(datagrams, "datagram")),
                ("interface", interface),
                ("port", port.to_string()),
                ("source", source.map(|source| source.to_string()).unwrap_or_default()),
            ]));
        }
        let nobody = address.is_some_and(|address| !after.hear(address, port));
        nobody.then(|| say::NO_SENSOR.of(&[("datagrams", count(datagrams, "datagram")), ("port", port.to_string())]))
    }

    /// Finds datagrams that yield no frame, or only in part.
    fn wholeness(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let bad = self.seen.arrived.values().filter(|arrived| arrived.no_frame > 0);
        if let Some(Arrived { datagrams, no_frame, why: Some(why), port, stranger: Some(stranger), .. }) =
            bad.max_by_key(|arrived| arrived.no_frame)
        {
            let first = self.let_in().next().map(|session| session.source.to_string());
            findings.push(say::NOT_VXLAN.of(&[
                ("share", share(*no_frame, *datagrams)),
                ("port", port.to_string()),
                ("why", why.label().to_owned()),
                ("source", stranger.to_string()),
                ("from", first.unwrap_or_else(|| "10.0.0.0/16".to_owned())),
            ]));
        }
        let (interface, fragments) = self.seen.fragments.most();
        let fragmented = fragments.all();
        let arrived = self.seen.arrived.get(&interface).map_or(0, |arrived| arrived.datagrams);
        let outer = if fragments.ipv6 { 40 } else { 20 };
        let words = [
            ("share", share(fragmented, arrived + fragments.lost)),
            ("mtu", fragments.largest.to_string()),
            ("length", fragments.largest.saturating_sub(outer + 8 + 8).to_string()),
            ("lost", fragments.lost.to_string()),
            ("fragmented", count(fragmented, "datagram")),
            ("failed", self.counted.reassembly_failed.to_string()),
        ];
        // What the watch itself missed is not lost.
        let is_lost = fragments.lost > 0 && self.missed == 0;
        match fragmented {
            0 => {}
            _ if is_lost => findings.push(say::FRAGMENTS_LOST.of(&words)),
            _ => findings.push(say::FRAGMENTS.of(&words)),
        }
        findings.extend(self.cut());
        findings
    }

    /// Finds frames that the mirror has cut, by the place where they are.
    fn cut(&self) -> Vec<Finding> {
        let mut worst: HashMap<&str, (Sentence, &Session, u32)> = HashMap::new();
        for session in self.let_in().filter(|session| session.cut > 0) {
            let (frame, packet) = session.cut_at;
            let told = packet_length(self.label(session).description.as_deref().unwrap_or_default());
            let (sentence, length) = match (frame, packet) {
                (frame, _) if told == Some(frame) || session.is_cut_by_request() => (say::CUT_AT_PACKET_LENGTH, frame),
                (8947, _) | (_, 8947) => (say::CUT_AT_8947, 8947),
                (8500, _) | (_, 8500) => (say::CUT_AT_8500, 8500),
                (1450, _) | (_, 1450) => (say::CUT_AT_1450, 1450),
                _ => (say::CUT, frame),
            };
            let found = worst.entry(sentence.name).or_insert((sentence, session, length));
            if found.1.cut < session.cut {
                *found = (sentence, session, length);
            }
        }
        let mut findings: Vec<Finding> = worst
            .into_values()
            .map(|(sentence, session, length)| {
                sentence.of(&[
                    ("frames", count(session.cut, "frame")),
                    ("session", self.name(session)),
                    ("length", length.to_string()),
                    ("interface", self.interface(session.interface)),
                ])
            })
            .collect();
        findings.sort_by_key(|finding| finding.name);
        findings
    }

    /// Finds what is amiss with the sessions: those that are not let in, and what of others lacks.
    fn sessions_let_in(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let denied = || self.sessions.iter().filter(|session| !session.let_in);
        if let Some(most) = denied().max_by_key(|session| session.frames) {
            findings.push(say::NOT_LET_IN.of(&[
                ("frames", count(denied().map(|session| session.frames).sum(), "frame")),
                ("sessions", count(denied().count() as u64, "session")),
                ("session", self.name(most)),
                ("source", most.source.to_string()),
                ("vni", most.vni.to_string()),
            ]));
        }
        let directions = self.seen.flows.directions();
        let one = self.let_in().filter_map(|session| {
            Some((session, directions.get(&session.number).filter(|of| of.both == 0 && of.one > 0)?))
        });
        if let Some((session, of)) = one.max_by_key(|(_, of)| of.one) {
            findings.push(self.one_direction(session, *of));
        }
        let frames: u64 = self.let_in().map(|session| session.frames).sum();
        let again: u64 = self.let_in().map(|session| session.again).sum();
        if let (true, Some(most)) = (is_share(again, frames), self.let_in().max_by_key(|session| session.again)) {
            let here: u64 = self.let_in().map(|session| session.again_here).sum();
            let sentence = if here > again - here { say::DUPLICATES_WITHIN } else { say::DUPLICATES };
            findings.push(sentence.of(&[("share", share(again, frames)), ("session", self.name(most))]));
        }
        let segments: u64 = self.let_in().map(|session| session.segments).sum();
        let late: u64 = self.let_in().map(|session| session.late).sum();
        if let (true, Some(most)) = (is_share(late, segments), self.let_in().max_by_key(|session| session.late)) {
            findings.push(say::DISORDER.of(&[("share", share(late, segments)), ("session", self.name(most))]));
        }
        findings
    }

    fn one_direction(&self, session: &Session, of: Directions) -> Finding {
        let (seen, missing) = match (of.sent, of.received) {
            (1.., 0) => ("what the mirrored host sends", "ingress"),
            (0, 1..) => ("what the mirrored host receives", "egress"),
            // A host that forwards has neither address.
            _ => ("of which host it is cannot be told", "ingress"),
        };
        say::ONE_DIRECTION.of(&[
            ("session", self.name(session)),
            ("seen", seen.to_owned()),
            ("missing", missing.to_owned()),
        ])
    }
}

/// Returns the `PacketLength` that a description names.
fn packet_length(description: &str) -> Option<u32> {
    let behind = description.split("PacketLength").nth(1)?.trim_start_matches([' ', ':', '=']);
    behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Says whether a part is more than some that are always there.
fn is_share(part: u64, all: u64) -> bool {
    part >= FEW && part * 1000 >= all * SHARE
}

/// Writes a share in per cent, never 0 where there is something.
fn share(part: u64, all: u64) -> String {
    let permille = (part * 1000).checked_div(all).unwrap_or(1000).max(1);
    match (permille / 10, permille % 10) {
        (whole, 0) => format!("{whole} %"),
        (whole, tenth) => format!("{whole}.{tenth} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_the_packet_length() {
        assert_eq!(packet_length("tms-1, target tmt-2; PacketLength 1000: longer frames come cut"), Some(1000));
        assert_eq!(packet_length("PacketLength=100"), Some(100));
        assert_eq!((packet_length("web"), packet_length("PacketLength unknown")), (None, None));
    }

    #[test]
    fn shares_are_never_nothing() {
        assert_eq!([share(1, 1_000_000), share(1, 2), share(333, 1000)], ["0.1 %", "50 %", "33.3 %"]);
        assert!(is_share(10, 1000) && !is_share(9, 9) && !is_share(10, 1001));
    }
}
