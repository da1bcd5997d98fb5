"""Which trials: sides taking turns, repetitions, the search for the highest lossless rate."""

import statistics

import lab.trial as trial
from lab.load import MIXES
from lab.sides import Refused

# Where the search begins, frames a second, and what is offered without one: a rate that all can hold.
BASE = {"64": 200_000, "imix": 150_000, "1514": 100_000, "8900": 25_000}
# No more is asked of the sender.
FASTEST = {"64": 4_000_000, "imix": 3_000_000, "1514": 2_000_000, "8900": 400_000}
# The search ends when the bracket is this narrow.
PRECISION = 1.06
# The search goes on after a trial with a slow sender, which may have been busy with something else, this often.
SLOW_TRIALS = 3
# Frames of a trial take no more memory than this.
LARGEST_TRIAL = 6 << 30


class Experiment:
    """All trials of one load and output; `report` is called with each trial as it ends."""

    def __init__(self, rig, sides, load, report):
        self.rig, self.load, self.report = rig, load, report
        self.sides, self.absent = [], {}
        for side in sides:
            why = side.cannot(load)
            if why:
                self.absent[side.name] = why
            else:
                self.sides.append(side)
        self.trials = []
        self.lossless = {side.name: [] for side in self.sides}
        # Searches that ended because the sender could give no more: the side holds at least that.
        self.open_ended = dict.fromkeys(self.lossless, 0)

    def run(self, search):
        options = self.rig.options
        base = options.rate or BASE[self.load.mix]
        if search:
            for _ in range(options.searches):
                for side in list(self.sides):
                    self.lossless[side.name] += self.search(side)
            # What is far behind the others does not set the pace for all.
            held = [rate for rate in map(self.held, self.lossless) if rate and rate > base / 4]
            if held and not options.rate:
                base = round(0.7 * min(held), -3)
        for factor in options.times:
            for _ in range(options.repetitions):
                for side in list(self.sides):
                    self.trial(side, base * factor, f"{factor}x")
        for _ in range(options.repetitions):
            for side in [side for side in self.sides if self.held(side.name)]:
                self.trial(side, min(4 * self.held(side.name), FASTEST[self.load.mix]), "own 4x")
        return self.summary(base)

    def held(self, name):
        rates = self.lossless.get(name)
        return statistics.median(rates) if rates else None

    def trial(self, side, rate, purpose):
        """One trial, once more where other work disturbed it. None where the side cannot take part."""
        rate, seconds = int(rate), self.rig.options.seconds
        if side.output == "pcap":
            seconds = max(0.5, min(seconds, LARGEST_TRIAL / (rate * (self.load.mean() + 16))))
        for attempt in range(1 + self.rig.options.retries):
            try:
                result = trial.run(self.rig, side, self.load, rate, seconds)
            except Refused as why:
                self.absent[side.name] = str(why)
                self.sides.remove(side)
                return None
            result["purpose"] = purpose
            result["repeated"] = attempt
            if not result["disturbed"] and not result["slow_sender"]:
                break
        self.trials.append(result)
        self.report(result)
        return result

    def search(self, side):
        """The highest rate that the side holds, as a list of one; empty if it holds none. Begins near what it held
        before."""
        limit, fastest = self.rig.options.loss, FASTEST[self.load.mix]
        low, high, slow = 0, None, 0
        rate, step = self.held(side.name) or BASE[self.load.mix], 1.25 if self.lossless[side.name] else 2.0
        while side in self.sides:
            result = self.trial(side, rate, "search")
            if result is None:
                return []
            offered = min(rate, result["offered"])
            if trial.held(result, limit):
                low = max(low, offered)
                slow += result["slow_sender"]
                if rate >= fastest or slow >= SLOW_TRIALS:
                    self.open_ended[side.name] += 1
                    break
            else:
                high = offered if high is None else min(high, offered)
            if high is not None and (high < 2_000 or (low and high / low < PRECISION)):
                break
            rate = rate * step if high is None else rate / step if not low else (low * high) ** 0.5
            rate = min(rate, fastest)
        return [round(low)] if low else []

    def summary(self, base):
        rows = []
        for name in self.lossless:
            mine = [t for t in self.trials if t["side"] == name]
            if not mine:
                continue
            at = {factor: [t for t in mine if t["purpose"] == f"{factor}x"] for factor in (1, 2, 4)}
            rows.append(
                {
                    "side": name,
                    "output": mine[0]["output"],
                    "load": self.load.name(),
                    "mix": self.load.mix,
                    "vnis": self.load.vnis,
                    "filter": self.load.filter,
                    "base": base,
                    "ns": spread([t["ns"] for t in at[1]]),
                    "ns_own": spread([t["own_ns"] / max(1, t["counted"] * t["sent"] / t["wanted"]) for t in at[1]]),
                    "lost": spread([t["lost"] for t in at[1]]),
                    "lossless": spread(self.lossless[name]),
                    "lossless_at_least": 2 * self.open_ended[name] > len(self.lossless[name]),
                    "share_2x": spread([1 - t["lost"] for t in at[2]]),
                    "share_4x": spread([1 - t["lost"] for t in at[4]]),
                    "offered_2x": spread([t["offered"] for t in at[2]]),
                    "offered_4x": spread([t["offered"] for t in at[4]]),
                    # What still arrives under far too much, of what the side held: less than 1 is a collapse.
                    "keeps": spread([(1 - t["lost"]) * t["offered"] / self.held(name) for t in mine if t["purpose"] == "own 4x"]),
                    "peak_mib": spread([t["peak_kib"] / 1024 for t in mine if t["purpose"] != "search"]),
                    "disturbed": sum(t["disturbed"] for t in mine),
                    "trials": len(mine),
                }
            )
        return {
            "load": self.load.name(),
            "base": base,
            "receivers": self.rig.options.receivers,
            "lengths": MIXES[self.load.mix],
            "rows": rows,
            "absent": self.absent,
        }


def spread(values):
    """Median, least and most; None of nothing."""
    if not values:
        return None
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}
