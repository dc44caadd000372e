//! Tables for people.

/// Columns as wide as their widest cell, two spaces apart; the first row is the headers.
pub(crate) fn table<const N: usize>(mut rows: Vec<[String; N]>, no_headers: bool) -> String {
    if no_headers {
        rows.remove(0);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
