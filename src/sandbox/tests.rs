//! What a sealed process cannot do is tried in a process of its own.

use std::env;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketType, connect, sendto, shutdown, socket};

use super::*;
use crate::sys::direct::Writes;
use crate::sys::rings::refused as forbidden;

/// The directory that a sealed process may use.
const DIRECTORY: &str = "VXTAP_TEST_SEALED";

fn denied<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is possible"));
    assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)), "{what}: {error}");
}

/// What is in the directory of a test.
fn captures(directory: &Path) -> PathBuf {
    directory.join("captures")
}

/// Runs in the process of its own.
fn be_sealed(directory: &Path) {
    let (tell, told) = mpsc::channel::<()>();
    // A thread that is there before the end of the start.
    let early = thread::spawn(move || {
        let _ = told.recv();
        Command::new("/bin/true").status()
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = directory.join("service");
    let _service = UnixListener::bind(&unix).unwrap();
    // One that is there can be another's after this.
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    shutdown(&door, Shutdown::Both).unwrap();
    let address = listener.local_addr().unwrap();
    let config = directory.join("vxtap.toml");
    let needs = Needs {
        captures: vec![captures(directory)],
        read: vec![config.clone()],
        rings: Stock { files: 1, interfaces: 0 },
        ..Needs::default()
    };
    let mut sandbox = Sandbox::enter(Mode::Require, needs).unwrap();
    assert!(!captures(directory).exists());
    fs::create_dir(captures(directory)).unwrap();
    sandbox.drop_capabilities(false).unwrap();
    let state = sandbox.seal().unwrap();
    assert!(state.seccomp && state.no_new_privs && state.landlock >= Some(2), "{state:?}");
    assert_eq!(state.missing, [""; 0]);
    let root = ["cap_chown", "cap_dac_override", "cap_fowner"];
    assert!(state.capabilities.iter().all(|kept| root.contains(&kept.as_str())), "{state:?}");

    tell.send(()).unwrap();
    denied("a program of an early thread", early.join().unwrap());
    denied("a program", Command::new("/bin/true").status());
    denied("a program of a new thread", thread::spawn(|| Command::new("/bin/true").status()).join().unwrap());
    for secret in ["/etc/shadow", "/etc/passwd", "/root/.aws/credentials", "/root", "/etc"] {
        if Path::new(secret).exists() {
            denied(secret, fs::read_dir(secret).map(drop).or_else(|_| fs::read(secret).map(drop)));
        }
    }
    denied("a file elsewhere", fs::write(directory.with_extension("x"), ""));
    denied("TCP to this host", TcpStream::connect(address));
    denied("TCP by a socket that is there", connect(&door, &address).map_err(Into::into));
    let with_data = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
    denied("TCP by what is sent", sendto(&door, b"x", with_data, &address).map_err(Into::into));
    denied("another service of this host", UnixStream::connect(&unix));
    denied("the metadata service", TcpStream::connect("169.254.169.254:80"));
    denied("a port", TcpListener::bind("127.0.0.1:0"));
    denied("a UDP socket", UdpSocket::bind("127.0.0.1:0"));
    denied("a packet socket", socket(AddressFamily::PACKET, SocketType::DGRAM, None).map_err(Into::into));
    socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    denied("more rings", forbidden::ring());
    denied("a program in the kernel", forbidden::program());
    denied("memory that is executed", forbidden::executable());
    let mode = fs::metadata(&config).unwrap().permissions();
    denied("a mode of a path", fs::set_permissions(&config, mode));
    denied("a link", std::os::unix::fs::symlink("/etc", captures(directory).join("link")));

    fs::read(&config).unwrap();
    fs::read_to_string("/proc/self/status").unwrap();
    for _ in 0..2 {
        let (made, other) = (captures(directory).join("a"), captures(directory).join("b"));
        fs::create_dir_all(&other).unwrap();
        fs::write(&made, "x").unwrap();
        fs::rename(&made, other.join("a")).unwrap();
        fs::remove_dir_all(captures(directory)).unwrap();
    }
    fs::create_dir(captures(directory)).unwrap();
    // The ring of the stock, twice, by another thread too.
    for n in 0..2_u8 {
        let path = captures(directory).join(n.to_string());
        let write = move || {
            let file = fs::File::create(&path).unwrap();
            let mut writes = Writes::new(2).unwrap();
            assert!(Writes::new(2).is_err(), "there is one");
            writes.attach(std::sync::Arc::new(file), 0, 1);
            writes.room()[..5].copy_from_slice(b"bytes");
            writes.push(5, 0);
            writes.wait(0).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"bytes");
        };
        thread::spawn(write).join().unwrap();
    }

    let outside = Needs { captures: vec!["/var/lib/elsewhere".into()], ..Needs::default() };
    assert!(sandbox.lacks(&outside).unwrap().contains("write to /var/lib/elsewhere: restart it"));
    assert_eq!(sandbox.lacks(&Needs { captures: vec![captures(directory)], ..Needs::default() }), None);
    let advised = |path: &Path| sandbox.advised(path, io::ErrorKind::PermissionDenied.into()).to_string();
    assert!(advised(Path::new("/etc/shadow")).contains("restart") && !advised(&config).contains("restart"));
}

#[test]
fn what_a_sealed_process_cannot_do_fails() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        return be_sealed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("own");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("vxtap.toml"), "").unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "sandbox::tests::what_a_sealed_process_cannot_do_fails", "--nocapture"]);
    let output = command.env(DIRECTORY, &directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Landlock: ") && env::var_os("CI").is_none() {
        // This kernel has none.
        return;
    }
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn nothing_is_given_up_where_nothing_is_asked_for() {
    let mut sandbox = Sandbox::enter(Mode::Off, Needs::default()).unwrap();
    sandbox.drop_capabilities(false).unwrap();
    let state = sandbox.seal().unwrap();
    assert_eq!((state.landlock, state.mode, state.missing.len()), (None, Mode::Off, 0));
    let outside = Needs { captures: vec!["/elsewhere".into()], ..Needs::default() };
    assert_eq!(sandbox.lacks(&outside), None);
    Command::new("true").status().unwrap();
}
