//! Topic patterns: which routing keys a binding of a topic exchange receives.
//!
//! Keys and patterns are words separated by `.`; the empty text has no words. In a pattern `*` stands for exactly
//! one word, `#` for any number of words, also none; every other word stands for itself.

use std::fmt;

use thiserror::Error;

use crate::name::RoutingKey;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Itself(Box<str>),
    AnyOne,
    AnyMany,
}

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    words: Vec<Word>,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the word {word:?} mixes a wildcard with other characters; * and # stand alone between dots")]
pub struct PatternError {
    /// The word.
    pub word: String,
}

impl Pattern {
    /// The pattern that a binding's key says.
    pub fn parse(key: &RoutingKey) -> Result<Self, PatternError> {
        let words = words(key.as_str()).map(|word| match word {
            "*" => Ok(Word::AnyOne),
            "#" => Ok(Word::AnyMany),
            mixed if mixed.contains(['*', '#']) => Err(PatternError { word: mixed.to_owned() }),
            literal => Ok(Word::Itself(literal.into())),
        });
        Ok(Self { words: words.collect::<Result<_, _>>()? })
    }

    /// Whether the pattern fits a message's key. Takes at most (words of the pattern) × (words of the key) steps:
    /// only the last `#` met is ever reconsidered, since an earlier one could not do better.
    pub fn matches(&self, key: &str) -> bool {
        let mut key = words(key);
        let mut pattern = self.words.iter();
        let mut retry = None;
        loop {
            let fits = match (pattern.next(), key.clone().next()) {
                (None, None) => return true,
                (Some(Word::AnyMany), _) => {
                    retry = Some((pattern.clone(), key.clone()));
                    continue;
                }
                (Some(Word::AnyOne), Some(_)) => true,
                (Some(Word::Itself(wanted)), Some(word)) => **wanted == *word,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if fits {
                key.next();
                continue;
            }
            // Let the last `#` take one word more, and try what follows it again.
            let Some((after_many, taken_up_to)) = &mut retry else {
                return false;
            };
            if taken_up_to.next().is_none() {
                return false;
            }
            pattern = after_many.clone();
            key = taken_up_to.clone();
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.words.iter().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            let word = match word {
                Word::Itself(word) => word,
                Word::AnyOne => "*",
                Word::AnyMany => "#",
            };
            write!(f, "{dot}{word}")?;
        }
        Ok(())
    }
}

/// The words of a key; none if it is empty.
fn words(text: &str) -> std::iter::Skip<std::str::Split<'_, char>> {
    text.split('.').skip(usize::from(text.is_empty()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(&RoutingKey::new(text).unwrap()).unwrap()
    }

    #[test]
    fn the_rules_by_example() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("*", "", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*.c", "a..c", true),
            ("*.*", ".", true),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.z.c.z", true),
            ("a.#.z", "a.b.z.c", false),
            ("#.b.#.c", "b.x.b.c.c", true),
            ("#.*", "", false),
            ("#.*", "x", true),
        ];
        for (text, key, expected) in table {
            assert_eq!(pattern(text).matches(key), expected, "{text} with {key}");
        }
    }

    #[test]
    fn a_mixed_word_is_refused_and_named() {
        let error = Pattern::parse(&RoutingKey::new("sensor.temp*.x").unwrap()).unwrap_err();
        assert_eq!(error.word, "temp*");
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        let hostile = pattern(&["#.a"; 60].join("."));
        let key = format!("{}b", "a.".repeat(120));
        assert!(!hostile.matches(&key));
    }

    /// The definition, exponential and plainly right.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match pattern {
            [] => key.is_empty(),
            ["#", rest @ ..] => (0..=key.len()).any(|taken| naive(rest, &key[taken..])),
            [word, rest @ ..] => {
                key.first().is_some_and(|first| (*word == "*" || word == first) && naive(rest, &key[1..]))
            }
        }
    }

    fn split(text: &str) -> Vec<&str> {
        if text.is_empty() { Vec::new() } else { text.split('.').collect() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn equals_the_definition(
            pattern_words in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "*", "#"]), 0..7),
            key_words in prop::collection::vec(prop::sample::select(vec!["a", "b", ""]), 0..9),
        ) {
            let (pattern_text, key) = (pattern_words.join("."), key_words.join("."));
            let expected = naive(&split(&pattern_text), &split(&key));
            prop_assert_eq!(pattern(&pattern_text).matches(&key), expected, "{} with {}", pattern_text, key);
            prop_assert_eq!(pattern(&pattern_text).to_string(), pattern_text);
        }
    }
}
