//! One name, one type.

use std::collections::BTreeMap;

use crate::{items, offenders::only_listed, sources::production};

#[test]
fn a_type_s_name_stands_once_per_crate() {
    let mut places: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for file in production() {
        for name in items::types(&file.tokens) {
            places.entry((file.of, name)).or_default().push(&file.path);
        }
    }
    assert!(places.len() > 400, "only {} types found", places.len());
    places.retain(|_, places| places.len() > 1);
    for ((of, name), places) in &places {
        println!("{of} {name}: {}", places.join(" "));
    }
    only_listed(
        places.keys().map(|(of, name)| format!("{of} {name}")),
        "names.txt",
        "a type's name stands once per crate: rename these for what they hold",
    );
}
