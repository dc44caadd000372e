//! A sheet of characters.

/// The characters that lines are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strokes {
    pub(crate) horizontal: char,
    pub(crate) vertical: char,
    /// A cable that carries nothing.
    pub(crate) broken: char,
    /// Several cables.
    pub(crate) bundle: char,
    pub(crate) corners: [char; 4],
    /// A cable that leaves a box by its lower edge.
    pub(crate) leaves: char,
    /// A cable that ends at the upper edge of a box.
    pub(crate) arrives: char,
    /// A cable that passes an edge.
    pub(crate) passes: char,
    /// A cable that ends inside a namespace.
    pub(crate) ends: char,
    /// A cable that joins a line on its left …
    pub(crate) joins: char,
    /// … and one that leads to a box on its right.
    pub(crate) enters: char,
    /// A horizontal cable that carries nothing.
    pub(crate) dead: char,
    /// What stands for what was left out.
    pub(crate) dots: &'static str,
}

pub(crate) const UNICODE: Strokes = Strokes {
    horizontal: '─',
    vertical: '│',
    broken: '┊',
    bundle: '║',
    corners: ['┌', '┐', '└', '┘'],
    leaves: '┬',
    arrives: '┴',
    passes: '┼',
    ends: '╵',
    joins: '├',
    enters: '┤',
    dead: '┄',
    dots: "…",
};

pub(crate) const ASCII: Strokes = Strokes {
    horizontal: '-',
    vertical: '|',
    broken: ':',
    bundle: '#',
    corners: ['+', '+', '+', '+'],
    leaves: '+',
    arrives: '+',
    passes: '+',
    ends: '\'',
    joins: '+',
    enters: '+',
    dead: '.',
    dots: "...",
};

/// A rectangle of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Area {
    /// The row of its lower edge.
    pub(crate) fn bottom(&self) -> usize {
        self.y + self.height - 1
    }
}

/// The sheet. It grows where something is put.
#[derive(Debug)]
pub(crate) struct Canvas {
    rows: Vec<Vec<char>>,
    pub(crate) strokes: Strokes,
}

impl Canvas {
    pub(crate) fn new(strokes: Strokes) -> Self {
        Self { rows: Vec::new(), strokes }
    }

    pub(crate) fn put(&mut self, x: usize, y: usize, text: &str) {
        for (offset, character) in text.chars().enumerate() {
            self.set(x + offset, y, character);
        }
    }

    pub(crate) fn set(&mut self, x: usize, y: usize, character: char) {
        if self.rows.len() <= y {
            self.rows.resize(y + 1, Vec::new());
        }
        let row = &mut self.rows[y];
        if row.len() <= x {
            row.resize(x + 1, ' ');
        }
        row[x] = character;
    }

    /// A box with a title in its upper edge and lines inside, one column away from its sides.
    pub(crate) fn frame(&mut self, area: Area, title: &str, lines: &[String]) {
        let Strokes { horizontal, vertical, corners, .. } = self.strokes;
        let Area { x, y, width, .. } = area;
        let (right, bottom) = (x + width - 1, area.bottom());
        for column in x..=right {
            self.set(column, y, horizontal);
            self.set(column, bottom, horizontal);
        }
        for row in y..=bottom {
            self.set(x, row, vertical);
            self.set(right, row, vertical);
        }
        let places = [(x, y), (right, y), (x, bottom), (right, bottom)];
        for ((column, row), corner) in places.into_iter().zip(corners) {
            self.set(column, row, corner);
        }
        self.put(x + 1, y, &format!(" {title} "));
        for (row, line) in lines.iter().enumerate() {
            self.put(x + 2, y + 1 + row, line);
        }
    }

    /// The sheet's rows, without white space at their ends.
    pub(crate) fn into_text(self) -> String {
        let mut text = String::new();
        for row in self.rows {
            let line: String = row.into_iter().collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
