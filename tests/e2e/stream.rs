//! Numbered frames come at a steady rate.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::datagrams;
use crate::frames;
use crate::netns::Namespace;
use crate::process::on_one_core;
use crate::replay::all_has_come_through;

/// A thread that sends, until this is dropped. Frame `n` is of VNI `n % vnis + 1`.
///
/// Unlike `vxtap replay` it can say how many have left, and it goes on whether somebody listens or
/// not.
pub(crate) struct Stream {
    began: Instant,
    sent: Arc<AtomicU32>,
    rate: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Sends this many frames a second, of all these VNIs together.
    pub(crate) fn start(namespace: &Namespace, to: SocketAddr, vnis: u32, rate: u32) -> Stream {
        let socket = namespace.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        let (sent, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let rate = Arc::new(AtomicU32::new(rate));
        let (count, pace, over) = (Arc::clone(&sent), Arc::clone(&rate), Arc::clone(&stop));
        // On one core, so that they arrive in order.
        let thread = thread::spawn(move || on_one_core(|| send(&socket, to, vnis, &pace, &count, &over)));
        Stream { began: Instant::now(), sent, rate, stop, thread: Some(thread) }
    }

    /// Sends this many frames a second from now on.
    pub(crate) fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Frames that were sent in a second so far.
    pub(crate) fn pace(&self) -> f64 {
        f64::from(self.sent()) / self.began.elapsed().as_secs_f64()
    }

    /// Frames sent so far. One more may have left, even long ago, that could not be counted yet.
    pub(crate) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Stream {
    /// Sends no more, and waits until all that has left has come through. Returns how many frames
    /// that are.
    #[track_caller]
    pub(crate) fn end(mut self) -> u32 {
        self.halt();
        all_has_come_through();
        self.sent()
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.halt();
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, vnis: u32, rate: &AtomicU32, sent: &AtomicU32, over: &AtomicBool) {
    let (mut number, mut due, mut last) = (0, 0.0, Instant::now());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_micros(500));
        let (now, rate) = (Instant::now(), f64::from(rate.load(Ordering::Relaxed)));
        // Whoever was kept from its core does not make up for it in one burst, which nobody could
        // receive.
        due = (due + now.duration_since(last).as_secs_f64() * rate).min(rate / 50.0 + 1.0);
        last = now;
        while due >= 1.0 {
            let datagram = datagrams::vxlan(8, [0; 3], number % vnis + 1, 0, &frame(number));
            socket.send_to(&datagram, to).unwrap();
            number += 1;
            sent.store(number, Ordering::Relaxed);
            due -= 1.0;
        }
    }
}

/// Makes frame number `n`. It has as many bytes as `VXTAP_FRAME_BYTES` says; without that, frames
/// have many lengths.
pub(crate) fn frame(number: u32) -> Vec<u8> {
    static BYTES: LazyLock<Option<usize>> =
        LazyLock::new(|| env::var("VXTAP_FRAME_BYTES").ok().map(|bytes| bytes.parse().unwrap()));
    frames::numbered(number, BYTES.unwrap_or(60 + (number as usize * 389) % 700))
}

/// Returns the number of a frame. Fails unless it is that frame to its last byte.
#[track_caller]
pub(crate) fn number(got: &[u8]) -> u32 {
    let number = u32::from_be_bytes(got[42..46].try_into().unwrap());
    assert_eq!(got, frame(number), "frame {number} has other bytes");
    number
}
