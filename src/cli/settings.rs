//! The flags of `vxtap run` become settings here, one by one.

use std::path::Path;

use super::run::RunArgs;
use crate::config::Settings;
use crate::config::file;
use crate::config::interface::InterfaceArg;
use crate::config::origin::{Origin, Origins};
use crate::config::sessions::Item;
use crate::config::settings::{
    Control, Delivery, FILES, Files, Health, Http, Interface, Output, Outputs, Receive, Run, Sandbox, Sessions,
};
use crate::setting::key::{self, Key};

impl RunArgs {
    /// Returns the settings that the command line asks for.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let output = self.outputs();
        Settings {
            receive: Receive {
                listen: self.listen.clone(),
                source: self.source.clone(),
                interface: self.interface.clone(),
                attach: self.attach,
                ring: self.ring,
                any_address: self.any_address,
                verify_checksum: self.verify_checksum,
                workers: self.workers,
                steer: self.steer,
                buffer: self.receive_buffer,
                reserved_bits: self.reserved_bits,
                vni_mask: self.vni_mask,
                timestamps: self.timestamps,
            },
            sessions: Sessions {
                max: self.max_sessions,
                idle: self.session_idle,
                vni: self.vni.clone(),
                from: self.from.clone(),
                allow: self.allow.clone(),
                tag_map: self.tag_map.clone(),
            },
            session: Vec::new(),
            delivery: Delivery { queue: self.queue, flush: self.flush },
            control: Control { enabled: !self.no_control, socket: self.control.clone() },
            health: Health::default(),
            http: Http { listen: self.http.clone(), ..Http::default() },
            sandbox: Sandbox { mode: self.sandbox, ..Sandbox::default() },
            run: Run { duration: self.duration, count: self.count, ledger: self.ledger },
            origins: self.origins(&output),
            output,
        }
    }

    /// Says whether all flags that were given can stand beside a configuration file.
    ///
    /// # Errors
    /// Some cannot; the text says what to write into the file `path` instead.
    pub fn beside_config(&self, path: &Path) -> Result<(), String> {
        let others: Vec<&str> = self.flags().filter(|key| !is_of_run(key)).map(|key| key.flag).collect();
        if others.is_empty() {
            return Ok(());
        }
        let settings = Settings { run: Run::default(), sandbox: Sandbox::default(), ..self.settings() };
        let text = file::changed(&settings).map_err(|error| error.to_string())?;
        let (flags, path) = (others.join(", "), path.display());
        let instead = match text.trim_end() {
            "" => "leave out what is so by default".to_owned(),
            lines => format!("write into {path}:\n\n{lines}"),
        };
        Err(format!("with --config the file says what {flags} would; {instead}"))
    }

    /// Puts what the flags say that go beside a configuration file over what the file says.
    pub fn put_over(&self, settings: &mut Settings) {
        for key in self.flags() {
            match key.path {
                "run.duration" => settings.run.duration = self.duration,
                "run.count" => settings.run.count = self.count,
                "run.ledger" => settings.run.ledger = self.ledger,
                "sandbox.mode" => settings.sandbox.mode = self.sandbox,
                _ => continue,
            }
            settings.origins.note(key.path, Origin::Flag);
        }
    }

    /// Returns the settings whose flags were given.
    fn flags(&self) -> impl Iterator<Item = &'static Key> {
        let is_given =
            |key: &&Key| self.given.iter().any(|id| key.flag.trim_start_matches('-').replace('-', "_") == *id);
        key::ALL.iter().filter(is_given)
    }

    fn outputs(&self) -> Outputs {
        let files = (!self.no_write).then(|| (FILES.to_owned(), Output::Pcap(Box::new(self.files()))));
        let taps = self.tap.iter().map(|asked| (asked.name.clone(), Output::Tap(self.interface(asked))));
        let tuns = self.tun.iter().map(|asked| (asked.name.clone(), Output::Tun(self.interface(asked))));
        Outputs(files.into_iter().chain(taps).chain(tuns).collect())
    }

    fn files(&self) -> Files {
        Files {
            directory: self.write.clone(),
            format: self.format,
            bare_ip: self.bare_ip,
            compress: self.compress,
            rotate_size: self.rotate_size,
            rotate_frames: self.rotate_frames,
            rotate_time: self.rotate_time,
            direct: self.direct,
            sync: self.sync,
            hash: self.hash,
            keep_bytes: self.keep_bytes,
            keep_files: self.keep_files,
            keep_age: self.keep_age,
            min_free: self.min_free,
            on_publish: self.on_publish.clone(),
            snaplen: self.snaplen,
            filter: self.filter.clone(),
            essential: true,
        }
    }

    fn interface(&self, asked: &InterfaceArg) -> Interface {
        let vnis = asked.vnis.iter().flat_map(|vnis| vnis.ranges().iter().copied().map(Item::One));
        Interface {
            interface: Some(asked.name.clone()),
            vni: vnis.collect(),
            mode: self.tap_mode,
            mtu: self.tap_mtu,
            count: self.tap_count,
            filter: self.filter.clone(),
            tag: self.tap_tag,
            essential: true,
        }
    }

    /// Notes where each value was said. A flag for interfaces, or for all outputs, is said of each.
    fn origins(&self, outputs: &Outputs) -> Origins {
        let mut origins = Origins::default();
        for key in self.flags() {
            if key.path.starts_with("output.interface.") {
                outputs.interfaces().for_each(|(name, ..)| origins.note(key.of(name), Origin::Flag));
            } else if key.path.starts_with("output.each.") {
                outputs.0.iter().for_each(|(name, _)| origins.note(key.of(name), Origin::Flag));
            } else {
                origins.note(key.path, Origin::Flag);
            }
        }
        origins
    }
}

