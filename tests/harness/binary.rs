//! The binary under test, run once to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// `tollgate`, with nothing of the caller's surroundings that could change what it does.
pub(crate) fn tollgate() -> Command {
    tollgate_at(Path::new(env!("CARGO_BIN_EXE_tollgate")))
}

/// The same, where the program lies elsewhere.
pub(crate) fn tollgate_at(program: &Path) -> Command {
    bare(Command::new(program))
}

/// The same, started by a program that takes one argument and becomes what it starts.
pub(crate) fn under(program: &str, argument: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(argument).arg(env!("CARGO_BIN_EXE_tollgate"));
    bare(command)
}

fn bare(mut command: Command) -> Command {
    command
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("CREDENTIALS_DIRECTORY")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// -1 when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Ended with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "expected exit code {code}, got {self:#?}"
        );
        self
    }

    /// Both streams: where talk and data are told apart is another test's business.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.all().contains(text), "{text:?} is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn never_says(self, text: &str) -> Self {
        assert!(!self.all().contains(text), "{text:?} is in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A folder with a configuration in it that nobody serves.
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    /// Writes `toml` as `tollgate.toml`.
    pub(crate) fn with(toml: &str) -> Self {
        let folder = Self {
            dir: tempfile::Builder::new().prefix("tg").tempdir().unwrap(),
        };
        folder.write("tollgate.toml", toml)
    }

    /// Writes another file. `{dir}` in it is this folder.
    pub(crate) fn write(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            path,
            text.replace("{dir}", &self.path().display().to_string()),
        )
        .unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("tollgate.toml")
    }

    /// Every file below, relative and sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path.clone());
                }
                found.push(
                    path.strip_prefix(self.dir.path())
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
        found.sort();
        found
    }

    /// `tollgate VERB… -c this/tollgate.toml ARGS…`
    pub(crate) fn command(&self, verb: &[&str], args: &[&str]) -> Command {
        let mut command = tollgate();
        command.args(verb).arg("-c").arg(self.config()).args(args);
        command
    }

    pub(crate) fn run(&self, verb: &[&str], args: &[&str]) -> Ran {
        Ran::of(&mut self.command(verb, args))
    }

    pub(crate) fn check(&self) -> Ran {
        self.run(&["check"], &[])
    }
}
