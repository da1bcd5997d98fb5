//! Programs that other software attaches to an interface by tcx, the way into tc since Linux 6.6.
//!
//! They are asked before the filter that keeps frames from the host, and one that lets a frame pass
//! ends the asking: the host hears the frame. Agents that attach themselves to all interfaces do so
//! without knowing of this one. Netlink tells nothing of them.

use aya::programs::{SchedClassifier, TcAttachType};

/// Name of the program that counts redirected frames behind the sniffers and drops what it counts,
/// as `bpf/capture.bpf.c` has it.
const OURS: &str = "vxtap_entered";

/// Returns the program that is asked first of the frames of an interface, unless it is the sensor's
/// own: its name, or its number. Returns none where nothing is attached, where the kernel has no
/// tcx, and where the kernel does not tell this process (it wants CAP_NET_ADMIN and CAP_BPF).
pub(super) fn first(interface: &str) -> Option<String> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).ok()?;
    let first = programs.first()?;
    match first.name_as_str() {
        Some(OURS) => None,
        Some(name) if !name.is_empty() => Some(name.to_string()),
        _ => Some(format!("number {}", first.id())),
    }
}
