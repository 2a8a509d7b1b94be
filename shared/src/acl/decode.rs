//! Values out of a document, with the primary's rules for what passes as a text, a number, a list or a map,
//! and for keys that are given more than once.

use alloc::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{
    document::{Item, Key, Node, Scalar},
    error::{PolicyError, Reason},
    literal,
};

/// Any value, as the primary holds it in memory.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Datum {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Datum>),
    Map(BTreeMap<String, Datum>),
    /// A block inside a map: the primary holds it as a list of its own type, equal to nothing in a request.
    Blocks(Vec<BTreeMap<String, Datum>>),
}

/// Parameter names, and the values listed for each.
pub(super) type DatumLists = BTreeMap<String, Vec<Datum>>;

/// What a block holds under one name: labelled blocks, and plain values, in the order written.
pub(super) struct Attribute<'d, 'a> {
    labelled: Vec<Labelled<'d, 'a>>,
    values: Vec<&'d Node<'a>>,
    line: u32,
}

/// An item seen from behind some of its keys.
#[derive(Clone, Copy)]
struct Labelled<'d, 'a> {
    keys: &'d [Key<'a>],
    value: &'d Node<'a>,
}

/// Collects what `items` hold under `name`, in any case of letters.
pub(super) fn attribute<'d, 'a>(
    items: &'d [Item<'a>],
    name: &str,
) -> Result<Attribute<'d, 'a>, PolicyError> {
    let mut found = Attribute {
        labelled: Vec::new(),
        values: Vec::new(),
        line: 0,
    };
    for item in items {
        let (first, labels) = split_key(&item.keys).map_err(|reason| reason.at(item.line))?;
        if !first.eq_ignore_ascii_case(name) {
            continue;
        }
        found.line = item.line;
        if labels.is_empty() {
            found.values.push(&item.value);
        } else {
            found.labelled.push(Labelled {
                keys: labels,
                value: &item.value,
            });
        }
    }
    Ok(found)
}

impl<'d, 'a> Attribute<'d, 'a> {
    /// Whether there is none.
    pub(super) fn is_absent(&self) -> bool {
        self.labelled.is_empty() && self.values.is_empty()
    }

    /// The line of the last.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// The last of its texts.
    pub(super) fn text(&self) -> Result<Option<String>, PolicyError> {
        self.last("a text", |node| match node {
            Node::Scalar(scalar) => scalar.text(),
            Node::List(_) | Node::Object(_) => Err(Reason::Expected { expected: "a text" }),
        })
    }

    /// The last of its integers.
    pub(super) fn integer(&self) -> Result<Option<i64>, PolicyError> {
        self.last("a number", |node| match node {
            Node::Scalar(scalar) => integer(scalar),
            Node::List(_) | Node::Object(_) => Err(Reason::Expected {
                expected: "a number",
            }),
        })
    }

    /// The last of its booleans.
    pub(super) fn boolean(&self) -> Result<Option<bool>, PolicyError> {
        self.last("a boolean", |node| match node {
            Node::Scalar(Scalar::Bool(value)) => Ok(*value),
            _ => Err(Reason::Expected {
                expected: "a boolean",
            }),
        })
    }

    /// All of its lists of texts, joined.
    pub(super) fn texts(&self) -> Result<Vec<String>, PolicyError> {
        let mut texts = Vec::new();
        self.each("a list", |node| texts_into(&mut texts, node))?;
        Ok(texts)
    }

    /// All of its maps from names to lists, merged; lists under one name are joined.
    pub(super) fn lists(&self) -> Result<DatumLists, PolicyError> {
        let mut lists = DatumLists::new();
        self.located(lists_into(&mut lists, self.labelled.iter().copied()))?;
        for node in &self.values {
            self.located(match node {
                Node::Object(items) => lists_into(&mut lists, entries(items)),
                _ => Err(Reason::Expected { expected: "a map" }),
            })?;
        }
        Ok(lists)
    }

