use super::counters::HookTotals;
use super::*;
use crate::evidence::{Algorithm, Capture, FileHash};
use crate::record::Timestamp;
use crate::session::Session;
use crate::storage::Changed;
use crate::wire::Vni;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use std::fs;
use std::net::Ipv4Addr;

const LONG: Duration = Duration::from_secs(30);

fn capture() -> Capture {
    Capture {
        path: "s/a b.pcap".into(),
        name: None,
        tag: None,
        session: Some(Session::vxlan(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), Vni::new(7).unwrap())),
        first: Timestamp::from_ns(1),
        last: Timestamp::from_ns(1_000_000_002),
        frames: 3,
        frame_bytes: 30,
        bytes: 102,
        dropped: [("lane_full".to_owned(), 4), ("disk_full".to_owned(), 5)].into(),
        kernel_dropped: 0,
        format: "pcap".into(),
        compression: None,
        hash: Some(FileHash::of(Algorithm::Sha256, b"x")),
    }
}

fn start(command: &str) -> (Hook, Arc<HookCounters>) {
    let hook = Hook::start(command, Wording::Flags, |_| ()).unwrap();
    let counters = Arc::clone(&hook.shared.counters);
    (hook, counters)
}

fn job(path: PathBuf, capture: Capture) -> Job {
    Job { path, capture, replaced: Box::new(|_, _| None) }
}

fn take(hook: &Hook, job: Job) {
    assert!(hook.take(job).is_none(), "there is room");
}

fn totals(run: u64, failed: u64, skipped: u64) -> HookTotals {
    HookTotals { run, failed, unfinished: 0, skipped }
}

/// Waits until `what` is true.
fn wait(what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_command_is_told_about_the_capture() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let script = format!(
        "f() {{ echo \"$# $1|$VXTAP_SOURCE|$VXTAP_VNI|$VXTAP_FRAMES|$VXTAP_BYTES|$VXTAP_DROPPED|$VXTAP_FIRST|$VXTAP_LAST|\
         $VXTAP_SHA256|$VXTAP_BLAKE3|$VXTAP_FORMAT|$(cat)\" >>{}; }}; f",
        out.display()
    );
    let (hook, counters) = start(&script);
    let blake3 = FileHash::of(Algorithm::Blake3, b"x");
    let others = [
        Capture { session: None, hash: None, ..capture() },
        Capture { session: None, hash: Some(blake3), ..capture() },
    ];
    take(&hook, job("/c/$HOME 'a' \"b\".pcap".into(), capture()));
    let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    for (n, capture) in (1..).zip(others) {
        wait(|| lines() == n);
        take(&hook, job("x".into(), capture));
    }
    assert_eq!(hook.end(Some(LONG)), Unfinished::default());
    assert_eq!(counters.totals(), totals(3, 0, 0));
    let sha256 = FileHash::of(Algorithm::Sha256, b"x");
    let rest = "3|102|9|1970-01-01T00:00:00.000000001Z|1970-01-01T00:00:01.000000002Z";
    let want = format!(
        "1 /c/$HOME 'a' \"b\".pcap|192.0.2.1|7|{rest}|{sha256}||pcap|\n1 x|||{rest}|||pcap|\n1 x|||{rest}||{blake3}|pcap|\n"
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), want);
}

#[test]
fn what_was_put_in_a_captures_place_is_read_by_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (hook, counters) = start(&format!("cat \"$1\" >>{}", out.display()));
    take(&hook, Job { replaced: Box::new(|_, _| Some(Changed::Other)), ..job("/dev/null".into(), capture()) });
    assert_eq!(hook.end(Some(LONG)), Unfinished::default());
    assert_eq!(counters.totals(), totals(1, 1, 0));
    assert!(!out.exists(), "no command was run");
}

#[test]
fn the_path_is_an_argument_and_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let told = |command: &str| {
        let (hook, counters) = start(command);
        take(&hook, job("/c/$HOME 'a' \"b\".pcap".into(), capture()));
        assert_eq!(hook.end(Some(LONG)), Unfinished::default());
        assert_eq!(counters.totals(), totals(1, 0, 0), "{command}");
        fs::read_to_string(&out).unwrap()
    };
    let path = "/c/$HOME 'a' \"b\".pcap";
    let script = dir.path().join("script");
    fs::write(&script, format!("printf '%s|' \"$@\" >{}", out.display())).unwrap();
    let (out, script) = (out.display(), script.display());
    // As people write it, behind the path more words, and behind the command another.
    assert_eq!(told(&format!("printf '%s|' \"$1\" s3://evidence/ >{out}")), format!("{path}|s3://evidence/|"));
    assert_eq!(told(&format!("printf '%s|' \"$VXTAP_FILE\" \"$0\" >{out} && true")), format!("{path}|vxtap|"));
    assert_eq!(told(&format!("f() {{ printf '%s|' \"$#\" \"$1\" >{out}; }}; f \"$1\"")), format!("1|{path}|"));
    // And where neither is asked for.
    assert_eq!(told(&format!("sh {script} --to x")), format!("--to|x|{path}|"));
    assert_eq!(told(&format!("f() {{ printf '%s|' \"$#\" \"$1\" >{out}; }}; f")), format!("1|{path}|"));
}

