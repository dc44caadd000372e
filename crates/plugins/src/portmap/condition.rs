//! Conditions under which a host port leads to a container: words of `iptables` or of `nft`.
//!
//! The reference hands these words on to the program of that name. Here they become statements, so
//! only what can be understood is accepted: who sends, where to, and by which device.

use cni::fields::{Cidr, Ip};
use ipnet::IpNet;
use net::nft::{Field, Statement, Test, Value};

/// What is accepted, for the details of an error.
pub(crate) const GRAMMAR: &str = "accepted are, in any number: [!] -s NET, [!] -d NET, \
    [!] -i DEVICE[+], -m comment --comment TEXT, -m mark [!] --mark VALUE[/MASK] of iptables; \
    ip|ip6 saddr|daddr [!=] NET, iifname [!=] DEVICE[*], meta mark [!=] VALUE of nft";

/// Reads conditions on packets of one family; or says which word is not understood.
pub(crate) fn parse(tokens: &[String], v4: bool) -> Result<Vec<Statement>, String> {
    // A person may have written several words as one.
    let words: Vec<&str> = tokens.iter().flat_map(|token| token.split_whitespace()).collect();
    let mut words = Words { words: &words, v4 };
    let is_iptables = words.peek().is_some_and(|word| word.starts_with(['-', '!']));
    let mut statements = Vec::new();
    while words.peek().is_some() {
        statements.extend(if is_iptables { words.iptables()? } else { Some(words.nft()?) });
    }
    Ok(statements)
}

/// The words that are left.
struct Words<'a> {
    words: &'a [&'a str],
    v4: bool,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.first().copied()
    }

    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let (word, rest) = self.words.split_first().ok_or_else(|| format!("{what} is missing"))?;
        self.words = rest;
        Ok(word)
    }

    /// Takes the next word if it is `word`.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    /// One match of iptables; `None` for a comment.
    fn iptables(&mut self) -> Result<Option<Statement>, String> {
        let negated = self.take("!");
        let option = self.next("an option behind !")?;
        let (field, test) = match option {
            "-s" | "--source" | "--src" => (self.source(), Test::Within(self.network(option)?)),
            "-d" | "--destination" | "--dst" => {
                (self.destination(), Test::Within(self.network(option)?))
            }
            "-i" | "--in-interface" => (Field::InputName, self.device(option, '+')?),
            "-m" | "--match" if !negated => {
                let module = self.next("the match behind -m")?;
                let negated = self.take("!");
                match (module, self.next("an option behind -m")?, negated) {
                    ("comment", "--comment", false) => {
                        self.next("the text behind --comment")?;
                        return Ok(None);
                    }
                    ("mark", "--mark", negated) => {
                        let test = self.mark()?;
                        return Ok(Some(Statement::Match { field: Field::Mark, negated, test }));
                    }
                    (_, word, _) => return Err(unknown(&format!("-m {module} {word}"))),
                }
            }
            other => return Err(unknown(other)),
        };
        Ok(Some(Statement::Match { field, negated, test }))
    }

    /// One match of nft.
    fn nft(&mut self) -> Result<Statement, String> {
        let word = self.next("a match")?;
        let field = match word {
            "ip" | "ip6" => {
                if (word == "ip") != self.v4 {
                    let family = if self.v4 { "IPv4" } else { "IPv6" };
                    return Err(format!("{word:?} never matches a packet of {family}"));
                }
                match self.next("saddr or daddr")? {
                    "saddr" => self.source(),
                    "daddr" => self.destination(),
                    other => return Err(unknown(&format!("{word} {other}"))),
                }
            }
            "iifname" => Field::InputName,
            "meta" => match self.next("what behind meta")? {
                "mark" => Field::Mark,
                "iifname" => Field::InputName,
                other => return Err(unknown(&format!("meta {other}"))),
            },
            "mark" => Field::Mark,
            other => return Err(unknown(other)),
        };
        let negated = self.take("!=");
        if !negated {
            self.take("==");
        }
        let test = match field {
            Field::InputName => self.device("iifname", '*')?,
            Field::Mark => self.mark()?,
            _ => Test::Within(self.network(word)?),
        };
        Ok(Statement::Match { field, negated, test })
    }

    fn source(&self) -> Field {
        if self.v4 { Field::IpSource } else { Field::Ip6Source }
    }

    fn destination(&self) -> Field {
        if self.v4 { Field::IpDestination } else { Field::Ip6Destination }
    }

    fn network(&mut self, option: &str) -> Result<IpNet, String> {
        let word = self.next(&format!("the network behind {option}"))?;
        let single = |word: &str| word.parse().ok().map(|Ip(address)| IpNet::from(address));
        let net = word.parse().ok().map(|Cidr(net)| net.trunc()).or_else(|| single(word));
        let net = net.ok_or_else(|| {
            format!("{word:?} behind {option} is no single address or network (ADDRESS/LENGTH)")
        })?;
        if net.addr().is_ipv4() != self.v4 {
            return Err(format!("{word:?} behind {option} is of the other family"));
        }
        Ok(net)
    }

    fn device(&mut self, option: &str, wildcard: char) -> Result<Test, String> {
        let word = self.next(&format!("the device behind {option}"))?;
        let word = word.trim_matches('"');
        match word.strip_suffix(wildcard) {
            Some(start) if !start.is_empty() => Ok(Test::StartsWith(start.to_owned())),
            _ => {
                let name = word.parse().map_err(|error| format!("{option}: {error}"))?;
                Ok(Test::Is(Value::Interface(name)))
            }
        }
    }

    fn mark(&mut self) -> Result<Test, String> {
        let word = self.next("the mark")?;
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let test = match word.split_once('/') {
            Some((value, mask)) => {
                number(value).zip(number(mask)).map(|(value, mask)| Test::Masked { mask, value })
            }
            None => number(word).map(|value| Test::Is(Value::Mark(value))),
        };
        test.ok_or_else(|| format!("{word:?} is no mark"))
    }
}