    /// Its value of whatever kind; a later one must be readable as the kind of the first.
    pub(super) fn datum(&self) -> Result<Option<Datum>, PolicyError> {
        let mut value = None;
        for entry in &self.labelled {
            value = Some(self.located(labelled_block(entry.keys, entry.value))?);
        }
        for node in &self.values {
            value = Some(self.located(datum(node, false, value))?);
        }
        Ok(value)
    }

    /// All that are blocks with members, labelled or not.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&'d [Key<'a>], &'d Node<'a>)> {
        let labelled = self.labelled.iter().map(|entry| (entry.keys, entry.value));
        labelled.chain(self.values.iter().map(|node| (&[][..], *node)))
    }

    fn last<T>(
        &self,
        expected: &'static str,
        read: impl Fn(&Node<'_>) -> Result<T, Reason>,
    ) -> Result<Option<T>, PolicyError> {
        let mut last = None;
        self.each(expected, |node| {
            last = Some(read(node)?);
            Ok(())
        })?;
        Ok(last)
    }

    /// Reads every value, none of which may be a labelled block.
    fn each(
        &self,
        expected: &'static str,
        mut read: impl FnMut(&Node<'a>) -> Result<(), Reason>,
    ) -> Result<(), PolicyError> {
        if !self.labelled.is_empty() {
            return self.located(Err(Reason::Expected { expected }));
        }
        self.values
            .iter()
            .try_for_each(|node| self.located(read(node)))
    }

    fn located<T>(&self, result: Result<T, Reason>) -> Result<T, PolicyError> {
        result.map_err(|reason| reason.at(self.line))
    }
}

fn texts_into(texts: &mut Vec<String>, node: &Node<'_>) -> Result<(), Reason> {
    let nodes = match node {
        Node::List(nodes) => nodes,
        Node::Object(items) if items.is_empty() => return Ok(()),
        _ => return Err(Reason::Expected { expected: "a list" }),
    };
    for node in nodes {
        match node {
            Node::Scalar(scalar) => texts.push(scalar.text()?),
            _ => return Err(Reason::Expected { expected: "a text" }),
        }
    }
    Ok(())
}

fn entries<'d, 'a>(items: &'d [Item<'a>]) -> impl Iterator<Item = Labelled<'d, 'a>> + Clone {
    items.iter().map(|item| Labelled {
        keys: &item.keys,
        value: &item.value,
    })
}

/// Reads any value. `in_list` says whether it is an element of a list; `old` is what the same key held before.
fn datum(node: &Node<'_>, in_list: bool, old: Option<Datum>) -> Result<Datum, Reason> {
    match (node, old) {
        (Node::Scalar(scalar), old) => scalar_datum(scalar, old),
        (Node::List(nodes), None) => list(nodes, Vec::new()).map(Datum::List),
        (Node::List(nodes), Some(Datum::List(old))) => list(nodes, old).map(Datum::List),
        (Node::List(nodes), Some(Datum::Blocks(mut blocks))) => {
            for node in nodes {
                match node {
                    Node::Object(items) => blocks.push(map(entries(items))?),
                    _ => {
                        return Err(Reason::Expected {
                            expected: "a block",
                        });
                    }
                }
            }
            Ok(Datum::Blocks(blocks))
        }
        (Node::Object(items), None) if in_list => map(entries(items)).map(Datum::Map),
        (Node::Object(items), None) => {
            let blocks = [map(entries(items))?].into();
            Ok(Datum::Blocks(blocks))
        }
        (Node::Object(items), Some(Datum::List(mut old))) => {
            old.push(Datum::Map(map(entries(items))?));
            Ok(Datum::List(old))
        }
        (Node::Object(items), Some(Datum::Blocks(mut blocks))) => {
            blocks.push(map(entries(items))?);
            Ok(Datum::Blocks(blocks))
        }
        _ => Err(Reason::Expected {
            expected: "a value of the same kind as before",
        }),
    }
}

