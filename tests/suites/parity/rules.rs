//! Random policies that favour the awkward: overlapping globs, `+` beside `*`, deny among grants, one path in several
//! policies with different parameters, templates, bounds, expirations; as HCL and as JSON.

use harness::random::Seeded;
use serde_json::{Map, Value, json};

use crate::words;

/// One policy, as it is written and as it can be taken apart.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) rules: Vec<Rule>,
    pub(crate) json: bool,
    pub(crate) slashes: bool,
    pub(crate) wildcards: bool,
    /// Seconds from its writing until the whole of it ends.
    pub(crate) ends_in: Option<u64>,
}

/// One `path` block.
#[derive(Clone)]
pub(crate) struct Rule {
    pub(crate) path: String,
    /// Attributes, with a JSON object standing for a block of lists.
    pub(crate) fields: Vec<(&'static str, Value)>,
    /// What is worth counting about it.
    pub(crate) features: Vec<&'static str>,
}

/// What rules are made from.
pub(crate) struct Ground<'a> {
    /// Paths that requests will be near to.
    pub(crate) hot: &'a [String],
    /// Keys that exist.
    pub(crate) planted: &'a [String],
    /// Template expressions that may have a value.
    pub(crate) expressions: &'a [String],
    /// Unix seconds.
    pub(crate) now: u64,
}

const CAPABILITIES: [&str; 8] = [
    "create", "read", "update", "delete", "list", "sudo", "patch", "scan",
];

/// A policy of up to seven rules.
pub(crate) fn policy(random: &mut Seeded, name: String, ground: &Ground<'_>) -> Policy {
    let count = 1 + random.index(7);
    Policy {
        name,
        rules: (0..count).map(|_| rule(random, ground)).collect(),
        json: random.chance(25),
        slashes: random.chance(60),
        wildcards: random.chance(60),
        ends_in: match random.below(60) {
            0 => Some(2 + random.below(4)),
            1 => Some(86_400),
            _ => None,
        },
    }
}

fn rule(random: &mut Seeded, ground: &Ground<'_>) -> Rule {
    let mut features = Vec::new();
    let path = rule_path(random, ground, &mut features);
    let mut fields = vec![];
    grants(random, &mut fields, &mut features);
    if random.chance(26) {
        parameters(random, &mut fields, &mut features);
    }
    if random.chance(5) {
        wrapping(random, &mut fields, &mut features);
    }
    if random.chance(12) {
        listing(random, &mut fields, &mut features);
    }
    if random.chance(6) {
        expiration(random, ground.now, &mut fields, &mut features);
    }
    if random.chance(2) {
        fields.push(("comment", json!("any ${text} \"quoted\"\n")));
    }
    if random.below(500) == 0 {
        features.push("rule: control group");
        fields.push(("control_group", control_group(random)));
    }
    Rule {
        path,
        fields,
        features,
    }
}

/// A path: one that is asked for, with wildcards and templates put into it.
fn rule_path(random: &mut Seeded, ground: &Ground<'_>, features: &mut Vec<&'static str>) -> String {
    let mut path = match random.chance(88) {
        true => random.pick(ground.hot).clone(),
        false => words::path(random, ground.planted),
    };
    if random.chance(20) {
        path = words::near(random, &path);
    }
    if random.chance(25) {
        path = with_plus(random, &path);
    }
    if random.chance(45) {
        path = cut(random, &path) + "*";
    }
    if random.chance(9) && !ground.expressions.is_empty() {
        path = templated(random, &path, ground.expressions);
        features.push("rule: template");
    }
    match random.below(100) {
        0..4 => path.insert(0, '/'),
        4 => path = format!("//{path}"),
        5..8 => path.push('/'),
        8 => path.insert(cut(random, &path).len(), '*'),
        9 => {
            path = (*random.pick(&[
                "*", "+", "+/*", "", "+/+", "+/+/+", "kv/*", "sys/*", "auth/*", "+/data/*",
                "v1/kv/*",
            ]))
            .to_owned();
        }
        _ => {}
    }
    if path.contains("/+") || path.starts_with('+') {
        features.push("rule: +");
        if path.ends_with('*') {
            features.push("rule: + beside *");
        }
    } else if path.ends_with('*') {
        features.push("rule: prefix");
    } else {
        features.push("rule: exact");
    }
    if path.ends_with('/') {
        features.push("rule: trailing slash");
    }
    path
}

