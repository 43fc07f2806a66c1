//! Lines of `key = value` in a fixed order: what the stamp and an image's record are made of.

use std::fmt::{Display, Write};
use std::str::FromStr;

/// The text is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextError(pub(crate) String);

/// Writes lines.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) text: String,
}

impl Writer {
    pub(crate) fn line(&mut self, key: &str, value: impl Display) {
        writeln!(self.text, "{key} = {value}").expect("writing to a string cannot fail");
    }

    pub(crate) fn quoted(&mut self, key: &str, value: &str) {
        self.line(key, quote(value));
    }

    pub(crate) fn optional(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.line(key, value),
            None => self.line(key, "none"),
        }
    }
}

/// A value on one line, whatever is in it.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(letter);
            }
            letter if letter.is_control() => quoted.extend(letter.escape_unicode()),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn unquote(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut letters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next()? {
            'u' => {
                let code: String = letters
                    .by_ref()
                    .skip_while(|letter| *letter == '{')
                    .take_while(|letter| *letter != '}')
                    .collect();
                text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
            }
            letter => text.push(letter),
        }
    }
    Some(text)
}

/// Reads the same lines in the same order.
pub(crate) struct Reader<'text> {
    lines: std::str::Lines<'text>,
    number: u32,
}

impl<'text> Reader<'text> {
    pub(crate) fn new(text: &'text str) -> Self {
        Self { lines: text.lines(), number: 0 }
    }

    pub(crate) fn wrong(&self, what: &str) -> TextError {
        TextError(format!("line {}: {what}", self.number))
    }

    pub(crate) fn value(&mut self, key: &str) -> Result<&'text str, TextError> {
        self.number = self.number.saturating_add(1);
        let line = self.lines.next().ok_or_else(|| self.wrong(&format!("{key} is missing")))?;
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = "));
        value.ok_or_else(|| self.wrong(&format!("expected {key}")))
    }

    pub(crate) fn parsed<T: FromStr>(&mut self, key: &str) -> Result<T, TextError> {
        self.value(key)?.parse().map_err(|_| self.wrong(&format!("{key} has no valid value")))
    }

    pub(crate) fn optional<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, TextError> {
        match self.value(key)? {
            "none" => Ok(None),
            value => value.parse().map(Some).map_err(|_| self.wrong(&format!("{key} has no valid value"))),
        }
    }

    pub(crate) fn quoted(&mut self, key: &str) -> Result<String, TextError> {
        let value = self.value(key)?;
        unquote(value).ok_or_else(|| self.wrong(&format!("{key} is not quoted")))
    }

    /// A number of things that follow; above `most` it is damage, not a reason to allocate.
    pub(crate) fn count(&mut self, key: &str, most: usize) -> Result<usize, TextError> {
        let count: usize = self.parsed(key)?;
        if count > most {
            return Err(self.wrong(&format!("{key} is above {most}")));
        }
        Ok(count)
    }

    pub(crate) fn end(&mut self) -> Result<(), TextError> {
        self.number = self.number.saturating_add(1);
        match self.lines.next() {
            None => Ok(()),
            Some(_) => Err(self.wrong("unexpected")),
        }
    }
}