fn scalar_datum(scalar: &Scalar<'_>, old: Option<Datum>) -> Result<Datum, Reason> {
    match (scalar, old) {
        (Scalar::Bool(value), None | Some(Datum::Bool(_))) => Ok(Datum::Bool(*value)),
        (Scalar::Float(text), None | Some(Datum::Float(_)))
        | (Scalar::Integer(text), Some(Datum::Float(_))) => literal::float(text).map(Datum::Float),
        (Scalar::Integer(_), None) | (_, Some(Datum::Integer(_))) => {
            integer(scalar).map(Datum::Integer)
        }
        (Scalar::Quoted(_) | Scalar::Heredoc(_) | Scalar::Null, None)
        | (_, Some(Datum::Text(_))) => scalar.text().map(Datum::Text),
        _ => Err(Reason::Expected {
            expected: "a value of the same kind as before",
        }),
    }
}

fn integer(scalar: &Scalar<'_>) -> Result<i64, Reason> {
    match scalar {
        Scalar::Integer(text) => literal::integer(text),
        Scalar::Quoted(_) | Scalar::Null => literal::integer(&scalar.text()?),
        _ => Err(Reason::Expected {
            expected: "a number",
        }),
    }
}

fn list(nodes: &[Node<'_>], mut list: Vec<Datum>) -> Result<Vec<Datum>, Reason> {
    for node in nodes {
        list.push(datum(node, true, None)?);
    }
    Ok(list)
}

fn lists_into<'d, 'a: 'd>(
    lists: &mut DatumLists,
    entries: impl Iterator<Item = Labelled<'d, 'a>>,
) -> Result<(), Reason> {
    for entry in entries {
        let [key] = entry.keys else {
            return Err(Reason::Expected {
                expected: "a list, not a labelled block",
            });
        };
        let values = lists.entry(key.text()?.into_owned()).or_default();
        match entry.value {
            Node::List(nodes) => *values = list(nodes, core::mem::take(values))?,
            Node::Object(items) => values.push(Datum::Map(map(self::entries(items))?)),
            Node::Scalar(_) => return Err(Reason::Expected { expected: "a list" }),
        }
    }
    Ok(())
}

fn map<'d, 'a: 'd>(
    entries: impl Iterator<Item = Labelled<'d, 'a>> + Clone,
) -> Result<BTreeMap<String, Datum>, Reason> {
    let mut map = BTreeMap::new();
    let labelled = labelled_keys(entries.clone())?;
    for entry in entries {
        let (key, labels) = split_key(entry.keys)?;
        let value = if labelled.contains(&key.to_lowercase()) {
            labelled_block(labels, entry.value)?
        } else {
            datum(entry.value, false, map.remove(&*key))?
        };
        map.insert(key.into_owned(), value);
    }
    Ok(map)
}

/// The keys that have labels somewhere, in lower case: the primary reads all items of such a key together.
fn labelled_keys<'d, 'a: 'd>(
    entries: impl Iterator<Item = Labelled<'d, 'a>>,
) -> Result<BTreeSet<String>, Reason> {
    let mut keys = BTreeSet::new();
    for entry in entries {
        let (key, labels) = split_key(entry.keys)?;
        if !labels.is_empty() {
            keys.insert(key.to_lowercase());
        }
    }
    Ok(keys)
}

fn split_key<'d, 'a>(keys: &'d [Key<'a>]) -> Result<(Cow<'a, str>, &'d [Key<'a>]), Reason> {
    let (first, labels) = keys
        .split_first()
        .ok_or(Reason::Expected { expected: "a key" })?;
    Ok((first.text()?, labels))
}

/// A block with labels is a value that equals nothing, if everything in it can be read.
fn labelled_block(labels: &[Key<'_>], value: &Node<'_>) -> Result<Datum, Reason> {
    if labels.is_empty() {
        return Err(Reason::Expected {
            expected: "a label",
        });
    }
    for label in labels {
        label.text()?;
    }
    datum(value, false, None)?;
    Ok(Datum::Blocks(Vec::new()))
}
