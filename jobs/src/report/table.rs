//! Columns of text, aligned.

/// Rows with their cells aligned; a column in which every cell starts with a digit is set right.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|c| width(rows, c)).collect();
    let right: Vec<bool> = (0..columns).map(|c| is_figures(rows, c)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Names and values, one pair a line.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
}

fn cells(rows: &[Vec<String>], column: usize) -> impl Iterator<Item = &String> {
    rows.iter().filter_map(move |row| row.get(column))
}

fn width(rows: &[Vec<String>], column: usize) -> usize {
    cells(rows, column).map(|cell| cell.chars().count()).max().unwrap_or(0)
}

fn is_figures(rows: &[Vec<String>], column: usize) -> bool {
    let figure = |cell: &String| cell.chars().next().is_none_or(|c| c.is_ascii_digit() || "-?".contains(c));
    column > 0 && cells(rows, column).all(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_set_right_and_words_left() {
        let rows = [["rows", "12", "a"], ["tokens", "1,000", "b c"]].map(|r| r.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "  rows       12  a\n  tokens  1,000  b c\n");
    }

    #[test]
    fn pairs_align_their_values() {
        assert_eq!(pairs(&[("a", "1".to_owned()), ("bcd", "2".to_owned())]), "  a    1\n  bcd  2\n");
    }
}
