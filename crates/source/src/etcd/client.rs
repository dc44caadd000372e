//! One question to etcd and its answer, by whichever member answers. Never knows what a lease is.
//!
//! Every request is bounded in time and size, and whoever holds a [`Stopper`] can end them all.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fabric::Etcd;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;

use super::error::Error;
use super::tls::{self, Stamp};
use super::transport;
use super::wire::{Status, Streamed, TokenAnswer};

/// How long a member may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long one watch is listened to. A member that hangs, whose machine still gives signs of life, is
/// noticed when the next one begins.
const WATCH: Duration = Duration::from_secs(60);

/// The largest answer, and the longest line of a watch: a few ten thousand leases.
const LARGEST: u64 = 32 << 20;

/// etcd, as one user of it.
pub(super) struct Client {
    etcd: Etcd,
    /// The files of the configuration as they were read last.
    files: Vec<Stamp>,
    /// Why what has changed in them since is not in force.
    amiss: Option<Error>,
    agent: Agent,
    stopper: Stopper,
    tls: TlsConfig,
    endpoints: Vec<String>,
    /// The one that answered last.
    current: usize,
    login: Option<(String, PathBuf)>,
    token: Option<String>,
}

/// Ends requests, from any thread. It holds whoever makes them, until it has ended them.
#[derive(Clone)]
pub(super) struct Stopper(Arc<Mutex<Option<Agent>>>);

impl Stopper {
    fn of(agent: &Agent) -> Self {
        Self(Arc::new(Mutex::new(Some(agent.clone()))))
    }

    /// Ends those that are under way; later ones fail.
    pub(super) fn stop(self) {
        if let Some(agent) = self.lock().take() {
            agent.shutdown();
        }
    }

    /// From now on they are made by another one.
    fn follow(&self, agent: &Agent) {
        match &mut *self.lock() {
            Some(before) => *before = agent.clone(),
            None => agent.clone().shutdown(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Agent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Checks all that can be checked without asking anybody.
    pub(super) fn new(etcd: &Etcd) -> Result<Self, Error> {
        let endpoints = etcd.endpoints.iter().map(|text| endpoint(text));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::Endpoint(String::new()));
        }
        let login = match (&etcd.username, &etcd.password_file) {
            (None, None) => None,
            (Some(name), Some(path)) => {
                tls::read(path)?;
                Some((name.clone(), path.clone()))
            }
            (Some(_), None) => return Err(Error::Half("username", "passwordFile")),
            (None, Some(_)) => return Err(Error::Half("passwordFile", "username")),
        };
        let files = tls::stamps(etcd);
        let tls = tls::config(etcd)?;
        let agent = agent(&tls);
        let stopper = Stopper::of(&agent);
        let (etcd, amiss, current, token) = (etcd.clone(), None, 0, None);
        Ok(Self { etcd, files, amiss, agent, stopper, tls, endpoints, current, login, token })
    }

    pub(super) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Takes in what has changed in the files: certificates are renewed under running agents. What
    /// cannot be used, such as a certificate whose key is still to come, leaves in force what was.
    fn refresh(&mut self) {
        let files = tls::stamps(&self.etcd);
        if files == self.files {
            return;
        }
        (self.files, self.token) = (files, None);
        self.amiss = match tls::config(&self.etcd) {
            Ok(tls) => {
                self.tls = tls;
                // Connections that are open know the old ones only.
                self.reconnect();
                None
            }
            Err(error) => Some(error),
        };
    }

    /// Leaves the connections that are open: one from an address that this node has no more gets no
    /// answer, and it would be waited for.
    pub(super) fn reconnect(&mut self) {
        self.agent = agent(&self.tls);
        self.stopper.follow(&self.agent);
    }

    /// Asks, logging in before if need be.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Value,
    ) -> Result<T, Failure> {
        let first = self.ask_as_known(path, question);
        match first {
            // A token is good for some minutes, and only until rights change.
            Err(Failure::Said(status)) if self.login.is_some() && status.wants_token() => {
                self.token = None;
                self.ask_as_known(path, question)
            }
            other => other,
        }
    }

