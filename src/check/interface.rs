//! The interfaces that datagrams come in on have a driver and an MTU that go with the source.

use super::finding::Finding;
use crate::source::Way;
use crate::source::bpf::Attach;

/// The names of the findings.
pub(super) const INTERFACE: &str = "interface";
pub(super) const MTU: &str = "mtu";

/// Bytes in front of an inner packet: IP, UDP, VXLAN and the inner Ethernet header.
const V4_HEADERS: u32 = 20 + 8 + 8 + 14;
const V6_HEADERS: u32 = 40 + 8 + 8 + 14;
/// The largest packet of most networks.
const PACKET: u32 = 1500;
/// The largest MTU at which the driver of AWS takes a program.
const ENA_MTU: u32 = 3498;
/// Drivers that are known to take programs at XDP.
const NATIVE: [&str; 26] = [
    "atlantic",
    "bnxt_en",
    "bond",
    "dpaa2-eth",
    "ena",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_core",
    "mlx5_core",
    "mvneta",
    "nfp",
    "sfc",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
    "vif",
];

/// An interface that datagrams come in on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// Its name.
    pub name: String,
    /// What drives it.
    pub driver: String,
    /// Its MTU.
    pub mtu: u32,
    /// True where it is up.
    pub is_up: bool,
    /// True where its frames begin with an Ethernet header.
    pub is_ethernet: bool,
    /// True where it is the loopback interface.
    pub is_loopback: bool,
    /// The name of the program that it has at XDP.
    pub xdp: Option<String>,
}

/// The interfaces that a plan names or leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cards {
    /// Those that there are.
    pub found: Vec<Card>,
    /// Names of those that there are not.
    pub missing: Vec<String>,
    /// The reason why nothing tells which they are.
    pub unknown: Option<String>,
}

/// Compares the interfaces with the source.
pub(super) fn interfaces(cards: &Cards, way: &Way, attach: Attach) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cards.found.iter().map(|card| interface(card, way, attach)).collect();
    for name in &cards.missing {
        findings.push(Finding::error(
            INTERFACE,
            format!("there is no interface {name}"),
            "see which there are: ip -brief address",
        ));
    }
    match (&cards.unknown, way) {
        (Some(why), Way::Bpf) => findings.push(Finding::error(INTERFACE, why.clone(), "say which: --interface NAME")),
        (Some(why), Way::Auto) => {
            let reason = format!("sockets receive: {why}");
            findings.push(Finding::warning(INTERFACE, reason, "say which: --interface NAME"));
        }
        (Some(_), Way::Udp | Way::File(_)) => {
            findings.push(Finding::ok(
                INTERFACE,
                "nothing tells which one datagrams come in on, and sockets take them from any",
            ));
        }
        (None, _) => {}
    }
    findings
}

/// Compares one interface with the source.
fn interface(card: &Card, way: &Way, attach: Attach) -> Finding {
    let Card { name, driver, mtu, .. } = card;
    if !card.is_up {
        return Finding::error(
            INTERFACE,
            format!("{name} is down: nothing comes in"),
            format!("ip link set {name} up"),
        );
    }
    let plain = format!("{name} is up (driver {driver}, MTU {mtu})");
    if *way == Way::Udp {
        return Finding::ok(INTERFACE, format!("{plain}; sockets take any driver"));
    }
    if !card.is_ethernet {
        let reason = format!("{name} has no Ethernet headers, which --source bpf needs");
        let remedy = "use --source udp, or another interface with --interface";
        return if *way == Way::Bpf {
            Finding::error(INTERFACE, reason, remedy)
        } else {
            Finding::warning(INTERFACE, reason, remedy)
        };
    }
    if attach == Attach::Tc {
        return Finding::ok(INTERFACE, format!("{plain}; tc takes any driver and any MTU"));
    }
    // The program at XDP that is there already is a sensor's.
    let other = card.xdp.as_ref().filter(|program| !program.starts_with("vxtap"));
    let obstacle = if let Some(program) = other {
        Some((format!("{name} has another XDP program: {program}"), "use --attach tc beside it".to_owned()))
    } else if driver == "ena" && *mtu > ENA_MTU {
        let remedy = format!(
            "use --attach tc, or: ip link set {name} mtu {ENA_MTU}, with half of the queues: ethtool -L {name} combined N"
        );
        Some((format!("{name} has MTU {mtu}, and its driver (ena) takes XDP up to {ENA_MTU}"), remedy))
    } else if !NATIVE.contains(&driver.as_str()) {
        Some((format!("{name}: its driver ({driver}) is not known to have native XDP"), "use --attach tc".to_owned()))
    } else {
        None
    };
    match (obstacle, attach) {
        (None, _) => Finding::ok(INTERFACE, format!("{plain}; the driver has native XDP")),
        (Some((reason, remedy)), Attach::Xdp) => Finding::error(INTERFACE, reason, remedy),
        (Some((reason, _)), _) => Finding::ok(INTERFACE, format!("{plain}; tc and not XDP: {reason}")),
    }
}

