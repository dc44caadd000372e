//! The resolver file that a configuration may name (`resolvConf`).

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// What a `resolv.conf` says. The names are those of CNI's `dns` object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolv {
    /// The addresses of `nameserver` lines, unchecked.
    pub nameservers: Vec<String>,
    /// The name of the last `domain` line.
    pub domain: String,
    /// The names of all `search` lines.
    pub search: Vec<String>,
    /// The words of all `options` lines.
    pub options: Vec<String>,
}

/// Reads the file. One that is missing is an error, as in the reference.
pub fn load(path: &Path) -> Result<Resolv> {
    let bytes =
        fs::read(path).map_err(|error| Error::Io { call: "open", path: path.to_owned(), error })?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Reads the text of a `resolv.conf` as the reference does: one name server a line, comments only at the start
/// of a line, and what is not understood is ignored.
pub fn parse(text: &str) -> Resolv {
    let mut resolv = Resolv::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        let all = || std::iter::once(first).chain(words).map(str::to_owned);
        match keyword {
            "nameserver" => resolv.nameservers.push(first.to_owned()),
            "domain" => first.clone_into(&mut resolv.domain),
            "search" => resolv.search.extend(all()),
            "options" => resolv.options.extend(all()),
            _ => {}
        }
    }
    resolv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file() {
        let resolv = parse(
            "# a comment\n; another\nnameserver 192.0.2.1 ignored\n  nameserver\t2001:db8::1 \n\
             domain first.example\ndomain example.com\nsearch a.example b.example\n\
             search c.example # kept\noptions ndots:5 timeout:1\noptions\nsortlist 10.0.0.0\n\n",
        );
        assert_eq!(
            resolv,
            Resolv {
                nameservers: vec!["192.0.2.1".into(), "2001:db8::1".into()],
                domain: "example.com".into(),
                search: ["a.example", "b.example", "c.example", "#", "kept"].map(Into::into).into(),
                options: vec!["ndots:5".into(), "timeout:1".into()],
            }
        );
    }

    #[test]
    fn a_missing_file() {
        let error = load(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert_eq!(error.to_string(), "open /nonexistent/resolv.conf: no such file or directory");
    }

    #[test]
    fn an_empty_file() {
        assert_eq!(parse("\n# nothing\nnameserver\n"), Resolv::default());
    }
}
