//! The command of `--on-publish` is there.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::finding::Finding;

/// The name of the finding.
pub(super) const ON_PUBLISH: &str = "on-publish";

/// Words that the shell knows by itself.
const BUILTINS: [&str; 30] = [
    ":", ".", "[", "alias", "case", "cd", "command", "echo", "eval", "exec", "exit", "export", "false", "for", "if",
    "printf", "read", "return", "set", "shift", "test", "times", "trap", "true", "type", "ulimit", "umask", "unset",
    "until", "while",
];

/// The first word of a shell command, as far as it can be told without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    /// A word of the shell's own, or one that only a shell can read.
    Shell,
    /// A program that is there.
    Found(PathBuf),
    /// A file that is there and that this user may not run.
    NotExecutable(PathBuf),
    /// No such program.
    Missing(String),
}

impl Program {
    /// Looks for the program of a command, as the shell would, in these directories.
    pub(super) fn of(command: &str, path: &[PathBuf]) -> Self {
        let plain = |c: char| c.is_alphanumeric() || "/._+-:[".contains(c);
        let word = command.split_whitespace().next().unwrap_or_default();
        if word.is_empty() || !word.chars().all(plain) || BUILTINS.contains(&word) {
            return Self::Shell;
        }
        let candidates: Vec<PathBuf> = if word.contains('/') {
            vec![word.into()]
        } else {
            path.iter().map(|directory| directory.join(word)).collect()
        };
        let runs = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
        if let Some(found) = candidates.iter().find(|path| runs(path)) {
            return Self::Found(found.clone());
        }
        match candidates.into_iter().find(|path| path.is_file()) {
            Some(path) => Self::NotExecutable(path),
            None => Self::Missing(word.to_owned()),
        }
    }
}

/// Returns the directories in which programs are looked for.
pub(super) fn path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Says whether the command for the captures in a directory can be run.
pub(super) fn on_publish(directory: &Path, program: &Program) -> Finding {
    let directory = directory.display();
    match program {
        Program::Shell => Finding::ok(ON_PUBLISH, format!("{directory}: the shell itself runs the command")),
        Program::Found(path) => Finding::ok(ON_PUBLISH, format!("{directory}: {} is there", path.display())),
        Program::NotExecutable(path) => Finding::error(
            ON_PUBLISH,
            format!("{directory}: {} must not be run by this user", path.display()),
            format!("chmod +x {}", path.display()),
        ),
        Program::Missing(word) => Finding::error(
            ON_PUBLISH,
            format!("{directory}: there is no program {word}, so each command of --on-publish fails"),
            format!(
                "install {word}, or say where it is: --on-publish '/path/to/{}'",
                word.rsplit('/').next().unwrap_or(word)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_program_of_a_command_is_found_as_a_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (tool, plain) = (dir.path().join("tool"), dir.path().join("plain"));
        fs::write(&tool, "").unwrap();
        fs::write(&plain, "").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let path = [dir.path().to_owned()];
        let of = |command: &str| Program::of(command, &path);
        assert_eq!(of("tool s3 cp \"$1\" s3://x/"), Program::Found(tool.clone()));
        assert_eq!(of(&format!("{} x", tool.display())), Program::Found(tool));
        assert_eq!(of("plain"), Program::NotExecutable(plain));
        assert_eq!(of("nosuch --x"), Program::Missing("nosuch".into()));
        assert_eq!(of("/nosuch/at all"), Program::Missing("/nosuch/at".into()));
        for shell in ["echo x", "f() { x; }; f", "A=b tool", "\"$TOOL\" x", "if true; then x; fi", ""] {
            assert_eq!(of(shell), Program::Shell, "{shell}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let level = |program: Program| on_publish(Path::new("/data"), &program).level;
        assert_eq!([level(Program::Shell), level(Program::Found("/bin/aws".into()))], [Level::Ok; 2]);
        assert_eq!(level(Program::NotExecutable("/bin/aws".into())), Level::Error);
        let missing = on_publish(Path::new("/data"), &Program::Missing("/opt/aws".into()));
        assert!(missing.level == Level::Error && missing.remedy.unwrap().ends_with("'/path/to/aws'"));
    }
}
