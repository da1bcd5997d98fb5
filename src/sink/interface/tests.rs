use super::*;
use crate::sink::namespace::{Namespace, Sniffer, sh, wait_until};
use etherparse::PacketBuilder;
use rustix::fs::Uid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_res_uid};

fn plan(name: &str, kind: Kind) -> InterfacePlan {
    InterfacePlan { name: name.into(), kind, mtu: DEFAULT_MTU, tags: None }
}

fn open(name: &str) -> Result<Interface, InterfaceError> {
    Interface::open(&plan(name, Kind::Tap))
}

/// Returns what `open` says when it fails.
fn refusal(name: &str, kind: Kind) -> String {
    Interface::open(&plan(name, kind)).unwrap_err().to_string()
}

fn exists(name: &str) -> bool {
    RouteSocket::open().unwrap().link(name).is_ok()
}

/// Checks everything that is asked of an interface for sniffing, by the words of the tools.
fn assert_set_up(name: &str) {
    let link = sh(&format!("ip -o -d link show {name}"));
    let flags = link.split(['<', '>']).nth(1).unwrap().split(',').collect::<Vec<_>>();
    for flag in ["UP", "LOWER_UP", "PROMISC", "NOARP"] {
        assert!(flags.contains(&flag), "{flag} is not in {link}");
    }
    assert!(link.contains("mtu 9001") && link.contains("vnet_hdr off") && link.contains("pi off"), "{link}");
    assert_eq!(sh(&format!("ip -o addr show dev {name}")), "");
    assert_eq!(sh(&format!("cat /proc/sys/net/ipv6/conf/{name}/disable_ipv6")).trim(), "1");
    let filter = sh(&format!("tc filter show dev {name} ingress"));
    assert_eq!(filter.matches("bytecode '1,6 0 0 2'").count(), 1, "{filter}");
    let offloads = sh(&format!("ethtool -k {name}"));
    for offload in ["rx-checksumming", "tcp-segmentation-offload", "large-receive-offload"] {
        assert!(offloads.contains(&format!("{offload}: off")), "{offloads}");
    }
}

#[test]
fn an_interface_is_created_set_up_and_removed() {
    let Some(_namespace) = Namespace::enter() else { return };
    for kind in [Kind::Tap, Kind::Tun] {
        let interface = Interface::open(&plan("mirror0.1", kind)).unwrap();
        assert!(interface.created());
        assert_eq!(interface.complaints(), []);
        assert_set_up("mirror0.1");
        drop(interface);
        assert!(!exists("mirror0.1"));
    }
}

#[test]
fn one_that_exists_is_used_and_stays() {
    let Some(_namespace) = Namespace::enter() else { return };
    for options in ["mode tap", "mode tap multi_queue", "mode tap vnet_hdr pi"] {
        sh(&format!("ip tuntap add dev mirror0 {options}"));
        // The second time nothing is left to do.
        for _ in 0..2 {
            let interface = open("mirror0").unwrap();
            assert!(!interface.created());
            assert_eq!(interface.complaints(), []);
            assert_set_up("mirror0");
        }
        assert!(exists("mirror0"));
        sh("ip link set dev mirror0 mtu 65000");
        let interface = open("mirror0").unwrap();
        assert!(sh("ip link show mirror0").contains("mtu 65000"), "an MTU that is larger is left as it is");
        drop(interface);
        sh("ip link delete mirror0");
    }
}

#[test]
fn a_filter_made_by_tc_is_recognised() {
    let Some(_namespace) = Namespace::enter() else { return };
    sh("ip tuntap add dev mirror0 mode tap");
    let netlink = RouteSocket::open().unwrap();
    let index = netlink.link("mirror0").unwrap().index;
    assert!(!netlink.drops_ingress(index).unwrap());
    sh("tc qdisc add dev mirror0 clsact && tc filter add dev mirror0 ingress bpf direct-action bytecode '1,6 0 0 0'");
    assert!(!netlink.drops_ingress(index).unwrap(), "a filter that lets frames pass is none");
    sh("tc filter add dev mirror0 egress bpf direct-action bytecode '1,6 0 0 2'");
    sh("tc filter add dev mirror0 ingress protocol ip bpf direct-action bytecode '1,6 0 0 2'");
    assert!(!netlink.drops_ingress(index).unwrap(), "neither is one for another direction or some protocol");
    sh("tc filter add dev mirror0 ingress pref 1 bpf direct-action bytecode '1,6 0 0 2'");
    assert!(netlink.drops_ingress(index).unwrap());
}

