"""Two network namespaces and a veth pair between them."""

import itertools
import json
import os
import subprocess

import lab.machine as machine

SENDER, RECEIVER = "10.99.0.1", "10.99.0.2"
SENDER_MAC, RECEIVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
MTU = 9001


def sh(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Network:
    """v0 in the sender's namespace, v1 in the receiver's; g0 and g1 feed the generator's larger frames into its
    queues."""

    def __init__(self, receivers):
        # Each receiving processor is to have a queue of v1, and so a NAPI, to itself: the kernel takes the processor's
        # number modulo the number of queues.
        self.queues = next(n for n in itertools.count(1) if len({number % n for number in receivers}) == len(receivers))

    def __enter__(self):
        self.send, self.receive = (f"rig-{side}-{os.getpid()}" for side in ("send", "receive"))
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        sh("ip", "netns", "add", self.send)
        sh("ip", "netns", "add", self.receive)
        sh("ip", "link", "add", "v0", "netns", self.send, "type", "veth", "peer", "name", "v1", "netns", self.receive)
        sh("ip", "link", "add", "g0", "netns", self.send, "type", "veth", "peer", "name", "g1", "netns", self.send)
        sh("ip", "-n", self.send, "link", "set", "v0", "address", SENDER_MAC)
        sh("ip", "-n", self.receive, "link", "set", "v1", "address", RECEIVER_MAC)
        for namespace, device in [(self.send, "v0"), (self.send, "g0"), (self.send, "g1"), (self.receive, "v1")]:
            self.quiet(namespace, device)
            sh("ip", "-n", namespace, "link", "set", device, "mtu", str(MTU), "up")
        for namespace, device, address in [(self.send, "v0", SENDER), (self.receive, "v1", RECEIVER)]:
            sh("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", device)
        sh("ip", "-n", self.receive, "link", "set", "lo", "up")
        # Nobody asks for addresses: a reply would be a frame that the generator did not send.
        sh("ip", "-n", self.receive, "neigh", "add", SENDER, "lladdr", SENDER_MAC, "dev", "v1", "nud", "permanent")
        if self.queues > 1:
            sh("ip", "netns", "exec", self.receive, "ethtool", "-L", "v1", "rx", str(self.queues))
        # With GRO a veth has a NAPI, without which nothing can be redirected into its other end.
        sh("ip", "netns", "exec", self.receive, "ethtool", "-K", "v1", "gro", "on")
        sh("ip", "netns", "exec", self.send, "ethtool", "-K", "g1", "gro", "on")
        # A namespace's counters are read through a process in it.
        self.resident = subprocess.Popen(["ip", "netns", "exec", self.receive, "sleep", "infinity"], start_new_session=True)

    def quiet(self, namespace, device):
        """Keeps the host from sending on its own."""
        sh("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")

    def __exit__(self, *_):
        if hasattr(self, "resident"):
            self.resident.kill()
            self.resident.wait()
        for namespace in (self.send, self.receive):
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)

    def within(self, namespace, *command):
        return ["ip", "netns", "exec", namespace, *command]

    def arrived(self):
        """Frames that came through the veth, and datagrams for which a socket had no room."""
        link = json.loads(sh("ip", "-n", self.receive, "-s", "-j", "link", "show", "v1"))[0]
        names, values = [
            line.split()[1:] for line in machine.text(f"/proc/{self.resident.pid}/net/snmp").splitlines() if line.startswith("Udp:")
        ]
        udp = dict(zip(names, map(int, values)))
        return link["stats64"]["rx"]["packets"], udp["RcvbufErrors"]