/// `path` with some of its segments turned into `+`.
fn with_plus(random: &mut Seeded, path: &str) -> String {
    let segments: Vec<_> = path.split('/').collect();
    let turned = segments.iter().map(|segment| match random.below(10) {
        0..3 => "+".to_owned(),
        3 => format!("+{segment}"),
        _ => (*segment).to_owned(),
    });
    turned.collect::<Vec<_>>().join("/")
}

/// A beginning of `path`, most often up to a slash.
fn cut(random: &mut Seeded, path: &str) -> String {
    let ends: Vec<usize> = path
        .char_indices()
        .map(|(at, _)| at)
        .chain([path.len()])
        .collect();
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at + 1).collect();
    let at = match random.chance(60) && !slashes.is_empty() {
        true => *random.pick(&slashes),
        false => *random.pick(&ends),
    };
    path[..at].to_owned()
}

fn templated(random: &mut Seeded, path: &str, expressions: &[String]) -> String {
    let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
    let expression = random.pick(expressions);
    let space = *random.pick(&["", "", " "]);
    // Behind the mount, where there is one.
    let nr = segments.len() - 1 - random.index(segments.len().div_ceil(2));
    segments[nr] = match random.below(5) {
        0 => format!("{}{{{{{space}{expression}{space}}}}}", segments[nr]),
        _ => format!("{{{{{space}{expression}{space}}}}}"),
    };
    segments.join("/")
}

