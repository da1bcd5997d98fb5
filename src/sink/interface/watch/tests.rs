use super::super::{InterfacePlan, Kind};
use super::*;
use crate::sink::namespace::{Namespace, sh, wait_until};
use aya::Ebpf;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

fn plan(kind: Kind) -> InterfacePlan {
    InterfacePlan { name: "mirror0".into(), kind, mtu: 9001, tags: None }
}

fn faults() -> Vec<Fault> {
    let netlink = RouteSocket::open().unwrap();
    let link = netlink.link("mirror0").unwrap();
    Fault::find(&netlink, &link).unwrap()
}

/// The changes that can be made to an interface, by the commands that make them.
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
        // This is left to do where /proc/sys is read-only.
        sh("cd /proc/sys/net/ipv6/conf/mirror0; echo 0 > disable_ipv6; echo 1 > addr_gen_mode");
        sh("ip -6 address flush dev mirror0");
        assert_eq!(faults(), [], "IPv6 without an address of its own");
        sh("cd /proc/sys/net/ipv6/conf/mirror0; echo 0 > addr_gen_mode; echo 1 > disable_ipv6");
        for change in CHANGES {
            sh(change);
            assert_ne!(faults(), [], "{change}");
            let watch = Watch::start(&interface, None, Arc::default()).unwrap();
            wait_until("that it is mended", || faults().is_empty());
            wait_until("that it is open", || !watch.is_closed());
            // Now while it is watched. A change of several steps fails where the first is mended
            // before the next.
            Command::new("sh").args(["-c", change]).output().unwrap();
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
    let watch = Watch::start(&interface, Some(Box::new(noting.clone())), Arc::default()).unwrap();
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

/// A program as an agent attaches it to all interfaces: it lets every frame pass.
fn passing(directory: &Path) -> Ebpf {
    let (source, object) = (directory.join("agent.c"), directory.join("agent.o"));
    let text = "__attribute__((section(\"classifier\"), used)) int agent(void *frame) { return 0; }
                char program_license[] __attribute__((section(\"license\"), used)) = \"GPL\";";
    std::fs::write(&source, text).unwrap();
    sh(&format!("clang-14 --target=bpfel -O2 -c {} -o {}", source.display(), object.display()));
    Ebpf::load_file(object).unwrap()
}

/// The kernel asks such a program before the filter, and netlink knows nothing of it.
#[test]
fn a_program_in_front_of_the_filter_closes_the_interface() {
    let Some(_namespace) = Namespace::enter() else { return };
    let interface = Interface::open(&plan(Kind::Tap)).unwrap();
    let watch = Watch::start(&interface, None, Arc::default()).unwrap();
    wait_until("that it is open", || !watch.is_closed());
    let directory = tempfile::tempdir().unwrap();
    let mut agent = passing(directory.path());
    let program: &mut SchedClassifier = agent.program_mut("agent").unwrap().try_into().unwrap();
    program.load().unwrap();
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program.attach_with_options("mirror0", TcAttachType::Ingress, order).unwrap();
    wait_until("that it is closed", || watch.is_closed());
    assert_eq!(faults(), [Fault::Preceded("agent".into())]);
    program.detach(link).unwrap();
    wait_until("that it is open again", || !watch.is_closed());
}
