//! What a file defines: types and functions, at any depth.

use crate::{lexer::Token, sources::end_of_group};

/// The name of an item and the tokens it is made of.
pub(crate) struct Item<'t> {
    pub(crate) name: &'t str,
    pub(crate) tokens: &'t [Token],
}

/// Names of structs, enums, unions, traits and type aliases. A type that a trait or an `impl` names is not one of its
/// own.
pub(crate) fn types(tokens: &[Token]) -> Vec<&str> {
    let (mut found, mut inside) = (Vec::new(), Vec::new());
    let mut implements = false;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            _ if !token.is(&token.text) => {}
            "impl" if begins_item(tokens, at) => implements = true,
            "trait" => implements = true,
            "{" => inside.push(std::mem::take(&mut implements)),
            "}" => drop(inside.pop()),
            ";" => implements = false,
            _ => {}
        }
        let associated = inside.last() == Some(&true);
        let defines = match token.text.as_str() {
            "struct" | "enum" | "trait" => true,
            "union" => follows(tokens, at + 2, &["{", "<"]),
            "type" => !associated,
            _ => false,
        };
        let name = tokens.get(at + 1).filter(|name| name.is_word());
        if let (true, true, Some(name)) = (token.is_word(), defines, name) {
            found.push(name.text.as_str());
        }
    }
    found
}

/// Every function with a body, from `fn` to its closing brace.
pub(crate) fn functions(tokens: &[Token]) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let name = tokens.get(at + 1).filter(|name| name.is_word());
        let (true, Some(name)) = (token.is("fn"), name) else {
            continue;
        };
        if let Some(end) = opening(tokens, at).map(|opens| end_of_group(tokens, opens)) {
            found.push(Item {
                name: &name.text,
                tokens: &tokens[at..end],
            });
        }
    }
    found
}

/// Functions, fields and variants of the type or trait `of`.
pub(crate) fn members<'t>(tokens: &'t [Token], of: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let defines = ["struct", "enum", "trait"]
            .iter()
            .any(|word| tokens[at].is(word));
        let implements = tokens[at].is("impl") && begins_item(tokens, at);
        let Some(opens) = (defines || implements)
            .then(|| opening(tokens, at))
            .flatten()
        else {
            continue;
        };
        let head = &tokens[at + 1..opens];
        let head = head.rsplit(|token| token.is("for")).next().unwrap_or(head);
        let about = if defines {
            head.first()
        } else {
            head.iter().find(|token| token.is(of))
        };
        if about.is_some_and(|token| token.is(of)) {
            let body = &tokens[opens + 1..end_of_group(tokens, opens) - 1];
            found.extend(named_functions(body));
            found.extend(parts(body).filter(|_| defines));
        }
    }
    found
}

/// Functions with a body or without one, as a trait asks for them.
fn named_functions(tokens: &[Token]) -> impl Iterator<Item = &str> {
    let pairs = tokens.windows(2);
    let named = pairs.filter(|pair| pair[0].is("fn") && pair[1].is_word());
    named.map(|pair| pair[1].text.as_str())
}

/// Names of fields or variants: the first of each that is no attribute and no visibility.
fn parts(body: &[Token]) -> impl Iterator<Item = &str> {
    let (mut found, mut at, mut begins) = (Vec::new(), 0, true);
    while let Some(token) = body.get(at) {
        let group = ["(", "[", "{"].iter().any(|mark| token.is(mark));
        if begins && token.is_word() && !token.is("pub") {
            found.push(token.text.as_str());
            begins = false;
        }
        begins |= token.is(",");
        at = if group {
            end_of_group(body, at)
        } else {
            at + 1
        };
    }
    found.into_iter()
}

/// The brace that opens the body of the item at `at`; none if it ends without one.
fn opening(tokens: &[Token], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text.as_str() {
            "{" => return Some(at),
            ";" => return None,
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
}

/// `impl` also stands in types; as an item it follows the end of another one, or an attribute.
fn begins_item(tokens: &[Token], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    before.is_none_or(|token| {
        ["}", ";", "{", "]", "unsafe"]
            .iter()
            .any(|end| token.is(end))
    })
}

fn follows(tokens: &[Token], at: usize, marks: &[&str]) -> bool {
    let token = tokens.get(at);
    token.is_some_and(|token| marks.iter().any(|mark| token.is(mark)))
}

#[test]
fn types_are_found_at_any_depth_and_associated_ones_are_not() {
    let text = "
        struct A<T>(T); pub(crate) enum B {} type C = u8; trait D { type E; fn f() { struct F; } }
        impl D for A<u8> { type E = u8; fn f() -> impl Fn() { type G = u8; } }
        union H { a: u8 } fn union(union: u8) {}";
    let tokens = crate::lexer::tokens(text);
    assert_eq!(types(&tokens), ["A", "B", "C", "D", "F", "G", "H"]);
}

#[test]
fn a_function_ends_with_its_body() {
    let text =
        "trait A { fn a(); fn b(c: [u8; 2]) -> u8 where u8: B { { 1 } } } fn c(d: fn(u8)) {}";
    let tokens = crate::lexer::tokens(text);
    let found = functions(&tokens);
    let names: Vec<_> = found
        .iter()
        .map(|f| (f.name, f.tokens.last().unwrap().text.as_str()))
        .collect();
    assert_eq!(names, [("b", "}"), ("c", "}")]);
}
