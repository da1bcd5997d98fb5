//! The program has an allocator, arguments, and an exit code.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use vxtap::archive::{HelperPlan, Permitted, StartedHelper, serve};
use vxtap::check::watch::{self, WatchPlan};
use vxtap::check::{self, Report};
use vxtap::cli::{
    self, AskArgs, CheckArgs, Command, DecapArgs, DemoArgs, ExtcapArgs, HelperArgs, ReplayArgs, RunArgs, SessionsArgs,
    SocketArgs, TopArgs, VerifyArgs, WatchArgs,
};
use vxtap::config::aws::{self, AwsError};
use vxtap::config::file::{self, Config, ConfigError, Faults, Places};
use vxtap::config::settings::{LedgerFormat, Settings};
use vxtap::config::{PlanError, RunPlan};
use vxtap::console::{self, Console, LogFormat};
use vxtap::control::client::Place;
use vxtap::control::{Client, ClientError, say};
use vxtap::decap::{self, DecapError};
use vxtap::demo::{self, DemoError};
use vxtap::host::HostFacts;
use vxtap::ledger::{Losses, Table};
use vxtap::pipeline::Outcome;
use vxtap::replay;
use vxtap::run::{self, Ending, Hangup, Signals, StartError};
use vxtap::sandbox::{Mode, Sandbox};
use vxtap::service::Store;
use vxtap::top;
use vxtap::verify;
use vxtap::watch::{To, WatchError, extcap, run as receive};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code where the program could not start.
const CANNOT_START: u8 = 1;
/// The exit code where the command line or the configuration file is wrong.
const WRONG: u8 = 2;
/// The exit code where the program ended, but something failed on the way.
const FAILED: u8 = 3;

/// The exit code where an input file is damaged, or a directory does not match its manifest.
const DAMAGED_INPUT: u8 = 4;
/// The exit code where the program could not start, but may later: `EX_TEMPFAIL` of sysexits.h.
const NOT_YET: u8 = 75;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if let Command::HookHelper(args) = cli.command {
        return help(args);
    }
    let console = Console::default();
    // The log has a thread, and a sensor is ready before there is any.
    let ready = match &cli.command {
        Command::Run(args) if !args.print_config => Some(ready(args)),
        _ => None,
    };
    let lines = console.log(cli.log_format, cli.verbose);
    let wording = cli.command.wording();
    let result = match cli.command {
        Command::Run(args) => match ready {
            Some(ready) => ready.and_then(|ready| run(&args, ready, &console)),
            None => print_config(&args),
        },
        Command::Replay(args) => replay(&args, &console),
        Command::Decap(args) => strip(&args, &console, |text| wording.put(text).into_owned()),
        Command::Verify(args) => verify(&args, &console),
        Command::Check(args) => check(&args, &console),
        Command::Sessions(args) if args.from_aws.is_empty() => ask(&args.ask, say::sessions),
        Command::Sessions(args) => sessions(&args),
        Command::Status(args) => ask(&args, say::status),
        Command::Reload(args) => ask(&args, say::reload),
        Command::Cut(args) => ask(&args, say::cut),
        Command::Top(args) => top(&args),
        Command::Ledger(args) => ask(&args.ask, |client, json| say::ledger(client, args.top, json)),
        Command::Config(args) => show_answer(say::config(&local(&args))),
        Command::Watch(args) => watch_frames(&args),
        Command::Extcap(args) => extcap(&args),
        Command::Demo(args) => demo(&args),
        Command::HookHelper(args) => Ok(help(args)),
    };
    result.unwrap_or_else(|error| {
        if let Some(ConfigError::Faults { faults, may_pass }) = error.downcast_ref() {
            match cli.log_format {
                LogFormat::Text => show(faults, &console),
                LogFormat::Json => console.last(lines, cli.log_format, cli.verbose, || {
                    faults.lines().for_each(|fault| tracing::error!("{fault}"));
                }),
            }
            return ExitCode::from(if *may_pass { NOT_YET } else { WRONG });
        }
        let refused = match error.downcast_ref() {
            Some(WatchError::Sensor(refused)) => Some(refused),
            _ => error.downcast_ref(),
        };
        if let (Some(ClientError::Refused { text, status }), LogFormat::Text) = (refused, cli.log_format) {
            let _ = writeln!(io::stderr().lock(), "{text}");
            // What was typed is wrong, where the request is.
            return ExitCode::from(if *status == 400 { WRONG } else { CANNOT_START });
        }
        // An error's text names its cause already; the chain of causes would name it again. Threads
        // that are just ending have nothing more to say that matters more.
        let text = error.to_string();
        // Errors about the file itself speak of flags that go beside it.
        let is_worded = error.is::<StartError>() || error.is::<DecapError>();
        let text = if is_worded { wording.put(&text) } else { text.as_str().into() };
        console.last(lines, cli.log_format, cli.verbose, || tracing::error!("{text}"));
        ExitCode::from(if may_pass(&error) { NOT_YET } else { CANNOT_START })
    })
}

