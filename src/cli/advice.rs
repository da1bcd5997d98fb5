//! The command line gives advice on what to type instead of arguments that other programs have, and
//! of slips.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Command, CommandFactory, FromArgMatches};

use super::args;
use super::args::Cli;
use super::watch::is_extcap;

/// Arguments of tcpdump, dumpcap, tshark, Suricata and their like, and what they are here.
const HABITS: &[(&[&str], &str)] = &[
    (
        &["-i", "--iface", "--device", "--dev", "--af-packet", "--nic"],
        "datagrams come to an address and a port: --listen 0.0.0.0:4789; --source bpf --interface eth0 takes them off an interface",
    ),
    (
        &["-w", "-o", "-l", "--out", "--output", "--dir", "--log-dir", "--pcap-dir"],
        "captures go to a directory: --write DIR",
    ),
    (
        &["-r", "--read", "--pcap", "--input", "--replay"],
        "a capture is played by another command: vxtap replay FILE --to ADDR",
    ),
    (&["-s", "--snapshot-length", "--snap"], "bytes that are kept of a frame: --snaplen 200"),
    (&["-G", "--interval"], "a new file after some time: --rotate-time 60s"),
    (&["-C", "--filesize", "--file-size"], "a new file after some bytes: --rotate-size 100MB"),
    (&["-W", "--max-files"], "so many files are kept: --keep-files 10"),
    (&["-b", "--ring-buffer"], "files and how many are kept: --rotate-size 100MB --rotate-time 60s --keep-files 10"),
    (&["-a", "--autostop"], "an end by itself: --duration 60s, or --count 1000"),
    (&["--packets"], "an end after so many datagrams: --count 1000"),
    (&["--conf", "--config-file", "--yaml"], "the configuration file: --config vxtap.toml"),
    (
        &["-f", "-F", "--bpf", "--bpf-filter", "--expression"],
        "which inner frames are kept: --filter 'tcp port 443'; which sessions: --vni 1-5 --from 10.0.0.0/16",
    ),
    (&["-n", "-nn", "-N"], "names are never looked up; leave it out"),
    (
        &["-p", "-P", "--port", "--promisc", "--promiscuous"],
        "the port is part of the address to receive on: --listen 4789",
    ),
    (
        &["-z", "--postrotate", "--postrotate-command"],
        "a command for each complete file: --on-publish CMD; compressed files: --compress zstd",
    ),
    (&["--gzip", "--zstd", "--lz4"], "compressed files: --compress zstd, or --compress lz4"),
    (&["-B", "--buffer-size"], "the kernel's buffer of each socket: --receive-buffer 64MiB"),
    (
        &["-q", "--quiet", "--silent"],
        "no ledger at the end: --ledger none; warnings and errors alone: VXTAP_LOG=warn before the command",
    ),
    (
        &["-D", "--daemon", "--background"],
        "it stays in the foreground; a service is systemd/vxtap.service. Interfaces: ip -brief address",
    ),
    (&["-k", "--checksum"], "checksums are verified by --source bpf --verify-checksum alone"),
    (
        &["-u", "-Z", "--user", "--group", "--relinquish-privileges"],
        "run it as that user: setpriv, or User= in the systemd unit",
    ),
    (
        &["-e", "-A", "-X", "-XX", "-x", "-t", "-tt", "-ttt", "-T"],
        "frames are not printed: read the files with tcpdump -r FILE, or sniff an interface: --tap mirror0",
    ),
    (&["-U", "--immediate-mode"], "how late a frame is in its file at most: --flush 100ms"),
    (&["-d", "--debug"], "more in the log: -v, and everything: -vv"),
    (&["-j", "--json"], "the ledger as JSON: --ledger json; the log: --log-format json"),
    (&["--threads"], "receiving threads: --workers 4"),
    (&["-4", "-6"], "IPv4 alone: --listen 0.0.0.0:4789; both: --listen 4789"),
    (&["--help-all", "-?"], "all options: vxtap run --help"),
    (&["--list-interfaces", "-L"], "interfaces and their addresses: ip -brief address"),
];

/// The habits of those who know tcpreplay, for `vxtap replay`.
const REPLAY_HABITS: &[(&[&str], &str)] = &[
    (
        &["-i", "--intf1", "--interface", "--iface"],
        "the routing table decides: --to 192.0.2.10, and --from ADDR for the source address",
    ),
    (
        &["-p", "--pps", "-M", "--mbps", "-x", "--multiplier", "--speed"],
        "frames a second: --rate 10000; as they were: --realtime",
    ),
    (&["-t", "--topspeed"], "as fast as possible is what it does without --rate and --realtime; leave it out"),
    (&["-l", "--loops", "--repeat"], "several times: --loop 10"),
    (&["-d", "--dst", "--host", "--target", "--dest", "--listen"], "where to: --to 192.0.2.10"),
    (&["--port", "-P"], "the port is part of the target: --to 192.0.2.10:4789"),
    (&["-r", "-f", "--file", "--read"], "files are named without an option: vxtap replay FILE --to ADDR"),
];

