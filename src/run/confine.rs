//! What a sensor needs once it runs follows from its plan.

use crate::config::RunPlan;
use crate::config::allow::AllowPlan;
use crate::config::file::Places;
use crate::host::port_owner;
use crate::pipeline::Destination;
use crate::sandbox::{Mode, Needs, Sandbox, SandboxError, Stock};
use crate::storage::{Direct, WRITTEN_DIRECTLY};

/// Rings for outputs that a reload may bring, of each kind.
const SPARE: usize = 4;

/// Gives up the paths and TCP ports that a sensor with this plan, which was read from these places,
/// does not need. There are no other threads yet.
///
/// # Errors
/// That is required, and the kernel cannot do it.
pub fn confine(plan: &RunPlan, places: &Places) -> Result<Sandbox, SandboxError> {
    if plan.sandbox.mode != Mode::Off {
        let listen: Vec<_> = plan.source.udp.listen.iter().map(|listener| listener.address).collect();
        port_owner::remember(&listen);
    }
    Sandbox::enter(plan.sandbox.mode, needs(plan, places))
}

/// Returns what a sensor with this plan needs once it runs.
pub(super) fn needs(plan: &RunPlan, places: &Places) -> Needs {
    let outputs = &plan.pipeline.outputs;
    let files = || outputs.iter().filter_map(|output| output.to.files());
    let is_interface = |to: &Destination| matches!(to, Destination::Interface(_) | Destination::Redirect(_));
    let interfaces = outputs.iter().filter(|output| is_interface(&output.to)).count();
    let ports = plan.control.http.listen.iter().chain(&plan.control.health.listen);
    let allowed = match &plan.allow {
        AllowPlan::File(path) => Some(path.clone()),
        AllowPlan::Given(_) => None,
    };
    let capture = plan.source.way.file().map(Into::into);
    let spare = if places.files.is_empty() { 0 } else { SPARE };
    let direct = files().filter(|files| files.direct != Direct::Off).count() * WRITTEN_DIRECTLY;
    Needs {
        captures: files().map(|files| files.directory.clone()).collect(),
        directories: plan.sandbox.directories.clone(),
        rewritten: plan.pipeline.tags().map(Into::into).into_iter().collect(),
        read: places.files.iter().cloned().chain(allowed).chain(capture).collect(),
        listed: places.directories.clone(),
        sockets: plan.control.socket.iter().map(|socket| socket.path.clone()).collect(),
        ports: ports.map(std::net::SocketAddr::port).collect(),
        // A file can come to have some.
        interfaces: interfaces > 0 || !places.files.is_empty(),
        program: plan.source.way.wants_program(),
        rings: Stock { files: direct + spare, interfaces: interfaces + spare },
    }
}
