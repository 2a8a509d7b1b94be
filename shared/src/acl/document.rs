//! A policy text as a tree, the same for both notations: blocks and attributes are items with keys.
//!
//! Texts inside are left as written until something asks for them: the primary does not look into what it
//! does not use, and neither may we, or we would refuse what it accepts.

use alloc::{borrow::Cow, string::String, vec::Vec};

use super::{
    error::{PolicyError, Reason},
    hcl, json, literal,
};

/// The most levels of blocks and lists.
pub(super) const MAX_DEPTH: usize = 64;

/// The most labels of a block. The primary reads no more than two, and a JSON text could multiply them.
pub(super) const MAX_KEYS: usize = 16;

/// The most bytes of text. The primary's own storage holds no entry larger.
pub(super) const MAX_SIZE: usize = 1 << 20;

/// A text of acceptable size, told apart by notation.
pub(super) enum Source<'t> {
    /// With plain line ends.
    Hcl(Cow<'t, str>),
    Json(&'t str),
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, PolicyError> {
        if text.len() > MAX_SIZE {
            return Err(Reason::TooLong.at(1));
        }
        if text.trim_start().starts_with('{') {
            return Ok(Self::Json(text));
        }
        Ok(Self::Hcl(match text.contains("\r\n") {
            true => Cow::Owned(text.replace("\r\n", "\n")),
            false => Cow::Borrowed(text),
        }))
    }

    /// Reads the text.
    pub(super) fn items(&self) -> Result<Vec<Item<'_>>, PolicyError> {
        match self {
            Self::Hcl(text) => hcl::parse(text),
            Self::Json(text) => json::parse(text),
        }
    }
}

/// `key = value`, `key "label" { … }`, or a member of a JSON object.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    /// At least one.
    pub(super) keys: Vec<Key<'a>>,
    pub(super) value: Node<'a>,
    pub(super) line: u32,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Node<'a> {
    Object(Vec<Item<'a>>),
    List(Vec<Node<'a>>),
    Scalar(Scalar<'a>),
}

/// A key or label, as written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Bare(&'a str),
    Quoted(Quoted<'a>),
}

/// A value without parts, as written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Integer(&'a str),
    Float(&'a str),
    Quoted(Quoted<'a>),
    Heredoc(&'a str),
    /// JSON's null, which the primary takes for an empty text.
    Null,
}

/// A text between double quotes, as written, without them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a> {
    pub(super) raw: &'a str,
    pub(super) notation: Notation,
}

/// Which rules a quoted text follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notation {
    Hcl,
    Json,
}

impl<'a> Key<'a> {
    pub(super) fn text(&self) -> Result<Cow<'a, str>, Reason> {
        match self {
            Self::Bare(text) => Ok(Cow::Borrowed(text)),
            Self::Quoted(quoted) => literal::unquote(*quoted),
        }
    }
}

impl Scalar<'_> {
    /// What the primary reads where it wants a text: numbers as they are written, but no booleans.
    pub(super) fn text(&self) -> Result<String, Reason> {
        match self {
            Self::Integer(text) => Ok((*text).into()),
            Self::Quoted(quoted) => literal::unquote(*quoted).map(Cow::into_owned),
            Self::Heredoc(text) => literal::heredoc(text),
            Self::Null => Ok(String::new()),
            Self::Bool(_) | Self::Float(_) => Err(Reason::Expected { expected: "a text" }),
        }
    }
}
