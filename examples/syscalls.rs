//! What a filter of system calls costs: the time of a call that finds no datagram, before and after
//! a process has given up what a sensor gives up.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io;
use std::net::UdpSocket;
use std::time::Instant;

use vxtap::sandbox::{Mode, Needs, Sandbox};

const CALLS: u32 = 2_000_000;
const ROUNDS: usize = 5;

/// Returns the nanoseconds of a call, in the best of some rounds.
fn time(socket: &UdpSocket) -> io::Result<f64> {
    let mut best = f64::MAX;
    let mut buffer = [0; 64];
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..CALLS {
            match socket.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
        best = best.min(begin.elapsed().as_secs_f64() / f64::from(CALLS) * 1e9);
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let before = time(&socket)?;
    let state = Sandbox::enter(Mode::Require, Needs::default())?.seal()?;
    let after = time(&socket)?;
    println!("{}", state.describe());
    println!("a call: {before:.0} ns before, {after:.0} ns after");
    Ok(())
}