/// Says whether a setting is of one run, so that its flag goes beside a file.
fn is_of_run(key: &Key) -> bool {
    key.path.starts_with("run.") || *key == key::SANDBOX
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use serde_json::Value;

    use super::super::{Cli, Command, parse};
    use super::*;

    fn settings(more: &[&str]) -> Settings {
        let words = ["vxtap", "run"].iter().chain(more).map(Into::into);
        match parse(words).unwrap().command {
            Command::Run(args) => args.settings(),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the paths below which two trees differ.
    fn differences(a: &Value, b: &Value, path: &str, found: &mut BTreeSet<String>) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match (a.get(key), b.get(key)) {
                        (Some(a), Some(b)) => differences(a, b, &path, found),
                        _ => _ = found.insert(path),
                    }
                }
            }
            _ if a != b => _ = found.insert(path.to_owned()),
            _ => {}
        }
    }

    /// Each flag with a value that is not its default, and what else it needs.
    const SAMPLES: &[(&str, &[&str])] = &[
        ("--listen 10.0.0.7", &[]),
        ("--source bpf", &[]),
        ("--source file:./mirror.pcap", &[]),
        ("--interface eth0", &[]),
        ("--attach tc", &[]),
        ("--ring 1MiB", &[]),
        ("--any-address", &[]),
        ("--verify-checksum", &[]),
        ("--workers 3", &[]),
        ("--steer flow", &[]),
        ("--receive-buffer 1MiB", &[]),
        ("--reserved-bits reject", &[]),
        ("--vni-mask 0x0fffff", &[]),
        ("--timestamps switch", &[]),
        ("--max-sessions 5", &[]),
        ("--session-idle 1h", &[]),
        ("--vni 5", &[]),
        ("--from 10.0.0.7", &[]),
        ("--allow list", &[]),
        ("--tag-map tags", &["--tap", "m", "--tap-tag", "session"]),
        ("--queue 1GiB", &[]),
        ("--flush 5s", &[]),
        ("--no-write", &["--tap", "m"]),
        ("--write /data", &[]),
        ("--format pcapng", &[]),
        ("--bare-ip raw", &[]),
        ("--compress lz4", &[]),
        ("--rotate-size 5MiB", &[]),
        ("--rotate-frames 5", &[]),
        ("--rotate-time 5m", &[]),
        ("--direct off", &[]),
        ("--sync publish", &[]),
        ("--hash none", &[]),
        ("--keep-bytes 5GiB", &[]),
        ("--keep-files 5", &[]),
        ("--keep-age 5d", &[]),
        ("--min-free 5%", &[]),
        ("--on-publish true", &[]),
        ("--snaplen 200", &[]),
        ("--tap n", &["--tap", "m"]),
        ("--tun n", &["--tap", "m"]),
        ("--tap-mode redirect", &["--tap", "m"]),
        ("--tap-mtu 1500", &["--tap", "m"]),
        ("--tap-count 2", &["--tap", "m"]),
        ("--tap-tag session", &["--tap", "m"]),
        ("--filter tcp", &[]),
        ("--control /run/x/control", &[]),
        ("--no-control", &[]),
        ("--http 127.0.0.1:9479", &[]),
        ("--sandbox off", &[]),
        ("--duration 5s", &[]),
        ("--count 5", &[]),
        ("--ledger json", &[]),
    ];

    #[test]
    fn each_flag_changes_its_setting_and_no_other() {
        for (sample, with) in SAMPLES {
            let words: Vec<&str> = sample.split(' ').collect();
            let key = key::ALL.iter().find(|key| key.flag == words[0]).unwrap();
            let (before, after) = (settings(with), settings(&[with, &*words].concat()));
            let mut found = BTreeSet::new();
            let tree = |settings: &Settings| serde_json::to_value(settings).unwrap();
            differences(&tree(&before), &tree(&after), "", &mut found);
            let path = match key.flag {
                "--tap" | "--tun" => "output.n".into(),
                _ if key.path.starts_with("output.interface.") => key.of("m"),
                _ if key.path.starts_with("output.each.") => key.of(FILES),
                _ => key.path.to_owned(),
            };
            assert_eq!(found, BTreeSet::from([path.clone()]), "{sample}");
            let said = if path == "output.n" { key.of("n") } else { path };
            assert_eq!(
                (before.origins.of(&said), after.origins.of(&said)),
                (Origin::Default, Origin::Flag),
                "{sample}"
            );
        }
    }

    /// Returns what a configuration file says, without the places where it says it.
    fn read(text: &str) -> Settings {
        let config =
            file::Config::parse(Path::new("vxtap.toml"), text.to_owned()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(config.faults().map(|faults| faults.to_string()), None, "{text}");
        Settings { origins: Origins::default(), ..config.settings }
    }

    #[test]
    fn what_flags_say_is_printed_as_a_file_that_says_the_same() {
        let all: Vec<Vec<&str>> =
            SAMPLES.iter().map(|(sample, with)| [with, &*sample.split(' ').collect::<Vec<_>>()].concat()).collect();
        let together: Vec<&str> = SAMPLES
            .iter()
            .filter(|(sample, _)| {
                !matches!(*sample, "--no-write" | "--allow list" | "--tun n" | "--no-control" | "--source bpf")
            })
            .flat_map(|(sample, _)| sample.split(' '))
            .collect();
        for words in all.into_iter().chain([together, vec![]]) {
            let said = settings(&words);
            let (whole, changed) = (file::write(&said).unwrap(), file::changed(&said).unwrap());
            let said = Settings { origins: Origins::default(), ..said };
            assert_eq!(read(&whole), said, "{words:?}\n{whole}");
            assert_eq!(read(&changed), said, "{words:?}\n{changed}");
            // A file that was printed is printed again.
            assert_eq!(file::write(&read(&whole)).unwrap(), whole, "{words:?}");
            // What is as by default is a comment, which says what it is.
            let comments = whole.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
            assert_eq!(read(&comments.collect::<Vec<_>>().join("\n")), said, "{words:?}");
        }
    }

    #[test]
    fn each_flag_is_a_line_of_the_file() {
        for (sample, with) in SAMPLES.iter().filter(|(sample, _)| *sample != "--no-write") {
            let words: Vec<&str> = sample.split(' ').collect();
            let key = key::ALL.iter().find(|key| key.flag == words[0]).unwrap();
            let (before, after) = (settings(with), settings(&[with, &*words].concat()));
            let (before, after) = (file::changed(&before).unwrap(), file::changed(&after).unwrap());
            let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
            let field = key.path.rsplit('.').next().unwrap();
            assert!(new.iter().any(|line| line.starts_with(&format!("{field} = "))), "{sample}: {after}");
        }
    }

    #[test]
    fn beside_a_file_go_the_flags_of_one_run_alone() {
        let args = |more: &[&str]| match parse(["vxtap", "run"].iter().chain(more).map(Into::into)).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        };
        for (sample, with) in SAMPLES {
            let words: Vec<&str> = with.iter().copied().chain(sample.split(' ')).collect();
            let beside = args(&words).beside_config(Path::new("vxtap.toml"));
            if matches!(words[0], "--duration" | "--count" | "--ledger" | "--sandbox") {
                assert_eq!(beside, Ok(()), "{sample}");
                continue;
            }
            let said = beside.unwrap_err();
            let flag = sample.split(' ').next().unwrap();
            assert!(said.contains(flag) && said.contains("write into vxtap.toml:\n\n["), "{said}");
            let (_, file) = said.split_once("\n\n").unwrap();
            assert_eq!(read(file), Settings { origins: Origins::default(), ..settings(&words) }, "{said}");
        }
        let said = args(&["--source", "udp"]).beside_config(Path::new("vxtap.toml")).unwrap_err();
        assert_eq!(said, "with --config the file says what --source would; leave out what is so by default");
        let mut over = read("[run]\ncount = 7\nduration = \"1h\"\n");
        args(&["--count", "5", "--ledger", "text"]).put_over(&mut over);
        assert_eq!((over.run.count, over.run.duration), (Some(5), Some(crate::config::units::Span::from_secs(3600))));
        assert_eq!(over.origins.of("run.ledger"), Origin::Flag);
    }

    #[test]
    fn flags_settings_and_samples_are_the_same() {
        let run = Cli::command().find_subcommand("run").unwrap().clone();
        let flags: BTreeSet<String> =
            run.get_arguments().filter_map(|arg| arg.get_long()).map(|l| format!("--{l}")).collect();
        let settings = |flag: &&str| !matches!(*flag, "--help" | "--config" | "--print-config");
        let flags: BTreeSet<&str> = flags.iter().map(String::as_str).filter(settings).collect();
        let keys: BTreeSet<&str> = key::ALL.iter().map(|key| key.flag).collect();
        let samples: BTreeSet<&str> = SAMPLES.iter().map(|(sample, _)| sample.split(' ').next().unwrap()).collect();
        assert_eq!(flags, keys);
        assert_eq!(keys, samples);
    }

    #[test]
    fn what_only_files_have_does_not_go_with_no_files() {
        let only_files = |key: &Key| key.path.starts_with("output.pcap.") || key.path == key::FLUSH.path;
        for key in key::ALL.iter().filter(|key| only_files(key)) {
            let (sample, _) = SAMPLES.iter().find(|(sample, _)| sample.split(' ').next() == Some(key.flag)).unwrap();
            let words = ["vxtap", "run", "--tap", "m", "--no-write"].into_iter().chain(sample.split(' '));
            let refused = parse(words.map(Into::into)).err().map(|error| error.to_string());
            assert!(refused.is_some_and(|why| why.contains("cannot be used with")), "{sample}");
        }
    }

    #[test]
    fn without_flags_all_is_as_by_default() {
        assert_eq!(settings(&[]), Settings::default());
    }

    #[test]
    fn a_value_that_is_the_default_can_be_given() {
        let given = settings(&["--rotate-size", "1GiB", "--tap", "m", "--tap", "n", "--tap-mtu", "9001"]);
        assert_eq!(given.origins.of("output.pcap.rotate_size"), Origin::Flag);
        assert_eq!(given.origins.of("output.pcap.rotate_time"), Origin::Default);
        for path in ["output.m.mtu", "output.n.mtu", "output.n.interface"] {
            assert_eq!(given.origins.of(path), Origin::Flag, "{path}");
        }
        let given = settings(&["--filter", "tcp", "--tap", "m"]);
        for path in ["output.m.filter", "output.pcap.filter"] {
            assert_eq!(given.origins.of(path), Origin::Flag, "{path}");
        }
    }
}
