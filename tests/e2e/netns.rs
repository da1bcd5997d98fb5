//! Network namespaces, cables between them, and what their kernel counts, are made and read here.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::need::succeeds;
use crate::process::{eventually, run};

/// Where `ip` keeps them.
const FOLDER: &str = "/var/run/netns";

/// A namespace, deleted when this is dropped, with all that is in it.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace: quiet (no router solicitations, no duplicate address detection, no
    /// addresses of its own making), `lo` up.
    pub(crate) fn new() -> Namespace {
        let namespace = Namespace { name: name() };
        run(Command::new("ip").args(["netns", "add", &namespace.name]));
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0");
        namespace.sysctl("net.ipv6.conf.default.router_solicitations", "0");
        namespace.sysctl("net.ipv6.conf.default.addr_gen_mode", "1");
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        run(self.command("sysctl").args(["-qw", &format!("{key}={value}")]));
    }

    /// Calls `ip` with these words, on this namespace.
    pub(crate) fn ip(&self, words: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()));
    }

    /// Calls `bridge` with these words, on this namespace.
    pub(crate) fn bridge(&self, words: &str) {
        run(Command::new("bridge").args(["-n", &self.name]).args(words.split_whitespace()));
    }

    /// Waits until the kernel has noticed that the device has a carrier. Until then it drops what
    /// is sent there, and says nothing.
    #[track_caller]
    pub(crate) fn carries(&self, device: &str) {
        let link = || run(Command::new("ip").args(["-n", &self.name, "-j", "link", "show", device])).stdout;
        eventually("the device is up", || {
            let links: Value = serde_json::from_slice(&link()).unwrap();
            links[0]["operstate"] == "UP"
        });
    }

    /// Has one core receive what comes to `device`, whichever has sent it. A timer of the kernel
    /// sends on any core, and would overtake what another core has queued.
    pub(crate) fn receives_on_one_core(&self, device: &str) {
        let steer = format!("echo 1 >/sys/class/net/{device}/queues/rx-0/rps_cpus");
        run(self.command("sh").args(["-c", &steer]));
    }

    /// Lets frames leave and come in as they are on the wire: none merged, none split, checksums
    /// complete.
    pub(crate) fn no_offloads(&self, device: &str) {
        for feature in ["tx", "sg", "tso", "gso", "gro"] {
            run(self.command("ethtool").args(["-K", device, feature, "off"]));
        }
    }

    /// Returns a command to be run within. The process becomes that program, so it has the
    /// program's exit code and pid.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs this within the namespace. Sockets stay in it.
    pub(crate) fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = fs::File::open(Path::new(FOLDER).join(&self.name)).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            run()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|cause| panic::resume_unwind(cause))
    }

    /// Returns what the kernel counted of UDP here, over IPv4 and IPv6 together.
    pub(crate) fn udp_counters(&self) -> UdpCounters {
        let read = |path: &str| String::from_utf8(run(self.command("cat").arg(path)).stdout).unwrap();
        UdpCounters::parse(&read("/proc/net/snmp"), &read("/proc/net/snmp6"))
    }

    /// Returns how many bytes wait in UDP sockets here that are bound to this port.
    pub(crate) fn udp_queued(&self, port: u16) -> u64 {
        let read = |path: &str| String::from_utf8(run(self.command("cat").arg(path)).stdout).unwrap();
        let queued = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (_, local) = fields.next()?.rsplit_once(':')?;
            let (_, received) = fields.nth(2)?.split_once(':')?;
            let is_it = u16::from_str_radix(local, 16).ok()? == port;
            u64::from_str_radix(received, 16).ok().filter(|_| is_it)
        };
        let tables = ["/proc/net/udp", "/proc/net/udp6"].map(read);
        tables.iter().flat_map(|table| table.lines().filter_map(queued)).sum()
    }

    /// Says whether there is an interface of this name.
    pub(crate) fn has_link(&self, device: &str) -> bool {
        succeeds(Command::new("ip").args(["-n", &self.name, "link", "show", "dev", device]))
    }

    /// Says whether the kernel has this kind of device, of which it makes one and removes it.
    pub(crate) fn can_make(&self, kind: &str) -> bool {
        let ip = |words: &str| succeeds(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()));
        let details = match kind {
            "vlan" => "id 2",
            "geneve" => "id 2 remote 192.0.2.1",
            "gretap" | "erspan" => "local 192.0.2.2 remote 192.0.2.1",
            _ => "",
        };
        // These are on no device.
        let below = if matches!(kind, "gretap" | "erspan") { "" } else { "link eth0" };
        ip(&format!("link add {below} name probe0 type {kind} {details}")) && ip("link del probe0")
    }

    /// Returns the number of an interface.
    pub(crate) fn link_index(&self, device: &str) -> u64 {
        let output = run(Command::new("ip").args(["-n", &self.name, "-j", "link", "show", device]));
        let links: Value = serde_json::from_slice(&output.stdout).unwrap();
        links[0]["ifindex"].as_u64().unwrap()
    }

    /// Returns a counter of an interface, as `rx.packets`.
    pub(crate) fn link_counter(&self, device: &str, direction: &str, name: &str) -> u64 {
        let output = run(Command::new("ip").args(["-n", &self.name, "-s", "-j", "link", "show", device]));
        let links: Value = serde_json::from_slice(&output.stdout).unwrap();
        links[0]["stats64"][direction][name].as_u64().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Datagrams that came to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UdpCounters {
    /// Read by a program.
    pub(crate) delivered: u64,
    /// Dropped at a socket: its buffer was full, its filter refused them, or their checksum is
    /// wrong.
    pub(crate) refused_or_no_room: u64,
    /// Nobody listened.
    pub(crate) no_port: u64,
}

impl UdpCounters {
    /// Returns the counters of a process's namespace, without the time that it takes to start a
    /// program.
    #[track_caller]
    pub(crate) fn of(pid: Pid) -> UdpCounters {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", pid.as_raw_nonzero())).unwrap();
        UdpCounters::parse(&read("snmp"), &read("snmp6"))
    }

    fn parse(v4: &str, v6: &str) -> UdpCounters {
        let mut rows = v4.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_whitespace);
        let (names, numbers) = (rows.next().unwrap(), rows.next().unwrap());
        let mut counters: BTreeMap<String, u64> =
            names.zip(numbers).map(|(name, n)| (name.to_string(), n.parse().unwrap())).collect();
        for line in v6.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(n)) = (words.next().and_then(|w| w.strip_prefix("Udp6")), words.next()) {
                *counters.entry(name.to_string()).or_default() += n.parse::<u64>().unwrap();
            }
        }
        UdpCounters {
            delivered: counters["InDatagrams"],
            refused_or_no_room: counters["InErrors"],
            no_port: counters["NoPorts"],
        }
    }
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let name = format!("vxtap-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // One that exists was left behind by an earlier process of the same number that was killed.
        if !Path::new(FOLDER).join(&name).exists() {
            return name;
        }
    }
}

