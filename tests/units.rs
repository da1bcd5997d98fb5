//! What systemd is given: commands of the units are understood, the configuration of the service is
//! right, and what asks AWS makes of its answers what the sensor reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail where they are, too")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use vxtap::cli::Cli;
use vxtap::config::file::{Config, write};
use vxtap::config::settings::Output as Asked;
use vxtap::host::HostFacts;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the values of a directive, as systemd reads them.
fn values(unit: &str, directive: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ").replace("%%", "%");
    joined.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('=').map(Into::into)).collect()
}

/// The commands of ours in a unit are those of the program.
#[test]
fn commands_are_understood() {
    let unit = read("systemd/vxtap.service");
    let option = |line: &str| line.strip_prefix("#   ExecStart=").map(|line| line.replace("%%", "%"));
    let instead: Vec<String> = unit.lines().filter_map(option).collect();
    let [instead] = instead.as_slice() else { panic!("{instead:?}") };
    for command in values(&unit, "ExecStart").iter().chain(&values(&unit, "ExecReload")).chain([instead]) {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "/usr/bin/vxtap");
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    // The directory of the documents is writable, that of the options is the same.
    assert_eq!(values(&unit, "ReadWritePaths"), ["-/data/captures"]);
    assert!(instead.contains(" --write /data/captures ") && read("README.md").contains("--write /data/captures\n"));
}

