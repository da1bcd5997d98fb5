//! What it costs to put frames into a tap, by the way they are written.
//!
//! As root, in a network namespace of its own; starts a sniffer (`tcpdump -w /dev/null`) itself:
//!
//! ```text
//! ip netns add measure
//! ip netns exec measure target/release/examples/inject LENGTH MILLISECONDS REPETITIONS
//! ip netns del measure
//! ```
//!
//! The ways take turns. For each it prints the median, least and most of the processor time that
//! the writing threads use for a frame, and the median of frames per second. The kernel's receive
//! path runs within the write, so the time holds all but the sniffer.
//!
//! - `blocking`: one `write(2)` a frame, without `O_NONBLOCK`, with which the kernel allocates in a
//!   cheaper way
//! - `write`: one `write(2)` a frame, as the output does where there is no io_uring
//! - `plain ring`: io_uring, 64 frames a submission
//! - `ring`: with a registered file and `IORING_SETUP_DEFER_TASKRUN`, as the output does
//! - `fixed ring`: with a registered buffer too
//! - `2 writes`, `2 rings`: two threads, each on a queue of a tap of many queues
#![allow(unsafe_code, reason = "requests of io_uring are pointers")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::time::{ClockId, clock_gettime};
use vxtap::sink::interface::{Interface, InterfacePlan, Kind};
use vxtap::sys::inject::{BATCH, Ring};
use vxtap::sys::tun::Tun;

/// Nanoseconds of processor time that this thread has used.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// Frames, and nanoseconds of processor time.
type Cost = (u64, u64);

/// Repeats a batch for a while.
fn repeat(time: Duration, mut batch: impl FnMut()) -> Cost {
    let (begin, end) = (processor_time(), Instant::now() + time);
    let mut frames = 0;
    while Instant::now() < end {
        batch();
        frames += BATCH as u64;
    }
    (frames, processor_time() - begin)
}

fn by_write(tun: &Tun, frame: &[u8], time: Duration) -> Cost {
    repeat(time, || (0..BATCH).for_each(|_| assert_eq!(tun.inject(frame).unwrap(), frame.len())))
}

fn blocking(tun: &Tun, frame: &[u8], time: Duration) -> Cost {
    let flags = fcntl_getfl(tun).unwrap();
    fcntl_setfl(tun, flags - OFlags::NONBLOCK).unwrap();
    let cost = by_write(tun, frame, time);
    fcntl_setfl(tun, flags).unwrap();
    cost
}

fn by_ring(tun: &Tun, frame: &[u8], time: Duration) -> Cost {
    let mut ring = Ring::new(tun).unwrap();
    repeat(time, || ring.inject(&[frame; BATCH], |_, result| assert_eq!(result.unwrap(), frame.len())).unwrap())
}

/// Submits the same request 64 times over.
fn submit(mut ring: IoUring, request: &squeue::Entry, frame: &[u8], time: Duration) -> Cost {
    repeat(time, || {
        for _ in 0..BATCH {
            // SAFETY: the request reads `frame`, which outlives it: all requests are waited for
            // below.
            unsafe { ring.submission().push(request) }.unwrap();
        }
        ring.submit_and_wait(BATCH).unwrap();
        let taken = ring.completion().filter(|c| usize::try_from(c.result()) == Ok(frame.len())).count();
        assert_eq!(taken, BATCH);
    })
}

fn by_plain_ring(tun: &Tun, frame: &[u8], time: Duration) -> Cost {
    let ring = IoUring::new(64).unwrap();
    let length = u32::try_from(frame.len()).unwrap();
    let request = opcode::Write::new(types::Fd(tun.as_fd().as_raw_fd()), frame.as_ptr(), length).build();
    submit(ring, &request, frame, time)
}

fn by_fixed_ring(tun: &Tun, frame: &[u8], time: Duration) -> Cost {
    let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64).unwrap();
    ring.submitter().register_files(&[tun.as_fd().as_raw_fd()]).unwrap();
    let buffer = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    // SAFETY: the buffer is only read, and outlives the ring.
    unsafe { ring.submitter().register_buffers(&[buffer]) }.unwrap();
    let length = u32::try_from(frame.len()).unwrap();
    submit(ring, &opcode::WriteFixed::new(types::Fixed(0), frame.as_ptr(), length, 0).build(), frame, time)
}

/// Both threads' time together.
fn twice(queues: &[Tun; 2], way: fn(&Tun, &[u8], Duration) -> Cost, frame: &[u8], time: Duration) -> Cost {
    thread::scope(|scope| {
        let threads = queues.each_ref().map(|queue| scope.spawn(move || way(queue, frame, time)));
        threads.map(|thread| thread.join().unwrap()).into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    })
}

/// Returns a UDP packet.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; length];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame[16..18].copy_from_slice(&u16::try_from(length - 14).unwrap().to_be_bytes());
    frame[18..34].copy_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame
}

fn sniffer(interface: &str) -> Child {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-B", "32768", "-w", "/dev/null", "-i", interface]);
    tcpdump.stderr(Stdio::null()).spawn().expect("tcpdump")
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|n| n.parse().expect("a number")).collect();
    let [length, milliseconds, repetitions] = numbers[..] else { panic!("inject LENGTH MILLISECONDS REPETITIONS") };
    let time = Duration::from_millis(milliseconds);
    let frame = frame(usize::try_from(length).unwrap());

    let plan = |name: &str| InterfacePlan { name: name.into(), kind: Kind::Tap, mtu: 9001, tags: None };
    let interface = Interface::open(&plan("one")).unwrap();
    let tun = interface.tun();
    let made = Command::new("ip").args(["tuntap", "add", "dev", "many", "mode", "tap", "multi_queue"]).status();
    assert!(made.unwrap().success());
    let many = Interface::open(&plan("many")).unwrap();
    let queues = [(); 2].map(|()| Tun::attach(c"many", Kind::Tap, true).unwrap());
    let sniffers = ["one", "many"].map(sniffer);
    thread::sleep(Duration::from_secs(1));

    let ways: [(&str, &dyn Fn() -> Cost); 7] = [
        ("blocking", &|| blocking(tun, &frame, time)),
        ("write", &|| by_write(tun, &frame, time)),
        ("plain ring", &|| by_plain_ring(tun, &frame, time)),
        ("ring", &|| by_ring(tun, &frame, time)),
        ("fixed ring", &|| by_fixed_ring(tun, &frame, time)),
        ("2 writes", &|| twice(&queues, by_write, &frame, time)),
        ("2 rings", &|| twice(&queues, by_ring, &frame, time)),
    ];
    let mut results = ways.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..repetitions {
        for ((_, way), (costs, rates)) in ways.iter().zip(&mut results) {
            let begin = Instant::now();
            let (frames, nanoseconds) = way();
            costs.push(nanoseconds / frames);
            rates.push(frames as f64 / begin.elapsed().as_secs_f64() / 1000.0);
        }
    }
    println!("{length} B{:23}ns a frame   1000 frames/s", "");
    for ((name, _), (mut costs, mut rates)) in ways.iter().zip(results) {
        costs.sort_unstable();
        rates.sort_by(f64::total_cmp);
        let (least, median, most) = (costs[0], costs[costs.len() / 2], costs[costs.len() - 1]);
        println!("  {name:<12}{median:>10} ({least} to {most}) {:>12.0}", rates[rates.len() / 2]);
    }
    drop(many);
    for mut sniffer in sniffers {
        let _ = sniffer.kill();
        let _ = sniffer.wait();
    }
}
