//! Traffic for demonstrations: three networks of a small company over about two and a half seconds.
//!
//! Complete frames with valid checksums, so that an analyser fed with them has nothing to complain
//! about.

use etherparse::TcpOptionElement;

use super::frames::{Endpoint, echo_frame, noise, packet, udp_frame, v4, v6};
use super::{Record, START};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;

/// Returns all captures by file name.
pub fn captures() -> Vec<(&'static str, Vec<Record>)> {
    vec![("web", web()), ("dns", dns()), ("office", office())]
}

/// Puts conversations that ran at the same time into one capture.
fn interleaved(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| record.time); // stable: within a conversation the order stays
    records
}

/// Which end of a conversation sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

/// A TCP conversation without loss, on a path of a fixed delay.
struct Tcp<'a> {
    records: &'a mut Vec<Record>,
    ends: [Endpoint; 2],
    next: [u32; 2],
    id: [u16; 2],
    acknowledged: [u32; 2],
    now: u64,
    delay: u64,
}

impl<'a> Tcp<'a> {
    /// Opens the conversation: SYN, SYN-ACK, ACK.
    fn open(records: &'a mut Vec<Record>, client: Endpoint, server: Endpoint, start: u64, delay: u64) -> Self {
        let seed = u32::from(client.port) * 65_521;
        let mut tcp = Tcp {
            records,
            ends: [client, server],
            next: [seed, seed ^ 0x5bd1_e995],
            id: [client.port, server.port ^ client.port],
            acknowledged: [0; 2],
            now: START + start,
            delay,
        };
        tcp.segment(From::Client, &[], |flags| flags.syn = true);
        tcp.now += tcp.delay;
        tcp.segment(From::Server, &[], |flags| (flags.syn, flags.ack) = (true, true));
        tcp.now += tcp.delay;
        tcp.acknowledge(From::Client);
        tcp
    }

    /// Largest payload of a segment at an MTU of 1500.
    fn mss(&self) -> u16 {
        if self.ends[0].ip.is_ipv4() { 1460 } else { 1440 }
    }

    /// Sends these bytes in as many segments as needed; the other end acknowledges every second
    /// one.
    fn send(&mut self, from: From, bytes: &[u8]) {
        let other = if from == From::Client { From::Server } else { From::Client };
        let count = bytes.len().div_ceil(self.mss().into());
        for (index, chunk) in bytes.chunks(self.mss().into()).enumerate() {
            let last = index + 1 == count;
            self.segment(from, chunk, |flags| (flags.ack, flags.psh) = (true, last));
            self.now += 12 * MICROSECOND;
            if index % 2 == 1 || last {
                self.now += 20 * MICROSECOND;
                self.acknowledge(other);
            }
        }
        self.now += self.delay;
    }

    /// Closes both directions, this end first.
    fn close(mut self, first: From) {
        let second = if first == From::Client { From::Server } else { From::Client };
        self.segment(first, &[], |flags| (flags.ack, flags.fin) = (true, true));
        self.now += self.delay;
        self.segment(second, &[], |flags| (flags.ack, flags.fin) = (true, true));
        self.now += self.delay;
        self.acknowledge(first);
    }

    /// Waits, as a person or a database does.
    fn pause(&mut self, time: u64) {
        self.now += time;
    }

    fn acknowledge(&mut self, from: From) {
        let me = from as usize;
        if self.acknowledged[me] != self.next[1 - me] {
            self.segment(from, &[], |flags| flags.ack = true);
        }
    }

    fn segment(&mut self, from: From, payload: &[u8], set: impl FnOnce(&mut etherparse::TcpHeader)) {
        let (me, other) = (from as usize, 1 - from as usize);
        let (source, destination) = (self.ends[me], self.ends[other]);
        let mut header = etherparse::TcpHeader::new(source.port, destination.port, self.next[me], 501);
        set(&mut header);
        if header.syn {
            header.window_size = 64240;
            header
                .set_options(&[
                    TcpOptionElement::MaximumSegmentSize(self.mss()),
                    TcpOptionElement::SelectiveAcknowledgementPermitted,
                    TcpOptionElement::Noop,
                    TcpOptionElement::WindowScale(7),
                ])
                .unwrap();
        }
        if header.ack {
            header.acknowledgment_number = self.next[other];
            self.acknowledged[me] = self.next[other];
        }
        self.next[me] =
            self.next[me].wrapping_add(payload.len() as u32 + u32::from(header.syn) + u32::from(header.fin));
        self.id[me] = self.id[me].wrapping_add(1);
        let mut frame = Vec::new();
        packet(source, destination, self.id[me]).tcp_header(header).write(&mut frame, payload).unwrap();
        self.records.push(Record::whole(self.now, frame));
    }
}

