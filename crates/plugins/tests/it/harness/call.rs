//! One start of a plugin's file, as a runtime starts it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use kernel::Netns;
use serde_json::Value;

/// What a plugin is started with. All of it may be wrong, which is what many tests are about.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    /// The whole environment; nothing is inherited.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) stdin: Vec<u8>,
}

impl Call {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub(crate) fn saying(mut self, stdin: &str) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Starts the plugin in a namespace.
    pub(crate) fn start(&self, inside: &Netns) -> Running {
        #[expect(clippy::disallowed_methods, reason = "tests start processes")]
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
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    pub(crate) fn wait(mut self) -> Answer {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        // Neither is ever so long that the other would fill its pipe meanwhile.
        self.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Answer { status: self.0.wait().unwrap(), stdout, stderr }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.status.success()
    }

    /// The answer of a call that must succeed; `null` if nothing was printed.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.is_ok(), "{self:?}");
        if self.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The error of a call that must fail: exit status 1 and one error object.
    #[track_caller]
    pub(crate) fn refused(self) -> Refusal {
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
pub(crate) struct Refusal {
    pub(crate) code: u64,
    pub(crate) msg: String,
    pub(crate) details: String,
}

impl Refusal {
    /// Code and message, for comparing with what is expected.
    pub(crate) fn said(&self) -> (u64, &str) {
        (self.code, &self.msg)
    }
}
