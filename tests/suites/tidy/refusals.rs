//! Every cause of a 503 is sorted by name: a new one must be looked at wherever causes are told apart.

use crate::{
    lexer::{self, Token},
    offenders::only_listed,
    sources::{Production, end_of_group, production},
};

/// Where several causes may be named together: the one table.
const TABLE: &str = "replica/src/vault/refusal/why.rs";

#[test]
fn no_arm_over_why_stands_for_the_rest() {
    let (mut found, mut matches) = (Vec::new(), 0);
    for file in production() {
        let blocks = blocks(file);
        matches += blocks.len();
        found.extend(blocks.iter().filter(|block| has_rest(block)).map(|block| {
            println!("{}:{}", file.path, block[0].line);
            format!("match {}", file.path)
        }));
        if file.path != TABLE {
            found.extend(sorted(file).map(|_| format!("matches! {}", file.path)));
        }
    }
    assert!(matches > 0, "no match over Why found: has it another name?");
    only_listed(
        found,
        "refusals.txt",
        &format!("a match over Why names every cause, and only {TABLE} sorts several"),
    );
}

/// The arms of every `match` that names causes: inside of the braces.
fn blocks(file: &Production) -> Vec<&[Token]> {
    let tokens = &file.tokens;
    let mut blocks = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].is("match")) {
        let Some(opens) = opening(tokens, at + 1) else {
            continue;
        };
        let arms = &tokens[opens + 1..end_of_group(tokens, opens) - 1];
        let of_why = patterns(arms).iter().any(|pattern| {
            names(pattern, "Why") || names(pattern, "Self") && is_in_impl(tokens, at)
        });
        if of_why {
            blocks.push(arms);
        }
    }
    blocks
}

/// The brace that opens a match's arms.
fn opening(tokens: &[Token], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text.as_str() {
            "{" => return Some(at),
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
}

/// What stands before each `=>` of a match's own arms.
fn patterns(arms: &[Token]) -> Vec<&[Token]> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < arms.len() {
        let begin = at;
        while at < arms.len() && !arms[at].is("=>") {
            let group = ["(", "[", "{"].iter().any(|mark| arms[at].is(mark));
            at = if group {
                end_of_group(arms, at)
            } else {
                at + 1
            };
        }
        found.push(&arms[begin..at]);
        at += 1;
        if arms.get(at).is_some_and(|token| token.is("{")) {
            at = end_of_group(arms, at);
            at += usize::from(arms.get(at).is_some_and(|token| token.is(",")));
            continue;
        }
        while at < arms.len() && !arms[at].is(",") {
            let group = ["(", "[", "{"].iter().any(|mark| arms[at].is(mark));
            at = if group {
                end_of_group(arms, at)
            } else {
                at + 1
            };
        }
        at += 1;
    }
    found
}

fn names(tokens: &[Token], of: &str) -> bool {
    tokens
        .windows(2)
        .any(|pair| pair[0].is(of) && pair[1].is("::"))
}

/// Whether an arm is `_`, or binds everything to a name.
fn has_rest(arms: &[Token]) -> bool {
    patterns(arms).iter().any(|pattern| {
        let guard = pattern.iter().position(|token| token.is("if"));
        let pattern = &pattern[..guard.unwrap_or(pattern.len())];
        let [only] = pattern else {
            return false;
        };
        only.is("_") || only.is_word() && only.text.starts_with(char::is_lowercase)
    })
}

/// Whether the token at `at` stands in an `impl … Why`.
fn is_in_impl(tokens: &[Token], at: usize) -> bool {
    let impls = (0..at).filter(|nr| tokens[*nr].is("impl"));
    impls.into_iter().any(|nr| {
        let opens = opening(tokens, nr);
        opens.is_some_and(|opens| {
            let of_why = opens > 0 && tokens[opens - 1].is("Why");
            of_why && opens < at && at < end_of_group(tokens, opens)
        })
    })
}

/// Every `matches!` over more than one cause.
fn sorted(file: &Production) -> impl Iterator<Item = usize> {
    let tokens = &file.tokens;
    let calls = tokens.windows(3).enumerate();
    let calls =
        calls.filter(|(_, three)| three[0].is("matches") && three[1].is("!") && three[2].is("("));
    let causes = calls.map(|(at, _)| {
        let inside = &tokens[at + 2..end_of_group(tokens, at + 2)];
        let pairs = inside.windows(2);
        let named = pairs.filter(|pair| pair[0].is("Why") && pair[1].is("::"));
        named.count()
    });
    causes.filter(|count| *count > 1)
}

#[test]
fn a_rest_is_seen_whatever_it_is_called() {
    let text = "
        impl Why { fn a(&self) { match self { Self::A => 1, Self::B(_) => { 2 } _ => 3 } } }
        impl Other { fn a(&self) { match self { Self::A => 1, _ => 3 } } }
        fn b(w: Why) { match w { Why::A | Why::B(_) => matches!(w, Why::A | Why::B(_)), rest if x => 4 } }
        fn c(w: Why) { match w { Why::A => match d { 1 => 2, _ => 3 }, Why::B(_) => 5 } }";
    let file = Production {
        of: "replica",
        path: String::new(),
        tokens: lexer::tokens(text),
    };
    let rests: Vec<_> = blocks(&file).into_iter().map(has_rest).collect();
    assert_eq!(rests, [true, true, false]);
    assert_eq!(sorted(&file).collect::<Vec<_>>(), [2]);
}