/// The upload that the documents show, with a program in place of `aws` that fails twice.
#[test]
fn the_recipe_tries_again_and_takes_the_manifest_along() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/evidence.md")).unwrap();
    let (_, recipe) = page.split_once("--on-publish '\n").unwrap();
    let (recipe, _) = recipe.split_once("'\n```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (aws, out) = (dir.path().join("aws"), dir.path().join("out"));
    let text = format!("echo \"$*\" >>{out}; test $(wc -l <{out}) -gt 2", out = out.display());
    fs::write(&aws, text).unwrap();
    let recipe = recipe.replace("aws s3", &format!("sh {} s3", aws.display())).replace("sleep $pause", ":");
    let (hook, counters) = start(&recipe);
    take(&hook, job("/data/captures/vni7_192.0.2.1/a b.pcap".into(), capture()));
    assert_eq!(hook.end(Some(LONG)), Unfinished::default());
    assert_eq!(counters.totals(), totals(1, 0, 0));
    let upload =
        "s3 cp --only-show-errors /data/captures/vni7_192.0.2.1/a b.pcap s3://evidence/vni7_192.0.2.1/a b.pcap";
    let manifest = "s3 cp --only-show-errors /data/captures/manifest.jsonl s3://evidence/";
    let said = fs::read_to_string(&out).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), [upload, upload, upload, manifest]);
}

#[test]
fn commands_inherit_no_capability() {
    let own = capabilities(None).unwrap();
    let inheritable = CapabilitySet::NET_RAW;
    // A process that does not have it cannot pass it on.
    if !own.permitted.contains(inheritable) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    set_capabilities(None, CapabilitySets { inheritable, ..own }).unwrap();
    configure_capability_in_ambient_set(inheritable, true).unwrap();
    // The threads of the hook take it over from this one.
    let (hook, counters) = start(&format!("grep Cap /proc/self/status >{}; :", out.display()));
    take(&hook, job("x".into(), capture()));
    hook.end(Some(LONG));
    assert_eq!(counters.totals(), totals(1, 0, 0));
    let text = fs::read_to_string(&out).unwrap();
    for set in ["CapInh:", "CapAmb:"] {
        let line = text.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{text}");
    }
}

#[test]
fn what_is_left_is_named() {
    let paths: Vec<PathBuf> = (1..=7).map(|n| format!("/c/{n}").into()).collect();
    assert_eq!(names(&[]), "none");
    assert_eq!(names(&paths[..2]), "/c/1 /c/2");
    assert_eq!(names(&paths), "/c/1 /c/2 /c/3 /c/4 /c/5 and 2 more");
}

#[test]
fn failures_are_counted() {
    for (command, failed) in [("true", 0), ("exit 3;", 1), ("kill -9 $$;", 1), ("/does/not/exist", 1), ("(", 1)] {
        let (hook, counters) = start(command);
        take(&hook, job("x".into(), capture()));
        hook.end(Some(LONG));
        assert_eq!(counters.totals(), totals(1, failed, 0), "{command}");
    }
}

#[test]
fn four_run_at_once_a_thousand_wait_and_the_rest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let command = format!("for i in $(seq 3000); do test -e {} && break; sleep 0.01; done; :", gate.display());
    let (hook, counters) = start(&command);
    for _ in 0..AT_ONCE {
        take(&hook, job("x".into(), capture()));
    }
    wait(|| counters.totals().run == AT_ONCE as u64);
    for _ in 0..WAITING {
        take(&hook, job("x".into(), capture()));
    }
    for _ in 0..3 {
        assert!(hook.take(job("x".into(), capture())).is_some(), "there is no room");
    }
    assert_eq!(counters.totals(), totals(4, 0, 0), "what was refused may come again");
    let began = Instant::now();
    let left = hook.end(Some(Duration::from_millis(50)));
    assert_eq!((left.running.len(), left.waiting.len()), (4, 1000));
    assert!(began.elapsed() < LONG);
    let wanted = HookTotals { unfinished: 4, ..totals(4, 0, 1000) };
    assert_eq!(counters.totals(), wanted);
    drop(hook);
    // They were not killed, and end by themselves.
    fs::write(&gate, "").unwrap();
    wait(|| Arc::strong_count(&counters) == 1);
    assert_eq!(counters.totals(), wanted);
}

