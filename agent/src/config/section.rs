//! The file as a walk over its spanned TOML tree: every key is asked for by name, every mistake keeps its line.
//!
//! A [`Section`] answers with the value, or notes an error and answers with the default, so that one walk
//! finds every mistake. What nobody asked for is an unknown key.

use std::{
    cell::{Cell, RefCell},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use shared::span::{self, Span};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use crate::config::{
    error::{ConfigError, Problem},
    value::{self, Size},
};

/// The text of a file, and what was found in it.
pub(super) struct SourceFile<'a> {
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
    findings: RefCell<Vec<String>>,
}

/// One table of the file, present or not.
pub(super) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    here: Spot<'a>,
    asked: RefCell<Vec<&'static str>>,
    missing: Cell<bool>,
}

/// Where something stands in the file. An error about it is noted there.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    source: &'a SourceFile<'a>,
    pub(super) line: usize,
    key: String,
}

/// A key's name.
type Key = &'static str;

/// Reads a text, or says why it is wrong and what would do.
type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// A struct whose fields are read by their own names, one on a line: `key: reader(default, bounds)`. What follows a
/// semicolon is taken as it stands.
macro_rules! keys {
    ($section:expr => $($table:ident)::+ {
        $($key:ident: $reader:ident($($how:expr),*)),* $(,)? $(; $($given:tt)*)?
    }) => {
        $($table)::+ {
            $($key: $section.$reader(stringify!($key), $($how),*),)*
            $($($given)*)?
        }
    };
}