/// Runs `f` without CAP_NET_ADMIN, as user 65534, who may open /dev/net/tun as everybody may by
/// default.
fn unprivileged<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        // These calls are of the thread, not of the process.
        let thread = scope.spawn(|| {
            set_keep_capabilities(true).unwrap();
            let nobody = Uid::from_raw(65534);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let kept = CapabilitySet::DAC_OVERRIDE;
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).unwrap();
            f()
        });
        thread.join().unwrap()
    })
}

#[test]
fn without_privilege() {
    let Some(_namespace) = Namespace::enter() else { return };
    let said = unprivileged(|| refusal("mirror0", Kind::Tap));
    assert!(said.starts_with("creating tap mirror0 needs CAP_NET_ADMIN"), "{said}");
    assert!(said.contains("setcap cap_net_admin+ep /"), "{said}");
    // The advice, run as given.
    let (_, advice) = said.split_once("with `ip").unwrap();
    sh(&format!("ip{}", advice.trim_end_matches('`')));

    let interface = unprivileged(|| open("mirror0").unwrap());
    let commands: Vec<String> = interface.complaints().iter().map(|c| c.command.clone()).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    assert_eq!(
        interface.complaints()[1].to_string(),
        "this host answers and forwards frames in it that carry its addresses; as root: tc qdisc replace dev mirror0 clsact && \
         tc filter add dev mirror0 ingress bpf direct-action bytecode '1,6 0 0 2'"
    );
    drop(interface);
    for command in commands {
        sh(&command);
    }
    let interface = unprivileged(|| open("mirror0").unwrap());
    assert_eq!(interface.complaints(), []);
    assert_set_up("mirror0");
    drop(interface);

    sh("ip tuntap add dev mirror1 mode tap user 1234");
    let said = unprivileged(|| refusal("mirror1", Kind::Tap));
    assert!(said.starts_with("mirror1 belongs to another user"), "{said}");
    let advice = said.split('`').nth(1).unwrap();
    sh(advice);
    unprivileged(|| open("mirror1").unwrap());
}

#[test]
fn names() {
    for (name, reason) in [
        ("", "empty"),
        ("sixteen-letters-", "15 bytes"),
        ("zwölf-und-drei", ""),
        ("..", "something else"),
        ("all", "something else"),
        ("a/b", "one of"),
        ("a b", "a space"),
        ("tap%d", "one of"),
        ("a:1", "one of"),
        ("a\0", "control"),
    ] {
        match check_name(name) {
            Ok(()) => assert_eq!(reason, "", "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.starts_with(&format!("an interface cannot be named {name:?}: ")), "{said}");
                assert!(!reason.is_empty() && said.contains(reason), "{said}");
            }
        }
    }
}

#[test]
fn names_that_are_taken() {
    let Some(_namespace) = Namespace::enter() else { return };
    sh("ip link add v0 type veth peer name v1; ip tuntap add dev t0 mode tun; ip link add b0 type bridge");
    assert_eq!(
        refusal("v0", Kind::Tap),
        "v0 exists and is a veth interface, not a tap interface: choose another name, or remove it with `ip link delete v0`"
    );
    for (name, kind, what) in [
        ("b0", Kind::Tap, "a bridge interface, not a tap"),
        ("lo", Kind::Tun, "the loopback interface, not a tun"),
        ("t0", Kind::Tap, "a tun interface, not a tap"),
    ] {
        let said = refusal(name, kind);
        assert!(said.contains(what), "{said}");
    }
    let _first = open("mirror0").unwrap();
    assert_eq!(
        refusal("mirror0", Kind::Tap),
        "mirror0 is in use by another process: choose another name, or stop that process"
    );
}

