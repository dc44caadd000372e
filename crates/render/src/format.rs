//! The forms of a picture, and how to ask for one.

use std::path::Path;
use std::str::FromStr;

use diagnosis::Explanation;
use topology::{Document, Machine};

use crate::{DOTS, Focus, Pictures, Scene, canvas, graph, html, svg};

/// A form of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Characters, for a terminal.
    Text,
    /// Indented words.
    Tree,
    /// A drawing.
    Svg,
    /// A page in one file, with the sentences beside the drawing.
    Html,
    /// For Graphviz.
    Dot,
    /// For forges and wikis.
    Mermaid,
    /// Boxes, wires and their positions, for programs.
    Json,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Text, Self::Tree, Self::Svg, Self::Html, Self::Dot, Self::Mermaid, Self::Json];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Tree => "tree",
            Self::Svg => "svg",
            Self::Html => "html",
            Self::Dot => "dot",
            Self::Mermaid => "mermaid",
            Self::Json => "json",
        }
    }

    /// The suffix of its files.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Mermaid => "mmd",
            other => other.name(),
        }
    }

    /// The form that a file's suffix asks for.
    pub fn of(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.suffix() == suffix || format.name() == suffix)
    }

    /// How many columns a picture has where nobody says so.
    fn width(self) -> usize {
        match self {
            Self::Text => 100,
            _ => 180,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is no form of a picture; these are: {names}")
        })
    }
}

/// What is to be shown.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Where it is.
    pub machine: &'a Machine,
    /// What is said about it.
    pub explanations: &'a [Explanation],
    /// Which part of it.
    pub focus: Focus,
    /// How many columns there are; the form's own number if nobody says so.
    pub width: Option<usize>,
    /// Box-drawing characters rather than ASCII, where the form is text.
    pub unicode: bool,
    /// Commands are shown beside the sentences of a page from the beginning.
    pub teach: bool,
    /// Where a served page hears that there is a newer one: an address of its own server that sends
    /// the event `changed`. A page in a file has none.
    pub live: Option<String>,
}

impl<'a> View<'a> {
    /// All of a machine, with nothing said about it.
    pub fn of(machine: &'a Machine) -> Self {
        Self {
            machine,
            explanations: &[],
            focus: Focus::Machine,
            width: None,
            unicode: true,
            teach: false,
            live: None,
        }
    }

    pub(crate) fn pictures<'d>(&self, format: Format, dots: &'d str) -> Pictures<'d> {
        let pictures = Pictures::new(self.machine, dots);
        let has_sentences = matches!(format, Format::Text | Format::Html);
        match has_sentences && !self.explanations.is_empty() {
            true => pictures.beside_sentences(),
            false => pictures,
        }
    }

    /// The picture, with what is unusual marked.
    pub fn scene(&self, format: Format) -> Scene {
        let dots = if self.unicode || format != Format::Text { DOTS } else { "..." };
        let width = self.width.unwrap_or(format.width());
        let mut scene = self.pictures(format, dots).scene(&self.focus, width);
        for explanation in self.explanations {
            scene.mark(&explanation.findings);
        }
        scene
    }
}

/// A picture in one of its forms.
pub fn write(format: Format, view: &View<'_>) -> String {
    let scene = view.scene(format);
    match format {
        Format::Text => canvas::paint(&scene, view.unicode),
        Format::Tree => graph::tree(&scene),
        Format::Svg => svg::file(&scene),
        Format::Html => html::page(view),
        Format::Dot => graph::dot(&scene),
        Format::Mermaid => graph::mermaid(&scene),
        // Nothing in it can fail to be written: its keys are strings and its numbers whole.
        Format::Json => scene.to_document().unwrap_or_default(),
    }
}
