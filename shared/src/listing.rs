//! How a folder of a KV mount is listed and scanned: which names are shown, and in which order. Pure.
//!
//! LIST shows the names right below a folder in the order of their bytes, a folder once and with its slash. SCAN shows
//! every key anywhere below it: OpenBao lists a folder, gives its keys, puts its folders on a stack, and goes on with
//! the one on top (`sdk/logical/storage_view.go`, seen on 2.7.2).

use alloc::vec::Vec;

/// The name under which a folder shows what lies at `rest` below it: a key's own, or its folder's with a slash.
pub fn shown_as(rest: &str) -> &str {
    match rest.find('/') {
        Some(slash) => rest.get(..=slash).unwrap_or(rest),
        None => rest,
    }
}

/// The keys below a folder in the order of SCAN. `sorted` are their names from the folder on, in the order of their
/// bytes.
pub fn scan_order<'a>(sorted: &[&'a str]) -> Vec<&'a str> {
    let mut order = Vec::with_capacity(sorted.len());
    let mut stack: Vec<(usize, &[&'a str])> = [(0, sorted)].into();
    while let Some((depth, folder)) = stack.pop() {
        let below = |name: &'a str| shown_as(name.get(depth..).unwrap_or_default());
        // What begins with the same folder is one run: nothing sorts between two names that begin alike.
        for run in folder.chunk_by(|one, other| below(one) == below(other)) {
            match run {
                [] => {}
                [first, ..] if below(first).ends_with('/') => {
                    stack.push((depth + below(first).len(), run));
                }
                keys => order.extend(keys),
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeSet, format, string::String};
    use proptest::prelude::*;

    #[test]
    fn a_live_server_scanned_these_in_this_order() {
        let sorted = [
            "a",
            "a b",
            "b/1",
            "b/a/1",
            "b/a/b/c/d",
            "b/a/b2/k",
            "b/a/bb",
            "b/x",
            "b/y/1",
            "b/y/z/2",
            "b/y/zz",
            "dir",
            "dir/one",
            "dir/sub/two",
            "dir/zed",
            "dir2/x",
        ];
        let order = [
            "a",
            "a b",
            "dir",
            "dir2/x",
            "dir/one",
            "dir/zed",
            "dir/sub/two",
            "b/1",
            "b/x",
            "b/y/1",
            "b/y/zz",
            "b/y/z/2",
            "b/a/1",
            "b/a/bb",
            "b/a/b2/k",
            "b/a/b/c/d",
        ];
        assert_eq!(scan_order(&sorted), order);
        assert!(scan_order(&[]).is_empty());
    }

    /// What the storage does: one LIST for each folder.
    fn walk(keys: &BTreeSet<String>) -> Vec<String> {
        let (mut found, mut frontier) = (Vec::new(), alloc::vec![String::new()]);
        while let Some(folder) = frontier.pop() {
            let below = keys
                .iter()
                .filter_map(|key| key.strip_prefix(folder.as_str()));
            let names: BTreeSet<&str> = below.map(shown_as).collect();
            for name in names {
                let path = format!("{folder}{name}");
                match name.ends_with('/') {
                    true => frontier.push(path),
                    false => found.push(path),
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn a_scan_is_what_walking_the_folders_gives(
            keys in proptest::collection::btree_set("[ab/-]{0,3}[a-c .é-]{1,2}", 0..40)
        ) {
            let keys: BTreeSet<String> = keys
                .into_iter()
                .filter(|key| !key.starts_with('/') && !key.contains("//"))
                .collect();
            let sorted: Vec<&str> = keys.iter().map(String::as_str).collect();
            prop_assert_eq!(scan_order(&sorted), walk(&keys));
        }

        #[test]
        fn a_scan_shows_every_key_once(
            keys in proptest::collection::btree_set("([ab]{1,2}/){0,3}[ab]{1,2}", 0..40)
        ) {
            let sorted: Vec<&str> = keys.iter().map(String::as_str).collect();
            let mut shown = scan_order(&sorted);
            shown.sort_unstable();
            prop_assert_eq!(shown, sorted);
        }
    }
}