#[test]
fn what_failures_mean() {
    let said = |exists, error: AttachError| explain(&plan("mirror0", Kind::Tap), exists, error).to_string();
    let os = io::Error::from_raw_os_error;
    for code in [libc::ENOENT, libc::ENODEV, libc::ENXIO] {
        assert_eq!(
            said(false, AttachError::Device(os(code))),
            "/dev/net/tun is missing: load the driver with `modprobe tun`; start a container with `--device /dev/net/tun`"
        );
    }
    for (exists, error, start) in [
        (false, AttachError::Device(os(libc::EACCES)), "/dev/net/tun cannot be opened: Permission denied"),
        (false, AttachError::Device(os(libc::EMFILE)), "cannot open /dev/net/tun for mirror0: Too many open files"),
        (true, AttachError::Attach(os(libc::EINVAL)), "mirror0 exists and is of another kind, not a tap"),
        (false, AttachError::Attach(os(libc::ENOMEM)), "cannot attach to mirror0: Cannot allocate memory"),
        (
            false,
            AttachError::Configure(os(libc::EINVAL)),
            "cannot switch off the offloads of mirror0: Invalid argument",
        ),
    ] {
        let said = said(exists, error);
        assert!(said.starts_with(start), "{said}");
    }
    let no_filter = InterfaceError::NoFilter { name: "mirror0".into(), error: os(libc::ENOENT) }.to_string();
    assert!(no_filter.contains("modprobe -a sch_ingress cls_bpf"), "{no_filter}");
}

/// Sets up a busy little host: two addresses on a veth whose far end shows all it sends, addresses
/// on the tap, forwarding on, every neighbour known. Returns the Ethernet addresses of the veth and
/// the tap.
fn host(tap: &str) -> [[u8; 6]; 2] {
    sh(&format!(
        "ip link add v0 type veth peer name v1
         echo 1 > /proc/sys/net/ipv6/conf/v1/disable_ipv6
         ip link set v0 up; ip link set v1 up
         ip addr add 10.9.0.1/24 dev v0; ip addr add fd00:9::1/64 dev v0 nodad
         ip neigh add 10.9.0.7 lladdr 02:00:00:00:09:07 dev v0 nud permanent
         ip neigh add fd00:9::7 lladdr 02:00:00:00:09:07 dev v0 nud permanent
         ip route add default via 10.9.0.7; ip route add default via fd00:9::7
         echo 0 > /proc/sys/net/ipv6/conf/{tap}/disable_ipv6
         ip addr add 10.8.0.1/24 dev {tap}; ip addr add fd00:8::1/64 dev {tap} nodad
         ip link set dev {tap} arp on
         ip neigh add 10.8.0.77 lladdr 02:00:00:00:08:77 dev {tap} nud permanent
         ip neigh add fd00:8::77 lladdr 02:00:00:00:08:77 dev {tap} nud permanent
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts; echo 1 > /proc/sys/net/ipv4/conf/{tap}/bc_forwarding
         for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
    ));
    ["v0", tap].map(|name| {
        let text = sh(&format!("ip -o link show {name}"));
        let address = text.split("link/ether ").nth(1).unwrap();
        let bytes: Vec<u8> = address[..17].split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        bytes.try_into().unwrap()
    })
}

