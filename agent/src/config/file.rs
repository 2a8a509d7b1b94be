//! The file as a walk over its spanned TOML tree: every key is asked for by name, every mistake keeps its line.
//!
//! A [`Section`] answers with the value, or notes an error and answers with the default, so that one walk
//! finds every mistake. What nobody asked for is an unknown key.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::{
    error::{ConfigError, Problem},
    value::{self, Size, Span},
};

/// The text of a file, and what was found in it.
pub(super) struct SourceFile<'a> {
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
    findings: RefCell<Vec<String>>,
}

/// One table of the file, present or not.
pub(super) struct Section<'a> {
    source: &'a SourceFile<'a>,
    table: Option<&'a DeTable<'a>>,
    key: String,
    line: usize,
    asked: RefCell<Vec<&'static str>>,
    missing: Cell<bool>,
}

/// A value, and where it stands.
#[derive(Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) line: usize,
    pub(super) key: String,
}

/// A default, and the bounds within which a file may say something else.
pub(super) struct Bounded<T> {
    pub(super) default: T,
    pub(super) least: T,
    pub(super) most: T,
}

impl<'a> SourceFile<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            errors: RefCell::default(),
            findings: RefCell::default(),
        }
    }

    /// The whole file.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section::new(self, Some(table), String::new(), 1)
    }

    /// Notes an error.
    pub(super) fn error(&self, line: usize, key: String, problem: Problem) {
        self.errors.borrow_mut().push(ConfigError {
            line: Some(line),
            key,
            problem,
        });
    }

    /// Notes what an operator should know.
    pub(super) fn finding(&self, text: String) {
        self.findings.borrow_mut().push(text);
    }

    /// The errors, by line, and the findings. Where the text is `broken`, what the walk missed or saw on
    /// those lines says nothing.
    pub(super) fn finish(self, broken: &[toml::de::Error]) -> (Vec<ConfigError>, Vec<String>) {
        let syntax: Vec<_> = broken.iter().map(|error| self.syntax(error)).collect();
        let mut errors = self.errors.into_inner();
        if !syntax.is_empty() {
            errors.retain(|error| {
                !matches!(error.problem, Problem::Missing { .. })
                    && !syntax.iter().any(|broken| broken.line == error.line)
            });
        }
        errors.extend(syntax);
        errors.sort_by_key(|error| error.line);
        (errors, self.findings.into_inner())
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let text = error.message().replace('\n', ", ");
        ConfigError {
            line: Some(error.span().map_or(1, |span| self.line(span.start))),
            key: String::new(),
            problem: Problem::Syntax(text),
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'a> Section<'a> {
    fn new(
        source: &'a SourceFile<'a>,
        table: Option<&'a DeTable<'a>>,
        key: String,
        line: usize,
    ) -> Self {
        Self {
            source,
            table,
            key,
            line,
            asked: RefCell::default(),
            missing: Cell::new(false),
        }
    }

    /// Where errors and findings go.
    pub(super) fn source(&self) -> &'a SourceFile<'a> {
        self.source
    }

    /// Where it begins, as something that an error can be noted at.
    pub(super) fn here(&self) -> Placed<()> {
        Placed {
            value: (),
            line: self.line,
            key: self.key.clone(),
        }
    }

    /// A table within this one; absent ones answer with defaults.
    pub(super) fn table(&self, name: &'static str) -> Section<'a> {
        match self.lookup(name) {
            Some((DeValue::Table(table), line)) => {
                Self::new(self.source, Some(table), self.path(name), line)
            }
            Some((other, line)) => {
                self.wrong_type(name, line, other, "a table");
                Self::new(self.source, None, self.path(name), line)
            }
            None => Self::new(self.source, None, self.path(name), self.line),
        }
    }

    /// An array of tables; none if it is absent.
    pub(super) fn tables(&self, name: &'static str) -> Vec<Section<'a>> {
        let Some((value, line)) = self.lookup(name) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value else {
            self.wrong_type(name, line, value, "an array of tables, [[…]]");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            let line = self.source.line(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Self::new(self.source, Some(table), self.path(name), line));
                }
                other => self.wrong_type(name, line, other, "a table"),
            }
        }
        sections
    }

    /// An array of texts, each read with `read`; none if it is absent.
    pub(super) fn texts<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<Vec<Placed<T>>> {
        let (value, line) = self.lookup(name)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(name, line, value, "an array of texts, [\"…\"]");
            return Some(Vec::new());
        };
        let read_item = |item: &Spanned<DeValue<'a>>| {
            let line = self.source.line(item.span().start);
            self.read_text(name, line, item.get_ref(), &read)
        };
        Some(items.iter().filter_map(read_item).collect())
    }

    /// A text, read with `read`; none if it is absent or wrong.
    pub(super) fn text<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<Placed<T>> {
        let (value, line) = self.lookup(name)?;
        self.read_text(name, line, value, &read)
    }

    /// The same, where the file must say it; `example` is a line that would do.
    pub(super) fn required<T>(
        &self,
        name: &'static str,
        example: &'static str,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<Placed<T>> {
        if self.lookup(name).is_none() {
            self.missing(name, example);
        }
        self.text(name, read)
    }

    /// Notes that a key without a default is absent; of a table that is absent as a whole, only once.
    pub(super) fn missing(&self, name: &'static str, example: &'static str) {
        if self.table.is_some() {
            let problem = Problem::Missing { example };
            self.source.error(self.line, self.path(name), problem);
        } else if !self.missing.replace(true) {
            let problem = Problem::Missing { example };
            self.source.error(self.line, self.key.clone(), problem);
        }
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &'static str, default: bool) -> Placed<bool> {
        match self.lookup(name) {
            None => self.found(name, self.line, default),
            Some((DeValue::Boolean(flag), line)) => self.found(name, line, *flag),
            Some((other, line)) => {
                self.wrong_type(name, line, other, "true or false");
                self.found(name, line, default)
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, name: &'static str, bounds: Bounded<u32>) -> Placed<u32> {
        let wide = Bounded {
            default: i64::from(bounds.default),
            least: i64::from(bounds.least),
            most: i64::from(bounds.most),
        };
        let found = self.within(name, self.integer(name), wide, i64::to_string);
        let value = u32::try_from(found.value).unwrap_or(bounds.default);
        found.map(|_| value)
    }

    /// A whole number that fits an account's id; none if it is absent or wrong.
    pub(super) fn id(&self, name: &'static str) -> Option<Placed<u32>> {
        let any = Bounded {
            default: -1,
            least: 0,
            most: i64::from(u32::MAX),
        };
        let found = self.within(name, self.integer(name), any, i64::to_string);
        let id = u32::try_from(found.value).ok()?;
        Some(found.map(|_| id))
    }

    /// A number, whole or not; none if it is absent or wrong.
    pub(super) fn number(&self, name: &'static str) -> Option<Placed<f64>> {
        let (value, line) = self.lookup(name)?;
        let number = match value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(name, line, value, "a number");
        }
        number.map(|number| self.found(name, line, number))
    }

    /// A span of time within bounds.
    pub(super) fn span(&self, name: &'static str, bounds: Bounded<Duration>) -> Placed<Duration> {
        let read = self.text(name, value::duration);
        self.within(name, read, bounds, |span| Span(*span).to_string())
    }

    /// A size within bounds.
    pub(super) fn size(&self, name: &'static str, bounds: Bounded<u64>) -> Placed<u64> {
        let read = self.text(name, value::size);
        self.within(name, read, bounds, |size| Size(*size).to_string())
    }

    /// Refuses a key whose feature is not in this version.
    pub(super) fn unbuilt(&self, name: &'static str, feature: &'static str, remedy: &'static str) {
        if let Some((_, line)) = self.lookup(name) {
            let problem = Problem::Unbuilt { feature, remedy };
            self.source.error(line, self.path(name), problem);
        }
    }

    /// Whether the key is there.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.lookup(name).is_some()
    }

    /// The line of a key, if it is there.
    pub(super) fn line_of(&self, name: &'static str) -> Option<usize> {
        self.lookup(name).map(|(_, line)| line)
    }

    /// Whether the key holds an empty array.
    pub(super) fn is_empty_array(&self, name: &'static str) -> bool {
        let value = self.lookup(name).and_then(|(value, _)| value.as_array());
        value.is_some_and(|items| items.is_empty())
    }

    /// Whether the table is there with nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_some_and(DeTable::is_empty)
    }

    /// Reports every key that nobody asked for. Every section ends with this.
    pub(super) fn finish(&self) {
        let Some(table) = self.table else { return };
        let known = self.asked.borrow();
        for (key, _) in table.iter() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let line = self.source.line(key.span().start);
                let problem = Problem::Unknown {
                    known: known.clone(),
                };
                self.source.error(line, self.path(name), problem);
            }
        }
    }

    fn lookup(&self, name: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        if !self.asked.borrow().contains(&name) {
            self.asked.borrow_mut().push(name);
        }
        let mut entries = self.table?.iter();
        let (key, value) = entries.find(|(key, _)| key.get_ref().as_ref() == name)?;
        Some((value.get_ref(), self.source.line(key.span().start)))
    }

    fn integer(&self, name: &'static str) -> Option<Placed<i64>> {
        let (value, line) = self.lookup(name)?;
        let DeValue::Integer(number) = value else {
            self.wrong_type(name, line, value, "a whole number");
            return None;
        };
        // What does not fit is beyond every bound.
        let number = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX);
        Some(self.found(name, line, number))
    }

    fn read_text<T>(
        &self,
        name: &'static str,
        line: usize,
        value: &DeValue<'a>,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<Placed<T>> {
        let DeValue::String(text) = value else {
            self.wrong_type(name, line, value, "a text in quotation marks");
            return None;
        };
        match read(text) {
            Ok(value) => Some(self.found(name, line, value)),
            Err(why) => {
                let found = text.clone().into_owned();
                let why = why.to_owned();
                let problem = Problem::Value { found, why };
                self.source.error(line, self.path(name), problem);
                None
            }
        }
    }

    fn within<T: PartialOrd>(
        &self,
        name: &'static str,
        read: Option<Placed<T>>,
        bounds: Bounded<T>,
        show: impl Fn(&T) -> String,
    ) -> Placed<T> {
        let Some(found) = read else {
            return self.found(name, self.line, bounds.default);
        };
        if found.value >= bounds.least && found.value <= bounds.most {
            return found;
        }
        let problem = Problem::Range {
            found: show(&found.value),
            least: show(&bounds.least),
            most: show(&bounds.most),
        };
        self.source.error(found.line, found.key.clone(), problem);
        found.map(|_| bounds.default)
    }

    fn wrong_type(
        &self,
        name: &'static str,
        line: usize,
        value: &DeValue<'_>,
        expected: &'static str,
    ) {
        let found = value.type_str();
        let problem = Problem::Type { found, expected };
        self.source.error(line, self.path(name), problem);
    }

    fn found<T>(&self, name: &str, line: usize, value: T) -> Placed<T> {
        let key = self.path(name);
        Placed { value, line, key }
    }

    fn path(&self, name: &str) -> String {
        if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.key)
        }
    }
}

impl<T> Placed<T> {
    /// Something else at the same place.
    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> Placed<U> {
        Placed {
            value: into(self.value),
            line: self.line,
            key: self.key,
        }
    }

    /// Notes that what stands here contradicts something else.
    pub(super) fn conflict(
        &self,
        source: &SourceFile<'_>,
        what: impl Display,
        remedy: &'static str,
    ) {
        let what = what.to_string();
        let problem = Problem::Conflict { what, remedy };
        source.error(self.line, self.key.clone(), problem);
    }
}