/// Says whether a mirrored packet has room in an interface's packets.
pub(super) fn mtu(card: &Card) -> Finding {
    let Card { name, mtu, .. } = card;
    let room = mtu.saturating_sub(V6_HEADERS);
    if card.is_loopback || room >= PACKET {
        return Finding::ok(MTU, format!("{name} has MTU {mtu}: mirrored packets of up to {room} bytes arrive whole"));
    }
    let v4 = mtu.saturating_sub(V4_HEADERS);
    if v4 >= PACKET {
        let reason = format!(
            "{name} has MTU {mtu}: mirrored packets of up to {v4} bytes arrive whole over IPv4, of {room} over IPv6"
        );
        return Finding::ok(MTU, reason);
    }
    let needs = PACKET + V6_HEADERS;
    Finding::warning(
        MTU,
        format!(
            "{name} has MTU {mtu}: mirrored packets of more than {v4} bytes come in fragments, or cut, or not at all; \
             {PACKET} bytes need {needs}"
        ),
        format!("ip link set {name} mtu 9001, where the network carries it; on all hops alike"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn card(driver: &str, mtu: u32) -> Card {
        Card {
            name: "eth0".into(),
            driver: driver.into(),
            mtu,
            is_up: true,
            is_ethernet: true,
            is_loopback: false,
            xdp: None,
        }
    }

    #[test]
    fn a_driver_goes_with_the_source_or_not() {
        let level = |card: &Card, way, attach| interface(card, way, attach).level;
        let (ena, small, odd) = (card("ena", 9001), card("ena", 1500), card("bridge", 1500));
        assert_eq!(level(&ena, &Way::Udp, Attach::Auto), Level::Ok);
        assert_eq!(level(&ena, &Way::Bpf, Attach::Xdp), Level::Error);
        assert!(interface(&ena, &Way::Bpf, Attach::Auto).reason.contains("tc and not XDP"));
        assert_eq!(level(&ena, &Way::Bpf, Attach::Tc), Level::Ok);
        assert!(interface(&small, &Way::Bpf, Attach::Xdp).reason.ends_with("the driver has native XDP"));
        assert_eq!(level(&odd, &Way::Bpf, Attach::Xdp), Level::Error);
        let taken = Card { xdp: Some("xdp_firewall (id 7)".into()), ..small.clone() };
        assert_eq!(level(&taken, &Way::Bpf, Attach::Xdp), Level::Error);
        let ours = Card { xdp: Some("vxtap_xdp (id 7)".into()), ..small.clone() };
        assert_eq!(level(&ours, &Way::Bpf, Attach::Xdp), Level::Ok);
        let raw = Card { is_ethernet: false, ..small.clone() };
        assert_eq!(
            (level(&raw, &Way::Bpf, Attach::Tc), level(&raw, &Way::Auto, Attach::Tc)),
            (Level::Error, Level::Warning)
        );
        let down = Card { is_up: false, ..small };
        assert_eq!(interface(&down, &Way::Udp, Attach::Auto).remedy.as_deref(), Some("ip link set eth0 up"));
    }

    #[test]
    fn interfaces_that_are_not_there_are_named() {
        let cards = |missing: &[&str], unknown: Option<&str>| Cards {
            found: Vec::new(),
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            unknown: unknown.map(Into::into),
        };
        let levels = |cards: &Cards, way| {
            interfaces(cards, way, Attach::Auto).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&cards(&["eth7"], None), &Way::Bpf), [Level::Error]);
        let unknown = cards(&[], Some("which interface?"));
        assert_eq!(levels(&unknown, &Way::Bpf), [Level::Error]);
        assert_eq!(levels(&unknown, &Way::Auto), [Level::Warning]);
        assert_eq!(levels(&unknown, &Way::Udp), [Level::Ok]);
    }

    #[test]
    fn a_mirrored_packet_has_room_or_not() {
        let found = |mtu_of| mtu(&card("ena", mtu_of));
        assert_eq!([found(9001).level, found(1570).level, found(1550).level], [Level::Ok; 3]);
        assert!(found(1569).reason.contains("1519 bytes arrive whole over IPv4, of 1499 over IPv6"));
        let cut = found(1500);
        assert_eq!(cut.level, Level::Warning);
        assert!(cut.reason.contains("more than 1450 bytes") && cut.remedy.unwrap().contains("mtu 9001"));
        assert_eq!(mtu(&Card { is_loopback: true, ..card("lo", 1500) }).level, Level::Ok);
    }
}
