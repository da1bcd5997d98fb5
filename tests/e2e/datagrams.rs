//! Datagrams of our own making, good and hostile.

use std::net::{SocketAddr, UdpSocket};

use crate::netns::Namespace;

/// Sends these payloads from a namespace, in order.
pub(crate) fn send(namespace: &Namespace, to: SocketAddr, payloads: &[Vec<u8>]) {
    namespace.enter(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        for payload in payloads {
            assert_eq!(socket.send_to(payload, to).unwrap(), payload.len());
        }
    });
}

/// A VXLAN header, these flags and reserved bytes included, and a frame.
pub(crate) fn vxlan(flags: u8, reserved: [u8; 3], vni: u32, last: u8, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let [x, y, z] = reserved;
    [&[flags, x, y, z, a, b, c, last], frame].concat()
}
