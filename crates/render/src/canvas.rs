//! A scene as characters.

use crate::scene::{Area, Kind, Point, Scene, Shape, State, Wire};

const NORTH: usize = 0;
const EAST: usize = 1;
const SOUTH: usize = 2;
const WEST: usize = 3;

/// How strong a stroke is.
const SINGLE: u8 = 1;
const DOUBLE: u8 = 2;

/// What a cell shows.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Strokes from its middle: none, single or double.
    strokes: [u8; 4],
    /// A character that hides them.
    text: Option<char>,
    /// The wires that pass here, by their trunk.
    trunk: Option<usize>,
    /// What passes carries nothing.
    broken: bool,
}

/// Paints a scene for a terminal; every row ends where its last character is.
pub(crate) fn paint(scene: &Scene, unicode: bool) -> String {
    let row = vec![Cell::default(); scene.width];
    let mut canvas = Canvas { rows: vec![row; scene.height], unicode };
    for shape in &scene.boxes {
        canvas.shape(shape);
    }
    // What carries packets hides what does not, where they share a line.
    let is_broken = |wire: &&Wire| wire.state == State::Down;
    for wire in scene.wires.iter().filter(is_broken) {
        canvas.wire(wire);
    }
    for wire in scene.wires.iter().filter(|wire| !is_broken(wire)) {
        canvas.wire(wire);
    }
    for label in scene.wires.iter().filter_map(|wire| wire.label.as_ref()) {
        canvas.put(label.at, &label.text);
    }
    let mut text = String::new();
    for row in &canvas.rows {
        let line: String = row.iter().map(|cell| cell.glyph(unicode)).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if !scene.notes.is_empty() && !scene.boxes.is_empty() {
        text.push('\n');
    }
    for note in &scene.notes {
        text.push_str(note);
        text.push('\n');
    }
    text
}

struct Canvas {
    rows: Vec<Vec<Cell>>,
    unicode: bool,
}

impl Canvas {
    /// A cell, if it is on the sheet.
    fn cell(&mut self, Point { x, y }: Point) -> Option<&mut Cell> {
        self.rows.get_mut(y)?.get_mut(x)
    }

    fn put(&mut self, at: Point, text: &str) {
        let unicode = self.unicode;
        for (offset, character) in text.chars().enumerate() {
            if let Some(cell) = self.cell(Point { x: at.x + offset, ..at }) {
                // What has been cut is one column wide also where there are few characters.
                cell.text = Some(if character == '…' && !unicode { '~' } else { character });
            }
        }
    }

    /// A box with a title in its upper edge and lines inside, one column away from its sides.
    fn shape(&mut self, shape: &Shape) {
        let Area { x, y, .. } = shape.area;
        let (right, bottom) = (shape.area.right(), shape.area.bottom());
        let mut edge = |x, y, directions: [usize; 2]| {
            if let Some(cell) = self.cell(Point { x, y }) {
                *cell = Cell::default();
                directions.iter().for_each(|at| cell.strokes[*at] = SINGLE);
            }
        };
        for column in x + 1..right {
            edge(column, y, [EAST, WEST]);
            edge(column, bottom, [EAST, WEST]);
        }
        for row in y + 1..bottom {
            edge(x, row, [NORTH, SOUTH]);
            edge(right, row, [NORTH, SOUTH]);
        }
        edge(x, y, [EAST, SOUTH]);
        edge(right, y, [WEST, SOUTH]);
        edge(x, bottom, [EAST, NORTH]);
        edge(right, bottom, [WEST, NORTH]);
        self.put(Point { x: x + 1, y }, &format!(" {} ", shape.title));
        if shape.state == State::Unusual {
            self.put(Point { x: right - 1, y }, "!");
        }
        for (row, line) in shape.lines.iter().enumerate() {
            self.put(Point { x: x + 2, y: y + 1 + row }, line);
        }
    }

    fn wire(&mut self, wire: &Wire) {
        let weight = match wire.kind {
            Kind::Bundle | Kind::Tunnel => DOUBLE,
            _ => SINGLE,
        };
        let broken = wire.state == State::Down;
        for ends in wire.points.windows(2) {
            let [from, to] = [ends[0].min(ends[1]), ends[0].max(ends[1])];
            let vertical = from.x == to.x;
            let (back, forth) = if vertical { (NORTH, SOUTH) } else { (WEST, EAST) };
            let length = if vertical { to.y - from.y } else { to.x - from.x };
            for step in 0..=length {
                let at = match vertical {
                    true => Point { y: from.y + step, ..from },
                    false => Point { x: from.x + step, ..from },
                };
                let passes = step > 0 && step < length;
                let Some(cell) = self.cell(at) else { continue };
                if cell.trunk.is_some_and(|trunk| trunk != wire.trunk) && passes {
                    // Wires that have nothing to do with each other: the upright one is above.
                    let upright = cell.strokes[EAST] == 0 || cell.strokes[WEST] == 0;
                    if !vertical || upright {
                        continue;
                    }
                    cell.strokes = [0; 4];
                }
                if step > 0 {
                    cell.strokes[back] = cell.strokes[back].max(weight);
                }
                if step < length {
                    cell.strokes[forth] = cell.strokes[forth].max(weight);
                }
                cell.trunk = Some(wire.trunk);
                cell.broken = broken;
            }
        }
    }
}

impl Cell {
    fn glyph(&self, unicode: bool) -> char {
        if let Some(text) = self.text {
            return text;
        }
        let [north, east, south, west] = self.strokes;
        let bit = |weight: u8, place: usize| usize::from(weight > 0) << place;
        let shape = bit(north, 0) | bit(east, 1) | bit(south, 2) | bit(west, 3);
        let (across, along) = (east.max(west) == DOUBLE, north.max(south) == DOUBLE);
        let glyphs = match (unicode, across, along) {
            (true, false, false) => " ╵╶└╷│┌├╴┘─┴┐┤┬┼",
            (true, true, false) => " ╵═╘╷│╒╞═╛═╧╕╡╤╪",
            (true, false, true) => " ║╶╙║║╓╟╴╜─╨╖╢╥╫",
            (true, true, true) => " ║═╚║║╔╠═╝═╩╗╣╦╬",
            (false, false, false) => " '-+'|++-+-+++++",
            (false, true, false) => " '=+'|++=+=+++++",
            (false, false, true) => " #-+##++-+-+++++",
            (false, true, true) => " #=+##++=+=+++++",
        };
        let broken = match (self.broken, shape, unicode) {
            (true, 0b0101, true) => Some('┊'),
            (true, 0b0101, false) => Some(':'),
            (true, 0b1010, true) => Some('┄'),
            (true, 0b1010, false) => Some('.'),
            _ => None,
        };
        broken.or_else(|| glyphs.chars().nth(shape)).unwrap_or(' ')
    }
}
