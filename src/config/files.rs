//! The directory for captures and the command for each are typed by people.

use std::path::PathBuf;

/// Reads a directory for captures. `-` stands for a stream elsewhere, and cannot be one.
///
/// # Errors
/// The value cannot be used; the text says why, and what to type.
pub(crate) fn directory(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str() != "-" {
        return Ok(path);
    }
    Err("each session has a file of its own, so captures go to a directory and not to a stream; write `--write /data/captures`; \
         for a stream `--tap mirror0 --no-write`, and `tcpdump -ni mirror0 -w -` beside it; for a directory of this name `--write ./-`"
        .into())
}

/// Reads a command for the shell.
///
/// # Errors
/// The value cannot be used; the text says why, and what to type.
pub(crate) fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(
            "it is empty; name a command, as `--on-publish 'cp \"$1\" /backup/'`, or leave the option out".into()
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn run(option: &str, value: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(["vxtap", "run", option, value]).map(|cli| cli.command)
    }

    #[test]
    fn what_is_no_directory_or_command_is_answered_with_what_to_type() {
        for (option, value, advice) in [
            ("--write", "-", "`--write /data/captures`"),
            ("--write", "-", "`tcpdump -ni mirror0 -w -`"),
            ("--write", "-", "`--write ./-`"),
            ("--on-publish", "", "`--on-publish 'cp \"$1\" /backup/'`"),
            ("--on-publish", " \t\n", "or leave the option out"),
        ] {
            let error = run(option, value).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains(option) && text.contains(advice), "{text}");
        }
        let demo = Cli::try_parse_from(["vxtap", "demo", "--write", "-"]).unwrap_err();
        assert_eq!(demo.exit_code(), 2);
    }

    #[test]
    fn others_are_taken_as_they_are() {
        let Ok(Command::Run(args)) = run("--on-publish", "cp \"$1\" -") else { panic!() };
        assert_eq!((args.on_publish.as_deref(), args.write), (Some("cp \"$1\" -"), "./captures".into()));
        for directory in ["./-", "-x/-", "/data/captures"] {
            let typed = format!("--write={directory}");
            let Command::Run(args) = Cli::try_parse_from(["vxtap", "run", &typed]).unwrap().command else { panic!() };
            assert_eq!(args.write, PathBuf::from(directory));
        }
    }
}
