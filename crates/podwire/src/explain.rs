//! `podwire explain`: how something is put together, and what is wrong with it.

mod live;
mod web;

use std::borrow::Cow;
use std::process::ExitCode;

use diagnosis::{Code, Explanation, Finding, LookupError, Reference, Severity, Thing};
use render::{Focus, Format, View};
use topology::{Machine, Namespace};

use crate::cli::document;
use crate::cli::explain::Explain;
use crate::drawing::draw;
use crate::failure::{Exit, Failure, Result};
use crate::look;
use crate::terminal::{Terminal, harmless};

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: usize = 100;

/// Runs it.
pub(crate) fn run(arguments: &Explain, terminal: Terminal) -> Result<ExitCode> {
    let wanted = arguments.subject.clone().unwrap_or_default();
    let machine = match &arguments.from {
        Some(file) => look::snapshot(file)?,
        None => look::machine()?,
    };
    let answer = Answer::of(&machine, &wanted).map_err(|error| {
        Failure::new(Exit::NotFound, harmless(&error.to_string()))
            .remedy("`podwire explain` shows what there is")
    })?;
    if arguments.web {
        return web::serve(arguments, wanted, machine);
    }
    let Explain { drawing, teach, .. } = arguments;
    let terminal = drawing.terminal(terminal);
    let view = View { teach: *teach, ..answer.view() };
    let explanation = &answer.explanation;
    drawing.put(&match drawing.format()? {
        Format::Text => text(view, explanation, *teach, terminal),
        Format::Json => document(explanation)?,
        format => draw(format, view, terminal),
    })?;
    Ok(exit(&machine, explanation).into())
}

/// What is said about a subject, and what is shown of the machine.
struct Answer<'a> {
    explanation: Explanation,
    shown: Cow<'a, Machine>,
    focus: Focus,
}

impl<'a> Answer<'a> {
    fn of(machine: &'a Machine, wanted: &Reference) -> std::result::Result<Self, LookupError> {
        let explanation = diagnosis::explain(machine, wanted)?;
        let thing = diagnosis::thing(machine, wanted)?;
        let shown = match &thing {
            Some(thing) => surroundings(machine, thing),
            None => Cow::Owned(diagnosis::excerpt(machine, wanted)?),
        };
        Ok(Self { explanation, shown, focus: thing.map(Focus::from).unwrap_or_default() })
    }

    fn view(&self) -> View<'_> {
        View {
            explanations: std::slice::from_ref(&self.explanation),
            focus: self.focus.clone(),
            ..View::of(&self.shown)
        }
    }
}

/// What a thing is among: the lab that it is in, or the machine without its labs.
fn surroundings<'a>(machine: &'a Machine, thing: &Thing) -> Cow<'a, Machine> {
    let is_it = |namespace: &&Namespace| match thing {
        Thing::Node(name) => namespace.node.as_ref() == Some(name),
        Thing::Namespace(id) | Thing::Link(id, _) => namespace.id == *id,
    };
    let lab = machine.namespaces.iter().find(is_it).and_then(|namespace| namespace.lab.as_ref());
    let is_near = |namespace: &&Namespace| namespace.lab.as_ref() == lab;
    if machine.namespaces.iter().all(|it| is_near(&it)) {
        return Cow::Borrowed(machine);
    }
    let namespaces = machine.namespaces.iter().filter(is_near).cloned().collect();
    let (host, nodes, gaps) = (machine.host.clone(), machine.nodes.clone(), machine.gaps.clone());
    Cow::Owned(Machine { host, nodes, namespaces, gaps })
}

/// A proven fault outranks what could not be read.
fn exit(machine: &Machine, explanation: &Explanation) -> Exit {
    let mut findings = explanation.findings.iter();
    let is_unread = |finding: &Finding| finding.code == Code::Unreadable;
    if findings.clone().any(|finding| finding.severity == Severity::Wrong) {
        Exit::No
    } else if !machine.gaps.is_empty() || findings.any(is_unread) {
        Exit::Unknown
    } else {
        Exit::Yes
    }
}

/// The answer for people: picture, sentences, findings.
fn text(view: View<'_>, explanation: &Explanation, teach: bool, terminal: Terminal) -> String {
    let mut text = String::new();
    if !view.machine.namespaces.is_empty() {
        text += &draw(Format::Text, view, terminal);
    }
    let width = terminal.width.min(WIDEST);
    for chapter in &explanation.chapters {
        text += &format!("\n{}\n", terminal.bold(&harmless(&chapter.title)));
        for sentence in &chapter.sentences {
            let marks = sentence.findings.iter().map(|number| format!(" [{}]", number + 1));
            let marks: String = marks.collect();
            text += &wrapped(&(harmless(&sentence.text) + &marks), 2, width);
            text += &command(4, sentence.command.as_ref().filter(|_| teach), terminal);
        }
    }
    text += &format!("\n{}\n", terminal.bold("Findings"));
    text += &findings(&explanation.findings, teach, terminal);
    if explanation.findings.is_empty() {
        text += "  Nothing unusual was seen.\n";
    }
    text
}

/// Findings for people, numbered; with `teach` also the commands that show them.
pub(crate) fn findings(findings: &[Finding], teach: bool, terminal: Terminal) -> String {
    let width = terminal.width.min(WIDEST);
    let mut text = String::new();
    for (number, finding) in findings.iter().enumerate() {
        let Finding { severity, text: what, consequence, remedy, .. } = finding;
        let word = match severity {
            Severity::Wrong => terminal.bad("WRONG"),
            Severity::Warning => terminal.bad("WARNING"),
            Severity::Unusual => terminal.bold("UNUSUAL"),
        };
        text += &format!("  [{}] {word}\n", number + 1);
        text += &wrapped(&harmless(what), 6, width);
        text += &wrapped(&harmless(consequence), 6, width);
        if let Some(remedy) = remedy {
            text += &format!("      fix: {}\n", harmless(remedy));
        }
        text += &command(6, finding.command.as_ref().filter(|_| teach), terminal);
    }
    text
}

fn command(indent: usize, command: Option<&String>, terminal: Terminal) -> String {
    let line = |command: &String| {
        let line = format!("$ {}", harmless(command));
        format!("{:indent$}{}\n", "", terminal.dim(&line))
    };
    command.map(line).unwrap_or_default()
}

/// A text in lines that begin at a column.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let width = width.saturating_sub(indent).max(20);
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > width {
            lines += &format!("{:indent$}{line}\n", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{:indent$}{line}\n", "")
}