fn watch_frames(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    if args.to() == To::Standard && io::stdout().is_terminal() {
        let error = "frames are not shown on a terminal: add | wireshark -k -i - or | tcpdump -n -r -, or -w FILE";
        cli::wrong("watch", error).exit();
    }
    let client = local(&args.socket);
    let outcome = receive(&client, &args.asked(), &args.to(), &signals(Hangup::End)?.stop)?;
    match outcome.dropped {
        Some(0) => tracing::info!("{outcome}"),
        _ => tracing::warn!("{outcome}"),
    }
    Ok(if outcome.why.is_some() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Answers Wireshark.
fn extcap(args: &ExtcapArgs) -> anyhow::Result<ExitCode> {
    let client = Client::local(args.socket().as_deref());
    if let (true, Some(fifo)) = (args.capture, &args.fifo) {
        // What is said on standard error Wireshark shows as an error.
        let outcome = receive(&client, &args.asked(), &To::File(fifo.clone()), &signals(Hangup::End)?.stop)?;
        return Ok(if outcome.why.is_some() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
    }
    let text = if args.extcap_interfaces {
        // Without a sensor there is the interface of all sessions. Capturing says what is wrong.
        extcap::interfaces(&extcap::names(&client).unwrap_or_default())
    } else if args.extcap_dlts {
        extcap::link_types()
    } else if args.extcap_config {
        extcap::settings(args.interface())
    } else if let Some(filter) = &args.extcap_capture_filter {
        extcap::fault_of_filter(filter)
    } else {
        cli::wrong("extcap", "Wireshark says what it wants to know, as --extcap-interfaces").exit();
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Says whether the same command may succeed later.
fn may_pass(error: &anyhow::Error) -> bool {
    let of_demo = error.downcast_ref().and_then(|error| match error {
        DemoError::Start(error) => Some(error),
        _ => None,
    });
    let late = error.downcast_ref().is_some_and(PlanError::may_pass);
    late || error.downcast_ref().or(of_demo).is_some_and(StartError::may_pass)
}

/// Shows the faults of a configuration file on standard error.
fn show(faults: &Faults, console: &Console) {
    let _ = writeln!(io::stderr().lock(), "{}", faults.render(console.has_colours()));
}

/// Returns what the configuration file asks for on this host, with the flags that go beside it.
fn configured(args: &RunArgs, path: &Path, host: &HostFacts) -> Result<(Settings, RunPlan, Places), ConfigError> {
    let mut config = Config::read(path)?;
    args.put_over(&mut config.settings);
    let places = std::mem::take(&mut config.places);
    let (settings, plan) = config.plan(host)?;
    Ok((settings, plan, places))
}

/// Returns what the arguments, or the configuration file, ask for on this host.
fn asked(command: &str, args: &RunArgs, host: &HostFacts) -> anyhow::Result<(Settings, RunPlan, Places)> {
    if let Some(path) = &args.config {
        if let Err(error) = args.beside_config(path) {
            cli::wrong(command, error).exit();
        }
        return Ok(configured(args, path, host)?);
    }
    let settings = args.settings();
    match RunPlan::new(&settings, host) {
        Ok(plan) => Ok((settings, plan, Places::default())),
        // The command line may be right and the interface late.
        Err(error @ PlanError::NoInterface { .. }) => Err(error.into()),
        Err(error) => cli::wrong(command, error).exit(),
    }
}

fn check(args: &CheckArgs, console: &Console) -> anyhow::Result<ExitCode> {
    if args.run.print_config {
        cli::wrong("check", "to print the options as a file: vxtap run --print-config").exit();
    }
    if let (true, Some(path)) = (args.config_only, &args.run.config) {
        Config::read(path)?.plan(&HostFacts::unknown())?;
        let _ = writeln!(io::stdout().lock(), "{}: no fault is found", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(duration) = args.watch {
        return watch(&args.run, duration.0, args.json);
    }
    let host = HostFacts::read();
    let findings = match asked("check", &args.run, &host) {
        Ok((_, plan, _)) => {
            let found = check::host::run(&plan, &host).into_iter().map(|finding| finding.worded(plan.wording));
            [check::host::configured(args.run.config.as_deref())].into_iter().chain(found).collect()
        }
        Err(error) => {
            if let (Some(ConfigError::Faults { faults, .. }), false) = (error.downcast_ref(), args.json) {
                show(faults, console);
            }
            vec![check::host::misconfigured(faults(error)?)]
        }
    };
    let report = Report { findings, watch: None };
    print_report(&report, args.json)?;
    Ok(ExitCode::from(report.level().exit_code()))
}

/// Watches mirror traffic that a sensor would receive, and says whether it is whole.
fn watch(args: &RunArgs, duration: Duration, json: bool) -> anyhow::Result<ExitCode> {
    let mut args = args.clone();
    // An interface can be watched whatever receives from it.
    let interfaces = std::mem::take(&mut args.interface);
    args.given.retain(|option| option != "interface");
    let mut plan = WatchPlan::new(&asked("check", &args, &HostFacts::read())?.1, duration)?;
    if !interfaces.is_empty() {
        plan.interfaces = interfaces;
    }
    let (findings, traffic) = watch::run(&plan, &signals(Hangup::End)?.stop)?;
    let report = Report { findings, watch: Some(traffic) };
    print_report(&report, json)?;
    Ok(ExitCode::from(report.level().exit_code()))
}

/// Returns what is wrong with a configuration, in words.
fn faults(error: anyhow::Error) -> anyhow::Result<String> {
    if let Some(ConfigError::Faults { faults, .. }) = error.downcast_ref() {
        return Ok(faults.lines().collect::<Vec<_>>().join("; "));
    }
    if error.downcast_ref::<PlanError>().is_some() { Ok(error.to_string()) } else { Err(error) }
}

/// Writes a text. A reader that has gone away has seen enough.
fn put_out(mut to: impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints what a check has found on standard output.
fn print_report(report: &Report, json: bool) -> io::Result<()> {
    let text = match json {
        true => serde_json::to_string(report)? + "\n",
        false => report.text(console::output_has_colours()),
    };
    put_out(io::stdout().lock(), &text)
}

fn sessions(args: &SessionsArgs) -> anyhow::Result<ExitCode> {
    let [sessions, interfaces] = args.from_aws.as_slice() else {
        cli::wrong("sessions", "--from-aws takes two files").exit();
    };
    let converted = match aws::convert(sessions, interfaces, args.rules.as_deref()) {
        Err(error @ AwsError::Document { .. }) => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(DAMAGED_INPUT));
        }
        converted => converted?,
    };
    for warning in &converted.warnings {
        tracing::warn!("{warning}");
    }
    let mut out = io::stdout().lock();
    out.write_all(converted.text.as_bytes())?;
    out.flush()?;
    tracing::info!(entries = converted.entries, "sessions are written");
    Ok(ExitCode::SUCCESS)
}

/// Asks a running sensor, and prints what it answers.
fn ask(
    args: &AskArgs,
    question: impl FnOnce(&Client, bool) -> Result<String, ClientError>,
) -> anyhow::Result<ExitCode> {
    show_answer(question(&local(&args.socket), args.json))
}

/// Returns a client of the sensor on this host.
fn local(socket: &SocketArgs) -> Client {
    Client::local(socket.control.as_deref())
}

/// Prints what a sensor answers.
fn show_answer(answer: Result<String, ClientError>) -> anyhow::Result<ExitCode> {
    let answer = answer?;
    // A reader that has gone away has seen enough.
    let _ = io::stdout().lock().write_all(answer.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Shows a running sensor until somebody has seen enough.
fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let at = |port: &String| Client::of(Place::Port(port.clone()));
    let client = args.url.as_ref().map_or_else(|| local(&args.socket), at);
    let options = top::Options { interval: args.interval, sort: args.sort };
    if args.once {
        let table = top::once(&client, &options)?;
        let _ = io::stdout().lock().write_all(table.as_bytes());
    } else {
        top::show(&client, &options, &signals(Hangup::End)?.stop)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the settings as a file. They are to make sense, but not on this host alone.
fn print_config(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (settings, ..) = asked("run", args, &HostFacts::unknown())?;
    io::stdout().lock().write_all(file::write(&settings)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A sensor that can start.
struct Ready {
    host: HostFacts,
    settings: Settings,
    plan: RunPlan,
    helper: Option<StartedHelper>,
    sandbox: Sandbox,
    /// What the process before this one has left.
    store: Arc<Store>,
}

/// Makes a sensor ready, before there are threads.
fn ready(args: &RunArgs) -> anyhow::Result<Ready> {
    // First of all, or the helper would have what is there too.
    let store = Arc::new(Store::of_process());
    let host = HostFacts::read();
    let (settings, plan, places) = asked("run", args, &host)?;
    let given = settings.on_publish().next().map(|(command, directory)| (command.to_owned(), directory.to_owned()));
    // A sensor that gives up nothing runs commands itself. A file can come to have some.
    let helper = match &args.config {
        _ if plan.sandbox.mode == Mode::Off => None,
        Some(path) => Some(HelperPlan { config: Some(path.clone()), given: None }),
        None => given.map(|given| HelperPlan { config: None, given: Some(given) }),
    };
    let start = |helper: HelperPlan| helper.start().map_err(StartError::Helper);
    let helper = helper.map(start).transpose()?;
    let sandbox = run::confine(&plan, &places).map_err(StartError::from)?;
    Ok(Ready { host, settings, plan, helper, store, sandbox })
}

/// Runs commands for the sensor that has started this process.
fn help(args: HelperArgs) -> ExitCode {
    let of_file = |path: &Path| {
        let settings = Config::read(path).map(|config| config.settings).unwrap_or_default();
        let permitted = |(command, directory): (&str, &Path)| Permitted::new(command, directory);
        settings.on_publish().map(permitted).collect()
    };
    let read = move || match (&args.config, &args.on_publish, &args.write) {
        (Some(path), ..) => of_file(path),
        (None, Some(command), Some(directory)) => vec![Permitted::new(command, directory)],
        _ => Vec::new(),
    };
    match io::stdin().as_fd().try_clone_to_owned().and_then(|socket| serve(socket, read)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "the commands of --on-publish: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: &RunArgs, ready: Ready, console: &Console) -> anyhow::Result<ExitCode> {
    let Ready { host, settings, plan, helper, store, sandbox } = ready;
    helper.map(StartedHelper::attend).transpose().map_err(StartError::Thread)?;
    let signals = signals(if args.config.is_some() { Hangup::EndOrReload } else { Hangup::EndOrReread })?;
    let mut sensor = match run::start(&plan, &signals, &store, sandbox) {
        Err(StartError::Ended(Ending::Asked(name))) => {
            tracing::info!("{name}: {}", StartError::Ended(Ending::Asked(name)));
            return Ok(ExitCode::SUCCESS);
        }
        started => started?,
    };
    if let Some(path) = args.config.clone() {
        let args = args.clone();
        sensor = sensor.reloaded_by(path.clone(), move || Ok(configured(&args, &path, &host.again())?.1))?;
    }
    let capture = sensor.capture.clone();
    let mut outcome = sensor.conduct(&signals, console);
    let mut losses = Losses::of(&outcome.snapshot);
    if let Some(capture) = &capture {
        losses = losses.with_unwhole(capture.unwhole()).with_unknown(capture.unknown());
    }
    if let Err(error) = print(&outcome, &losses, settings.run.ledger, &plan) {
        outcome.failures.push(format!("cannot print the ledger: {error}"));
    }
    if settings.run.ledger != LedgerFormat::Text {
        say(&losses);
    }
    let code = end(&outcome);
    let Some(unread) = capture.and_then(|capture| capture.take_unread()) else { return Ok(code) };
    tracing::error!("{unread}");
    Ok(ExitCode::from(DAMAGED_INPUT))
}

/// Says what was lost, where the ledger does not in words.
fn say(losses: &Losses) {
    match losses.total() {
        0 => tracing::info!("{losses}"),
        _ => tracing::warn!("{losses}"),
    }
}

/// Prints the ledger on standard output. Texts call settings as the plan has them.
fn print(outcome: &Outcome, losses: &Losses, format: LedgerFormat, plan: &RunPlan) -> io::Result<()> {
    let text = match format {
        LedgerFormat::Text => plan.wording.put(&Table(&outcome.snapshot, losses).to_string()).into_owned(),
        LedgerFormat::Json => serde_json::to_string(&outcome.snapshot)? + "\n",
        LedgerFormat::None => return Ok(()),
    };
    put_out(io::stdout().lock(), &text)
}

fn end(outcome: &Outcome) -> ExitCode {
    for failure in &outcome.failures {
        tracing::error!("{failure}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn replay(args: &ReplayArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let report = replay::run(&args.plan(), &signals(Hangup::End)?.stop, console)?;
    let _ = writeln!(io::stdout().lock(), "{report}");
    for error in &report.damaged {
        tracing::error!("{error}");
    }
    Ok(match (report.damaged.is_empty(), report.all_sent()) {
        (false, _) => ExitCode::from(DAMAGED_INPUT),
        (true, false) => ExitCode::from(FAILED),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Takes the wraps off captures. `put` puts the summary into its words.
fn strip(args: &DecapArgs, console: &Console, put: impl Fn(&str) -> String) -> anyhow::Result<ExitCode> {
    let plan = args.plan().unwrap_or_else(|error| cli::wrong("decap", error).exit());
    if args.is_stream() && io::stdout().is_terminal() {
        let error = "frames are not shown on a terminal: add | wireshark -k -i - or | tcpdump -n -r -, or -o FILE";
        cli::wrong("decap", error).exit();
    }
    let mut report = decap::run(&plan, &signals(Hangup::End)?.stop, console)?;
    let text = if args.json { report.json()? + "\n" } else { put(&report.to_string()) };
    let told = match args.is_stream() {
        true => put_out(io::stderr().lock(), &text),
        false => put_out(io::stdout().lock(), &text),
    };
    report.failures.extend(told.err().map(|error| format!("cannot print the summary: {error}")));
    for unread in report.unread() {
        tracing::error!("{unread}");
    }
    for failure in &report.failures {
        tracing::error!("{failure}");
    }
    Ok(match (report.is_cut_short(), report.is_damaged()) {
        (true, _) => ExitCode::from(FAILED),
        (false, true) => ExitCode::from(DAMAGED_INPUT),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn verify(args: &VerifyArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let report = verify::run(&args.directory, args.head, &signals(Hangup::End)?.stop, console)?;
    let told = put_out(io::stdout().lock(), &format!("{report}\n"));
    if let Err(error) = &told {
        tracing::error!("cannot print the report: {error}");
    }
    Ok(match (report.mismatches.is_empty(), report.interrupted || told.is_err()) {
        (false, _) => ExitCode::from(DAMAGED_INPUT),
        (true, true) => ExitCode::from(FAILED),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let complete = demo::run(args.write.as_deref(), &signals(Hangup::End)?, &mut io::stdout().lock())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn signals(hangup: Hangup) -> anyhow::Result<Signals> {
    Signals::new(hangup).map_err(|error| anyhow::anyhow!("cannot take over signals: {error}"))
}
