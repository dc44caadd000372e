//! Tables for people.

/// Columns as wide as their widest cell, two spaces apart; the first row is the headers.
pub(crate) fn table<const N: usize>(mut rows: Vec<[String; N]>, no_headers: bool) -> String {
    if no_headers {
        rows.remove(0);
    }
    let widest = |column: usize| rows.iter().map(|row| width(&row[column])).max();
    let widths: Vec<usize> = (0..N).map(|column| widest(column).unwrap_or_default()).collect();
    let line = |row: &[String; N]| {
        let padded = |(cell, widest): (&String, &usize)| {
            format!("{cell}{}", " ".repeat(widest.saturating_sub(width(cell))))
        };
        let cells = row.iter().zip(&widths).map(padded);
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// How much of a line a cell takes: colours take nothing.
fn width(cell: &str) -> usize {
    let mut parts = cell.split("\x1b[");
    let before = parts.next().unwrap_or_default();
    let coloured = parts.map(|part| part.split_once('m').map_or(part, |(_, text)| text));
    coloured.chain([before]).map(|text| text.chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Terminal;

    #[test]
    fn colours_take_no_place() {
        let text = |color| {
            let bad = Terminal { color, unicode: true, width: 80 }.bad("gone");
            table(
                vec![["A".into(), "B".into()], [bad, "x".into()], ["…".into(), "y".into()]],
                false,
            )
        };
        assert_eq!(text(false), "A     B\ngone  x\n…     y\n");
        assert_eq!(text(true), "A     B\n\x1b[1;31mgone\x1b[0m  x\n…     y\n");
    }
}