/// Says whether namespaces can be made here.
pub(crate) fn probe() -> Result<(), ()> {
    let probe = Namespace { name: name() };
    if succeeds(Command::new("ip").args(["netns", "add", &probe.name])) { Ok(()) } else { Err(()) }
}

/// IP version of the outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

/// Address of host number `host` on the underlay.
pub(crate) fn address(ip: Ip, host: u8) -> IpAddr {
    match ip {
        Ip::V4 => Ipv4Addr::new(10, 73, 0, host).into(),
        Ip::V6 => Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

pub(crate) fn mac(host: u8) -> String {
    format!("02:00:00:00:73:{host:02x}")
}

/// Gives a host its addresses on `eth0`, and the others' by heart: no question is asked on the
/// wire, and no datagram waits for an answer.
fn configure(namespace: &Namespace, host: u8, others: &[u8]) {
    namespace.ip(&format!("addr add {}/24 dev eth0", address(Ip::V4, host)));
    namespace.ip(&format!("addr add {}/64 dev eth0 nodad", address(Ip::V6, host)));
    namespace.ip("link set eth0 up");
    for other in others {
        for ip in [Ip::V4, Ip::V6] {
            let (to, mac) = (address(ip, *other), mac(*other));
            namespace.ip(&format!("neigh replace {to} lladdr {mac} nud permanent dev eth0"));
        }
    }
}

/// Two hosts on one cable: one that sends mirror traffic and one where the sensor runs.
pub(crate) struct Pair {
    pub(crate) sender: Namespace,
    pub(crate) sensor: Namespace,
}

/// Host number of the pair's sender.
const SENDER: u8 = 1;
/// Host number of the sensor, in a pair and at a switch.
pub(crate) const SENSOR: u8 = 2;

impl Pair {
    /// Makes a pair with a cable that carries IP packets of up to `mtu` bytes.
    pub(crate) fn new(mtu: u32) -> Pair {
        let pair = Pair { sender: Namespace::new(), sensor: Namespace::new() };
        pair.plug_in(mtu);
        pair
    }

    /// Lays the cable, where there is none, or it has been cut by deleting an end.
    pub(crate) fn plug_in(&self, mtu: u32) {
        self.sender.ip(&format!(
            "link add eth0 address {} mtu {mtu} type veth peer name eth0 address {} mtu {mtu} netns {}",
            mac(SENDER),
            mac(SENSOR),
            self.sensor.name
        ));
        configure(&self.sender, SENDER, &[SENSOR]);
        configure(&self.sensor, SENSOR, &[SENDER]);
        self.carries();
    }

    /// Waits until the kernel has noticed at both ends that the cable carries.
    #[track_caller]
    pub(crate) fn carries(&self) {
        [&self.sender, &self.sensor].into_iter().for_each(|host| host.carries("eth0"));
    }

    /// Says where the sensor is, from the sender.
    pub(crate) fn target(&self, ip: Ip) -> SocketAddr {
        SocketAddr::new(address(ip, SENSOR), 4789)
    }

    /// Returns the sender's address.
    pub(crate) fn source(&self, ip: Ip) -> IpAddr {
        address(ip, SENDER)
    }

    /// Packets that the cable had no room for, because the receiving core was behind. Since Linux
    /// 6.9 the sender is told, and replay sends them again; before, they are lost, which is not the
    /// sensor's loss and not in its ledger.
    pub(crate) fn no_room(&self) -> u64 {
        self.sender.link_counter("eth0", "tx", "dropped")
    }

    /// Fails unless as many datagrams arrived as were sent, or less those that the cable lost.
    #[track_caller]
    pub(crate) fn assert_arrived(&self, arrived: u64, sent: u64) {
        let no_room = self.no_room();
        assert!(
            arrived == sent || arrived + no_room == sent,
            "{arrived} arrived of {sent}; the cable had no room for {no_room}"
        );
    }

    /// Fails unless as many datagrams arrived as were sent.
    #[track_caller]
    pub(crate) fn assert_all_arrived(&self, arrived: u64, sent: usize) {
        assert_eq!(arrived, sent as u64, "the cable had no room for {}", self.no_room());
    }
}

/// Hosts 1, 2 and 3 at a switch.
pub(crate) struct Switched {
    pub(crate) hosts: [Namespace; 3],
    switch: Namespace,
}

impl Switched {
    /// Makes three hosts whose cables carry IP packets of up to `mtu` bytes.
    pub(crate) fn new(mtu: u32) -> Switched {
        let switch = Namespace::new();
        switch.ip("link add br0 type bridge stp_state 0 mcast_snooping 0");
        switch.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        switch.ip(&format!("link set br0 mtu {mtu} up"));
        let hosts = [1, 2, 3].map(|host: u8| {
            let namespace = Namespace::new();
            switch.ip(&format!(
                "link add port{host} mtu {mtu} type veth peer name eth0 address {} mtu {mtu} netns {}",
                mac(host),
                namespace.name
            ));
            switch.ip(&format!("link set port{host} master br0 up"));
            configure(&namespace, host, &[1, 2, 3].into_iter().filter(|other| *other != host).collect::<Vec<u8>>());
            namespace
        });
        hosts.iter().for_each(|host| host.carries("eth0"));
        (1..=3).for_each(|host| switch.carries(&format!("port{host}")));
        Switched { hosts, switch }
    }

    /// Has frames keep their order across the switch, whichever core sends them.
    pub(crate) fn keeps_order(&self) {
        (1..=3).for_each(|host| self.switch.receives_on_one_core(&format!("port{host}")));
        self.hosts.iter().for_each(|host| host.receives_on_one_core("eth0"));
    }

    /// Packets that the cables lost.
    pub(crate) fn lost_on_the_way(&self) -> u64 {
        let ports: u64 = (1..=3).map(|host| self.switch.link_counter(&format!("port{host}"), "tx", "dropped")).sum();
        ports + self.hosts.iter().map(|host| host.link_counter("eth0", "tx", "dropped")).sum::<u64>()
    }
}