    fn ask_as_known<T: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Value,
    ) -> Result<T, Failure> {
        self.refresh();
        self.log_in()?;
        self.ask_members(path, question)
    }

    fn log_in(&mut self) -> Result<(), Failure> {
        let (Some((name, path)), None) = (&self.login, &self.token) else { return Ok(()) };
        // Read each time: passwords are changed under running agents.
        let password = tls::read(path).map_err(Failure::Error)?;
        let password = String::from_utf8_lossy(&password);
        let password = password.trim_end_matches(['\r', '\n']);
        let question = json!({ "name": name, "password": password });
        match self.ask_members::<TokenAnswer>("/v3/auth/authenticate", &question) {
            Ok(answer) => self.token = Some(answer.token),
            Err(Failure::Said(status)) if status.is_without_auth() => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Asks one member after another until one has an answer.
    fn ask_members<T: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Value,
    ) -> Result<T, Failure> {
        let question = question.to_string();
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            match self.ask_member(path, &question) {
                Err(Failure::Error(Error::Unreachable(reason))) => reasons.push(reason),
                Err(Failure::Said(status)) if status.is_passing() => {
                    reasons.push(format!("{}: {}", self.endpoint(), status.message));
                }
                other => return other,
            }
            self.pass_on();
        }
        reasons
            .extend(self.amiss.as_ref().map(|error| format!("what is new is not used: {error}")));
        Err(Failure::Error(Error::Unreachable(reasons.join("; "))))
    }

    fn ask_member<T: DeserializeOwned>(&self, path: &str, question: &str) -> Result<T, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.endpoint()));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let failed = |error| Failure::Error(unreachable(self.endpoint(), &error));
        let mut response = request.send(question).map_err(failed)?;
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let body = body.map_err(failed)?;
        if response.status() != 200 {
            return Err(self.refusal(response.status().as_u16(), &body));
        }
        let answer = serde_json::from_slice(&body);
        answer.map_err(|error| Failure::Error(self.not_understood(&error)))
    }

    fn refusal(&self, http: u16, body: &[u8]) -> Failure {
        let status = Status::parse(body);
        // Without a code it is not etcd who speaks, but somebody between.
        if status.code == 0 {
            let text = format!("HTTP status {http}: {}", status.message);
            let error = if http >= 500 {
                Error::Unreachable(format!("{}: {text}", self.endpoint()))
            } else {
                self.not_understood(&text)
            };
            return Failure::Error(error);
        }
        Failure::Said(status)
    }

    fn endpoint(&self) -> &str {
        &self.endpoints[self.current]
    }

    /// Whoever did not keep his word is not asked first any more, and may not have known us.
    pub(super) fn distrust(&mut self) {
        self.pass_on();
        self.token = None;
    }

    fn pass_on(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len();
    }

    fn not_understood(&self, what: &dyn std::fmt::Display) -> Error {
        Error::Answer(format!("{}: {what}", self.endpoint()))
    }

    /// A watch to be read by another thread, which has to begin it there too, and what ends it.
    pub(super) fn watch(&mut self, question: String) -> Result<(Watch, Stopper), Error> {
        self.refresh();
        self.log_in()?;
        let config = common(&self.tls)
            .timeout_resolve(Some(CONNECT))
            .timeout_send_request(Some(ANSWER))
            .timeout_send_body(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_recv_body(Some(WATCH))
            .build();
        // Of its own, so that it can be ended alone.
        let agent = transport::agent(config);
        let stopper = Stopper::of(&agent);
        let endpoint = self.endpoint().to_owned();
        Ok((Watch { agent, endpoint, token: self.token.clone(), question }, stopper))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// etcd itself says no.
    Said(Status),
    /// Anything else.
    Error(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Said(status) => Self::Refused(status.message),
            Failure::Error(error) => error,
        }
    }
}

/// A watch that has not begun.
pub(super) struct Watch {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    question: String,
}

impl Watch {
    /// Hands each message to `hear`, as long as that wants more. Without an error if the watch has
    /// just come to its end.
    pub(super) fn read<T: DeserializeOwned>(
        self,
        mut hear: impl FnMut(T) -> bool,
    ) -> Result<(), Error> {
        let mut request = self.agent.post(format!("{}/v3/watch", self.endpoint));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        // A member that is cut off from the others would be silent for ever.
        request = request.header("Grpc-Metadata-hasleader", "true");
        let broken =
            |what: &dyn std::fmt::Display| Error::Unreachable(format!("{}: {what}", self.endpoint));
        let response = request.send(&self.question);
        let response = response.map_err(|error| unreachable(&self.endpoint, &error))?;
        if response.status() != 200 {
            let http = response.status().as_u16();
            let mut body = Vec::new();
            let _ = response.into_body().into_reader().take(4096).read_to_end(&mut body);
            return Err(broken(&format!("HTTP status {http}: {}", Status::parse(&body).message)));
        }
        let mut reader = reader(response);
        loop {
            let mut line = Vec::new();
            match (&mut reader).take(LARGEST).read_until(b'\n', &mut line) {
                Ok(0) => return Err(broken(&"the watch was broken off")),
                Ok(_) if line.last() != Some(&b'\n') => {
                    return Err(broken(&"the watch was broken off, or a line is too long"));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => match serde_json::from_slice(&line) {
                    Ok(Streamed::Result(message)) => {
                        if !hear(message) {
                            return Ok(());
                        }
                    }
                    Ok(Streamed::Error(status)) => return Err(broken(&status.message)),
                    Err(error) => return Err(Error::Answer(format!("{}: {error}", self.endpoint))),
                },
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

/// A member that is not content with our certificate lets a handshake end well and breaks off then:
/// mostly the only word about it comes too late to be heard.
fn unreachable(endpoint: &str, error: &ureq::Error) -> Error {
    let is_broken_off = |kind| {
        matches!(
            kind,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
        )
    };
    let hint = match error {
        ureq::Error::Io(error) if endpoint.starts_with("https:") && is_broken_off(error.kind()) => {
            " (does it ask for a client certificate, and accept that of certFile?)"
        }
        _ => "",
    };
    Error::Unreachable(format!("{endpoint}: {error}{hint}"))
}

fn reader(response: Response<ureq::Body>) -> impl BufRead {
    BufReader::new(response.into_body().into_reader())
}

fn agent(tls: &TlsConfig) -> Agent {
    transport::agent(common(tls).timeout_global(Some(ANSWER)).build())
}

fn common(tls: &TlsConfig) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .tls_config(tls.clone())
        .timeout_connect(Some(CONNECT))
        .http_status_as_error(false)
        .max_redirects(0)
        // The environment is not a place to configure this: what it names may be meant for others.
        .proxy(None)
        .user_agent("podwire")
}

fn endpoint(text: &str) -> Result<String, Error> {
    let refuse = || Error::Endpoint(text.to_owned());
    let uri: ureq::http::Uri = text.parse().map_err(|_| refuse())?;
    let is_right = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if is_right { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls() {
        for (text, read) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://[fd00::1]:2379/", "https://[fd00::1]:2379"),
        ] {
            assert_eq!(endpoint(text).unwrap(), read);
        }
        for text in ["", "192.0.2.1:2379", "ftp://a", "http://", "http://a/v3", "http://a?b"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }
}
