"""Who is compared. A side starts its programs, stops them, and says how many frames are in what they left."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import lab.machine as machine
from lab.load import FIRST_VNI
from lab.network import RECEIVER, sh


class Refused(Exception):
    """The side cannot take part here, and why."""


class Side:
    """Base of all. `output` is "pcap" or "tap"."""

    name = ""
    needs = ()
    # Whether inner frames come out; else the frames are counted with their outer headers.
    strips = True
    # The largest inner frame.
    largest = 9000
    filters = True
    # Seconds after which a block of a program's ring that is not full is handed over: the last frames come out then.
    tail = 0.0

    def __init__(self, rig, output):
        self.rig, self.output = rig, output
        self.programs = []

    def cannot(self, load):
        """Why the side cannot take this load, if it cannot."""
        for program in self.needs:
            if not shutil.which(program):
                return f"{program} is not installed"
        if load.filter is not None and not self.filters:
            return "has no filter by VNI"
        if load.mean() > self.largest:
            return f"takes frames up to {self.largest} bytes"
        return None

    def start(self, load):
        raise NotImplementedError

    def clear(self):
        """Removes what `start` made beside programs."""

    def launch(self, ready, *command):
        """Starts a program on the receiving processors, and waits until it has said `ready`."""
        number = len(self.programs)
        log, out = (os.path.join(self.rig.work, f"{number}.{kind}") for kind in ("log", "out"))
        processors = ",".join(map(str, self.rig.options.receivers))
        with open(log, "w") as log_file, open(out, "w") as out_file:
            program = subprocess.Popen(
                self.rig.net.within(self.rig.net.receive, "taskset", "-c", processors, *command),
                stdout=out_file, stderr=log_file, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.programs.append(program)
        end = time.monotonic() + 30
        while not re.search(ready, machine.text(log) + machine.text(out)):
            if program.poll() is not None or time.monotonic() > end:
                said = (machine.text(log).strip() or "nothing").splitlines()
                raise Refused(f"{os.path.basename(command[0])} did not start: {said[-1]}")
            time.sleep(0.02)

    def sniff(self, device):
        self.launch("listening on", self.rig.tool("sniff"), device)

    def pids(self):
        return [program.pid for program in self.programs]

    def peak_kib(self):
        """The most memory that the programs had resident."""
        found = [re.search(r"VmHWM:\s+(\d+)", machine.text(f"/proc/{pid}/status")) for pid in self.pids()]
        return sum(int(match[1]) for match in found if match)

    def stop(self):
        """Ends the programs as their users do, last started first; kills what has not ended after a while."""
        for program in reversed(self.programs):
            if program.poll() is None:
                program.send_signal(signal.SIGINT)
                try:
                    program.wait(30)
                except subprocess.TimeoutExpired:
                    program.kill()
                    program.wait()
        self.exits = [program.returncode for program in self.programs]
        self.programs = []
        self.clear()

    def printed(self, number):
        return machine.text(os.path.join(self.rig.work, f"{number}.out"))

    def count(self, sent):
        """Frames that came out, of `sent`: those in the files, or those that the reader of the interface saw."""
        if self.output == "tap":
            return json.loads(self.printed(len(self.exits) - 1))["frames"], {}
        found = json.loads(sh(self.rig.tool("count"), self.rig.files, str(sent)))
        if found["twice"] or self.strips and found["foreign"] or found["broken"] or found["outer" if self.strips else "inner"]:
            raise RuntimeError(f"{self.name}: the files have what they should not: {found}")
        return found["inner" if self.strips else "outer"], found


class Vxtap(Side):
    def __init__(self, rig, output, way, redirect=False):
        super().__init__(rig, output)
        self.name = f"vxtap {' '.join(way) or 'udp'}" + (" redirect" if redirect else "")
        self.way = ["--source", way[0], "--attach", way[1], "--interface", "v1"] if way else []
        self.tap_mode = ["--tap-mode", "redirect"] if redirect else []

    def start(self, load):
        where = ["--write", self.rig.files] if self.output == "pcap" else ["--tap", "mirror0", *self.tap_mode, "--no-write"]
        keep = load.wanted_vnis()
        vnis = ["--vni", ",".join(map(str, keep))] if keep else []
        workers = str(len(self.rig.options.receivers))
        self.launch(
            "receiving", self.rig.vxtap, "run", "--workers", workers, "--ledger", "json", *self.way, *where, *vnis, *self.rig.vxtap_options
        )  # fmt: skip
        if self.output == "tap":
            self.sniff("mirror0")

    def ledger(self):
        return json.loads(self.printed(0))


class Kernel(Side):
    """The kernel's vxlan device: one for a single VNI, or one for all VNIs (`external`), and a sniffer on it."""

    needs = ("ip", "bridge")

    def __init__(self, rig, output, sniffer=None, each=False):
        super().__init__(rig, output)
        self.sniffer, self.each = sniffer, each
        self.name = "vxlan" + (" each" if each else "") + (f" + {sniffer}" if sniffer else "")
        self.needs = Kernel.needs + ((sniffer,) if sniffer else ())
        self.devices = []

    def cannot(self, load):
        if self.each and not 1 < load.vnis <= 16:
            return "a device and a sniffer for each VNI: for 2 to 16 of them"
        return super().cannot(load)

    def start(self, load):
        keep = load.wanted_vnis() or list(range(FIRST_VNI, FIRST_VNI + load.vnis))
        if self.each or len(keep) == load.vnis == 1:
            for vni in keep:
                self.add(f"vx{vni}", "id", str(vni), "local", RECEIVER, "dev", "v1")
        else:
            chosen = load.filter is not None
            self.add("vxall", "external", *(["vnifilter"] if chosen else []))
            if chosen:
                sh("bridge", "-n", self.rig.net.receive, "vni", "add", "dev", "vxall", "vni", f"{keep[0]}-{keep[-1]}")
        for device in self.devices:
            self.sniff(device) if self.output == "tap" else SNIFFERS[self.sniffer](self, device, load)

    def add(self, device, *kind):
        net = self.rig.net
        sh("ip", "-n", net.receive, "link", "add", device, "type", "vxlan", *kind, "dstport", "4789", "nolearning")
        self.devices.append(device)
        net.quiet(net.receive, device)
        sh("ip", "-n", net.receive, "link", "set", device, "mtu", "8950", "up", "promisc", "on")

    def clear(self):
        for device in self.devices:
            sh("ip", "-n", self.rig.net.receive, "link", "del", device)
        self.devices = []