/// Prose of this many bytes.
fn prose(seed: usize, length: usize) -> String {
    const WORDS: [&str; 24] = [
        "packets", "arrive", "in", "order", "and", "leave", "a", "trace", "the", "mirror", "copies", "each", "frame",
        "from", "wire", "to", "sensor", "which", "counts", "what", "it", "cannot", "keep", "quietly",
    ];
    let mut text = String::new();
    let mut index = seed;
    while text.len() < length {
        text += WORDS[index % WORDS.len()];
        index = index * 5 + 7 + text.len() % 3;
        index %= 1009;
        text.push(if text.len() % 71 < 8 { '\n' } else { ' ' });
    }
    text.truncate(length);
    text
}

/// Records a web server and its visitors: HTTP/1.1, a fifth of it over IPv6.
fn web() -> Vec<Record> {
    const PAGES: [(&str, &str, &str, usize); 8] = [
        ("/", "200 OK", "text/html", 5200),
        ("/style.css", "200 OK", "text/css", 2900),
        ("/news/2023/11/mirrors.html", "200 OK", "text/html", 8100),
        ("/api/v1/status", "200 OK", "application/json", 180),
        ("/about.html", "200 OK", "text/html", 3300),
        ("/old-page", "404 Not Found", "text/html", 320),
        ("/js/app.js", "200 OK", "application/javascript", 6400),
        ("/feed.xml", "200 OK", "application/xml", 4700),
    ];
    let mut records = Vec::new();
    for visit in 0..24u16 {
        let host = 100 + visit as u8;
        let (client, server) = match visit % 5 {
            4 => (v6(host, 52_000 + visit), v6(20, 80)),
            _ => (v4(host, 52_000 + visit), v4(20, 80)),
        };
        let start = u64::from(visit) * 101 * MILLISECOND;
        let mut tcp = Tcp::open(&mut records, client, server, start, 900 * MICROSECOND);
        // Every third visitor keeps the connection for a second page.
        let pages = if visit % 3 == 0 { 2 } else { 1 };
        for step in 0..pages {
            let (path, status, kind, length) = PAGES[(usize::from(visit) + step * 3) % PAGES.len()];
            let connection = if step + 1 == pages { "close" } else { "keep-alive" };
            tcp.send(
                From::Client,
                format!(
                    "GET {path} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; \
                     rv:109.0) Gecko/20100101 Firefox/119.0\r\nAccept: */*\r\nAccept-Language: en\r\nConnection: \
                     {connection}\r\n\r\n"
                )
                .as_bytes(),
            );
            tcp.pause(u64::from(3 + visit % 7) * MILLISECOND);
            let body = body(kind, visit.into(), length);
            tcp.send(
                From::Server,
                format!(
                    "HTTP/1.1 {status}\r\nDate: Tue, 14 Nov 2023 22:13:{:02} GMT\r\nServer: nginx/1.24.0\r\n\
                     Content-Type: {kind}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
                    20 + start / 1_000_000_000,
                    body.len(),
                )
                .as_bytes(),
            );
        }
        tcp.close(From::Server);
    }
    interleaved(records)
}

/// Returns a document of about this length.
fn body(kind: &str, seed: usize, length: usize) -> String {
    let text = prose(seed, length);
    match kind {
        "application/json" => {
            format!("{{\"service\":\"www\",\"healthy\":true,\"note\":\"{}\"}}", text.replace('\n', " "))
        }
        "application/xml" => format!("<?xml version=\"1.0\"?>\n<feed><entry>{text}</entry></feed>\n"),
        "text/css" => format!("/* {text} */\nbody {{ margin: 2em }}\n"),
        "application/javascript" => format!("/* {text} */\n\"use strict\";\n"),
        _ => format!("<!doctype html>\n<html><head><title>Example</title></head><body><p>{text}</p></body></html>\n"),
    }
}

const A: u16 = 1;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;

/// Records a resolver and its clients.
fn dns() -> Vec<Record> {
    const NAMES: [&str; 12] = [
        "www.example.com",
        "mail.example.com",
        "api.example.net",
        "static.cdn.example.net",
        "example.org",
        "ntp.example.org",
        "git.example.org",
        "nowhere.example.com",
        "login.example.net",
        "updates.example.net",
        "telemetry.example.net",
        "registry.example.org",
    ];
    let mut records = Vec::new();
    for index in 0..160u16 {
        let (host, port) = (100 + (index % 23) as u8, 32_768 + index * 37 % 28_000);
        let (client, resolver) = match index % 6 {
            5 => (v6(host, port), v6(53, 53)),
            _ => (v4(host, port), v4(53, 53)),
        };
        let name = NAMES[usize::from(index * 7) % NAMES.len()];
        let kind = [A, AAAA, A, A, AAAA, MX, A, TXT][usize::from(index) % 8];
        let id = index.wrapping_mul(40_503) ^ 0x2545;
        let start = START + u64::from(index) * 15_500 * MICROSECOND + u64::from(index % 7) * 321 * MICROSECOND;
        let took = u64::from(index * 31 % 19) * 700 * MICROSECOND + 240 * MICROSECOND;
        records.push(Record::whole(start, udp_frame(client, resolver, &query(id, name, kind))));
        records.push(Record::whole(start + took, udp_frame(resolver, client, &response(id, name, kind))));
    }
    interleaved(records)
}

