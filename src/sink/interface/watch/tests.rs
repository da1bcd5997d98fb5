use super::super::{InterfacePlan, Kind};
use super::*;
use crate::sink::namespace::{Namespace, sh, wait_until};
use std::sync::Mutex;

fn plan(kind: Kind) -> InterfacePlan {
    InterfacePlan { name: "mirror0".into(), kind, mtu: 9001 }
}

fn faults() -> Vec<Fault> {
    let netlink = RouteSocket::open().unwrap();
    let link = netlink.link("mirror0").unwrap();
    Fault::find(&netlink, &link).unwrap()
}

/// What can be changed about an interface, by the commands that do it.
const CHANGES: [&str; 9] = [
    "tc qdisc del dev mirror0 clsact",
    "tc filter del dev mirror0 ingress",
    "tc filter add dev mirror0 ingress pref 1 bpf direct-action bytecode '1,6 0 0 0'",
    "tc filter replace dev mirror0 ingress pref 49152 handle 1 bpf direct-action bytecode '1,6 0 0 0'",
    "ip address add 10.8.0.1/24 dev mirror0; ip address add 10.8.0.2/24 dev mirror0; ip address add 10.9.0.1/24 dev mirror0",
    "ip address add 10.8.0.1 peer 10.8.0.2 dev mirror0",
    "echo 0 > /proc/sys/net/ipv6/conf/mirror0/disable_ipv6",
    "echo 0 > /proc/sys/net/ipv6/conf/mirror0/disable_ipv6; ip address add fd00:8::1/64 dev mirror0 nodad",
    "ip link set dev mirror0 promisc off; ip link set dev mirror0 arp on",
];

#[test]
fn whatever_is_changed_is_noticed_and_mended() {
    let Some(_namespace) = Namespace::enter() else { return };
    for kind in [Kind::Tap, Kind::Tun] {
        let interface = Interface::open(&plan(kind)).unwrap();
        assert_eq!((faults(), interface.is_closed()), (vec![], false));
        // What is left to do where /proc/sys is read-only.
        sh("cd /proc/sys/net/ipv6/conf/mirror0; echo 0 > disable_ipv6; echo 1 > addr_gen_mode");
        sh("ip -6 address flush dev mirror0");
        assert_eq!(faults(), [], "IPv6 without an address of its own");
        sh("cd /proc/sys/net/ipv6/conf/mirror0; echo 0 > addr_gen_mode; echo 1 > disable_ipv6");
        for change in CHANGES {
            sh(change);
            assert_ne!(faults(), [], "{change}");
            let watch = Watch::start(&interface, None).unwrap();
            wait_until("that it is mended", || faults().is_empty());
            wait_until("that it is open", || !watch.is_closed());
            // Now while it is watched.
            sh(change);
            wait_until("that it is mended again", || faults().is_empty() && !watch.is_closed());
        }
    }
}

/// Notes what it was told, and what was wrong with the interface then.
#[derive(Debug, Default, Clone)]
struct Noting(Arc<Mutex<Vec<(&'static str, bool)>>>);

impl Noting {
    fn note(&self, what: &'static str) -> Result<(), Box<dyn Error>> {
        let hears = RouteSocket::open()?.link("mirror0").map(|_| !faults().is_empty());
        self.0.lock().unwrap().push((what, hears.unwrap_or(false)));
        Ok(())
    }
}

impl Feeder for Noting {
    fn begin(&mut self, interface: &str) -> Result<(), Box<dyn Error>> {
        assert_eq!(interface, "mirror0");
        self.note("begin")
    }
    fn pause(&mut self) -> Result<(), Box<dyn Error>> {
        self.note("pause")
    }
}

#[test]
fn a_feeder_pauses_before_the_interface_is_mended_and_while_it_is_down_or_gone() {
    let Some(_namespace) = Namespace::enter() else { return };
    let interface = Interface::open(&plan(Kind::Tap)).unwrap();
    let noting = Noting::default();
    let watch = Watch::start(&interface, Some(Box::new(noting.clone()))).unwrap();
    let told = |n: usize| {
        wait_until("that the feeder is told", || noting.0.lock().unwrap().len() == n);
        noting.0.lock().unwrap().last().copied().unwrap()
    };
    sh("tc qdisc del dev mirror0 clsact");
    told(2);
    assert_eq!(*noting.0.lock().unwrap(), [("pause", true), ("begin", false)]);
    sh("ip link set dev mirror0 down");
    assert_eq!(told(3), ("pause", false));
    assert!(!watch.is_closed(), "frames are refused by the interface itself");
    sh("ip link set dev mirror0 up");
    assert_eq!(told(4), ("begin", false));
    sh("ip link set dev mirror0 down; ip link set dev mirror0 name other0");
    told(5);
    sh("ip link set dev other0 name mirror0; ip link set dev mirror0 up");
    assert_eq!(told(6), ("begin", false));
    sh("ip link delete dev mirror0");
    assert_eq!(told(7), ("pause", false));
    drop(interface);
    let interface = Interface::open(&plan(Kind::Tap)).unwrap();
    watch.follow(Some(&interface));
    assert_eq!(told(8), ("begin", false));
    drop(watch);
    sh("tc qdisc del dev mirror0 clsact");
    thread::sleep(EVERY * 2);
    assert_eq!(faults(), [Fault::Heard], "nobody looks any more");
}
