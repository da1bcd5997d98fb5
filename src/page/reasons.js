
// What each reason of the ledger means, and what to do.

const REASONS = {
  kernel_dropped: "The kernel had no room left before the sensor read, or the UDP checksum was wrong. More room: a larger `--receive-buffer` (and `net.core.rmem_max`), or more `--workers`.",
  datagrams: {
    bad_geneve_options: "An option of GENEVE runs over the end of the options: the sender is broken, or no GENEVE.",
    bad_tzsp_tags: "The tags of TZSP have no end: the sender is broken, or no TZSP.",
    control_message: "A message to the receiver and no frame.",
    critical_option: "GENEVE has an unknown option that is critical, and the configuration rejects that.",
    keep_alive: "A message of TZSP that has no frame.",
    reserved_bits: "A reserved bit is set, and the configuration rejects that.",
    runt_inner_frame: "The inner frame is shorter than an Ethernet header: its sender is no mirror, or is broken.",
    short_tunnel_header: "The datagram ends within the header of its encapsulation: something else sends to this port.",
    short_vxlan_header: "Fewer bytes than a VXLAN header has: something else sends to this port.",
    truncated_datagram: "The datagram was larger than the receive slot, so its end is missing.",
    unknown_inner_protocol: "The tunnel carries neither a frame nor IP.",
    unknown_tunnel_version: "The header is of a version that is not known: something else sends to this port.",
    vni_flag_clear: "The header carries no valid VNI: something else sends to this port.",
    wrong_checksum: "The UDP checksum is not that of the datagram: it was damaged on the way.",
  },
  outputs: {
    disk_full: "No space on the file system, or a quota reached: make room, or let old captures go (`--keep-bytes`).",
    interface_down: "The interface is down or was deleted: bring it up (`ip link set dev NAME up`).",
    interface_not_deaf: "Somebody changed the interface's settings, so that this host would hear what enters it, or speak there.",
    lane_full: "The output is slower than what comes, and its queue was full: a faster disk, a larger `--queue`, or fewer frames.",
    not_ip: "Not an IP packet, for an interface that takes nothing else.",
    output_gone: "The output's thread has ended: the log says why.",
    redirect_lost: "The kernel's queue to the interface was full, or it had just gone down (`sysctl -w net.core.netdev_max_backlog=10000`).",
    runt_tagged_frame: "A VLAN tag with less than 2 bytes behind it, which the kernel drops.",
    write_error: "A write failed, or a capture is gone or was changed: the log names it.",
  },
  filtered: {
    session: "The session is not for this output.",
    share: "Another of the equal outputs has the conversation.",
    rule: "A rule of the session rejects the packet, or none accepts it.",
    expression: "The filter expression does not match.",
    duplicate: "Another session of the group had delivered the packet before.",
    cutoff: "The packet is beyond what is kept of its flow.",
  },
};

/** Reasons by which frames are refused because somebody asked for that: no losses. */
const ASKED_FOR = new Set(["reserved_bits", "critical_option", "control_message", "keep_alive", "not_ip"]);

/** What was found out later of an output's frames is moved to where it belongs. */
function settled(output) {
  const { gone = 0, redirect_late = 0 } = output;
  if (!gone && !redirect_late) return output;
  const dropped = { ...output.dropped };
  dropped.write_error = (dropped.write_error ?? 0) + gone;
  dropped.redirect_lost = (dropped.redirect_lost ?? 0) - redirect_late;
  return { ...output, written: output.written - gone + redirect_late, dropped };
}

/** What became of the datagrams that came: the outcomes in the order of the picture. */
function account(ledger) {
  const outcomes = [];
  const add = (output, kind, name, frames, meaning = "") => {
    if (frames > 0 || kind === "written") outcomes.push({ output, kind, name, frames, meaning });
  };
  const most = ([, a], [, b]) => b - a;
  for (const [name, live] of Object.entries(ledger.outputs)) {
    const output = settled(live);
    add(name, "written", "written", output.written);
    let known = 0;
    for (const [reason, frames] of Object.entries(output.filtered_by ?? {}).sort(most)) {
      add(name, "kept-out", reason, frames, REASONS.filtered[reason]);
      known += frames;
    }
    add(name, "kept-out", "filtered", Math.max(0, output.filtered - known));
    add(name, "kept-out", "unwatched", output.unwatched ?? 0, "Whoever watched did not take the frame.");
    for (const [reason, frames] of Object.entries(output.dropped).sort(most)) {
      add(name, ASKED_FOR.has(reason) ? "kept-out" : "lost", reason, frames, REASONS.outputs[reason]);
    }
  }
  for (const [reason, frames] of Object.entries(ledger.dropped).sort(most)) {
    add(null, ASKED_FOR.has(reason) ? "kept-out" : "lost", reason, frames, REASONS.datagrams[reason]);
  }
  add(null, "lost", "kernel_dropped", ledger.kernel_dropped, REASONS.kernel_dropped);
  return outcomes;
}

/** How much was lost: a datagram counts once, by the output that lost most. */
function losses(outcomes) {
  const lost = outcomes.filter(({ kind }) => kind === "lost");
  const sum = (some) => some.reduce((all, { frames }) => all + frames, 0);
  const outputs = [...new Set(lost.map(({ output }) => output))].filter((output) => output !== null);
  const worst = Math.max(0, ...outputs.map((name) => sum(lost.filter(({ output }) => output === name))));
  return { lost, total: sum(lost), missing: sum(lost.filter(({ output }) => output === null)) + worst };
}

/** Takes an earlier ledger from a later one: what came in between. */
function between(later, earlier) {
  if (typeof later === "number") return later - (typeof earlier === "number" ? earlier : 0);
  if (Array.isArray(later) || typeof later !== "object" || later === null) return later;
  return Object.fromEntries(Object.entries(later).map(([key, value]) => [key, between(value, earlier?.[key])]));
}
