"""What is offered: frames, sessions, rates; and the generator that offers it."""

import dataclasses
import json
import subprocess

import lab.network as network

# Lengths of inner frames, taken in turn. IMIX is 7 : 4 : 1.
MIXES = {
    "64": [64],
    "imix": [64, 594, 64, 594, 64, 64, 1514, 594, 64, 64, 594, 64],
    "1514": [1514],
    "8900": [8900],
}
FIRST_VNI = 7
SEND_CPU = 0
# The generator has room for no more.
MOST_RECEIVERS = 16


@dataclasses.dataclass(frozen=True)
class Load:
    """The frames of a trial. Conversations take turns frame by frame; `train` frames in a row are of one."""

    mix: str
    vnis: int = 1
    # The share of the VNIs that is asked for; None asks for all, without a filter.
    filter: float | None = None
    train: int = 1
    flows: int = 1024
    ports: int = 64

    def mean(self):
        return sum(MIXES[self.mix]) / len(MIXES[self.mix])

    def wanted_vnis(self):
        """The VNIs to keep; None for all."""
        return None if self.filter is None else list(range(FIRST_VNI, FIRST_VNI + max(1, int(self.vnis * self.filter))))

    def wanted_of(self, sent):
        """How many of the first `sent` frames are of VNIs to keep. VNIs take turns."""
        if self.filter is None:
            return sent
        keep, round_length = len(self.wanted_vnis()) * self.train, self.vnis * self.train
        return sent // round_length * keep + min(keep, sent % round_length)

    def name(self):
        parts = [self.mix if self.mix == "imix" else f"{self.mix} B"]
        if self.vnis > 1:
            parts.append(f"{self.vnis} VNIs")
        if self.filter is not None:
            parts.append(f"{len(self.wanted_vnis())} of them kept")
        return ", ".join(parts)


class Generator:
    def __init__(self, program, net, options):
        self.program, self.net, self.options = program, net, options

    def offer(self, load, rate, seconds):
        """Offers `rate * seconds` frames and returns what the generator says of it."""
        keys = {
            "lengths": ",".join(map(str, MIXES[load.mix])),
            "rate": rate,
            "count": int(rate * seconds),
            "out": "v0",
            "to_mac": network.RECEIVER_MAC,
            "to_ip": network.RECEIVER,
            "from_ip": network.SENDER,
            "cpus": ",".join(map(str, self.options.receivers)),
            "depth": self.options.depth,
            "fifo": self.options.fifo,
            "nice": self.options.nice,
            "flows": load.flows,
            "ports": load.ports,
            "vnis": load.vnis,
            "vni": FIRST_VNI,
            "train": load.train,
            "jumbo_in": "g0",
            "jumbo_out": "g1",
            "limit": int(seconds * 3 + 5),
        }
        command = [self.program] + [f"{key}={value}" for key, value in keys.items()]
        # A session of its own: where the scheduler groups processes by session, it shares nothing with the receivers.
        done = subprocess.run(
            self.net.within(self.net.send, "taskset", "-c", str(SEND_CPU), *command),
            capture_output=True, text=True, start_new_session=True, timeout=seconds * 3 + 30,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the generator failed: {done.stderr.strip()}")
        return json.loads(done.stdout)
