//! The committed objects are what their sources compile to.

use skep_tests::examples::{FOLDERS, stale};
use skep_tests::need::{Need, met};
use skep_tests::workspace_root;

#[test]
fn objects_are_not_stale() {
    let headers = std::path::Path::new("/usr/include/bpf/bpf_helpers.h").exists();
    if !headers || !met(&[Need::Clang]) {
        return;
    }
    for folder in FOLDERS {
        assert_eq!(stale(&workspace_root().join(folder)), Ok(Vec::new()));
    }
}