fn grants(
    random: &mut Seeded,
    fields: &mut Vec<(&'static str, Value)>,
    features: &mut Vec<&'static str>,
) {
    if random.chance(3) {
        features.push("rule: shorthand");
        let name = *random.pick(&["deny", "read", "write", "sudo"]);
        fields.push(("policy", json!(name)));
        if random.chance(50) {
            return;
        }
    }
    let names: Vec<&str> = match random.below(100) {
        0..42 => CAPABILITIES.to_vec(),
        42..48 => {
            features.push("rule: deny");
            vec!["deny"]
        }
        48..50 => {
            features.push("rule: deny");
            vec!["read", "deny", "sudo"]
        }
        50..53 => {
            features.push("rule: no capabilities");
            vec![]
        }
        53..70 => vec!["read", "list", "scan"],
        _ => CAPABILITIES
            .iter()
            .copied()
            .filter(|_| random.chance(50))
            .collect(),
    };
    fields.push(("capabilities", json!(names)));
}

fn parameters(
    random: &mut Seeded,
    fields: &mut Vec<(&'static str, Value)>,
    features: &mut Vec<&'static str>,
) {
    for (name, feature) in [
        ("allowed_parameters", "rule: allowed_parameters"),
        ("denied_parameters", "rule: denied_parameters"),
    ] {
        if random.chance(45) {
            features.push(feature);
            fields.push((name, lists(random)));
        }
    }
    if random.chance(30) {
        features.push("rule: required_parameters");
        let count = 1 + random.index(2);
        let names: Vec<_> = (0..count).map(|_| words::parameter(random)).collect();
        fields.push(("required_parameters", json!(names)));
    }
}

/// Values listed by name. No name twice in different case: which of two the primary keeps is chance.
fn lists(random: &mut Seeded) -> Value {
    let mut lists = Map::new();
    for _ in 0..random.below(4) {
        let name = words::parameter(random);
        let lower = name.to_lowercase();
        let count = random.below(4);
        let values: Vec<_> = (0..count).map(|_| listed(random)).collect();
        let twice = lists
            .keys()
            .any(|known: &String| known.to_lowercase() == lower);
        if !twice || random.below(400) == 0 {
            lists.insert(name.to_owned(), json!(values));
        }
    }
    Value::Object(lists)
}

/// A listed value: what requests have, and globs over it.
fn listed(random: &mut Seeded) -> Value {
    match random.below(10) {
        0..2 => json!("*"),
        2..5 => {
            json!(random.pick(&[
                "x*", "*y", "*mid*", "**", "*", "", "x", "xy", "a*b", "5", "é*", "X*", "max"
            ]))
        }
        _ => match words::value(random) {
            Value::Null => json!("null"),
            value => value,
        },
    }
}

fn wrapping(
    random: &mut Seeded,
    fields: &mut Vec<(&'static str, Value)>,
    features: &mut Vec<&'static str>,
) {
    features.push("rule: wrapping bounds");
    let bound = |random: &mut Seeded, from: &[&str]| match random.below(4) {
        0 => json!(60),
        1 => json!("90"),
        _ => json!(random.pick(from)),
    };
    if random.chance(60) {
        fields.push(("min_wrapping_ttl", bound(random, &["30s", "1m", "0", "1"])));
    }
    if random.chance(60) {
        fields.push((
            "max_wrapping_ttl",
            bound(random, &["90s", "5m", "1h", "2d"]),
        ));
    }
}

fn listing(
    random: &mut Seeded,
    fields: &mut Vec<(&'static str, Value)>,
    features: &mut Vec<&'static str>,
) {
    if random.chance(60) {
        features.push("rule: pagination_limit");
        let limit = [
            json!(1),
            json!(2),
            json!(3),
            json!("2"),
            json!(0),
            json!(-1),
            json!(100),
        ];
        fields.push(("pagination_limit", random.pick(&limit).clone()));
    }
    if random.chance(50) {
        features.push("rule: list filter");
        let template = match random.below(40) {
            0 => "{{ sha256 .key }}{{ .path }}",
            _ => random.pick(&[
                "{{.path}}{{.key}}",
                "{{ .path | replace \"metadata\" \"data\" }}{{ .key }}",
                "kv/data/{{.key}}",
                "kv/data/a/{{ .key | lowercase }}",
                "{{ print .path .key }}",
                "{{ .key }}",
            ]),
        };
        fields.push(("list_scan_response_keys_filter_path", json!(template)));
    }
}

fn expiration(
    random: &mut Seeded,
    now: u64,
    fields: &mut Vec<(&'static str, Value)>,
    features: &mut Vec<&'static str>,
) {
    let (feature, at) = match random.below(6) {
        0 => ("rule: expired", json!("2020-01-01T00:00:00Z")),
        1 => ("rule: expired", json!(now - 1)),
        2 | 3 => (
            "rule: expires soon",
            json!((now + 1 + random.below(5)).to_string()),
        ),
        4 => ("rule: expires late", json!("2099-12-31T23:59:59.5+02:00")),
        _ => ("rule: expires late", json!(now + 86_400)),
    };
    features.push(feature);
    fields.push(("expiration", at));
}

fn control_group(random: &mut Seeded) -> Value {
    let controlled = *random.pick(&["read", "list", "update"]);
    json!({
        "ttl": "1h",
        "factor": { "one": {
            "controlled_capabilities": [controlled],
            "identity": { "group_names": ["g0"], "approvals": 1 },
        }},
    })
}

impl Policy {
    /// Its text.
    pub(crate) fn text(&self) -> String {
        if self.json {
            return self.json_text();
        }
        let mut text = String::from("# generated\n");
        for rule in &self.rules {
            text += &format!("path {} {{\n", quoted(&rule.path));
            for (name, value) in &rule.fields {
                text += &attribute(name, value);
            }
            text += "}\n";
        }
        text
    }

    /// Blocks of one path twice make a list of objects necessary.
    fn json_text(&self) -> String {
        let rules = self.rules.iter().map(|rule| {
            let fields = rule.fields.iter();
            let fields: Map<_, _> = fields
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            json!({ &rule.path: fields })
        });
        json!({ "path": rules.collect::<Vec<_>>() }).to_string()
    }

    /// With one rule less.
    pub(crate) fn without(&self, nr: usize) -> Policy {
        let mut less = self.clone();
        less.rules.remove(nr);
        less
    }
}

fn attribute(name: &str, value: &Value) -> String {
    match (name, value) {
        ("control_group", Value::Object(group)) => {
            let identity = &group["factor"]["one"];
            format!(
                "  control_group {{\n    ttl = \"1h\"\n    factor \"one\" {{\n      controlled_capabilities = {}\n      \
                 identity {{\n        group_names = [\"g0\"]\n        approvals = 1\n      }}\n    }}\n  }}\n",
                hcl(&identity["controlled_capabilities"])
            )
        }
        (_, Value::Object(_)) if value.to_string().len().is_multiple_of(2) => {
            format!("  {name} {}\n", hcl(value))
        }
        _ => format!("  {name} = {}\n", hcl(value)),
    }
}

/// A value as HCL writes it.
fn hcl(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(hcl).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(items) => {
            let items = items
                .iter()
                .map(|(key, value)| format!("    {} = {}\n", quoted(key), hcl(value)));
            format!("{{\n{}  }}", items.collect::<String>())
        }
        _ => value.to_string(),
    }
}

pub(crate) fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}
