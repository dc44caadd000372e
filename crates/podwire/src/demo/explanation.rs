//! What a plugin did for a pod, from the script that it left: a sentence, then the commands.

use crate::terminal::Terminal;

/// How far sentences are moved to the right; commands stand two places further.
const INDENT: usize = 14;
/// Rules are long, and their comments are for machines.
const LONGEST: usize = 96;

/// The script's sentences with their commands below them.
pub(super) fn text(script: &str, terminal: Terminal) -> String {
    let mut text = format!("{:INDENT$}The plugin, on the node:\n", "");
    let mut last = "";
    let mut in_rules = false;
    for line in script.lines().skip_while(|line| !line.starts_with("# ")) {
        match line.strip_prefix("# ") {
            Some(sentence) if sentence == last => {}
            Some(sentence) => {
                text += &format!("{:INDENT$}- {sentence}\n", "");
                last = sentence;
            }
            None if line.is_empty() => {}
            None if line.ends_with("<<'RULES'") => in_rules = true,
            None if line == "RULES" => in_rules = false,
            None => {
                let command = if in_rules { format!("nft {line}") } else { line.to_owned() };
                text += &format!("{:INDENT$}  {}\n", "", terminal.dim(&shortened(&command)));
            }
        }
    }
    text
}

/// What an agent does on a node.
pub(super) fn agent(changes: &net::Plan, terminal: Terminal) -> String {
    let mut text = format!("{:INDENT$}The agent, on the node, beside its firewall:\n", "");
    let mut last = "";
    for step in changes {
        if step.why != last {
            text += &format!("{:INDENT$}- {}\n", "", step.why);
            last = &step.why;
        }
        for command in net::shell(step) {
            text += &format!("{:INDENT$}  {}\n", "", terminal.dim(&shortened(&command)));
        }
    }
    text
}

/// The command without what only matters to a script.
fn shortened(command: &str) -> String {
    let command = command.trim_end_matches(" || true");
    let command = command.split_once(">/dev/null 2>&1 || ").map_or(command, |(_, create)| create);
    match command.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &command[..at]),
        None => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_becomes_sentences_with_commands() {
        let script = "#!/bin/sh\nset -eu\n\n# joins the pods\n\
            ip link show dev b >/dev/null 2>&1 || ip link add b type bridge\n\
            ip link set b up\n\nnft -f - <<'RULES'\n# keeps rules\nadd table inet t\n# keeps rules\n\
            add table bridge t\nRULES\n\n# is nice\nsysctl -qw a=1 || true\n";
        let lines: Vec<String> = text(script, Terminal { color: false, unicode: true, width: 100 })
            .lines()
            .map(|line| line.trim_start().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "The plugin, on the node:",
                "- joins the pods",
                "ip link add b type bridge",
                "ip link set b up",
                "- keeps rules",
                "nft add table inet t",
                "nft add table bridge t",
                "- is nice",
                "sysctl -qw a=1",
            ]
        );
        assert_eq!(shortened(&"x".repeat(200)).chars().count(), LONGEST + 3);
    }
}
