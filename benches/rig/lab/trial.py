"""One trial: one side, one load, one rate."""

import contextlib
import os
import shutil
import time

import lab.machine as machine

# A backlog that takes longer than this share of the trial to work off is a deficit that memory has hidden.
BACKLOG = 0.15
# The sender is behind by more than this share: what was offered is not what was asked for.
SLOW = 0.05
# Other work on a receiving processor that disturbs a trial, as a share of the processor. Its clock ticks and interrupts,
# which no thread is charged for, are about 0.03.
DISTURBED = 0.06


class Broken(Exception):
    """A trial that proves an error, of a side or of the rig."""


def run(rig, side, load, rate, seconds):
    """Runs it, and returns what was measured."""
    clean(rig.files)
    if side.output == "pcap":
        machine.touch(int(rate * seconds * (load.mean() + 66) * 1.1))
    try:
        side.start(load)
        time.sleep(0.3)
        trial = measured(rig, side, load, rate, seconds)
        time.sleep(side.tail)
    finally:
        side.stop()
    trial["counted"], trial["files"] = side.count(trial["sent"])
    clean(rig.files)
    attribute(side, trial)
    return trial


def clean(directory):
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def measured(rig, side, load, rate, seconds):
    """The part under load."""
    pids = side.pids()
    receivers = rig.options.receivers
    softirqs = [machine.kernel_thread(f"ksoftirqd/{number}") for number in receivers]
    arrived, refused = rig.net.arrived()
    own = machine.threads_ns(pids + softirqs)
    processors, begin = [machine.Processor(number) for number in receivers], time.monotonic()
    offered = rig.generator.offer(load, rate, seconds)
    backlog = until_idle(pids, len(receivers), offered["end_ns"] / 1e9)
    time.sleep(0.6)
    busy, stolen = map(sum, zip(*(processor.busy_and_stolen_ns() for processor in processors)))
    elapsed = time.monotonic() - begin
    own = machine.threads_ns(pids + softirqs) - own + offered["queue_thread_ns"]
    arrived_now, refused_now = rig.net.arrived()
    taken = sum(offered["taken"])
    # A queue's thread runs what the interrupt of a network card would, and the card's drops happen before it.
    return {
        "side": side.name,
        "output": side.output,
        "load": load.name(),
        "mix": load.mix,
        "vnis": load.vnis,
        "filter": load.filter,
        "rate": int(rate),
        "seconds": seconds,
        "sent": offered["sent"],
        "offered": offered["rate"],
        "late": offered["late"],
        "sender_failed": offered["failed"],
        "sender_waited_ns": offered["waited_ns"],
        "wanted": load.wanted_of(offered["sent"]),
        "receivers": receivers,
        "taken": offered["taken"],
        "lost_in_queue": offered["sent"] - taken,
        "lost_in_veth": taken - (arrived_now - arrived),
        "lost_at_socket": refused_now - refused,
        "backlog_s": backlog,
        "busy_ns": busy,
        "own_ns": own,
        "stolen_ns": stolen,
        "elapsed_s": elapsed,
        "peak_kib": side.peak_kib(),
    }


def until_idle(pids, processors, since, longest=10.0):
    """Waits until the receivers have little left to do, and returns how long after the last frame that was, in seconds.
    About 0.1 is nothing: the generator looks that long whether its queues are empty."""
    before, at = machine.threads_ns(pids), time.monotonic()
    while at - since < longest:
        time.sleep(0.05)
        now, clock = machine.threads_ns(pids), time.monotonic()
        if now - before < (clock - at) * 0.1e9 * processors:
            break
        before, at = now, clock
    return round(at - since, 3)


def attribute(side, trial):
    """What follows from what was measured, and what must be so."""
    sent, counted = trial["sent"], trial["counted"]
    if trial["sender_failed"] or not sent:
        raise Broken(f"the generator could not make {trial['sender_failed']} frames")
    if sent != int(trial["rate"] * trial["seconds"]):
        raise Broken(f"the generator was too slow: {sent} frames in {sent / trial['offered']:.1f} s")
    trial["lost"] = 1 - counted / trial["wanted"]
    trial["backlog_share"] = trial["backlog_s"] / (sent / trial["offered"])
    # What other programs did on these processors is not the side's; a share of one of them, on average.
    trial["foreign"] = (trial["busy_ns"] - trial["own_ns"]) / 1e9 / trial["elapsed_s"] / len(trial["receivers"])
    trial["disturbed"] = trial["foreign"] > DISTURBED
    trial["slow_sender"] = trial["offered"] < (1 - SLOW) * trial["rate"]
    cost = trial["own_ns"] if trial["disturbed"] else trial["busy_ns"]
    # With a filter, a frame that is left out is work as well.
    trial["ns"] = cost / max(1, counted * sent / trial["wanted"])
    reached = sent - trial["lost_in_queue"] - trial["lost_in_veth"]
    if counted > trial["wanted"]:
        raise Broken(f"{side.name}: {counted} frames of {trial['wanted']}")
    if hasattr(side, "ledger"):
        check_ledger(side.ledger(), trial, reached, side.exits[0])


def check_ledger(ledger, trial, reached, code):
    """The ledger has every frame that reached the interface, and what it says is written is there."""
    said = ledger["received"] + ledger["kernel_dropped"] + ledger["refused_at_stop"]
    [output] = ledger["outputs"].values()
    problems = []
    if said != reached:
        problems.append(f"{reached} frames reached it, the ledger has {said}")
    # What goes into a tap is lost to its reader without the sensor's knowledge; a file has what is written.
    if trial["output"] == "pcap" and output["written"] != trial["counted"]:
        problems.append(f"{output['written']} are said to be written, {trial['counted']} are there")
    if output["offered"] != output["written"] + output["filtered"] + sum(output["dropped"].values()):
        problems.append("the output's equation does not hold")
    if code:
        problems.append(f"it exited with {code}")
    if problems:
        raise Broken(f"{trial['side']}: " + "; ".join(problems))
    trial["ledger"] = {
        "received": ledger["received"],
        "kernel_dropped": ledger["kernel_dropped"],
        "dropped": {reason: n for reason, n in output["dropped"].items() if n},
    }


def held(trial, limit):
    """Whether the side kept up: next to nothing lost, and no backlog at the end."""
    return trial["lost"] <= limit and trial["backlog_share"] <= BACKLOG


@contextlib.contextmanager
def priority(nice):
    """Puts the rig before other work on the machine. All of the rig has the same priority, so that the shares within it
    are as without. Where the scheduler groups processes by session, the group has to have it too."""
    if not nice:
        yield
        return
    group = "/proc/self/autogroup"
    before = machine.text(group).split()
    os.nice(nice)
    try:
        with contextlib.suppress(OSError), open(group, "w") as file:
            file.write(str(nice))
        yield
    finally:
        if before:
            with contextlib.suppress(OSError), open(group, "w") as file:
                file.write(before[-1])