/// A DNS message's header and question (RFC 1035 section 4).
fn question(id: u16, flags: u16, counts: [u16; 3], name: &str, kind: u16) -> Vec<u8> {
    let mut message: Vec<u8> =
        [id, flags, 1, counts[0], counts[1], counts[2]].iter().flat_map(|field| field.to_be_bytes()).collect();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes()); // class IN
    message
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = question(id, 0x0100, [0, 0, 1], name, kind);
    message.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]); // EDNS: 1232 bytes are welcome
    message
}

fn response(id: u16, name: &str, kind: u16) -> Vec<u8> {
    if name.starts_with("nowhere") {
        return question(id, 0x8183, [0, 0, 0], name, kind); // NXDOMAIN
    }
    let sum: u8 = name.bytes().fold(0, u8::wrapping_add);
    let data = match kind {
        A => vec![192, 0, 2, sum],
        AAAA => [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[sum]].concat(),
        MX => [&[0, 10, 2][..], b"mx", &[0xc0, 12]].concat(),
        TXT => [&[15][..], b"v=spf1 mx ~all "].concat(),
        other => panic!("no answer for type {other}"),
    };
    let mut message = question(id, 0x8180, [1, 0, 0], name, kind);
    message.extend([0xc0, 12]); // the name in the question
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message.extend(300u32.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message
}

/// Desks: pings, TLS to a few services, shells.
fn office() -> Vec<Record> {
    let mut records = Vec::new();
    for index in 0..24u16 {
        let host = 100 + (index % 3) as u8;
        let (desk, gateway) = match index % 3 {
            2 => (v6(host, 0x1200), v6(1, 0)),
            _ => (v4(host, 0x1200 + u16::from(host)), v4(1, 0)),
        };
        let start = START + u64::from(index / 3) * 300 * MILLISECOND + u64::from(index % 3) * 5 * MILLISECOND;
        let sequence = index / 3 + 1;
        // As ping does: a timestamp, then counting bytes.
        let payload = [&start.to_le_bytes()[..], &(8..56).collect::<Vec<u8>>()].concat();
        records.push(Record::whole(start, echo_frame(desk, gateway, true, sequence, &payload)));
        let back = start + 310 * MICROSECOND + u64::from(index % 5) * 17 * MICROSECOND;
        records.push(Record::whole(back, echo_frame(gateway, desk, false, sequence, &payload)));
    }
    for index in 0..9u16 {
        let host = 110 + index as u8;
        let (client, server) = match index % 3 {
            1 => (v6(host, 49_200 + index), v6(30, 443)),
            _ => (v4(host, 49_200 + index), v4(30, 443)),
        };
        let start = (40 + u64::from(index) * 230) * MILLISECOND;
        tls(Tcp::open(&mut records, client, server, start, 1300 * MICROSECOND), index.into());
    }
    for index in 0..3u16 {
        let client = v4(120 + index as u8, 40_022 + index);
        let start = (15 + u64::from(index) * 400) * MILLISECOND;
        ssh(Tcp::open(&mut records, client, v4(22, 22), start, 400 * MICROSECOND), index.into());
    }
    interleaved(records)
}

/// Prefixes bytes with their length in this many bytes.
fn counted(width: usize, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[4 - width..], bytes].concat()
}

/// Returns a TLS record (RFC 8446 section 5.1).
fn record(kind: u8, version: u16, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &counted(2, bytes)].concat()
}

fn extension(kind: u16, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted(2, bytes)].concat()
}

