use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

use super::*;
use crate::record::{Timestamp, pcap};
use crate::wire::LinkType;

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVxtap-Output: watch:1\r\n\r\n";
const END: &str = "0\r\nVxtap-Dropped: 7\r\nVxtap-End: ended as asked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn capture(frames: usize) -> Vec<u8> {
    let mut capture = pcap::file_header(LinkType::Ethernet, 100).to_vec();
    (0..frames).for_each(|_| pcap::push(&mut capture, Timestamp::from_ns(1), &[7; 60], 60));
    capture
}

/// A sensor that answers a watch with this, and ends it when it is told to. Returns what it was
/// asked.
fn sensor(directory: &Path, answer: Vec<u8>, ends: bool) -> (Client, JoinHandle<Vec<String>>) {
    let path = directory.join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let request = |stream: &mut UnixStream| {
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            String::from_utf8_lossy(&request[..n]).lines().next().unwrap().to_owned()
        };
        let (mut watch, _) = listener.accept().unwrap();
        let mut asked = vec![request(&mut watch)];
        watch.write_all(&answer).unwrap();
        if ends {
            let (mut end, _) = listener.accept().unwrap();
            asked.push(request(&mut end));
            end.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n").unwrap();
            watch.write_all(END.as_bytes()).unwrap();
        }
        asked
    });
    (Client::local(Some(&path)), thread)
}

/// Makes a pipe in this directory.
fn pipe(directory: &Path) -> PathBuf {
    let pipe = directory.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    pipe
}

#[test]
fn what_is_asked_is_a_query() {
    let asked = Asked {
        session: Some("7@2001:db8::1".into()),
        filter: Some("tcp port 443 & x=1+é".into()),
        snaplen: Some(96),
        count: Some(10),
        duration: Some(Duration::from_millis(1500)),
    };
    assert_eq!(
        asked.path(),
        "/watch?session=7@2001:db8::1&filter=tcp%20port%20443%20%26%20x%3D1%2B%C3%A9&snaplen=96&limit=10&duration=1500ms"
    );
    assert_eq!(Asked::default().path(), "/watch");
}

#[test]
fn frames_are_written_until_the_sensor_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let capture = capture(1000);
    let mut answer = HEAD.as_bytes().to_vec();
    capture.chunks(777).for_each(|part| answer.extend(chunk(part)));
    answer.extend(END.as_bytes());
    let (client, sensor) = sensor(directory.path(), answer, false);
    let file = directory.path().join("frames.pcap");
    let outcome = run(&client, &Asked::default(), &To::File(file.clone()), &AtomicBool::new(false)).unwrap();
    assert_eq!(sensor.join().unwrap(), ["GET /watch HTTP/1.1"]);
    assert_eq!(std::fs::read(file).unwrap(), capture);
    assert_eq!(outcome, Outcome { frames: 1000, dropped: Some(7), redirected: 0, why: Some("ended as asked".into()) });
}

#[test]
fn a_signal_has_the_sensor_end_it_and_it_says_how_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let answer = [HEAD.as_bytes(), &chunk(&capture(3))].concat();
    let (client, sensor) = sensor(directory.path(), answer, true);
    let file = directory.path().join("frames.pcap");
    let outcome = run(&client, &Asked::default(), &To::File(file), &AtomicBool::new(true)).unwrap();
    assert_eq!(sensor.join().unwrap()[1], "POST /watch/end?output=watch:1 HTTP/1.0");
    assert_eq!(
        outcome.to_string(),
        "3 frames came, 7 were dropped because they were not taken as fast as they came: ended as asked"
    );
}

#[test]
fn whoever_goes_ends_it_though_no_frames_come() {
    let directory = tempfile::tempdir().unwrap();
    let answer = [HEAD.as_bytes(), &chunk(&capture(0))].concat();
    let (client, sensor) = sensor(directory.path(), answer, true);
    let pipe = pipe(directory.path());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut header = [0; 24];
            std::fs::File::open(pipe).unwrap().read_exact(&mut header).unwrap();
        }
    });
    let outcome = run(&client, &Asked::default(), &To::File(pipe), &AtomicBool::new(false)).unwrap();
    reader.join().unwrap();
    assert_eq!(sensor.join().unwrap().len(), 2);
    assert_eq!((outcome.frames, outcome.dropped), (0, Some(7)));
}

#[test]
fn who_takes_nothing_is_not_waited_for_at_the_end_and_the_sensor_is_not_blamed() {
    let directory = tempfile::tempdir().unwrap();
    let answer = [HEAD.as_bytes(), &chunk(&capture(2000))].concat();
    let (client, sensor) = sensor(directory.path(), answer, true);
    let pipe = pipe(directory.path());
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let outcome = run(&client, &Asked::default(), &To::File(pipe), &AtomicBool::new(true)).unwrap();
    sensor.join().unwrap();
    assert!(outcome.frames < 2000, "{outcome}");
    let said = "frames came, and it is not known how many were dropped: ended as asked, before all was taken";
    assert!(outcome.to_string().ends_with(said), "{outcome}");
}

#[test]
fn what_was_redirected_is_not_said_to_be_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let end = "0\r\nVxtap-Dropped: 0\r\nVxtap-Redirected: 9\r\nVxtap-End: the time is over\r\n\r\n";
    let answer = [HEAD.as_bytes(), &chunk(&capture(1)), end.as_bytes()].concat();
    let (client, _sensor) = sensor(directory.path(), answer, false);
    let to = To::File(directory.path().join("frames.pcap"));
    let outcome = run(&client, &Asked::default(), &to, &AtomicBool::new(false)).unwrap();
    assert_eq!(
        outcome.to_string(),
        "1 frame came, none was dropped, 9 of all sessions were redirected and did not come: the time is over"
    );
}

#[test]
fn a_sensor_that_refuses_or_goes_is_told() {
    let refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 14\r\n\r\nthere is none\n";
    let cut = [HEAD.as_bytes(), &chunk(&capture(2))].concat();
    let ended = |answer: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let (client, _sensor) = sensor(directory.path(), answer.to_vec(), false);
        let to = To::File(directory.path().join("frames.pcap"));
        run(&client, &Asked::default(), &to, &AtomicBool::new(false))
    };
    assert!(matches!(
        ended(refused.as_bytes()).unwrap_err(),
        WatchError::Sensor(ClientError::Refused { status: 400, text }) if text == "there is none"
    ));
    let outcome = ended(&cut).unwrap();
    assert_eq!(outcome.to_string(), "2 frames came, and it is not known how many were dropped: the sensor went away");
    assert!(ended(b"").unwrap_err().to_string().contains("the sensor has ended"));
}