/// The struct of a table and how it is read, one key on a line: `key: type = reader(default, bounds)`.
macro_rules! table {
    ($(#[$about:meta])* $table:ident {
        $($(#[$meaning:meta])* $key:ident: $type:ty = $reader:ident($($how:expr),*)),* $(,)?
    }) => {
        $(#[$about])*
        pub struct $table {
            $($(#[$meaning])* pub $key: $type,)*
        }

        impl $table {
            pub(in crate::config) fn read(section: &Section<'_>) -> Self {
                keys! { section => Self { $($key: $reader($($how),*)),* } }
            }
        }
    };
}
pub(super) use {keys, table};

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
        let (source, line, key) = (self, 1, String::new());
        Section::new(Some(table), Spot { source, line, key })
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
        ConfigError {
            line: Some(error.span().map_or(1, |span| self.line(span.start))),
            key: String::new(),
            problem: Problem::Syntax(error.message().replace('\n', ", ")),
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'a> Spot<'a> {
    /// Notes an error.
    pub(super) fn error(&self, problem: Problem) {
        self.source.errors.borrow_mut().push(ConfigError {
            line: Some(self.line),
            key: self.key.clone(),
            problem,
        });
    }

    /// Notes that what stands here contradicts something else.
    pub(super) fn conflict(&self, what: String, remedy: &'static str) {
        self.error(Problem::Conflict { what, remedy });
    }

    /// Notes that what stands here asks for a feature that is not in this version.
    pub(super) fn unbuilt(&self, feature: &'static str, remedy: &'static str) {
        self.error(Problem::Unbuilt { feature, remedy });
    }

    /// The same key, further on in the text.
    fn at(&self, start: usize) -> Self {
        Self {
            line: self.source.line(start),
            ..self.clone()
        }
    }

    fn wrong_type<T>(&self, value: &DeValue<'_>, expected: &'static str) -> Option<T> {
        let found = value.type_str();
        self.error(Problem::Type { found, expected });
        None
    }

    fn table(self, value: &'a DeValue<'a>) -> Section<'a> {
        let table = match value {
            DeValue::Table(table) => Some(table),
            other => self.wrong_type(other, "a table"),
        };
        Section::new(table, self)
    }

    fn text<T>(&self, value: &DeValue<'_>, parse: Parse<T>) -> Option<T> {
        let DeValue::String(text) = value else {
            return self.wrong_type(value, "a text in quotation marks");
        };
        let wrong = |why| {
            let found = text.to_string();
            self.error(Problem::Value { found, why });
        };
        parse(text).map_err(wrong).ok()
    }

    fn flag(&self, value: &DeValue<'_>) -> Option<bool> {
        match value {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.wrong_type(other, "true or false"),
        }
    }

    fn integer(&self, value: &DeValue<'_>) -> Option<i64> {
        let DeValue::Integer(number) = value else {
            return self.wrong_type(value, "a whole number");
        };
        // What does not fit is beyond every bound.
        Some(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
    }

    fn share(&self, value: &DeValue<'_>) -> Option<f64> {
        let number: Option<f64> = match value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.or_else(|| self.wrong_type(value, "a number"))?;
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        let (found, why) = (
            number.to_string(),
            "is not a share; give a number from 0 to 1",
        );
        self.error(Problem::Value { found, why });
        None
    }
}

impl<'a> Section<'a> {
    fn new(table: Option<&'a DeTable<'a>>, here: Spot<'a>) -> Self {
        let (asked, missing) = Default::default();
        Self {
            table,
            here,
            asked,
            missing,
        }
    }

    /// Where it begins.
    pub(super) fn here(&self) -> &Spot<'a> {
        &self.here
    }

    /// Where a key stands; where it is absent, the beginning of the table.
    pub(super) fn at(&self, key: Key) -> Spot<'a> {
        self.lookup(key).1
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: Key) -> bool {
        self.lookup(key).0.is_some()
    }

    /// Whether the table is there with nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_some_and(DeTable::is_empty)
    }

    /// Whether there is nothing at a key, or an empty array.
    pub(super) fn is_empty_at(&self, key: Key) -> bool {
        match self.lookup(key).0 {
            Some(value) => value.as_array().is_some_and(|items| items.is_empty()),
            None => true,
        }
    }

    /// Notes what an operator should know.
    pub(super) fn finding(&self, text: String) {
        self.here.source.findings.borrow_mut().push(text);
    }

    /// A table within this one; absent ones answer with defaults.
    pub(super) fn table(&self, key: Key) -> Section<'a> {
        match self.lookup(key) {
            (Some(value), spot) => spot.table(value),
            (None, spot) => Self::new(None, spot),
        }
    }

    /// An array of tables; none if it is absent.
    pub(super) fn tables(&self, key: Key) -> Vec<Section<'a>> {
        let items = self
            .items(key, "an array of tables, [[…]]")
            .unwrap_or_default();
        let tables = items.into_iter().map(|(item, spot)| spot.table(item));
        tables.filter(|section| section.table.is_some()).collect()
    }

    /// An array of texts with their places; none if it is absent.
    pub(super) fn texts<T>(&self, key: Key, parse: Parse<T>) -> Option<Vec<(T, Spot<'a>)>> {
        let items = self.items(key, "an array of texts, [\"…\"]")?;
        let texts = items
            .into_iter()
            .filter_map(|(item, spot)| Some((spot.text(item, parse)?, spot)));
        Some(texts.collect())
    }

    /// An array of texts; empty if it is absent, without those that are wrong.
    pub(super) fn list<T>(&self, key: Key, parse: Parse<T>) -> Vec<T> {
        let texts = self.texts(key, parse).unwrap_or_default();
        texts.into_iter().map(|(text, _)| text).collect()
    }

    /// A text; none if it is absent or wrong.
    pub(super) fn text<T>(&self, key: Key, parse: Parse<T>) -> Option<T> {
        self.read(key, |spot, value| spot.text(value, parse))
    }

    /// A text with a default.
    pub(super) fn text_or<T>(&self, key: Key, default: T, parse: Parse<T>) -> T {
        self.text(key, parse).unwrap_or(default)
    }

    /// A text that the file must give; `example` would do.
    pub(super) fn required<T>(&self, key: Key, example: Key, parse: Parse<T>) -> Option<T> {
        if !self.has(key) {
            self.missing(key, format!("{key} = {example:?}"));
        }
        self.text(key, parse)
    }

    /// A path that the file must give; empty where it does not.
    pub(super) fn file(&self, key: Key, example: Key) -> PathBuf {
        self.required(key, example, value::path).unwrap_or_default()
    }

    /// The path of a socket that the file must give; empty where it does not.
    pub(super) fn socket(&self, key: Key, example: Key) -> PathBuf {
        self.required(key, example, value::socket)
            .unwrap_or_default()
    }

    /// Notes that a key without a default is absent; of a table that is absent as a whole, only once.
    pub(super) fn missing(&self, key: Key, example: impl Into<String>) {
        let example = example.into();
        if self.table.is_some() {
            let key = self.path(key);
            let spot = Spot {
                key,
                ..self.here.clone()
            };
            spot.error(Problem::Missing { example });
        } else if !self.missing.replace(true) {
            self.here.error(Problem::Missing { example });
        }
    }

    /// A boolean.
    pub(super) fn flag(&self, key: Key, default: bool) -> bool {
        self.read(key, Spot::flag).unwrap_or(default)
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, key: Key, default: u32, bounds: RangeInclusive<u32>) -> u32 {
        let wide = i64::from(*bounds.start())..=i64::from(*bounds.end());
        let found = self.within(key, Spot::integer, wide, i64::to_string);
        found
            .and_then(|number| number.try_into().ok())
            .unwrap_or(default)
    }

    /// A whole number that fits an account's id; none if it is absent or wrong.
    pub(super) fn id(&self, key: Key) -> Option<u32> {
        let found = self.within(key, Spot::integer, 0..=u32::MAX.into(), i64::to_string);
        found.and_then(|number| number.try_into().ok())
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self, key: Key, default: f64) -> f64 {
        self.read(key, Spot::share).unwrap_or(default)
    }

    /// A span of time within bounds.
    pub(super) fn span(
        &self,
        key: Key,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let read = |spot: &Spot<'_>, value: &DeValue<'_>| spot.text(value, span::parse);
        let show = |span: &Duration| Span(*span).to_string();
        self.within(key, read, bounds, show).unwrap_or(default)
    }

    /// A size within bounds.
    pub(super) fn size(&self, key: Key, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let read = |spot: &Spot<'_>, value: &DeValue<'_>| spot.text(value, value::size);
        let show = |size: &u64| Size(*size).to_string();
        self.within(key, read, bounds, show).unwrap_or(default)
    }

    /// Refuses a key whose feature is not in this version.
    pub(super) fn unbuilt(&self, key: Key, feature: &'static str, remedy: &'static str) {
        if let (Some(_), spot) = self.lookup(key) {
            spot.unbuilt(feature, remedy);
        }
    }

    /// What was read, once every key that nobody asked for is noted. Every section ends with this.
    pub(super) fn finish<T>(&self, read: T) -> T {
        let known = self.asked.borrow();
        for (key, _) in self.entries() {
            if !known.contains(&key.get_ref().as_ref()) {
                let known = known.clone();
                let spot = self.spot(key);
                spot.error(Problem::Unknown { known });
            }
        }
        read
    }

    /// What stands at a key, and where.
    fn lookup(&self, key: Key) -> (Option<&'a DeValue<'a>>, Spot<'a>) {
        if !self.asked.borrow().contains(&key) {
            self.asked.borrow_mut().push(key);
        }
        match self
            .entries()
            .find(|(name, _)| name.get_ref().as_ref() == key)
        {
            Some((name, value)) => (Some(value.get_ref()), self.spot(name)),
            None => {
                let key = self.path(key);
                (
                    None,
                    Spot {
                        key,
                        ..self.here.clone()
                    },
                )
            }
        }
    }

    fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.table.into_iter().flat_map(DeTable::iter)
    }

    /// What `read` makes of a key's value; none if it is absent or wrong.
    fn read<T>(&self, key: Key, read: impl Fn(&Spot<'a>, &DeValue<'a>) -> Option<T>) -> Option<T> {
        let (value, spot) = self.lookup(key);
        read(&spot, value?)
    }

    /// The same of a number, within bounds.
    fn within<T: PartialOrd>(
        &self,
        key: Key,
        read: impl Fn(&Spot<'a>, &DeValue<'a>) -> Option<T>,
        bounds: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let found = self.read(key, read)?;
        if bounds.contains(&found) {
            return Some(found);
        }
        let [found, least, most] = [&found, bounds.start(), bounds.end()].map(show);
        self.at(key).error(Problem::Range { found, least, most });
        None
    }

    /// What is in the array at a key; none if it is absent.
    fn items(&self, key: Key, expected: &'static str) -> Option<Vec<(&'a DeValue<'a>, Spot<'a>)>> {
        let (value, spot) = self.lookup(key);
        let items = match value? {
            DeValue::Array(items) => items.iter(),
            other => return spot.wrong_type(other, expected),
        };
        let at = |item: &Spanned<_>| spot.at(item.span().start);
        Some(items.map(|item| (item.get_ref(), at(item))).collect())
    }

    fn spot(&self, name: &Spanned<DeString<'a>>) -> Spot<'a> {
        let key = self.path(name.get_ref());
        Spot {
            key,
            ..self.here.at(name.span().start)
        }
    }

    fn path(&self, key: &str) -> String {
        match self.here.key.as_str() {
            "" => key.to_owned(),
            table => format!("{table}.{key}"),
        }
    }
}
