//! The `CNI_*` variables of a call.

use crate::{Command, Error};

/// The `CNI_*` variables, as the main function found them. An empty one counts as missing.
///
/// CNI spec 1.1.0 section 2, "Parameters".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CNI_PATH`.
    pub path: Option<String>,
    /// `CNI_NETNS_OVERRIDE`, which is not in the specification.
    pub netns_override: Option<String>,
}

impl Environment {
    /// Reads the variables with a function such as `|name| std::env::var(name).ok()`.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        Environment {
            command: lookup("CNI_COMMAND"),
            container_id: lookup("CNI_CONTAINERID"),
            netns: lookup("CNI_NETNS"),
            ifname: lookup("CNI_IFNAME"),
            args: lookup("CNI_ARGS"),
            path: lookup("CNI_PATH"),
            netns_override: lookup("CNI_NETNS_OVERRIDE"),
        }
    }

    /// The variables with their names.
    pub fn variables(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("CNI_COMMAND", self.command.as_deref()),
            ("CNI_CONTAINERID", self.container_id.as_deref()),
            ("CNI_NETNS", self.netns.as_deref()),
            ("CNI_IFNAME", self.ifname.as_deref()),
            ("CNI_ARGS", self.args.as_deref()),
            ("CNI_PATH", self.path.as_deref()),
            ("CNI_NETNS_OVERRIDE", self.netns_override.as_deref()),
        ]
    }

    /// The same variables with another command.
    #[must_use]
    pub fn with_command(&self, command: Command) -> Self {
        Environment { command: Some(command.as_str().to_owned()), ..self.clone() }
    }

    /// Checks what the command requires and says which command it is; `None` if it is unknown,
    /// which is an error only after the configuration has been checked.
    pub fn validate(&self) -> Result<Option<Command>, Error> {
        let Some(text) = given(&self.command) else {
            return Err(missing(&["CNI_COMMAND"]));
        };
        let Some(command) = Command::ALL.into_iter().find(|command| command.as_str() == text)
        else {
            return Ok(None);
        };
        if command.is_about_attachment() {
            given(&self.container_id).map_or(Ok(()), validate_container_id)?;
            given(&self.ifname).map_or(Ok(()), validate_ifname)?;
        }
        let required = |name: &str| match name {
            "CNI_CONTAINERID" | "CNI_IFNAME" => command.is_about_attachment(),
            "CNI_NETNS" => matches!(command, Command::Add | Command::Check),
            "CNI_PATH" => command != Command::Version,
            _ => false,
        };
        let is_missing = |value: Option<&str>| value.is_none_or(str::is_empty);
        let absent = self.variables().into_iter();
        let absent = absent.filter(|&(name, value)| required(name) && is_missing(value));
        let absent: Vec<_> = absent.map(|(name, _)| name).collect();
        if absent.is_empty() { Ok(Some(command)) } else { Err(missing(&absent)) }
    }

    pub(crate) fn unknown_command(&self) -> Error {
        let command = self.command.as_deref().unwrap_or_default();
        Error::invalid_environment(format!("unknown CNI_COMMAND: {command}"))
    }

    /// Whether the netns may be the plugin's own: `TRUE` in any case, or `1`.
    pub(crate) fn overrides_netns(&self) -> bool {
        let value = self.netns_override.as_deref().unwrap_or_default();
        value.eq_ignore_ascii_case("true") || value == "1"
    }
}

/// The value of a variable, where an empty one counts as missing.
pub(crate) fn given(variable: &Option<String>) -> Option<&str> {
    variable.as_deref().filter(|value| !value.is_empty())
}

pub(crate) fn missing(names: &[&str]) -> Error {
    Error::invalid_environment(format!("required env variables [{}] missing", names.join(",")))
}

pub(crate) fn validate_container_id(id: &str) -> Result<(), Error> {
    if is_identifier(id) {
        return Ok(());
    }
    Err(Error::invalid_environment("invalid characters in containerID").with_details(id))
}

pub(crate) fn validate_ifname(name: &str) -> Result<(), Error> {
    if name.len() > 15 {
        let details = "interface name should be less than 16 characters";
        return Err(Error::invalid_environment("interface name is too long").with_details(details));
    }
    if matches!(name, "." | "..") {
        return Err(Error::invalid_environment("interface name is . or .."));
    }
    if name.contains(|char: char| matches!(char, '/' | ':') || char.is_whitespace()) {
        let msg = "interface name contains / or : or whitespace characters";
        return Err(Error::invalid_environment(msg));
    }
    Ok(())
}

/// What container identifiers and network names are made of. CNI spec 1.1.0 section 2.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}
