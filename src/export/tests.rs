//! The document of the columns is true.

use super::column::{CHANGE, Column, ColumnType, ZNODE};

const DOCUMENT: &str = include_str!("../../docs/export.md");

/// The rows of the table below a heading: name and type.
fn documented(heading: &str) -> Vec<(String, String)> {
    let (_, rest) = DOCUMENT.split_once(heading).expect("the heading");
    let table = rest.lines().skip_while(|line| !line.starts_with("| `"));
    let rows = table.take_while(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let mut cell = || cells.next().expect("a cell").trim_matches('`').to_owned();
        (cell(), cell())
    })
    .collect()
}

fn columns<R>(columns: &[Column<R>]) -> Vec<(String, String)> {
    let word = |holds: ColumnType| match holds {
        ColumnType::Number => "number",
        ColumnType::Flag => "flag",
        ColumnType::Text => "text",
        ColumnType::Time => "time",
        ColumnType::Value => "value",
    };
    columns
        .iter()
        .map(|column| (column.name.to_owned(), word(column.holds).to_owned()))
        .collect()
}

#[test]
fn every_column_is_documented_with_its_type_and_in_order() {
    assert_eq!(documented("## Columns of a record"), columns(CHANGE));
    assert_eq!(documented("## Columns of a znode"), columns(ZNODE));
}