class Outer(Side):
    """A sniffer on the outer interface: nothing is stripped, every later reader has to. The host answers some of the
    datagrams, to which nobody listens."""

    strips = False
    filters = False
    largest = 8950

    def __init__(self, rig, output):
        super().__init__(rig, output)
        self.name = "outer tcpdump"
        self.needs = ("tcpdump",)

    def start(self, load):
        tcpdump(self, "v1", load, "udp dst port 4789")


class Floor(Side):
    """A program that drops each frame at the interface: what is left is the rig's own cost."""

    name = "floor"
    filters = False

    def start(self, load):
        self.within = self.rig.net.within(self.rig.net.receive)
        sh(*self.within, "ip", "link", "set", "v1", "xdpdrv", "object", self.rig.tool("drop.bpf.o"), "section", "xdp.frags")
        self.before = self.rig.net.arrived()[0]

    def clear(self):
        self.arrived = self.rig.net.arrived()[0] - self.before
        sh(*self.within, "ip", "link", "set", "v1", "xdpdrv", "off")

    def count(self, sent):
        return self.arrived, {}


class Suricata(Side):
    """Suricata's pcap-log, which has the outer frames."""

    name = "suricata"
    strips = False
    filters = False
    needs = ("suricata",)

    def start(self, load):
        config = os.path.join(self.rig.work, "suricata.yaml")
        with open(config, "w") as file:
            file.write(SURICATA % len(self.rig.options.receivers))
        self.launch(
            "Engine started", "suricata", "-c", config, "--af-packet=v1", "-l", self.rig.files, "-k", "none", "--runmode", "workers", "-v"
        )  # fmt: skip


def tcpdump(side, device, _load, *filter):
    path = os.path.join(side.rig.files, f"{device}.pcap")
    kib = str(side.rig.options.ring * 1024)
    # What its ring still has when it is ended, it does not write.
    side.tail = 1.0
    side.launch("listening on", "tcpdump", "-i", device, "-n", "-B", kib, "-Z", "root", "-w", path, *filter)


def dumpcap(side, device, _load):
    path = os.path.join(side.rig.files, f"{device}.pcap")
    side.launch("File:", "dumpcap", "-i", device, "-q", "-P", "-B", str(side.rig.options.ring), "-w", path)


def netsniff(side, device, load):
    path = os.path.join(side.rig.files, f"{device}.pcap")
    jumbo = ["--jumbo-support"] if load.mean() > 1900 else []
    side.launch(
        "Running!", "netsniff-ng", "--in", device, "--out", path, "--silent", "--notouch-irq", "--no-sock-mem",
        "--ring-size", f"{side.rig.options.ring}MiB", *jumbo,
    )  # fmt: skip


SNIFFERS = {"tcpdump": tcpdump, "dumpcap": dumpcap, "netsniff-ng": netsniff}

SURICATA = """%%YAML 1.1
---
af-packet:
  - interface: v1
    threads: %d
    cluster-id: 99
    cluster-type: cluster_flow
    tpacket-v3: yes
    block-size: 1048576
    ring-size: 20000
# It would turn off the veth's NAPI.
capture:
  disable-offloading: false
outputs:
  - pcap-log:
      enabled: yes
      filename: log.pcap
      limit: 64gb
      mode: normal
logging:
  default-log-level: notice
  outputs:
    - console:
        enabled: yes
max-pending-packets: 10000
"""


def all_sides(rig, output):
    """Every side that this machine may have, in the order in which they take turns."""
    ways = [()] + [("bpf", attach) for attach in ("tc", "xdp") if rig.vxtap_has("--source", "--attach")]
    vxtap = [Vxtap(rig, output, way) for way in ways]
    if output == "tap":
        redirect = [Vxtap(rig, output, ("bpf", "tc"), redirect=True)] if rig.vxtap_has("--tap-mode") else []
        return [*redirect, *vxtap, Kernel(rig, output)]
    kernel = [Kernel(rig, output, sniffer) for sniffer in SNIFFERS]
    return [*vxtap, *kernel, Kernel(rig, output, "tcpdump", each=True), Outer(rig, output), Floor(rig, output), Suricata(rig, output)]
