//! Manual pages of the commands, made of what `--help` says.

use clap::Command;
use clap_mangen::roff::{Roff, bold, roman};
use clap_mangen::{Man, roff};
use vxtap::cli;

/// What the page of the program itself has beside what `--help` says: sections, and in each what is
/// described by what.
const MORE: &[(&str, &[(&str, &str)])] = &[
    (
        "FILES",
        &[
            ("/etc/vxtap/vxtap.toml", "What the service does, see vxtap.toml(5)."),
            ("/etc/vxtap/sessions.d/", "Entries for mirror sessions, which that file includes."),
            ("/var/lib/vxtap/captures/", "Captures of the service, with their manifest."),
            ("/run/vxtap/control", "The socket at which a running sensor is asked."),
            ("/usr/share/vxtap/drop-ins/", "More rights for vxtap.service; each says how to have it."),
            ("/usr/share/doc/vxtap/", "README.md, and the pages of docs/."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("VXTAP_LOG", "What is logged, as warn, or as debug,hyper=info. It comes before -v."),
            ("VXTAP_CONTROL", "The control socket, for vxtap extcap."),
        ],
    ),
];

/// Returns the pages by the names of their files.
pub(crate) fn pages(date: &str) -> Vec<(String, String)> {
    let mut program = cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = vec![page(&program, date, MORE, &["vxtap.toml".to_owned()])];
    for command in shown(&program) {
        let others: Vec<String> = match command.get_name() {
            "run" | "check" => vec!["vxtap".into(), "vxtap.toml".into()],
            _ => vec!["vxtap".into()],
        };
        pages.push(page(command, date, &[], &others));
    }
    pages
}

/// Returns the commands that `--help` shows.
pub(crate) fn shown(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|command| !command.is_hide_set())
}

/// Returns the page of a command, and the name of its file. It names other pages at its end.
fn page(command: &Command, date: &str, more: &[(&str, &[(&str, &str)])], others: &[String]) -> (String, String) {
    // One line, as --help has it, in place of all options in brackets.
    let usage = command.clone().render_usage().to_string();
    let command = command.clone().override_usage(usage.trim_start_matches("Usage: ").trim().to_owned());
    let version = format!("vxtap {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).date(date).source(version).manual("vxtap");
    let mut text = Vec::new();
    man.render_title(&mut text).unwrap();
    man.render_name_section(&mut text).unwrap();
    man.render_synopsis_section(&mut text).unwrap();
    man.render_description_section(&mut text).unwrap();
    man.render_options_section(&mut text).unwrap();
    let mut rest = Roff::new();
    if command.has_subcommands() {
        rest.control("SH", ["COMMANDS"]);
        let mut commands: Vec<&Command> = shown(&command).collect();
        commands.sort_by_key(|one| one.get_display_order());
        for one in commands {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            rest.control("TP", []).text([bold(format!("vxtap-{}", one.get_name())), roman("(1)")]).text([roman(about)]);
        }
    }
    if let Some(help) = command.get_after_help() {
        sections(&mut rest, &help.to_string());
    }
    for (title, entries) in more {
        rest.control("SH", [*title]);
        for (term, what) in *entries {
            rest.control("TP", []).text([bold(*term)]).text([roman(*what)]);
        }
    }
    rest.control("SH", ["SEE ALSO"]);
    let mut line: Vec<roff::Inline> = Vec::new();
    for (index, other) in others.iter().enumerate() {
        let section = if other.ends_with(".toml") { "(5)" } else { "(1)" };
        line.extend([roman(if index > 0 { ", " } else { "" }), bold(other.as_str()), roman(section)]);
    }
    rest.text(line);
    text.extend(rest.render().into_bytes());
    (man.get_filename(), String::from_utf8(text).unwrap())
}

/// Makes sections of the text behind the options. A title ends with a colon; what follows is a list
/// in two columns, indented by two blanks, or running text.
fn sections(page: &mut Roff, help: &str) {
    for line in help.lines() {
        let inner = line.trim_start();
        match line.len() - inner.len() {
            0 if inner.is_empty() => {}
            0 if line.ends_with(':') => {
                let title = line.trim_end_matches(':').to_uppercase();
                page.control("SH", [title.replace("EXIT CODES", "EXIT STATUS").as_str()]);
            }
            0 => {
                page.control("PP", []).text([roman(line)]);
            }
            2 => {
                let (term, what) = inner.split_once("  ").unwrap_or((inner, ""));
                page.control("TP", []).text([bold(term)]).text([roman(what.trim_start())]);
            }
            _ => {
                page.text([roman(inner)]);
            }
        }
    }
}