/// A TLS 1.3 exchange: greetings that can be read, then records that cannot.
fn tls(mut tcp: Tcp<'_>, seed: u64) {
    const HANDSHAKE: u8 = 22;
    const DATA: u8 = 23;
    let name = [&b"intranet.example.com"[..], b"files.example.com", b"mail.example.com"][seed as usize % 3];
    let session = noise(seed + 100, 32);
    let share = |seed| [&[0, 29][..], &counted(2, &noise(seed, 32))].concat(); // X25519
    let client = [
        &[3, 3][..],
        &noise(seed + 200, 32),
        &counted(1, &session),
        &counted(2, &[0x13, 0x01, 0x13, 0x02, 0x13, 0x03]),
        &[1, 0],
        &counted(
            2,
            &[
                extension(0, &counted(2, &[&[0][..], &counted(2, name)].concat())), // server name
                extension(10, &counted(2, &[0, 29, 0, 23])),                        // groups
                extension(13, &counted(2, &[4, 3, 8, 4, 4, 1])),                    // signatures
                extension(16, &counted(2, &[counted(1, b"h2"), counted(1, b"http/1.1")].concat())),
                extension(43, &counted(1, &[3, 4])), // TLS 1.3
                extension(45, &[1, 1]),
                extension(51, &counted(2, &share(seed + 300))),
            ]
            .concat(),
        ),
    ]
    .concat();
    let server = [
        &[3, 3][..],
        &noise(seed + 400, 32),
        &counted(1, &session),
        &[0x13, 0x01, 0],
        &counted(2, &[extension(43, &[3, 4]), extension(51, &share(seed + 500))].concat()),
    ]
    .concat();
    let change = record(20, 0x0303, &[1]);
    let sealed = |seed, length| record(DATA, 0x0303, &noise(seed, length));

    tcp.send(From::Client, &record(HANDSHAKE, 0x0301, &[&[1][..], &counted(3, &client)].concat()));
    tcp.pause(2 * MILLISECOND);
    let hello = record(HANDSHAKE, 0x0303, &[&[2][..], &counted(3, &server)].concat());
    tcp.send(
        From::Server,
        &[hello, change.clone(), sealed(seed + 600, 27), sealed(seed + 700, 2480), sealed(seed + 800, 69)].concat(),
    );
    tcp.send(From::Client, &[change, sealed(seed + 900, 69)].concat());
    for exchange in 0..3 {
        tcp.send(From::Client, &sealed(seed + 1000 + exchange, 180 + 37 * seed as usize));
        tcp.pause(9 * MILLISECOND);
        tcp.send(From::Server, &sealed(seed + 2000 + exchange, 900 + 1300 * exchange as usize));
        tcp.pause(25 * MILLISECOND);
    }
    tcp.send(From::Client, &sealed(seed + 3000, 19));
    tcp.close(From::Client);
}

/// Returns an SSH packet in the clear (RFC 4253 section 6).
fn ssh_packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 5 + 4) % 8) % 8;
    counted(4, &[&[padding as u8][..], payload, &vec![0; padding]].concat())
}

/// An SSH session: banners, key exchange, a few keystrokes that cannot be read.
fn ssh(mut tcp: Tcp<'_>, seed: u64) {
    let offer = |seed| {
        let lists: [&[u8]; 10] = [
            b"curve25519-sha256",
            b"ssh-rsa",
            b"aes128-ctr",
            b"aes128-ctr",
            b"hmac-sha2-256",
            b"hmac-sha2-256",
            b"none",
            b"none",
            b"",
            b"",
        ];
        let lists: Vec<u8> = lists.iter().flat_map(|list| counted(4, list)).collect();
        ssh_packet(&[&[20][..], &noise(seed, 16), &lists, &[0; 5]].concat())
    };
    tcp.send(From::Client, b"SSH-2.0-OpenSSH_7.4\r\n");
    tcp.send(From::Server, b"SSH-2.0-OpenSSH_7.4\r\n");
    tcp.send(From::Client, &offer(seed + 10));
    tcp.send(From::Server, &offer(seed + 20));
    tcp.send(From::Client, &ssh_packet(&[&[30][..], &counted(4, &noise(seed + 30, 32))].concat()));
    tcp.pause(3 * MILLISECOND);
    let modulus = [&[0x00, 0x80][..], &noise(seed + 40, 255)].concat();
    let key = [counted(4, b"ssh-rsa"), counted(4, &[1, 0, 1]), counted(4, &modulus)].concat();
    let signature = [counted(4, b"ssh-rsa"), counted(4, &noise(seed + 50, 256))].concat();
    let reply = [&[31][..], &counted(4, &key), &counted(4, &noise(seed + 60, 32)), &counted(4, &signature)].concat();
    tcp.send(From::Server, &[ssh_packet(&reply), ssh_packet(&[21])].concat());
    tcp.send(From::Client, &ssh_packet(&[21]));
    for key in 0..16 {
        tcp.send(From::Client, &noise(seed * 100 + key, 64));
        tcp.send(From::Server, &noise(seed * 200 + key, 64));
        tcp.pause(60 * MILLISECOND + key % 5 * 13 * MILLISECOND);
    }
    tcp.close(From::Client);
}
