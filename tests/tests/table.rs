//! The tables of docs/attach.md have a row for everything that tests speak of, and no other.

use skep_tests::table::{DOCUMENT, ROWS, VERSIONS, rows};
use skep_tests::workspace_root;
use std::fs;

#[test]
fn rows_are_those_of_the_tests() {
    let text = fs::read_to_string(workspace_root().join(DOCUMENT)).unwrap();
    let found = rows(&text);
    let expected: Vec<&str> = ROWS.iter().map(|(row, _)| *row).collect();
    assert_eq!(
        found.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
        expected
    );
    for (row, cells) in found {
        assert_eq!(cells.len(), VERSIONS.len(), "{row}");
        let known =
            |cell: &&str| *cell == "yes" || cell.starts_with("no: ") || *cell == "through clsact";
        assert!(cells.iter().all(known), "{row}: {cells:?}");
    }
}
