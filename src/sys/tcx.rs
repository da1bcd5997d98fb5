//! The kernel says which programs are attached to an interface at tc ingress: `BPF_PROG_QUERY` of
//! `bpf(2)`.
//!
//! Aya's query goes on to open each of them, which takes `CAP_SYS_ADMIN`.

use std::io;

/// `BPF_PROG_QUERY`, of `enum bpf_cmd`, include/uapi/linux/bpf.h
const QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS`, of `enum bpf_attach_type`
const INGRESS: u32 = 46;
/// The kernel attaches so many at one place at most: `BPF_MPROG_MAX`.
const MOST: usize = 64;

/// The member `query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Returns the numbers of the programs at tc ingress of the interface with this index. It takes
/// `CAP_NET_ADMIN`.
///
/// # Errors
/// `EINVAL`: the kernel has no tcx. `ENODEV`: there is no such interface. `EPERM`: the capability
/// is missing.
pub(crate) fn programs_at_ingress(interface: u32) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; MOST];
    let mut query = Query {
        interface,
        attach_type: INGRESS,
        programs: programs.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(MOST).map_err(io::Error::other)?,
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes the query within its size, and writes at most `count`
    // numbers to where `programs` points. Both live until the return.
    let result = unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut query, size_of::<Query>()) };
    match result {
        0 => Ok(programs.into_iter().take(query.count as usize).collect()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_no_answer() {
        let error = programs_at_ingress(u32::MAX >> 1).unwrap_err().raw_os_error();
        assert!(matches!(error, Some(libc::ENODEV | libc::EINVAL | libc::EPERM)), "{error:?}");
    }
}
