//! The program: allocator, arguments, exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use vxtap::cli::{Cli, Command, DemoArgs, LedgerFormat, ReplayArgs, RunArgs, VerifyArgs};
use vxtap::config::RunPlan;
use vxtap::console::Console;
use vxtap::demo;
use vxtap::ledger::Losses;
use vxtap::pipeline::Outcome;
use vxtap::replay::{self, ReplayPlan};
use vxtap::run::{self, Signals};
use vxtap::verify;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// It could not start.
const CANNOT_START: u8 = 1;
/// It ended, but something failed on the way.
const FAILED: u8 = 3;

/// An input file is damaged, or a directory does not match its manifest.
const DAMAGED_INPUT: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::default();
    let _lines = console.log(cli.log_format, cli.verbose);
    let result = match cli.command {
        Command::Run(args) => run(&args, &console),
        Command::Replay(args) => replay(&args),
        Command::Verify(args) => verify(&args, &console),
        Command::Demo(args) => demo(&args),
    };
    result.unwrap_or_else(|error| {
        // An error's text names its cause already; the chain of causes would name it again.
        tracing::error!("{error}");
        ExitCode::from(CANNOT_START)
    })
}

fn run(args: &RunArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let plan = RunPlan::resolve(args)
        .unwrap_or_else(|error| Cli::command().error(clap::error::ErrorKind::ValueValidation, error).exit());
    let signals = signals()?;
    let mut outcome = run::start(&plan)?.conduct(&signals, console);
    // A reader that has gone away is not an error of the sensor's.
    if let Err(error) = print(&outcome, args.ledger)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        outcome.failures.push(format!("cannot print the ledger: {error}"));
    }
    if args.ledger != LedgerFormat::Text {
        say(&Losses::of(&outcome.snapshot));
    }
    Ok(end(&outcome))
}

/// Says what was lost, where the ledger does not in words.
fn say(losses: &Losses) {
    match losses.total() {
        0 => tracing::info!("{losses}"),
        _ => tracing::warn!("{losses}"),
    }
}

/// Prints the ledger on standard output.
fn print(outcome: &Outcome, format: LedgerFormat) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        LedgerFormat::Text => write!(out, "{}", outcome.snapshot)?,
        LedgerFormat::Json => {
            serde_json::to_writer(&mut out, &outcome.snapshot)?;
            writeln!(out)?;
        }
        LedgerFormat::None => {}
    }
    out.flush()
}

fn end(outcome: &Outcome) -> ExitCode {
    for failure in &outcome.failures {
        tracing::error!("{failure}");
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let report = replay::run(&ReplayPlan::from_args(args), &signals()?.stop)?;
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

fn verify(args: &VerifyArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let report = verify::run(&args.directory, args.head, &signals()?.stop, console)?;
    let _ = writeln!(io::stdout().lock(), "{report}");
    Ok(match (report.mismatches.is_empty(), report.interrupted) {
        (false, _) => ExitCode::from(DAMAGED_INPUT),
        (true, true) => ExitCode::from(FAILED),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let complete = demo::run(args, &signals()?.stop, &mut io::stdout().lock())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn signals() -> anyhow::Result<Signals> {
    Signals::new().map_err(|error| anyhow::anyhow!("cannot take over signals: {error}"))
}
