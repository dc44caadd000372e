//! One start of a plugin's file, as a runtime starts it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use kernel::Netns;
use serde_json::Value;

/// What a plugin is started with. All of it may be wrong, which is what many tests are about.
#[derive(Clone, Debug)]
pub struct Call {
    /// The plugin's file.
    pub program: PathBuf,
    /// The whole environment; nothing is inherited.
    pub variables: BTreeMap<String, String>,
    /// The configuration, or whatever stands in its place.
    pub stdin: Vec<u8>,
}

impl Call {
    /// The same call with a variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same call with a variable unset.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// The same call with another text on standard input.
    #[must_use]
    pub fn saying(mut self, stdin: &str) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Starts the plugin in a namespace.
    pub fn start(&self, inside: &Netns) -> Running {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = inside.spawn(&mut command).unwrap();
        // A plugin that has seen enough of its environment does not read.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        Running(child)
    }
}

/// A plugin at work.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Ends it as `SIGKILL` does.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Answer {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        // Neither is ever so long that the other would fill its pipe meanwhile.
        self.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Answer { status: self.0.wait().unwrap(), stdout, stderr }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Answer {
    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.status.success()
    }

    /// The answer of a call that must succeed; `null` if nothing was printed.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "{self:?}");
        if self.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The error of a call that must fail: exit status 1 and one error object.
    #[track_caller]
    pub fn refused(self) -> Refusal {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).expect(&self.stdout);
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        Refusal {
            code: error["code"].as_u64().unwrap(),
            msg: text("msg"),
            details: text("details"),
        }
    }
}

/// An error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a program may branch on.
    pub code: u64,
    /// What went wrong.
    pub msg: String,
    /// More about it; empty if there was none.
    pub details: String,
}

impl Refusal {
    /// Code and message, for comparing with what is expected.
    pub fn said(&self) -> (u64, &str) {
        (self.code, &self.msg)
    }
}
