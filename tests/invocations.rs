//! People type what is wrong or of another program, and the answer names the cause and what to
//! type.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Stdio};

/// Arguments, exit code, a piece of the cause, and a piece of what to type.
type Row = (&'static str, i32, &'static str, &'static str);

/// After `vxtap run`.
const RUN: &[Row] = &[
    // Where to receive.
    ("--listen localhost:4789", 2, "names are not looked up", "127.0.0.1:4789"),
    ("--listen eth0", 2, "not an address", "ip -brief address"),
    ("--listen any", 2, "not an address", "write 4789"),
    ("--listen -1", 2, "not an address", "write 0.0.0.0:4789"),
    ("--listen 99999", 2, "the largest is 65535", "0.0.0.0:4789"),
    ("--listen 0.0.0.0:99999", 2, "the largest is 65535", "0.0.0.0:4789"),
    ("--listen 0.0.0.0:vxlan", 2, "not the number of a port", "0.0.0.0:4789"),
    ("--listen [0.0.0.0]:4789", 2, "brackets are for IPv6", "write 0.0.0.0:4789"),
    ("--listen ::1:4789", 2, "an address, or one with a port", "[::1]:4789"),
    ("--listen fe80::1", 2, "needs its interface", "[fe80::1%eth0]:4789"),
    ("--listen [fe80::1%nosuch0]:4789", 75, "no interface nosuch0", "there are: lo"),
    ("--listen [fd00::1%eth0]:4789", 2, "only a link-local address", "[fd00::1]:4789"),
    ("--listen udp://0.0.0.0:4789", 2, "not an address", "as 0.0.0.0:4789"),
    ("--listen 10.0.0.0/8", 2, "a network", "--from 10.0.0.0/8"),
    ("--listen 127.0.0.1,127.0.0.2", 2, "more than one address", "the option for each"),
    ("--listen 4789 --listen 4789", 2, "given twice", "Usage: vxtap run [OPTIONS]"),
    ("--listen 0.0.0.0 --listen 127.0.0.1", 2, "includes 127.0.0.1:4789", "give one of them"),
    ("-i eth0", 2, "unexpected argument '-i'", "--listen 0.0.0.0:4789"),
    ("--af-packet=eth0", 2, "unexpected argument '--af-packet'", "--source bpf --interface eth0"),
    ("-p 4789", 2, "unexpected argument '-p'", "--listen 4789"),
    ("--port 4789", 2, "unexpected argument '--port'", "--listen 4789"),
    ("-4", 2, "unexpected argument '-4'", "--listen 0.0.0.0:4789"),
    ("--list-interfaces", 2, "unexpected argument '--list-interfaces'", "ip -brief address"),
    ("--source xdp", 2, "invalid value 'xdp'", "--attach xdp"),
    ("--source file", 2, "invalid value 'file'", "--source file:mirror.pcap"),
    ("--source file:-", 2, "invalid value 'file:-'", "vxtap decap -"),
    ("--source file:/nowhere/x.pcap", 1, "cannot read /nowhere/x.pcap", "No such file"),
    ("--source file:x --workers 2", 2, "--workers does not go with a capture", "leave the option out"),
    ("--source file:x --listen 10.0.0.7", 2, "--listen does not go with a capture", "the port alone, as 4789"),
    ("--source file:x --ring 1MiB", 2, "--ring is for the BPF program", "--source bpf"),
    ("--source file:x --tap m --tap-mode redirect", 2, "does not go with --source file", "use --source bpf"),
    ("--source af_packet", 2, "invalid value 'af_packet'", "--source bpf --interface eth0"),
    ("--source auto --attach driver", 2, "invalid value 'driver'", "xdp, tc"),
    ("--attach xdp", 2, "--attach is for the BPF program", "--source bpf"),
    ("--interface eth0", 2, "--interface is for the BPF program", "--source bpf"),
    ("--ring 1MiB", 2, "--ring is for the BPF program", "--source bpf"),
    ("--source bpf --ring 1", 2, "--ring must be", "from 128KiB to 1GiB"),
    ("--receive-buffer 2GiB", 2, "2GiB is too large", "512MiB"),
    ("-B 100", 2, "unexpected argument '-B'", "--receive-buffer 64MiB"),
    ("--lisen 4789", 2, "unexpected argument '--lisen'", "'--listen'"),
    // Where to answer.
    ("--http 9479", 2, "a port without an address", "write 127.0.0.1:9479"),
    ("--http localhost:9479", 2, "names are not looked up", "127.0.0.1:9479"),
    ("--http 127.0.0.1:9479 --http 127.0.0.1:9479", 2, "given twice", "give it once"),
    ("--control x --no-control", 2, "cannot be used with", "--no-control"),
    ("--control nowhere/control", 1, "cannot make the socket nowhere/control", "No such file"),
    ("--control /dev/null", 1, "/dev/null is there and is no socket", "left alone"),
    // Which sessions.
    ("--vni 5-1", 2, "an empty range", "1-5"),
    ("--vni 1..5", 2, "not a VNI", "1-5"),
    ("--vni -1", 2, "not a VNI", "a number from 0 to 16777215"),
    ("--vni x", 2, "not a VNI", "a number from 0 to 16777215"),
    ("--vni 16777216", 2, "not a VNI", "the largest is 16777215"),
    ("--vni 0x10", 2, "not decimal", "write 16"),
    ("--vni 1,,2", 2, "empty", "write 100,200"),
    ("--vni all,5", 2, "\"all\" is listed beside others", "leave out"),
    ("--from 10.0.0.1/16", 2, "bits behind the first 16", "10.0.0.0/16 for the network"),
    ("--from 10.0.0.0/255.255.0.0", 2, "a network with a mask", "10.0.0.0/16"),
    ("--from 10.0.0.1:4789", 2, "an address with a port", "write 10.0.0.1"),
    ("--from 10.0.0.1-10.0.0.9", 2, "not an address", "10.0.0.0/28"),
    ("--from 0.0.0.0", 2, "no host's address", "write all"),
    ("--from ::/0", 2, "more than IPv6", "2000::/3"),
    ("--from web1", 2, "names are not looked up", "10.0.0.7"),
    ("--allow /nonexistent", 1, "cannot read /nonexistent", "No such file"),
    ("--allow list --vni 1", 2, "cannot be used with", "Usage: vxtap run"),
    ("-f udp", 2, "unexpected argument '-f'", "--vni 1-5 --from 10.0.0.0/16"),
    ("--filter tcp.port==443", 2, "--filter: \"tcp.port\" is of a display filter of Wireshark", "tcp port 443"),
    ("--filter tpc", 2, "--filter: \"tpc\" is no word of the language", "is tcp meant?"),
    ("--filter localhost", 2, "names are not looked up", "write an address"),
    ("--filter host:", 2, "--filter: \"host:\" is no word of the language", "is host meant?"),
    ("--filter tcp&&", 2, "--filter: libpcap says: can't parse", "man pcap-filter"),
    ("--filter ip6&&protochain", 2, "needs a loop", "ip6 proto N"),
    ("--filter=", 2, "there is no expression", "leave the setting out"),
    ("--expression udp", 2, "unexpected argument '--expression'", "--filter 'tcp port 443'"),
    ("--bpf x", 2, "unexpected argument '--bpf'", "--vni 1-5 --from 10.0.0.0/16"),
    ("udp port 4789", 2, "unexpected argument 'udp'", "--filter 'EXPRESSION'"),
    ("--config x", 1, "cannot read x", "No such file"),
    ("--conf x", 2, "unexpected argument '--conf'", "--config vxtap.toml"),
    (
        "-c x --queue 1GiB",
        2,
        "with --config the file says what --queue would",
        "write into x: [delivery] queue = \"1GiB\"",
    ),
    ("-c x --source udp", 2, "with --config the file says what --source would", "leave out"),
    // Numbers.
    ("--count 0", 2, "invalid value '0' for '--count", "must be at least 1"),
    ("--count -1", 2, "invalid value '-1' for '--count", "must be at least 1"),
    ("--rotate-frames 0", 2, "invalid value '0'", "must be at least 1"),
    ("--keep-files 0", 2, "invalid value '0'", "must be at least 1"),
    ("--workers 0", 2, "invalid value '0'", "from 1 to 256"),
    ("--workers -1", 2, "invalid value '-1' for '--workers", "from 1 to 256"),
    ("--workers auto", 2, "not a whole number", "from 1 to 256"),
    ("--threads 4", 2, "unexpected argument '--threads'", "--workers 4"),
    ("--max-sessions 100000", 2, "invalid value '100000'", "from 1 to 65536"),
    ("--snaplen 64K", 2, "not a whole number", "from 1 to 262144"),
    ("--snaplen -1", 2, "invalid value '-1'", "from 1 to 262144"),
    ("-s 0", 2, "unexpected argument '-s'", "--snaplen 200"),
    ("-c 5", 1, "cannot read 5", "write --count"),
    ("-a duration:5", 2, "unexpected argument '-a'", "--duration 60s"),
    ("--queue lots", 2, "not a size", "100MiB"),
    ("--queue 64", 2, "64 bytes is too small for", "64MiB?"),
    ("--queue -1", 2, "invalid value '-1' for '--queue", "100MiB"),
    ("--queue 10TiB", 2, "10TiB is too large", "this host has"),
    ("--duration 5", 2, "has no unit", "5s, 5m or 5h"),
    ("--duration -5s", 2, "invalid value '-5s' for '--duration", "10s, 5m"),
    ("--duration 0s", 2, "invalid value '0s'", "more than zero"),
    ("--flush 1ms", 2, "--flush is too short", "at least 10ms"),
    // Files.
    ("-w x.pcap", 2, "unexpected argument '-w'", "--write DIR"),
    ("-l /var/log", 2, "unexpected argument '-l'", "--write DIR"),
    ("--output x", 2, "unexpected argument '--output'", "--write DIR"),
    ("-r x.pcap", 2, "unexpected argument '-r'", "vxtap replay FILE --to ADDR"),
    ("--pcap x", 2, "unexpected argument '--pcap'", "vxtap replay FILE --to ADDR"),
    ("-G 60", 2, "unexpected argument '-G'", "--rotate-time 60s"),
    ("-C 100", 2, "unexpected argument '-C'", "--rotate-size 100MB"),
    ("-W 5", 2, "unexpected argument '-W'", "--keep-files 10"),
    ("-b filesize:1", 2, "unexpected argument '-b'", "--rotate-size 100MB"),
    ("-z gzip", 2, "unexpected argument '-z'", "--on-publish CMD"),
    ("--gzip", 2, "unexpected argument '--gzip'", "--compress zstd"),
    ("--compress gzip", 2, "unknown compression \"gzip\"", "lz4, zstd"),
    ("--compress zstd:20", 2, "no level \"20\"", "from 1 (fast) to 19"),
    ("--format pcap-ng", 2, "invalid value 'pcap-ng'", "pcapng"),
    ("--bare-ip none", 2, "invalid value 'none'", "ethernet, raw"),
    ("--hash md5", 2, "invalid value 'md5'", "sha256, blake3"),
    ("--sync yes", 2, "invalid value 'yes'", "publish"),
    ("--rotate-size 1", 2, "1 byte is too small", "1MiB?"),
    ("--rotate-time 1x", 2, "not a duration", "5m"),
    ("--rotate-time 60", 2, "has no unit", "60s, 60m or 60h"),
    ("--keep-bytes 500MiB", 2, "less than --rotate-size 1GiB", "smaller --rotate-size"),
    ("--write", 2, "a value is required", "<DIR>"),
    // Interfaces.
    ("--tap", 2, "a value is required", "<NAME"),
    ("--tap m:1", 2, "\"1\"", "mirror0:vni=100,200-299"),
    ("--tap m:vni=5-1", 2, "an empty range", "1-5"),
    ("--tap interface-name-too-long", 1, "cannot be named", "15 bytes"),
    ("--tap a/b", 1, "cannot be named", "one of / : %"),
    ("--tap m --tap m", 2, "taken by another output", "choose another"),
    ("--tap-count 2", 2, "required arguments were not provided", "--tap"),
    ("--tap m --tap-mtu 10", 2, "invalid value '10'", "from 68 to 65521"),
    ("--tap m --tap-mode redirect", 2, "does not go with --source udp", "use --source bpf"),
    // The rest.
    ("-n", 2, "unexpected argument '-n'", "leave it out"),
    ("-q", 2, "unexpected argument '-q'", "--ledger none"),
    ("--quiet", 2, "unexpected argument '--quiet'", "--ledger none"),
    ("-D", 2, "unexpected argument '-D'", "systemd/vxtap.service"),
    ("-u nobody", 2, "unexpected argument '-u'", "User="),
    ("-A", 2, "unexpected argument '-A'", "--tap mirror0"),
    ("-k none", 2, "unexpected argument '-k'", "--verify-checksum"),
    ("--ledger yaml", 2, "invalid value 'yaml'", "json"),
    ("--log-format xml", 2, "invalid value 'xml'", "json"),
];

/// After `vxtap`.
const OTHERS: &[Row] = &[
    ("-i eth0", 2, "unexpected argument '-i'", "--listen 0.0.0.0:4789"),
    ("start", 2, "unrecognized subcommand 'start'", "vxtap run"),
    ("validate", 2, "unrecognized subcommand 'validate'", "vxtap check --config-only -c FILE"),
    ("check --config-only", 2, "required arguments were not provided", "--config <FILE>"),
    ("check captures", 2, "unexpected argument 'captures'", "vxtap verify DIR"),
    ("sessions --rules x", 2, "required arguments were not provided", "--from-aws <SESSIONS> <INTERFACES>"),
    ("sessions --from-aws x y --json", 2, "cannot be used with", "Usage: vxtap sessions"),
    ("sessions --control nowhere", 1, "no sensor runs here: there is no nowhere", "--control PATH"),
    ("reload --control nowhere", 1, "no sensor runs here: there is no nowhere", "--control PATH"),
    ("ledger --top x", 2, "invalid value 'x'", "--top"),
    ("config --json", 2, "unexpected argument '--json'", "Usage: vxtap config"),
    ("status --control /dev/null", 1, "/dev/null", "is no socket of a sensor"),
    ("status --url x", 2, "unexpected argument '--url'", "Usage: vxtap status"),
    ("sessions --from-aws x", 2, "2 values required", "Usage: vxtap sessions"),
    ("sessions --from-aws /nonexistent x", 1, "cannot read /nonexistent", "No such file"),
    ("check -c /nonexistent", 1, "cannot read /nonexistent", "No such file"),
    ("check --config-only --json -c x", 2, "cannot be used with", "--json"),
    ("check --print-config", 2, "to print the options as a file", "vxtap run --print-config"),
    ("check --flush 1ms", 2, "--flush", "10ms"),
    ("check -i eth0", 2, "unexpected argument '-i'", "--source bpf --interface eth0"),
    ("check --config-only -c /nonexistent", 1, "cannot read /nonexistent", "No such file"),
    ("replay x.pcap", 2, "required arguments were not provided", "--to <ADDR[:PORT]>"),
    ("replay x.pcap --to bastion", 2, "not an address", "192.0.2.10:4789"),
    ("replay x.pcap --to 4789", 2, "no host to send to", "192.0.2.10:4789"),
    ("replay x.pcap --to 0.0.0.0", 2, "no host's address", "127.0.0.1:4789"),
    ("replay x.pcap --to 192.0.2.1 --vni 9-7", 2, "an empty range", "7-9"),
    ("replay x.pcap --to 192.0.2.1 --rate 0", 2, "invalid value '0'", "must be at least 1"),
    ("replay x.pcap --to 192.0.2.1 --loop -1", 2, "invalid value '-1'", "must be at least 1"),
    ("replay -i eth0 x.pcap", 2, "unexpected argument '-i'", "--to 192.0.2.10"),
    ("replay x.pcap --pps 5", 2, "unexpected argument '--pps'", "--rate 10000"),
    ("decap", 2, "required arguments were not provided", "<IN>"),
    ("decap -r x.pcap -w y.pcap", 2, "unexpected argument '-r'", "vxtap decap IN -o OUT"),
    ("decap x.pcap -w y.pcap", 2, "unexpected argument '-w'", "-o OUT"),
    ("decap x.pcap y.pcap", 1, "cannot read x.pcap", "No such file"),
    ("decap x.pcap -o y --into z", 2, "cannot be used with", "Usage: vxtap decap"),
    ("decap x.pcap --into z --others pass", 2, "have no session", "-o OUT"),
    ("decap x.pcap --into -", 2, "--into needs a directory", "-o -"),
    ("decap x.pcap -o y.pcap.gz", 2, "gzip is not written", ".zst or .lz4"),
    ("decap - - -o y", 2, "read only once", "give - once"),
    ("decap x.pcap --to mirror0", 2, "it is a tap interface", "tap:mirror0"),
    ("decap x.pcap --to tap:m --compress zstd", 2, "cannot be used with", "--compress"),
    ("decap x.pcap --depth 0", 2, "invalid value '0'", "1..=64"),
    ("decap x.pcap --port 5000", 2, "invalid value '5000'", "vxlan:5000"),
    ("decap x.pcap --port vni:5000", 2, "invalid value 'vni:5000'", "vxlan:5000"),
    ("decap x.pcap --others keep", 2, "invalid value 'keep'", "pass"),
    ("decap /dev/null -o /nonexistent/y", 1, "cannot write /nonexistent/y", "No such file"),
    ("decap / -o y", 1, "cannot read /", "directory"),
    ("verify --write captures", 2, "unexpected argument '--write'", "vxtap verify DIR"),
    ("watch -i eth0", 2, "unexpected argument '-i'", "--session NAME"),
    ("watch -A", 2, "unexpected argument '-A'", "tcpdump -n -r -"),
    ("watch web-1", 2, "unexpected argument 'web-1'", "vxtap watch --session NAME"),
    ("watch -s 0", 2, "invalid value '0'", "must be from 1 to 262144"),
    ("watch --control nowhere", 1, "no sensor runs here: there is no nowhere", "--control PATH"),
    ("follow", 2, "unrecognized subcommand 'follow'", "vxtap watch"),
    ("extcap", 2, "Wireshark says what it wants to know", "--extcap-interfaces"),
    ("verify /nonexistent", 1, "/nonexistent", "No such file"),
];

/// Returns the rows of both kinds, with all words of the command line.
fn rows() -> impl Iterator<Item = (Vec<&'static str>, Row)> {
    let words = |row: &Row| row.0.split(' ').collect::<Vec<_>>();
    let run = RUN.iter().map(move |row| ([vec!["run"], words(row)].concat(), *row));
    run.chain(OTHERS.iter().map(move |row| (words(row), *row)))
}

#[test]
fn what_is_wrong_is_answered_with_the_cause_and_what_to_type() {
    let directory = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (words, (_, code, cause, advice)) in rows() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
        if words[0] == "run" && !words.contains(&"--duration") {
            // One that starts after all ends.
            command.args(["run", "--duration", "1s"]).args(&words[1..]);
        } else {
            command.args(&words);
        }
        let command = command.current_dir(&directory).env_remove("VXTAP_LOG").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let says = one_line.contains(cause) && one_line.contains(advice);
        // An error that ends the start is the last that is read; usage lines are of the command
        // that was asked for.
        let is_last =
            code == 2 || text.lines().last().is_some_and(|line| line.contains("ERROR") && line.contains(cause));
        let usage = words[0] != "run" || !text.contains("Usage:") || text.contains("Usage: vxtap run");
        if output.status.code() != Some(code) || !says || !is_last || !usage {
            wrong.push(format!(
                "vxtap {} ended with {:?}, {cause:?} and {advice:?} wanted:\n{text}",
                words.join(" "),
                output.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows().count(), wrong.join("\n"));
}

/// Returns the exit code, standard output and standard error of a command line.
fn answer(directory: &std::path::Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxtap"));
    let output =
        command.args(words).current_dir(directory).env_remove("VXTAP_LOG").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_configuration_file_is_answered_by_run_and_by_check() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let vxtap = |words: &[&str]| answer(directory.path(), words);
    let head = "[receive]\nlisten = \"127.0.0.1:0\"\nbuffer = \"200KiB\"\n";
    write("right.toml", &format!("{head}[output.evidence]\nkind = \"pcap\"\ndirectory = \"captures\"\n"));
    write("wrong.toml", &format!("{head}[delivery]\nflush = 5\nqueu = \"1GiB\"\n"));
    std::fs::write(directory.path().join("latin.toml"), b"# caf\xe9\n").unwrap();
    write("late.toml", "[receive]\nlisten = \"[fe80::1%nosuch0]:4789\"\n");
    let (code, out, _) = vxtap(&["check", "--config-only", "-c", "right.toml"]);
    assert_eq!((code, out.as_str()), (Some(0), "right.toml: no fault is found\n"));
    // The flags of one run stand beside it, and the ledger has the names of the file.
    let (code, out, said) = vxtap(&["run", "-c", "right.toml", "--duration", "100ms", "--ledger", "json"]);
    assert!(code == Some(0) && out.contains("\"evidence\""), "{code:?} {out} {said}");
    // What is said at run time has the words of the file, too.
    assert!(said.contains("min_free = \"10%\", keep_bytes or keep_age remove the oldest"), "{said}");
    for words in [&["run", "-c", "wrong.toml"][..], &["check", "--config-only", "-c", "wrong.toml"]] {
        let (code, out, said) = vxtap(words);
        assert!(code == Some(2) && out.is_empty(), "{code:?} {out}");
        for piece in
            [" --> wrong.toml:5:9\n", "5 | flush = 5\n", "help: write 5s, 5m or 5h", "help: do you mean queue?"]
        {
            assert!(said.contains(piece), "{piece} in {said}");
        }
        let (_, _, lines) = vxtap(&[words, &["--log-format", "json"]].concat());
        let faults: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(faults.len(), 2, "{lines}");
        let message = &faults[0]["fields"]["message"];
        assert_eq!(message, "wrong.toml:5: delivery.flush: has no unit; write 5s, 5m or 5h");
    }
    for words in [&["run", "-c", "latin.toml"][..], &["check", "--config-only", "-c", "latin.toml"]] {
        let (code, _, said) = vxtap(words);
        assert!(code == Some(2) && said.contains(" --> latin.toml:1:6\n"), "{code:?} {said}");
    }
    write("nowhere.toml", &format!("{head}[output.evidence]\nkind = \"pcap\"\ndirectory = \"/proc/captures\"\n"));
    let (code, _, nowhere) = vxtap(&["run", "-c", "nowhere.toml"]);
    assert!(code == Some(1) && nowhere.ends_with("; name another directory\n"), "{code:?} {nowhere}");
    // The interface may come; on no host in particular nothing is wrong.
    let (code, _, said) = vxtap(&["run", "-c", "late.toml"]);
    assert!(code == Some(75) && said.contains(" --> late.toml:2:10\n"), "{code:?} {said}");
    assert_eq!(vxtap(&["check", "--config-only", "-c", "late.toml"]).0, Some(0));
}

#[test]
fn what_is_printed_as_a_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let vxtap = |words: &[&str]| answer(directory.path(), words);
    let flags = ["run", "--print-config", "--tap", "mirror0:vni=7", "--keep-age", "30d", "--listen", "8472"];
    let (code, printed, said) = vxtap(&flags);
    assert_eq!(code, Some(0), "{said}");
    for line in
        ["listen = [8472]", "keep_age = \"30days\"", "# rotate_size = \"1GiB\"", "[output.mirror0]", "vni = [7]"]
    {
        assert!(printed.lines().any(|other| other == line), "{line} in\n{printed}");
    }
    std::fs::write(directory.path().join("printed.toml"), &printed).unwrap();
    assert_eq!(vxtap(&["run", "--print-config", "-c", "printed.toml"]).1, printed);
    let (code, _, said) = vxtap(&["run", "--print-config", "--attach", "xdp"]);
    assert!(code == Some(2) && said.contains("--attach is for the BPF program"), "{code:?} {said}");
}

#[test]
fn what_aws_prints_becomes_entries() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = |name: &str| format!("{}/fixtures/aws/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let (sessions, interfaces, filters) = (fixture("sessions"), fixture("interfaces"), fixture("filters"));
    let (code, entries, said) =
        answer(directory.path(), &["sessions", "--from-aws", &sessions, &interfaces, "--rules", &filters]);
    assert!(code == Some(0) && said.contains("WARN") && said.contains("NextToken"), "{code:?} {said}");
    std::fs::write(directory.path().join("aws.toml"), entries).unwrap();
    std::fs::write(directory.path().join("vxtap.toml"), "include = \"aws.toml\"\n").unwrap();
    assert_eq!(answer(directory.path(), &["check", "--config-only", "-c", "vxtap.toml"]).0, Some(0));
    let (code, out, said) = answer(directory.path(), &["sessions", "--from-aws", &interfaces, &sessions]);
    assert!(code == Some(4) && out.is_empty() && said.contains("it has no TrafficMirrorSessions"), "{code:?} {said}");
}