#[test]
fn what_is_left_to_a_start_that_comes_at_once_is_no_failure() {
    let (mut hook, counters) = start("sleep 600; :");
    for _ in 0..AT_ONCE + 7 {
        take(&hook, job("x".into(), capture()));
    }
    wait(|| counters.totals().run == AT_ONCE as u64);
    let began = Instant::now();
    hook.finish(None, 5);
    assert!(began.elapsed() < LONG);
    assert_eq!(counters.totals(), totals(AT_ONCE as u64, 0, 0));
    let shown = OutputCounters::default();
    counters.show(&shown);
    assert_eq!(shown.hooks_left.get(), AT_ONCE as u64 + 7 + 5);
}

#[test]
fn what_waits_is_run_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, counters) = start(&format!("echo >>{}", dir.path().join("out").display()));
    for _ in 0..20 {
        take(&hook, job("x".into(), capture()));
    }
    assert_eq!(hook.end(Some(LONG)), Unfinished::default());
    assert_eq!(counters.totals(), totals(20, 0, 0));
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap().lines().count(), 20);
}

#[test]
fn a_capture_is_done_with_once_its_command_has_ended_however_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let command = format!(
        "case $1 in good) ;; bad) exit 3;; *) for i in $(seq 3000); do test -e {} && break; sleep 0.01; done;; esac",
        gate.display()
    );
    let (sender, done) = std::sync::mpsc::channel();
    let hook = Hook::start(&command, Wording::Flags, move |path| sender.send(path.to_owned()).unwrap()).unwrap();
    let counters = Arc::clone(&hook.shared.counters);
    let named = |name: &str| job(name.into(), Capture { path: name.into(), ..capture() });
    take(&hook, named("slow"));
    wait(|| counters.totals().run == 1);
    // Neither is a slow one waited for by others, nor by whoever brings another command.
    hook.change(&command);
    ["good", "bad"].into_iter().for_each(|name| take(&hook, named(name)));
    let mut ended = [done.recv_timeout(LONG).unwrap(), done.recv_timeout(LONG).unwrap()];
    ended.sort();
    assert_eq!(ended, ["bad", "good"]);
    let left = hook.end(Some(Duration::from_millis(50)));
    assert_eq!((left.running, left.waiting), (vec![PathBuf::from("slow")], vec![]));
    assert!(done.try_recv().is_err(), "one that was interrupted is not done with");
    fs::write(&gate, "").unwrap();
    drop(hook);
    wait(|| Arc::strong_count(&counters) == 1);
}

#[test]
fn a_capture_that_is_removed_before_its_turn_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let (hook, counters) =
        start(&format!("for i in $(seq 3000); do test -e {} && break; sleep 0.01; done; :", gate.display()));
    for n in 0..AT_ONCE + 2 {
        take(&hook, job(n.to_string().into(), capture()));
    }
    wait(|| counters.totals().run == AT_ONCE as u64);
    assert_eq!(hook.waiting(), 2);
    hook.withdraw(Path::new("4"), true);
    hook.withdraw(Path::new("0"), true);
    hook.withdraw(Path::new("of an earlier run"), false);
    assert_eq!((hook.waiting(), counters.totals()), (1, totals(4, 0, 2)));
    fs::write(&gate, "").unwrap();
    assert_eq!(hook.end(Some(LONG)), Unfinished::default());
    assert_eq!(counters.totals(), totals(5, 0, 2));
}

#[test]
fn what_could_not_be_started_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let shell = dir.path().join("sh");
    let (sender, done) = std::sync::mpsc::channel();
    let hook =
        Hook::with_shell(&shell, "true", Wording::Flags, move |path| sender.send(path.to_owned()).unwrap()).unwrap();
    let counters = Arc::clone(&hook.shared.counters);
    take(&hook, job("x".into(), capture()));
    wait(|| counters.totals().run == 1);
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err());
    std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
    assert_eq!(done.recv_timeout(LONG).unwrap(), capture().path);
    fs::remove_file(&shell).unwrap();
    // Neither is begun by the end, and one was tried.
    take(&hook, job("y".into(), capture()));
    wait(|| counters.totals().run == 2);
    let left = hook.end(Some(Duration::from_millis(50)));
    assert_eq!((left.running.len(), left.waiting.len()), (0, 1));
    assert_eq!(counters.totals(), totals(2, 1, 0), "each counts once");
}