/// Reads a configuration beside the examples, so that what it includes is found.
fn configured(text: String) -> Config {
    Config::parse(&root().join("examples/service.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_configuration_of_the_service_is_right() {
    let text = read("systemd/vxtap.toml");
    let unit = read("systemd/vxtap.service");
    assert!(unit.contains(" run -c /etc/vxtap/vxtap.toml "), "the unit has another file");
    let (settings, _) = configured(text.clone()).plan(&HostFacts::unknown()).unwrap_or_else(|error| panic!("{error}"));
    let [(name, Asked::Pcap(files))] = settings.output.0.as_slice() else { panic!("{:?}", settings.output) };
    // Captures go where the unit lets the sensor write, and the oldest go in time.
    assert_eq!(values(&unit, "StateDirectory"), ["vxtap vxtap/tags"]);
    assert!(files.directory.starts_with("/var/lib/vxtap"));
    // All of that directory can be written in the sandbox, so it is not the home directory.
    assert_eq!(settings.sessions.tag_map.parent(), Some(Path::new("/var/lib/vxtap/tags")));
    let printed = write(&settings).unwrap();
    assert!(name == "evidence" && printed.lines().any(|line| line == "min_free = \"10%\""), "{printed}");

    // What stands there as an example is right too, all at once.
    let example = |line: &&str| {
        line.strip_prefix("# ").is_some_and(|rest| rest.starts_with(|c: char| !c.is_uppercase() && !"/ ".contains(c)))
    };
    let lines = text.lines().map(|line| if example(&line) { &line[2..] } else { line });
    let all = lines.collect::<Vec<_>>().join("\n");
    let (more, _) = configured(all).plan(&HostFacts::unknown()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((more.output.0.len(), more.http.listen.len(), more.health.listen.len()), (2, 1, 1));
}

/// A drop-in says itself where it is.
#[test]
fn drop_ins_are_where_they_say() {
    for name in ["tap", "bpf", "gre"] {
        let text = read(&format!("systemd/drop-ins/{name}.conf"));
        assert!(text.contains(&format!("ln -s /usr/share/vxtap/drop-ins/{name}.conf ")), "{name}");
    }
}

/// The example of a socket unit says where it is, and has the address that the sensor asks for.
#[test]
fn the_socket_is_the_sensors() {
    let text = read("systemd/vxtap.socket");
    assert!(text.contains("install -m 644 /usr/share/vxtap/vxtap.socket "), "{text}");
    let lines = text.lines().map(|line| line.trim_start_matches("# ").trim_start());
    let said: Vec<&str> = lines.filter(|line| ["[receive]", "workers = 1"].contains(line)).collect();
    let (settings, _) =
        configured(said.join("\n")).plan(&HostFacts::unknown()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((settings.receive.workers, settings.receive.listen.len()), (Some(1), 0));
    assert_eq!(values(&text, "ListenDatagram"), ["4789"], "the port of VXLAN, on all addresses");
}

/// A host on which `sessions-from-aws` runs: programs that stand for others, and directories.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    /// A host with the answers of AWS in `fixtures/aws`, and with the sensor active or not.
    fn new(active: bool) -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["bin", "run", "etc/sessions.d"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        fs::write(host.path("etc/vxtap.toml"), "include = [\"sessions.d/*.toml\"]\n").unwrap();
        // As `aws --output json ec2 describe-traffic-mirror-sessions`.
        let fixtures = root().join("fixtures/aws");
        let answers = "of=${4#describe-}; of=${of#traffic-mirror-}; of=${of#network-}";
        host.program(
            "aws",
            &format!("{answers}; [ \"$1 $2 $3\" = '--output json ec2' ] && cat {}/$of.json", fixtures.display()),
        );
        host.program("systemctl", if active { "exit 0" } else { "exit 3" });
        host.sensor(0);
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Has a sensor answer to `vxtap reload` with this code; all else is the program's.
    fn sensor(&self, code: i32) {
        let asked = self.path("asked");
        let reload = format!(
            "if [ \"$1\" = reload ]; then [ -z \"$RUNTIME_DIRECTORY\" ] || exit 9; echo reload >>{}; exit {code}; fi",
            asked.display()
        );
        self.program("vxtap", &format!("{reload}\nexec {} \"$@\"", env!("CARGO_BIN_EXE_vxtap")));
    }

    fn run(&self, step: &str) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(root().join("systemd/sessions-from-aws"));
        command.arg(step).env("PATH", path).env_remove("VXTAP_AWS");
        command.env("RUNTIME_DIRECTORY", self.path("run")).env("VXTAP_CONFIG", self.path("etc/vxtap.toml"));
        command.output().unwrap()
    }

    #[track_caller]
    fn does(&self, step: &str, well: bool) {
        let output = self.run(step);
        assert_eq!(output.status.success(), well, "{step}: {output:?}");
    }

    /// The names of the files that the sensor has, and the content of the one that is made.
    fn has(&self) -> (Vec<String>, Option<String>) {
        let entries = fs::read_dir(self.path("etc/sessions.d")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (names.collect(), fs::read_to_string(self.path("etc/sessions.d/aws.toml")).ok())
    }

    fn reloads(&self) -> usize {
        fs::read_to_string(self.path("asked")).map_or(0, |text| text.lines().count())
    }
}

#[test]
fn what_aws_says_gets_to_the_sensor() {
    let host = Host::new(true);
    host.does("fetch", true);
    host.does("install", true);
    let example = read("examples/sessions.d/aws.toml");
    assert_eq!(host.has(), (vec!["aws.toml".into()], Some(example.clone())));
    assert_eq!(host.reloads(), 1);
    // The same again is no change.
    host.does("fetch", true);
    host.does("install", true);
    assert_eq!((host.has(), host.reloads()), ((vec!["aws.toml".into()], Some(example)), 1));
    // A sensor that does not run reads it when it starts.
    let host = Host::new(false);
    host.does("fetch", true);
    host.does("install", true);
    assert!(host.has().1.is_some() && host.reloads() == 0);
}

#[test]
fn what_the_sensor_refuses_goes_away_again() {
    let host = Host::new(true);
    host.does("fetch", true);
    host.sensor(1);
    host.does("install", false);
    assert_eq!((host.has(), host.reloads()), ((vec![], None), 1));
    // One that was there comes back.
    fs::write(host.path("etc/sessions.d/aws.toml"), "[[session]]\nname = \"before\"\n").unwrap();
    let before = host.has();
    host.does("install", false);
    assert_eq!(host.has(), before);
    // What is wrong together with the rest of the configuration, no sensor is asked about.
    host.sensor(0);
    let other = "include = [\"sessions.d/*.toml\"]\n[[session]]\nname = \"shop-web\"\n";
    fs::write(host.path("etc/vxtap.toml"), other).unwrap();
    let output = host.run("install");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("shop-web"), "{said}");
    assert_eq!((host.has(), host.reloads()), (before, 2));
}

#[test]
fn who_fetches_has_no_other_file_read() {
    let host = Host::new(true);
    fs::write(host.path("secret"), "[[session]]\nname = \"secret\"\n").unwrap();
    symlink(host.path("secret"), host.path("run/aws.toml")).unwrap();
    host.does("install", false);
    assert_eq!((host.has().1, host.reloads()), (None, 0));
}

#[test]
fn a_cloud_that_does_not_answer_changes_nothing() {
    let host = Host::new(true);
    host.does("fetch", true);
    host.does("install", true);
    let before = host.has();
    host.program("aws", "echo 'Unable to locate credentials' >&2; exit 253");
    host.does("fetch", false);
    host.program("aws", "echo '{}'");
    host.does("fetch", false);
    assert_eq!((host.has(), host.reloads()), (before, 1));
}
