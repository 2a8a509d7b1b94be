//! JSON policies, as the primary's parser reads them, which is more leniently than JSON.
//!
//! What it makes of a malformed text matters, because it stores such texts: braces that are missing at the
//! end, trailing commas, and lists inside lists change what a policy grants.

use alloc::{vec, vec::Vec};

use super::{
    cursor::{Cursor, Token, is_letter, is_word},
    document::{Item, Key, MAX_DEPTH, MAX_KEYS, Node, Notation, Quoted, Scalar},
    error::{PolicyError, Reason},
};

/// Reads a text up to the end of its outermost object; what follows is not looked at.
pub(super) fn parse(text: &str) -> Result<Vec<Item<'_>>, PolicyError> {
    let mut parser = JsonParser {
        cursor: Cursor::new(text),
        last: Token::End,
    };
    parser.next()?;
    let parsed = match parser.last {
        Token::Mark('{') => parser.object(0),
        _ => Err(parser.cursor.expected("an object").into()),
    };
    match parsed {
        Ok(items) => {
            readable(&items)?;
            flatten(items)
        }
        Err(Failure::Syntax(error) | Failure::Fatal(error)) => Err(error),
    }
}

/// Why parsing stopped.
enum Failure {
    /// A token out of place: forgotten where it is the closing brace of the object being read.
    Syntax(PolicyError),
    /// The text is refused whatever follows.
    Fatal(PolicyError),
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::Syntax(error)
    }
}

struct JsonParser<'a> {
    cursor: Cursor<'a>,
    last: Token<'a>,
}

impl<'a> JsonParser<'a> {
    fn next(&mut self) -> Result<Token<'a>, PolicyError> {
        self.last = scan(&mut self.cursor)?;
        Ok(self.last)
    }

    fn token(&mut self) -> Result<Token<'a>, Failure> {
        self.next().map_err(Failure::Fatal)
    }

    /// The opening brace is behind. The object ends at the first token that continues it no further, be it a
    /// closing brace or not; an error at a closing brace ends it too.
    fn object(&mut self, depth: usize) -> Result<Vec<Item<'a>>, Failure> {
        if depth >= MAX_DEPTH {
            return Err(Failure::Fatal(self.cursor.error(Reason::TooDeep)));
        }
        let mut items = Vec::new();
        loop {
            match self.item(depth) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(items),
                Err(Failure::Syntax(_)) if matches!(self.last, Token::Mark('}')) => {
                    return Ok(items);
                }
                Err(failure) => return Err(failure),
            }
            if !matches!(self.token()?, Token::Mark(',')) {
                return Ok(items);
            }
        }
    }

    /// A member; `None` at the end of the text.
    fn item(&mut self, depth: usize) -> Result<Option<Item<'a>>, Failure> {
        let mut keys = Vec::new();
        let mut line = self.cursor.line();
        loop {
            let token = self.token()?;
            if keys.is_empty() {
                line = self.cursor.line();
            }
            if keys.len() > MAX_KEYS {
                return Err(Failure::Fatal(self.cursor.error(Reason::TooDeep)));
            }
            match token {
                Token::End => return Ok(None),
                Token::Scalar(Scalar::Quoted(quoted)) => keys.push(Key::Quoted(quoted)),
                Token::Mark(':') if !keys.is_empty() => break,
                _ => return Err(self.cursor.expected("a key").into()),
            }
        }
        let value = match self.token()? {
            Token::End => return Ok(None),
            Token::Scalar(scalar) => Node::Scalar(scalar),
            Token::Mark('{') => Node::Object(self.object(depth + 1)?),
            Token::Mark('[') => self.list(depth + 1)?,
            Token::Word(_) | Token::Mark(_) => return Err(self.cursor.expected("a value").into()),
        };
        Ok(Some(Item { keys, value, line }))
    }

    /// The opening bracket is behind. Booleans and brackets inside are skipped, so that a list inside a list
    /// goes on with the outer one and ends it.
    fn list(&mut self, depth: usize) -> Result<Node<'a>, Failure> {
        let mut nodes = vec![];
        loop {
            match self.token()? {
                Token::Mark(',' | '[') | Token::Scalar(Scalar::Bool(_)) => {}
                Token::Mark('{') => nodes.push(Node::Object(self.object(depth)?)),
                Token::Mark(']') => return Ok(Node::List(nodes)),
                Token::Scalar(scalar) if !matches!(scalar, Scalar::Null) => {
                    nodes.push(Node::Scalar(scalar));
                }
                _ => return Err(self.cursor.expected("a value or ']'").into()),
            }
        }
    }
}