fn unknown(word: &str) -> String {
    format!("{word:?} is not understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[&str], v4: bool) -> Result<String, String> {
        let tokens: Vec<String> = text.iter().map(|&token| token.to_owned()).collect();
        let statements = parse(&tokens, v4)?;
        Ok(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn words_of_both_languages_say_the_same() {
        for (text, v4, want) in [
            (&["!", "-d", "192.0.2.0/24"][..], true, "ip daddr != 192.0.2.0/24"),
            (&["! -d 192.0.2.0/24"], true, "ip daddr != 192.0.2.0/24"),
            (&["!", "-d", "fc00::/7"], false, "ip6 daddr != fc00::/7"),
            (&["-s", "10.1.2.3", "-i", "eth0"], true, "ip saddr 10.1.2.3/32 iifname \"eth0\""),
            (&["-i", "eth+", "-m", "comment", "--comment", "x"], true, "iifname \"eth*\""),
            (
                &["-m", "mark", "!", "--mark", "0x10/0xf0"],
                true,
                "meta mark & 0x000000f0 != 0x00000010",
            ),
            (&["ip", "saddr", "!=", "10.0.0.0/8"], true, "ip saddr != 10.0.0.0/8"),
            (
                &["ip6 daddr fc00::1 iifname != \"eth*\""],
                false,
                "ip6 daddr fc00::1/128 iifname != \"eth*\"",
            ),
            (&["meta", "mark", "==", "5"], true, "meta mark 0x00000005"),
            (&[], true, ""),
        ] {
            assert_eq!(read(text, v4).as_deref(), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, v4, want) in [
            (&["-p", "tcp"][..], true, "\"-p\" is not understood"),
            (&["-d"], true, "the network behind -d is missing"),
            (&["-d", "fc00::/7"], true, "\"fc00::/7\" behind -d is of the other family"),
            (
                &["-d", "10.0.0.0/8,10.1.0.0/16"],
                true,
                "\"10.0.0.0/8,10.1.0.0/16\" behind -d is no single address or network (ADDRESS/LENGTH)",
            ),
            (
                &["-m", "addrtype", "--dst-type", "LOCAL"],
                true,
                "\"-m addrtype --dst-type\" is not understood",
            ),
            (&["!"], true, "an option behind ! is missing"),
            (&["ip6", "saddr", "::1"], true, "\"ip6\" never matches a packet of IPv4"),
            (&["tcp", "dport", "80"], true, "\"tcp\" is not understood"),
            (
                &["iifname", "much-too-long-a-name"],
                true,
                "iifname: interface name \"much-too-long-a-name\" is too long: at most 15 bytes fit",
            ),
        ] {
            assert_eq!(read(text, v4).unwrap_err(), want, "{text:?}");
        }
    }
}
