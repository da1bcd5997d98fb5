"""What the machine is, and what its processors did."""

import mmap
import os
import platform
import re
import subprocess
import time

TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def text(path):
    """A file's text; empty where it is gone, as a process that has ended."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


class Processor:
    """How busy a processor was since `start`, by what the kernel says that it was idle.

    The kernel measures idle time and samples all other kinds, at 250 ticks a second here. So busy time is what is
    left of the clock's, less the time that the hypervisor took away.
    """

    def __init__(self, number):
        self.number = number
        self.start()

    def _read(self):
        line = re.search(rf"^cpu{self.number} (.*)$", text("/proc/stat"), re.M)
        _, _, _, idle, waiting, _, _, stolen = [int(n) * TICK_NS for n in line[1].split()[:8]]
        return time.monotonic_ns(), idle + waiting, stolen

    def start(self):
        self.begin = self._read()

    def busy_and_stolen_ns(self):
        clock, idle, stolen = (after - before for before, after in zip(self.begin, self._read()))
        return max(0, clock - idle - stolen), stolen


def threads_ns(pids):
    """Time on a processor of all threads of these processes."""
    total = 0
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            total += int((text(f"/proc/{pid}/task/{thread}/schedstat").split() or ["0"])[0])
    return total


def kernel_thread(name):
    """The pid of a kernel thread; 0 if there is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if text(f"/proc/{pid}/comm").strip() == name:
            return int(pid)
    return 0


def touch(size):
    """Makes sure that `size` bytes of memory are the machine's: a hypervisor gives a guest its pages when they are
    first touched, and takes free ones back. Writing to a file whose pages are not there yet is eight times slower."""
    size = min(size, free_memory() // 2)
    if size < 1 << 20:
        return
    with mmap.mmap(-1, size) as memory:
        piece = bytes(1 << 20)
        for at in range(0, size - len(piece) + 1, len(piece)):
            memory[at : at + len(piece)] = piece


def free_memory():
    return int(re.search(r"MemAvailable:\s+(\d+)", text("/proc/meminfo"))[1]) << 10


def disk_mb_s(directory, mib=1024):
    """What a disk takes past the page cache, in MB/s; None where it cannot be asked."""
    path = os.path.join(directory, "disk")
    command = ["dd", "if=/dev/zero", f"of={path}", "bs=4M", f"count={mib // 4}", "oflag=direct"]
    begin = time.monotonic()
    done = subprocess.run(command, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    os.unlink(path)
    return round(mib * 1.048576 / seconds) if done.returncode == 0 else None


def output_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def version(*command):
    """The first line with a version number in what a program prints of itself."""
    for line in output_of(*command).splitlines():
        if re.search(r"\d+\.\d+", line):
            return line.strip()
    return None


def describe(vxtap):
    """What results depend on beside the programs' own merits."""
    cpu = text("/proc/cpuinfo")
    programs = {
        "vxtap": version(vxtap, "--version"),
        "tcpdump": version("tcpdump", "--version"),
        "dumpcap": version("dumpcap", "--version"),
        "netsniff-ng": version("netsniff-ng", "--version"),
        "suricata": version("suricata", "-V"),
        "iproute2": version("ip", "-V"),
    }
    here = os.path.dirname(os.path.abspath(__file__))
    return {
        "kernel": platform.release(),
        "processor": re.search(r"model name\s*: (.*)", cpu)[1],
        "processors": os.cpu_count(),
        "virtual": "hypervisor" in cpu,
        "memory_gib": round(int(re.search(r"MemTotal:\s+(\d+)", text("/proc/meminfo"))[1]) / 2**20, 1),
        "commit": output_of("git", "-C", here, "describe", "--always", "--dirty").strip(),
        "programs": {name: said for name, said in programs.items() if said},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
