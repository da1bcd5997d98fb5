//! The routing tables say which interfaces lead out of the host.

use std::fs;

use procfs::net::RouteEntry;

/// Lists the interfaces of the default routes, those of IPv4 first.
#[must_use]
pub(crate) fn default_routes() -> Vec<String> {
    let v4 = procfs::net::route().unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let mut found = Vec::new();
    for name in routes_v4(v4).chain(routes_v6(&v6)) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Picks the default routes of `/proc/net/route`.
fn routes_v4(table: Vec<RouteEntry>) -> impl Iterator<Item = String> {
    let is_default = |route: &RouteEntry| route.destination.is_unspecified() && route.mask.is_unspecified();
    table.into_iter().filter(is_default).map(|route| route.iface)
}

/// Reads the default routes of `/proc/net/ipv6_route`: destination and prefix length in
/// hexadecimal, and at the end flags and interface. Routes that reject (`RTF_REJECT`, 0x200) are on
/// the loopback interface.
fn routes_v6(table: &str) -> impl Iterator<Item = String> {
    table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_any = columns.first()?.bytes().all(|digit| digit == b'0') && *columns.get(1)? == "00";
        let flags = u32::from_str_radix(columns.get(8)?, 16).ok()?;
        let name = columns.get(9)?;
        (is_any && flags & 0x200 == 0 && *name != "lo").then(|| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::FromRead;
    use procfs::net::RouteEntries;

    #[test]
    fn default_routes_are_read() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let v4 = RouteEntries::from_read(v4.as_bytes()).unwrap().0;
        assert_eq!(routes_v4(v4).collect::<Vec<_>>(), ["eth0"]);
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 {zero} 00000400 00000002 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             fd73{} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth1\n",
            "0".repeat(28)
        );
        assert_eq!(routes_v6(&v6).collect::<Vec<_>>(), ["eth0"]);
    }
}