/// The habits for `vxtap verify`.
const VERIFY_HABITS: &[(&[&str], &str)] =
    &[(&["-d", "-w", "--dir", "--directory", "--write"], "the directory is named without an option: vxtap verify DIR")];

/// The habits of those who know editcap and tcpdump, for `vxtap decap`.
const DECAP_HABITS: &[(&[&str], &str)] = &[
    (&["-r", "--read", "--in", "--input", "-i"], "captures are named without an option: vxtap decap IN -o OUT"),
    (&["-w", "--write", "--out"], "one file: -o OUT; a directory for each session: --into DIR"),
    (&["-C", "--strip", "--chop"], "where the inner frame begins is found by itself; leave it out"),
    (&["-d", "--decode-as"], "another UDP port of a mirror: --port vxlan:5000"),
    (&["-F", "-z", "--gzip"], "the ending says the form, as -o x.pcapng.zst; or --format pcapng, --compress zstd"),
    (&["--vni", "--session"], "a directory for each session: --into DIR"),
];

/// The habits of those who know tcpdump and tshark, for `vxtap watch`.
const WATCH_HABITS: &[(&[&str], &str)] = &[
    (&["-i", "--interface", "--session-name"], "a session takes the place of an interface: --session NAME"),
    (&["-a", "--autostop"], "an end by itself: --count 1000, or --duration 60s"),
    (&["-r", "-k"], "frames come from the running sensor: vxtap watch | wireshark -k -i -"),
    (
        &["-n", "-nn", "-e", "-A", "-X", "-XX", "-x", "-t", "-tt", "-V"],
        "frames are shown by another program: vxtap watch | tcpdump -n -r -",
    ),
    (&["-U", "-l", "--immediate-mode"], "frames are written as they come; leave it out"),
    (&["-Y", "-R"], "an expression as in tcpdump: --filter 'tcp port 443'"),
];

/// Values of options that mean something that another option says.
const VALUES: &[(&str, &[&str], &str)] = &[
    (
        "--source",
        &["xdp", "tc", "ebpf", "fast"],
        "the BPF program: --source bpf; where on the interface: --attach xdp or --attach tc",
    ),
    (
        "--source",
        &["file", "file:", "file:-"],
        "a capture is a file: --source file:mirror.pcap; standard input is read by vxtap decap -",
    ),
    ("--source", &["af_packet", "af-packet", "pcap", "raw", "eth0"], "an interface: --source bpf --interface eth0"),
];

/// Words for commands that have another name here.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["start", "capture", "record", "listen", "sniff", "receive", "serve"],
        "to receive and write captures: vxtap run",
    ),
    (&["play", "send", "inject"], "to send captures: vxtap replay FILE --to ADDR"),
    (&["tail", "follow", "live"], "to see frames as they come: vxtap watch | wireshark -k -i -"),
    (&["strip", "decapsulate", "unwrap"], "to take captures out of their wraps: vxtap decap IN -o OUT"),
    (&["audit"], "to compare captures with their manifest: vxtap verify DIR"),
    (&["validate", "configtest"], "to check a configuration file: vxtap check --config-only -c FILE"),
    (&["test", "example"], "the sensor on sample traffic: vxtap demo"),
];

/// Options that are numbers, by how help names their values: a minus is part of the value then, and
/// is answered as one.
const NUMBERS: &[&str] = &["N", "BYTES", "BYTES|PERCENT", "DURATION", "D", "PPS"];

/// Reads the command line.
///
/// # Errors
/// The command line is wrong, and the error says what to type; or it asks for help, and the error
/// is the text.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if is_extcap(&words) {
        words.insert(1, "extcap".into());
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&words).map_err(|error| advise(error, &mut command, &words))?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let run = match &mut cli.command {
        args::Command::Run(args) => matches.subcommand_matches("run").map(|matches| (args, matches)),
        args::Command::Check(args) => matches.subcommand_matches("check").map(|matches| (&mut args.run, matches)),
        _ => None,
    };
    if let Some((args, matches)) = run {
        let is_given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        args.given = matches.ids().filter(is_given).map(ToString::to_string).collect();
    }
    Ok(cli)
}

/// Gives an error about what the arguments of the command `name` mean together the form of clap's
/// own.
pub fn wrong(name: &str, error: impl std::fmt::Display) -> clap::Error {
    let mut command = command();
    command.build();
    match command.find_subcommand_mut(name) {
        Some(of) => of.error(ErrorKind::ValueValidation, error),
        None => command.error(ErrorKind::ValueValidation, error),
    }
}