/// Every key outside of lists can be read, used or not.
fn readable(items: &[Item<'_>]) -> Result<(), PolicyError> {
    for item in items {
        for key in &item.keys {
            key.text().map_err(|reason| reason.at(item.line))?;
        }
        if let Node::Object(items) = &item.value {
            readable(items)?;
        }
    }
    Ok(())
}

/// Turns nested objects into labelled blocks: an object of objects only is the same as several items whose
/// keys are joined, and a list of objects only is the same as several items with one key.
fn flatten(items: Vec<Item<'_>>) -> Result<Vec<Item<'_>>, PolicyError> {
    let mut flat = Vec::with_capacity(items.len());
    let mut pending: Vec<Item<'_>> = items.into_iter().rev().collect();
    while let Some(Item { keys, value, line }) = pending.pop() {
        if keys.len() > MAX_KEYS {
            return Err(Reason::TooDeep.at(line));
        }
        match value {
            Node::List(nodes) if only_objects(&nodes) => {
                pending.extend(nodes.into_iter().rev().map(|value| Item {
                    keys: keys.clone(),
                    value,
                    line,
                }));
            }
            Node::Object(members) if only_blocks(&members) => {
                pending.extend(members.into_iter().rev().map(|member| Item {
                    keys: [keys.as_slice(), member.keys.as_slice()].concat(),
                    value: member.value,
                    line: member.line,
                }));
            }
            value => flat.push(Item {
                keys,
                value: flatten_inside(value)?,
                line,
            }),
        }
    }
    Ok(flat)
}

fn flatten_inside(node: Node<'_>) -> Result<Node<'_>, PolicyError> {
    Ok(match node {
        Node::Object(items) => Node::Object(flatten(items)?),
        Node::List(nodes) => Node::List(
            nodes
                .into_iter()
                .map(flatten_inside)
                .collect::<Result<_, _>>()?,
        ),
        scalar @ Node::Scalar(_) => scalar,
    })
}

fn only_objects(nodes: &[Node<'_>]) -> bool {
    !nodes.is_empty() && nodes.iter().all(|node| matches!(node, Node::Object(_)))
}

fn only_blocks(items: &[Item<'_>]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| matches!(item.value, Node::Object(_)))
}

fn scan<'a>(cursor: &mut Cursor<'a>) -> Result<Token<'a>, PolicyError> {
    cursor.skip_whitespace();
    let start = cursor.at();
    let Some(first) = cursor.bump() else {
        cursor.pass_nul();
        return Ok(Token::End);
    };
    match first {
        c if is_letter(c) => {
            cursor.take_while(|c| is_word(c) || c == '-');
            match cursor.since(start) {
                "true" => Ok(Token::Scalar(Scalar::Bool(true))),
                "false" => Ok(Token::Scalar(Scalar::Bool(false))),
                "null" => Ok(Token::Scalar(Scalar::Null)),
                _ => Err(cursor.error(Reason::IllegalCharacter)),
            }
        }
        c if c.is_ascii_digit() => number(cursor, start, c),
        '-' => match cursor.take_if(|c| c.is_ascii_digit()) {
            Some(digit) => number(cursor, start, digit),
            None => Err(cursor.error(Reason::IllegalCharacter)),
        },
        '.' if cursor.peek().is_some_and(|c| c.is_ascii_digit()) => Ok(cursor.fraction(start)),
        '"' => quoted(cursor),
        '[' | ']' | '{' | '}' | ',' | ':' | '.' => Ok(Token::Mark(first)),
        _ => Err(cursor.error(Reason::IllegalCharacter)),
    }
}

fn number<'a>(
    cursor: &mut Cursor<'a>,
    start: usize,
    first: char,
) -> Result<Token<'a>, PolicyError> {
    // A zero that ends the text counts as one with more digits.
    cursor.number(start, |cursor, digits| {
        first == '0' && (!digits.is_empty() || cursor.peek().is_none())
    })
}

/// The opening quote is behind.
fn quoted<'a>(cursor: &mut Cursor<'a>) -> Result<Token<'a>, PolicyError> {
    let start = cursor.at();
    loop {
        let raw = cursor.since(start);
        match cursor.bump() {
            None | Some('\n') => return Err(cursor.error(Reason::Unterminated)),
            Some('"') => {
                return Ok(Token::Scalar(Scalar::Quoted(Quoted {
                    raw,
                    notation: Notation::Json,
                })));
            }
            Some('\\') => cursor.escape()?,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_quite_json_are_taken_as_the_primary_takes_them() {
        for text in [
            "{",
            r#"{"a""#,
            r#"{"a":"#,
            r#"{"a":1,}"#,
            r#"{"a":}"#,
            r#"{"a":{"b":1}} garbage"#,
            r#"{"a":["x",["y"]]}"#,
            r#"{"a":[true,]}"#,
            r#"{"a" "b":1}"#,
            "{\"p\":{\"a\":{}\0}}",
            "{\"p\":{}}\0x",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "[]",
            "{,}",
            r#"{"a":1,,}"#,
            r#"{"a":[null]}"#,
            r#"{"a":["x""#,
            r#"{"a":01}"#,
            r#"{"a":0"#,
            r#"{"a":"\/"}"#,
            r#"{"a":{"\ud800":1}}"#,
            // A NUL ends what is being read, and the text goes on behind it.
            "{\"p\":{\"a\":\0x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objects_of_objects_become_labelled_blocks() {
        let items = parse(r#"{"p":{"a":{"x":1},"b":[{"y":2},{"z":3}]}}"#).unwrap();
        // `b` is a list, so `p` is not made of objects only.
        assert_eq!(items.len(), 1);
        let items = parse(r#"{"p":{"a":{"x":1},"b":{"y":2}}}"#).unwrap();
        let labels: Vec<_> = items
            .iter()
            .map(|item| item.keys[1].text().unwrap())
            .collect();
        assert_eq!(labels, ["a", "b"]);
        let items = parse(r#"{"p":[{"a":{"x":1}},{"b":{"y":2}}]}"#).unwrap();
        assert_eq!(items.len(), 2);
    }
}
