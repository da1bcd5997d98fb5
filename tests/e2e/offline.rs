//! A capture goes into an interface without a network: by stripping, and by the sensor.

use std::path::Path;

use crate::captures::{self, assert_same};
use crate::mirror::persistent;
use crate::need;
use crate::netns::Namespace;
use crate::process::run;
use crate::sensor::VXTAP;
use crate::tcpdump::Tcpdump;

#[test]
fn a_sniffer_sees_what_a_mirror_wrapped() {
    if !need::programs(&["tcpdump"]) {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let (outer, inner) = (fixtures.join("outer/ipv4.pcap"), captures::frames(&fixtures.join("inner/ipv4.pcap")));
    assert!(inner.len() > 5);
    let outer = outer.to_str().unwrap();
    let namespace = Namespace::new();
    persistent(&namespace, "mirror0", "tap");
    // The kernel announces itself on an interface that comes up, and tcpdump sees that, too.
    namespace.sysctl("net.ipv6.conf.mirror0.disable_ipv6", "1");
    namespace.ip("link set mirror0 up");
    let source = format!("file:{outer}");
    for words in [
        &["decap", outer, "--to", "tap:mirror0"][..],
        &["run", "--source", &source, "--tap", "mirror0", "--no-write", "--no-control"],
    ] {
        let sniffer = Tcpdump::start(&namespace, "mirror0", "");
        let output = run(namespace.command(VXTAP).args(words));
        assert_same(words[0], &sniffer.frames(), &inner);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("mirror0"), "{said}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(words[0] == "decap" || log.contains(":4789 way="), "what is taken for a mirror's is told: {log}");
    }
    let refused = namespace.command(VXTAP).args(["decap", outer, "--to", "tap:nowhere0"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("ip tuntap add dev nowhere0 mode tap"), "{said}");
    assert!(!namespace.has_link("nowhere0"));
}
