//! A suggestion as it is printed: lines for the configuration, with the policy below them as a comment.

use std::{collections::BTreeSet, fmt::Write};

use super::{Left, MirrorLine, Suggestion, WorkloadLine};

/// What no line cures is told of up to this many.
const LEFT: usize = 20;

/// Callers that are named on a line.
const NAMED: usize = 5;

/// The lines for the configuration, valid TOML whatever was asked for.
pub fn toml(suggestion: &Suggestion) -> String {
    let mut text = String::new();
    for line in &suggestion.mirrors {
        mirror(&mut text, line);
    }
    for line in &suggestion.workloads {
        workload(&mut text, line);
    }
    left(&mut text, &suggestion.left);
    text
}

/// `text` as comments.
pub fn commented(text: &str) -> String {
    let lines = text.lines();
    lines
        .map(|line| format!("# {line}").trim_end().to_owned() + "\n")
        .collect()
}

// Writing to a String cannot fail.
fn mirror(text: &mut String, line: &MirrorLine) {
    let _ = writeln!(
        text,
        "# {}, by {}",
        times(line.requests),
        names(&line.callers)
    );
    let _ = writeln!(text, "[[mirror]]\npath = {}", quoted(&line.path));
    if line.leased {
        text.push_str("# pool = 4  # a lease for each workload, instead of one that they share\n");
    }
    text.push('\n');
}

fn workload(text: &mut String, line: &WorkloadLine) {
    let unit = match &line.unit {
        Some(unit) => format!(" in {}", plain(unit)),
        None => String::new(),
    };
    let _ = writeln!(
        text,
        "# uid {}{unit} logged in or created tokens: {}, and no entry matches it",
        line.uid,
        times(line.requests)
    );
    if !line.policies.is_empty() {
        let policies = plain(&line.policies.join(", "));
        let _ = writeln!(text, "# its tokens carry the policies {policies}");
    }
    let role = line.role.as_deref().unwrap_or_default();
    let peers = match &line.unit {
        Some(unit) => format!("{{ unit = {}, uid = {} }}", quoted(unit), line.uid),
        None => format!("{{ uid = {} }}", line.uid),
    };
    let entry = format!(
        "[[workload]]\nname = {}\nmatch = {peers}\nrole = {}\n",
        quoted(&line.name),
        quoted(role)
    );
    let on = "# failover = { issue = true }  # if it is to get tokens in an outage\n";
    if line.is_whole() {
        text.push_str(&entry);
        text.push_str(on);
    } else {
        let why = match role {
            "" => "fill in its token role",
            _ => "it means every process of root: narrow it",
        };
        let _ = writeln!(text, "# {why}, and take the comment signs away");
        text.push_str(&commented(&entry));
    }
    text.push('\n');
}

fn left(text: &mut String, left: &[Left]) {
    if left.is_empty() {
        return;
    }
    text.push_str("# What no line here cures:\n");
    for one in left.iter().take(LEFT) {
        let _ = writeln!(
            text,
            "# - {} {}, {}, by {}: {}",
            plain(&one.operation),
            plain(&one.path),
            times(one.requests),
            names(&one.callers),
            plain(&one.reason)
        );
    }
    if left.len() > LEFT {
        let more = left.len() - LEFT;
        let _ = writeln!(text, "# … and {more} more: holdover coverage --all");
    }
}

fn times(requests: u64) -> String {
    match requests {
        1 => "1 request".to_owned(),
        more => format!("{more} requests"),
    }
}

fn names(callers: &BTreeSet<String>) -> String {
    let mut names: Vec<String> = callers
        .iter()
        .take(NAMED)
        .map(|caller| plain(caller))
        .collect();
    if callers.len() > NAMED {
        names.push("others".to_owned());
    }
    names.join(", ")
}

/// Without what would end a comment's line.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
