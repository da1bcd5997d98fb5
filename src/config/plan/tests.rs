use std::path::Path;

use clap::Parser;

use super::super::origin::{Origin, Origins, Place, Said};
use super::super::settings::{Files, Output, Outputs};
use super::super::units::Size;
use super::*;
use crate::archive::{BudgetPlan, MinFree};
use crate::cli;
use crate::evidence::Algorithm;
use crate::host::Interface;
use crate::pipeline::Destination;
use crate::source::Allowed;

/// Returns a host of usual size.
fn host() -> HostFacts {
    HostFacts {
        memory: Some(16 << 30),
        cpus: 4,
        possible_cpus: Some(8),
        descriptors: 1024,
        ipv6: true,
        runtime_directory: None,
        keeps_sockets: false,
        interfaces: Some(vec![Interface { name: "lo".into(), index: 1 }, Interface { name: "eth0".into(), index: 2 }]),
    }
}

fn settings(more: &[&str]) -> Settings {
    let words = ["vxtap", "run"].iter().chain(more);
    match cli::parse(words.map(Into::into)).unwrap().command {
        cli::Command::Run(args) => args.settings(),
        other => panic!("{other:?}"),
    }
}

/// Returns the plan of `vxtap run` with these arguments on a host of usual size.
pub(super) fn plan(more: &[&str]) -> Result<RunPlan, PlanError> {
    with_listen(&[&["--listen", "127.0.0.1:4789"], more].concat())
}

/// Returns the plan as [`plan`] does, where the arguments say where to listen.
pub(super) fn with_listen(more: &[&str]) -> Result<RunPlan, PlanError> {
    RunPlan::new(&settings(more), &host())
}

/// Returns a setting that the command line gave.
fn said(key: &key::Key) -> Said {
    let mut origins = Origins::default();
    origins.note(key.path, Origin::Flag);
    origins.said(key)
}

#[test]
fn a_small_host_gets_a_small_plan() {
    let small = HostFacts { memory: Some(512 << 20), cpus: 1, possible_cpus: Some(1), descriptors: 64, ..host() };
    let plan = |more: &[&str]| RunPlan::new(&settings(more), &small);
    let one = plan(&[]).unwrap();
    assert_eq!(one.source.udp.workers, 1);
    let memory = one.pipeline.queue_memory(1) as u64;
    assert!((120 << 20..=128 << 20).contains(&memory), "a quarter of the host's: {memory}");
    let Destination::Files(files) = &one.pipeline.outputs[0].to else { panic!() };
    assert_eq!(files.open_files, 16, "what others need is left");
    let three = plan(&["--tap", "m", "--tap-count", "2"]).unwrap();
    assert!(three.pipeline.queue_memory(1) as u64 <= 128 << 20, "all outputs together have a quarter");
    let refused = plan(&["--queue", "1GiB"]).unwrap_err().to_string();
    assert!(
        refused.starts_with("--queue 1GiB is too large: ") && refused.ends_with("this host has 512 MiB"),
        "{refused}"
    );
    assert!(matches!(plan(&["--source", "bpf", "--ring", "1GiB"]), Err(PlanError::RingMemory { .. })));
}

#[test]
fn a_large_host_gets_a_large_plan() {
    let large =
        HostFacts { memory: Some(256 << 30), cpus: 64, possible_cpus: Some(128), descriptors: 1 << 20, ..host() };
    let plan = |more: &[&str]| RunPlan::new(&settings(more), &large);
    let plain = plan(&[]).unwrap();
    assert_eq!(plain.source.udp.workers, 32, "half the cores");
    let memory = plain.pipeline.queue_memory(32) as u64;
    assert!(memory > 200 << 20 && memory <= 256 << 20, "{memory}");
    let Destination::Files(files) = &plain.pipeline.outputs[0].to else { panic!() };
    assert_eq!(files.open_files, (1 << 20) - 48);
    // A ring for each CPU that there can be.
    let rings = |more: &[&str]| plan(&[&["--source", "bpf", "--ring", "1GiB", "--steer", "flow"], more].concat());
    assert!(rings(&[]).is_ok());
    let huge = HostFacts { possible_cpus: Some(1024), ..large.clone() };
    let flow = settings(&["--source", "bpf", "--ring", "1GiB", "--steer", "flow"]);
    assert!(matches!(RunPlan::new(&flow, &huge), Err(PlanError::RingMemory { asked, .. }) if asked == 1 << 40));
}