/// Returns frames that a host with these Ethernet addresses would like to answer or forward.
fn provocations(macs: [[u8; 6]; 2]) -> Vec<Vec<u8>> {
    let from = [2, 0, 0, 0, 8, 0x77];
    let mut frames = Vec::new();
    let ttl = 64;
    let [veth, tap] = macs;
    for to in [veth, tap, [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        let mut push = |build: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            build(&mut frame);
            let mut tagged = frame.clone();
            tagged.splice(12..12, [0x81, 0, 0, 0]);
            frames.push(frame);
            // A tag of VLAN 0 carries a priority only, and the host takes the frame as its own.
            frames.push(tagged);
        };
        for address in [[10, 9, 0, 1], [10, 8, 0, 1]] {
            push(&|frame| {
                frame.extend_from_slice(&to);
                frame.extend_from_slice(&from);
                frame.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
                frame.extend_from_slice(&from);
                frame.extend_from_slice(&[10, 8, 0, 77, 0, 0, 0, 0, 0, 0]);
                frame.extend_from_slice(&address);
            });
        }
        // The addresses of the host, of nobody behind it, of everybody.
        for address in
            [[10, 9, 0, 1], [10, 8, 0, 1], [203, 0, 113, 5], [10, 8, 0, 255], [10, 9, 0, 255], [224, 0, 0, 1]]
        {
            let ip = || PacketBuilder::ethernet2(from, to).ipv4([10, 8, 0, 77], address, ttl);
            push(&|frame| ip().icmpv4_echo_request(1, 1).write(frame, b"ping").unwrap());
            push(&|frame| ip().tcp(1024, 80, 1, 1024).syn().write(frame, &[]).unwrap());
            push(&|frame| ip().tcp(1024, 81, 1, 1024).ack(5).write(frame, b"x").unwrap());
            push(&|frame| ip().udp(1024, 9).write(frame, b"closed").unwrap());
        }
        let host = |net: u8| [0xfd, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut from_ip = host(8);
        from_ip[15] = 0x77;
        let mut elsewhere = host(7);
        elsewhere[1] = 1;
        let everybody = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for address in [host(8), host(9), elsewhere, everybody] {
            let ip = || PacketBuilder::ethernet2(from, to).ipv6(from_ip, address, 255);
            push(&|frame| ip().icmpv6_echo_request(1, 1).write(frame, b"ping").unwrap());
            push(&|frame| ip().icmpv6_raw(135, 0, [0; 4]).write(frame, &host(8)).unwrap());
            push(&|frame| ip().tcp(1024, 80, 1, 1024).syn().write(frame, &[]).unwrap());
            push(&|frame| ip().udp(1024, 9).write(frame, b"closed").unwrap());
        }
    }
    frames
}

/// Counts the frames that the host has sent into the interface.
fn sent(interface: &Interface) -> usize {
    std::iter::from_fn(|| interface.tun().take(&mut [0; 64]).ok()).count()
}

#[test]
fn the_host_is_deaf_and_sniffers_are_not() {
    let Some(_namespace) = Namespace::enter() else { return };
    let interface = open("mirror0").unwrap();
    let frames = provocations(host("mirror0"));
    let inject = || frames.iter().for_each(|frame| assert_eq!(interface.tun().inject(frame).unwrap(), frame.len()));
    // The addresses that the test has given it make the host report the multicast groups it is in,
    // for a while.
    loop {
        std::thread::sleep(Duration::from_millis(1500));
        if sent(&interface) == 0 {
            break;
        }
    }
    let not_reports = "not igmp and not (ip6 and ip6[6] == 0)";
    let far_end = Sniffer::start("v1", &[not_reports]);
    let outgoing = Sniffer::start("mirror0", &["-Q", "out"]);
    let incoming = Sniffer::start("mirror0", &["-Q", "in"]);
    inject();
    assert_eq!(incoming.wait_for(frames.len()), frames, "the sniffer sees what was injected");
    // Longer than a ring of the sniffer's keeps frames, and than answers by timer take.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(outgoing.frames(), Vec::<Vec<u8>>::new());
    assert_eq!(far_end.frames(), Vec::<Vec<u8>>::new());
    assert_eq!(sent(&interface), 0);

    // The same without the filter: this host does react, in both directions.
    sh("tc qdisc del dev mirror0 clsact");
    inject();
    wait_until("an answer", || !outgoing.frames().is_empty());
    wait_until("a forwarded frame", || !far_end.frames().is_empty());
    assert!(sent(&interface) > 0);
}

#[test]
fn the_host_says_nothing_of_its_own() {
    let Some(_namespace) = Namespace::enter() else { return };
    sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    for kind in [Kind::Tap, Kind::Tun] {
        let interface = Interface::open(&plan("mirror0", kind)).unwrap();
        // Router solicitations, multicast reports and duplicate address detection would come within
        // a second.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(sent(&interface), 0);
    }
}
