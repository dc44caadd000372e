//! Words: lists, numbers, commands. Names stay as they are; whoever shows a text escapes it.

use std::fmt::Display;
use std::path::Path;

use net::Space;
use topology::Origin;

/// `a, b and c`.
pub(crate) fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match &items[..] {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// `a, b and 12 more`: no more than `most` of them, so that a sentence stays one.
pub(crate) fn some(items: impl IntoIterator<Item = impl Display>, most: usize) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.len() > most {
        let more = items.len() - (most - 1);
        items.truncate(most - 1);
        items.push(format!("{more} more"));
    }
    list(items)
}

/// `the address a`, `the addresses a and b`.
pub(crate) fn addresses(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.len() {
        1 => format!("the address {}", items[0]),
        _ => format!("the addresses {}", list(items)),
    }
}

/// `1 pod`, `2 pods`, `2 addresses`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

/// `1,450`
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `node alpha`, but `node1`: names that say what they are need no other word.
pub(crate) fn kinded(kind: &str, name: &str) -> String {
    if name.starts_with(kind) { name.to_owned() } else { format!("{kind} {name}") }
}

/// Who made something, as a sentence of its own with a space before it; nothing where nothing tells.
pub(crate) fn made_by(origin: Origin, what: &str) -> String {
    match origin {
        Origin::Unknown => String::new(),
        maker => format!(" {what} {maker}."),
    }
}

/// A command as it is typed to run in a namespace: that of the machine itself if there is no path.
pub(crate) fn command(path: Option<&Path>, command: &str) -> String {
    let Some(path) = path else { return command.to_owned() };
    let space = Space::At(path.to_owned());
    match (space.name(), command.split_once(' ')) {
        (Some(name), Some((program @ ("ip" | "bridge"), rest))) => {
            format!("{program} -n {} {rest}", net::quote(name))
        }
        (Some(name), _) => format!("ip netns exec {} {command}", net::quote(name)),
        (None, _) => format!("nsenter --net={} {command}", net::quote(&path.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_people_write_them() {
        assert_eq!(list(["a"]), "a");
        assert_eq!(list(["a", "b", "c"]), "a, b and c");
        assert_eq!(some(1..=3, 3), "1, 2 and 3");
        assert_eq!(some(1..=9, 3), "1, 2 and 7 more");
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        let texts = [7, 1450, 65_535, 1_234_567].map(grouped);
        assert_eq!(texts, ["7", "1,450", "65,535", "1,234,567"]);
    }

    #[test]
    fn commands_run_where_the_fact_is() {
        let text = "ip route";
        assert_eq!(command(None, text), "ip route");
        assert_eq!(command(Some("/run/netns/a".as_ref()), text), "ip -n a route");
        assert_eq!(
            command(Some("/run/netns/a b".as_ref()), "nft list ruleset"),
            "ip netns exec 'a b' nft list ruleset"
        );
        let process = command(Some("/proc/7/ns/net".as_ref()), text);
        assert_eq!(process, "nsenter --net=/proc/7/ns/net ip route");
    }
}