#[test]
fn without_ipv6_the_default_is_ipv4() {
    let listen = |host: &HostFacts, more: &[&str]| RunPlan::new(&settings(more), host).unwrap().source.udp.listen;
    let without = HostFacts { ipv6: false, ..host() };
    assert_eq!(listen(&host(), &[]), ["[::]:4789".parse().unwrap()]);
    assert_eq!(listen(&without, &[]), ["0.0.0.0:4789".parse().unwrap()]);
    assert_eq!(listen(&without, &["--listen", "8472"]), ["0.0.0.0:8472".parse().unwrap()]);
}

#[test]
fn a_listener_has_the_encapsulation_that_was_said_or_is_usual() {
    use crate::wire::Encapsulation::{Geneve, Gpe, Gre, Tzsp, Vxlan};
    let words = ["10.0.0.7:6081", "vxlan:8472", "geneve:16081", "auto:6081", "auto:[::1]:4790", "gre-udp", "tzsp:1"];
    let arguments: Vec<_> = words.iter().flat_map(|word| ["--listen", word]).collect();
    let refused = RunPlan::new(&settings(&arguments), &host()).unwrap_err();
    assert!(matches!(refused, PlanError::ListenOverlap { .. } | PlanError::ListenMixed { .. }), "{refused}");
    let plan = RunPlan::new(&settings(&arguments[2..]), &host()).unwrap();
    let found: Vec<_> = plan.source.udp.listen.iter().map(|one| (one.encapsulation, one.address.port())).collect();
    assert_eq!(found, [(Vxlan, 8472), (Geneve, 16081), (Geneve, 6081), (Gpe, 4790), (Gre, 4754), (Tzsp, 1)]);
    assert_eq!(plan.source.udp.listen[1].to_string(), "geneve:[::]:16081");
    assert_eq!(plan.source.udp.listen[0].to_string(), "[::]:8472");
    let keep = |more: &[&str]| {
        RunPlan::new(&settings(&[&["--snaplen", "96"], more].concat()), &host()).unwrap().source.bpf.keep
    };
    assert_eq!((keep(&[]), keep(&["--listen", "geneve"])), (128, u32::MAX), "headers of GENEVE can be long");
}

#[test]
fn an_error_names_the_line_of_a_file() {
    let line = |line| Origin::File(Place { path: Path::new("vxtap.toml").into(), line, span: 0..0 });
    let mut settings = Settings::default();
    settings.delivery.queue = Some(Size(1000));
    settings.origins.note("delivery.queue", line(12));
    let refused = RunPlan::new(&settings, &host()).unwrap_err().to_string();
    assert!(refused.starts_with("vxtap.toml:12 delivery.queue 1000 bytes is too small for 2 workers; "), "{refused}");
    let mut settings = Settings::default();
    let files = Files { keep_bytes: Some(Size(1 << 20)), ..Files::default() };
    settings.output = Outputs(vec![("evidence".into(), Output::Pcap(Box::new(files)))]);
    settings.origins.note("output.evidence.keep_bytes", line(7));
    let refused = RunPlan::new(&settings, &host()).unwrap_err().to_string();
    let wanted = "vxtap.toml:7 output.evidence.keep_bytes 1MiB is less than --rotate-size 1GiB, ";
    assert!(refused.starts_with(wanted), "{refused}");
}

#[test]
fn the_help_tells_the_ring_that_a_plan_has() {
    let mut command = <cli::Cli as clap::CommandFactory>::command();
    let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
    let ring = help.split("--ring <BYTES>").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(ring.contains(&format!("[default: {}]", Size(receive::RING))), "{ring}");
}

#[test]
fn an_interface_is_looked_up() {
    let on = |name: &str| {
        let listen = format!("[fe80::1%{name}]:4789");
        let plan = RunPlan::new(&settings(&["--listen", &listen]), &host())?;
        Ok::<_, PlanError>(plan.source.udp.listen.iter().map(|listener| listener.address).collect::<Vec<_>>())
    };
    assert!(matches!(&*on("eth0").unwrap(), [std::net::SocketAddr::V6(v6)] if v6.scope_id() == 2));
    let said = on("nosuch0").unwrap_err().to_string();
    assert!(said.contains("there is no interface nosuch0; there are: lo"), "{said}");
}