/// Returns all that can be typed.
pub fn command() -> Command {
    let is_number = |arg: &clap::Arg| {
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| NUMBERS.contains(&name.as_str())))
    };
    let minus = |arg: clap::Arg| if is_number(&arg) { arg.allow_hyphen_values(true) } else { arg };
    Cli::command()
        .mut_subcommand("run", |run| run.mut_args(minus))
        .mut_subcommand("check", |check| {
            check.mut_args(minus).mut_args(|arg| if is_of_check(&arg) { arg } else { arg.hide(true) })
        })
        .mut_subcommand("replay", |replay| replay.mut_args(minus))
}

/// Says whether help of `vxtap check` shows an option; those of `vxtap run` are many.
fn is_of_check(arg: &clap::Arg) -> bool {
    matches!(arg.get_id().as_str(), "config" | "config_only" | "json" | "watch")
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn find(table: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| *tip)
}

fn advise(mut error: clap::Error, command: &mut Command, words: &[OsString]) -> clap::Error {
    let asked = words.iter().skip(1).filter_map(|word| word.to_str());
    let name = asked.clone().find(|word| command.find_subcommand(word).is_some());
    let tip = match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(unknown) = text(&error, ContextKind::InvalidArg) else { return error };
            let tip = unknown_argument(name, unknown.split('=').next().unwrap_or_default());
            let similar = text(&error, ContextKind::SuggestedArg);
            if tip.is_some() || !similar.is_some_and(|similar| is_close(&unknown, &similar)) {
                error.remove(ContextKind::SuggestedArg);
            }
            // A usage line made of what was typed and what is suggested misleads.
            command.build();
            let of = name.and_then(|name| command.find_subcommand_mut(name));
            if let Some(of) = of {
                error.insert(ContextKind::Usage, ContextValue::StyledStr(of.render_usage()));
            }
            tip
        }
        ErrorKind::InvalidSubcommand => {
            text(&error, ContextKind::InvalidSubcommand).and_then(|word| find(COMMANDS, &word))
        }
        ErrorKind::InvalidValue => {
            let (of, value) = (text(&error, ContextKind::InvalidArg), text(&error, ContextKind::InvalidValue));
            let (of, value) = (of.unwrap_or_default(), value.unwrap_or_default());
            let fits =
                |(option, values, _): &&(&str, &[&str], &str)| of.starts_with(option) && values.contains(&&*value);
            VALUES.iter().find(fits).map(|(_, _, tip)| *tip)
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedValue);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

fn unknown_argument(name: Option<&str>, unknown: &str) -> Option<&'static str> {
    let word = !unknown.starts_with('-');
    match name {
        Some("replay") => find(REPLAY_HABITS, unknown),
        Some("verify") => find(VERIFY_HABITS, unknown),
        Some("watch") if word => Some(
            "a session is named by an option, and so is an expression: vxtap watch --session NAME --filter 'EXPRESSION'",
        ),
        Some("watch") => find(WATCH_HABITS, unknown),
        Some("decap") => find(DECAP_HABITS, unknown),
        Some("check") if word => Some(
            "the configuration file is named by an option: vxtap check -c FILE; captures are compared by vxtap verify DIR",
        ),
        Some("run") if word => Some(
            "run takes options alone: which frames are kept is said by --filter 'EXPRESSION', which sessions by --vni and --from, where to receive by --listen, where to write by --write",
        ),
        // Without a command it may have been left out.
        Some("run" | "check") | None => find(HABITS, unknown),
        _ => None,
    }
}

/// Says whether an argument looks like a slip for the other, or is the beginning of it.
fn is_close(typed: &str, similar: &str) -> bool {
    similar.starts_with(typed) || strsim::osa_distance(typed, similar) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advised_can_be_typed() {
        let mut command = command();
        command.build();
        let known = |name: &str, option: &str| {
            let of = command.find_subcommand(name).unwrap();
            of.get_arguments().chain(command.get_arguments()).any(|arg| arg.get_long() == Some(option))
        };
        let tips = [
            ("run", HABITS),
            ("replay", REPLAY_HABITS),
            ("verify", VERIFY_HABITS),
            ("watch", WATCH_HABITS),
            ("decap", DECAP_HABITS),
        ];
        for (name, (words, tip)) in tips.iter().flat_map(|(name, table)| table.iter().map(move |row| (name, row))) {
            for word in *words {
                assert!(
                    !known(name, word.trim_start_matches('-')) || !word.starts_with("--"),
                    "{word} is an option of {name}"
                );
            }
            let name = if tip.contains("vxtap replay") { "replay" } else { name };
            for option in tip.split([' ', ':', ',', ';']).filter_map(|word| word.strip_prefix("--")) {
                assert!(known(name, option), "{tip}: {name} has no --{option}");
            }
        }
    }

    #[test]
    fn slips_are_told_from_other_words() {
        assert!(is_close("--lisen", "--listen") && is_close("--rotate", "--rotate-time"));
        assert!(!is_close("--expression", "--interface") && !is_close("--quiet", "--queue"));
    }
}