#[test]
fn defaults() {
    let plan = plan(&["--workers", "2"]).unwrap();
    assert_eq!(plan.allow, AllowPlan::Given(Allowed::default()), "all");
    assert_eq!(plan.pipeline.max_sessions, 1024);
    let queue = 256 << 20;
    let memory = plan.pipeline.queue_memory(2) as u64;
    assert!(memory <= queue, "--queue bounds the memory");
    assert!(memory > queue - (4 << 20), "and is used");
}

#[test]
fn interfaces_are_outputs() {
    let names = |more: &[&str]| {
        let plan = plan(more).unwrap();
        plan.pipeline.outputs.into_iter().map(|o| (o.name, o.selection.share.map(|s| s.index))).collect::<Vec<_>>()
    };
    let own = |name: &str| (name.to_owned(), None);
    assert_eq!(names(&["--tap", "m", "--tun", "t"]), [own("pcap"), own("m"), own("t")]);
    assert_eq!(names(&["--tap", "m", "--no-write"]), [own("m")]);
    let share = |name: &str, index| (name.to_owned(), Some(index));
    assert_eq!(names(&["--tap", "m0", "--tap-count", "2", "--no-write"]), [share("m0", 0), share("m1", 1)]);
    assert_eq!(names(&["--tap", "m8", "--tap-count", "3"])[1..], [share("m8", 0), share("m9", 1), share("m10", 2)]);
    assert_eq!(names(&["--tap", "m", "--tap-count", "2"])[1..], [share("m0", 0), share("m1", 1)]);
    for twice in [["--tap", "m", "--tun", "m"], ["--tap", "pcap", "--tap", "n"]] {
        assert!(matches!(plan(&twice), Err(PlanError::OutputName { .. })));
    }
    // Whichever comes first: the files have the name of the second interface.
    let outputs = [r#""m": {"kind": "tap", "count": 2}"#, r#""m1": {"kind": "pcap"}"#];
    for [a, b] in [outputs, [outputs[1], outputs[0]]] {
        let settings: Settings = serde_json::from_str(&format!(r#"{{"output": {{{a}, {b}}}}}"#)).unwrap();
        let refused = RunPlan::new(&settings, &host()).unwrap_err();
        assert!(matches!(&refused, PlanError::OutputName { name, .. } if name == "m1"), "{a}, {b}: {refused}");
    }
}

#[test]
fn every_output_has_its_part_of_a_small_hosts_memory() {
    let small = HostFacts { memory: Some(512 << 20), ..host() };
    let all = r#"{"output": {"a": {"kind": "pcap"}, "b": {"kind": "pcap", "directory": "/b"}, "c": {"kind": "tap", "count": 2}}}"#;
    let settings: Settings = serde_json::from_str(all).unwrap();
    let plan = RunPlan::new(&settings, &small).unwrap();
    let memory = plan.pipeline.queue_memory(plan.source.udp.workers) as u64;
    assert_eq!(plan.pipeline.outputs.len(), 4);
    assert!((100 << 20..=128 << 20).contains(&memory), "a quarter of the host's: {memory}");
}

#[test]
fn the_program_keeps_what_the_outputs_need() {
    let bpf = |more: &[&str]| plan(&[&["--source", "auto"], more].concat()).unwrap().source.bpf;
    assert_eq!(bpf(&["--snaplen", "200"]).keep, 209);
    assert_eq!(bpf(&["--snaplen", "1"]).keep, 128);
    assert_eq!(bpf(&["--snaplen", "200", "--tap", "m"]).keep, u32::MAX, "an interface takes whole frames");
    assert_eq!(bpf(&["--snaplen", "200", "--verify-checksum"]).keep, u32::MAX);
    assert!(bpf(&["--vni", "9,2"]).early);
    assert!(bpf(&["--allow", "list"]).early && !bpf(&[]).early, "without lists there is nothing to drop");
    assert!(!bpf(&["--vni", "9", "--count", "5"]).early, "each is to be counted as it comes");
    assert_eq!(bpf(&["--ring", "5MB"]).ring, 8 << 20);
    for size in ["64KiB", "2GiB"] {
        assert_eq!(plan(&["--source", "bpf", "--ring", size]), Err(PlanError::Ring(said(&key::RING))));
    }
    assert_eq!(bpf(&[]).ring, 16 << 20);
    for option in ["--ring 5MB", "--attach tc", "--interface eth0", "--any-address", "--verify-checksum"] {
        let words: Vec<&str> = option.split(' ').collect();
        let refused = plan(&words).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{} is for the BPF program", words[0])), "{refused}");
    }
}

#[test]
fn captures_are_hashed_as_they_are_to_be() {
    let hash = |more: &[&str]| match plan(more).unwrap().pipeline.outputs.remove(0).to {
        Destination::Files(files) => files.archive.hash,
        other => panic!("{other:?}"),
    };
    assert_eq!(hash(&[]), Some(Algorithm::Sha256));
    assert_eq!(hash(&["--hash", "sha256"]), Some(Algorithm::Sha256));
    assert_eq!(hash(&["--hash", "blake3"]), Some(Algorithm::Blake3));
    assert_eq!(hash(&["--hash", "none"]), None);
    let nothing = ["vxtap", "run", "--tap", "m", "--no-write", "--hash", "blake3"];
    assert!(cli::Cli::try_parse_from(nothing).is_err(), "no files, no hashes");
}

#[test]
fn the_last_room_of_the_file_system_is_left_unless_somebody_says_how_much() {
    let budget = |more: &[&str]| match plan(more).unwrap().pipeline.outputs.remove(0).to {
        Destination::Files(files) => files.archive.budget,
        other => panic!("{other:?}"),
    };
    let usual = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
    assert_eq!(budget(&[]), usual);
    assert_eq!(budget(&["--keep-files", "5"]), BudgetPlan { keep_files: Some(5), ..usual });
    assert_eq!(budget(&["--min-free", "0"]), BudgetPlan::default(), "all of it may be used");
    let ten = BudgetPlan { min_free: Some(MinFree::Permille(100)), ..BudgetPlan::default() };
    assert_eq!(budget(&["--min-free", "10%"]), ten);
}

#[test]
fn the_help_says_what_units_are() {
    let mut command = <cli::Cli as clap::CommandFactory>::command();
    let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["10^9", "1GiB is 2^30", "1m, 1M a minute, a month", "0 leaves no room and removes nothing"] {
        assert!(help.contains(words), "{words:?} is to be in: {help}");
    }
}

#[test]
fn what_is_allowed_is_given_or_in_a_file() {
    let allow = |more: &[&str]| plan(more).unwrap().allow;
    let vnis = super::super::sessions::vnis("2,5-7,9").unwrap();
    let sources = ["10.0.0.1/32", "fd00::/64"].map(|source| source.parse().unwrap()).into_iter().collect();
    let given = ["--vni", "9,2", "--vni", "5-7", "--from", "fd00::/64,10.0.0.1"];
    assert_eq!(allow(&given), AllowPlan::Given(Allowed::new(vnis, Some(sources)).unwrap()));
    assert_eq!(allow(&["--vni", "all", "--from", "all"]), AllowPlan::Given(Allowed::default()));
    for twice in [["--vni", "all,5"], ["--from", "10.0.0.1,all"]] {
        assert!(matches!(plan(&twice), Err(PlanError::AllAndOthers { said, .. }) if said.to_string() == twice[0]));
    }
    assert_eq!(allow(&["--allow", "list"]), AllowPlan::File("list".into()));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let refused = |more: &[&str]| plan(more).unwrap_err();
    let PlanError::Queue { least, .. } = refused(&["--queue", "1MiB", "--workers", "4"]) else { panic!() };
    assert!(plan(&["--queue", &least.to_string(), "--workers", "4"]).is_ok());
    assert!(plan(&["--queue", &(least - 8).to_string(), "--workers", "4"]).is_err());
    assert!(matches!(refused(&["--keep-bytes", "500MiB"]), PlanError::KeepBytes { .. }));
    let text = refused(&["--keep-bytes", "500MiB"]).to_string();
    assert!(text.starts_with("--keep-bytes 500MiB is less than --rotate-size 1GiB, "), "{text}");
    assert!(plan(&["--keep-bytes", "500MiB", "--rotate-size", "100MiB"]).is_ok());
    assert!(matches!(refused(&["--rotate-size", "100"]), PlanError::RotateSize { size: 100, .. }));
    assert!(matches!(refused(&["--receive-buffer", "1GiB"]), PlanError::ReceiveBuffer { size: 0x4000_0000, .. }));
    assert!(matches!(refused(&["--listen", "127.0.0.1:4789"]), PlanError::ListenTwice { .. }));
    for wide in ["0.0.0.0:4789", "[::]:4789"] {
        assert!(matches!(refused(&["--listen", wide]), PlanError::ListenOverlap { .. }));
    }
    assert!(plan(&["--listen", "[::1]:4789", "--listen", "0.0.0.0:8472"]).is_ok());
    assert!(matches!(refused(&["--listen", "auto:9999"]), PlanError::ListenAuto { port: 9999, .. }));
    for at in ["[::1]", "127.0.0.1", "0.0.0.0"] {
        let other = format!("geneve:{at}:4789");
        assert!(matches!(refused(&["--listen", &other]), PlanError::ListenMixed { port: 4789, .. }), "{at}");
    }
    assert!(matches!(refused(&["--queue", "10TiB"]), PlanError::Memory { .. }));
    assert_eq!(refused(&["--flush", "1us"]), PlanError::Flush(said(&key::FLUSH)));
    assert_eq!(refused(&["--rotate-time", "1ms"]).to_string(), "--rotate-time is too short; give at least 1s");
}

/// Something that is done to settings.
type Change = fn(&mut Settings);

#[test]
fn values_that_the_command_line_refuses_are_refused_wherever_they_come_from() {
    fn files(settings: &mut Settings) -> &mut Files {
        match settings.output.0.first_mut().map(|(_, output)| output) {
            Some(Output::Pcap(files)) => files,
            other => panic!("{other:?}"),
        }
    }
    fn tap(settings: &mut Settings) -> &mut super::super::settings::Interface {
        let taps = settings.output.0.iter_mut().filter_map(|(_, output)| match output {
            Output::Tap(tap) => Some(tap),
            _ => None,
        });
        taps.last().unwrap()
    }
    let changes: [(&[&str], Change, &str); 15] = [
        (&["--workers", "0"], |s| s.receive.workers = Some(0), "--workers 0 must be from 1 to 256"),
        (&["--workers", "257"], |s| s.receive.workers = Some(257), "--workers 257 must be from 1 to 256"),
        (&["--max-sessions", "0"], |s| s.sessions.max = 0, "--max-sessions 0 must be from 1 to 65536"),
        (&["--max-sessions", "65537"], |s| s.sessions.max = 65_537, "--max-sessions 65537 must be from 1 to 65536"),
        (&["--count", "0"], |s| s.run.count = Some(0), "--count 0 must be at least 1"),
        (&["--rotate-frames", "0"], |s| files(s).rotate_frames = Some(0), "--rotate-frames 0 must be at least 1"),
        (&["--keep-files", "0"], |s| files(s).keep_files = Some(0), "--keep-files 0 must be at least 1"),
        (&["--snaplen", "0"], |s| files(s).snaplen = 0, "--snaplen 0 must be from 1 to 262144"),
        (&["--snaplen", "262145"], |s| files(s).snaplen = 262_145, "--snaplen 262145 must be from 1 to 262144"),
        (&["--on-publish", ""], |s| files(s).on_publish = Some(String::new()), "--on-publish: it is empty"),
        (&["--on-publish", " "], |s| files(s).on_publish = Some(" ".into()), "--on-publish: it is empty"),
        (&["--tap-mtu", "67"], |s| tap(s).mtu = 67, "--tap-mtu 67 must be from 68 to 65521"),
        (&["--tap-mtu", "65522"], |s| tap(s).mtu = 65_522, "--tap-mtu 65522 must be from 68 to 65521"),
        (&["--tap-count", "0"], |s| tap(s).count = Some(0), "--tap-count 0 must be from 1 to 64"),
        (&["--tap-count", "65"], |s| tap(s).count = Some(65), "--tap-count 65 must be from 1 to 64"),
    ];
    for (words, change, wanted) in changes {
        let mut asked = settings(&["--listen", "127.0.0.1:4789", "--tap", "m"]);
        RunPlan::new(&asked, &host()).unwrap();
        change(&mut asked);
        let error = RunPlan::new(&asked, &host()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
        let words = ["vxtap", "run", "--tap", "m"].iter().chain(words);
        assert!(cli::parse(words.map(Into::into)).is_err(), "{wanted}");
    }
    let mut asked = settings(&[]);
    asked.receive.workers = Some(0);
    asked
        .origins
        .note("receive.workers", Origin::File(Place { path: Path::new("vxtap.toml").into(), line: 3, span: 0..0 }));
    let error = RunPlan::new(&asked, &host()).unwrap_err().to_string();
    assert_eq!(error, "vxtap.toml:3 receive.workers 0 must be from 1 to 256");
}
