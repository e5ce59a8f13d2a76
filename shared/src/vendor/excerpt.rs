//! What the vendor said, as far as a log line, an error or an entry tells it: without the API key, and cut.

use super::client::ApiKey;

/// Makes excerpts of what the vendor said, none of which holds the API key.
#[derive(Clone, Debug, Default)]
pub struct Excerpts {
    api_key: Option<ApiKey>,
}

impl Excerpts {
    /// Excerpts without this key.
    pub fn new(api_key: Option<ApiKey>) -> Self {
        Self { api_key }
    }

    /// The first `window` bytes of what was said, as text without the key, and without what may be the beginning of one
    /// where it was cut.
    pub fn of(&self, said: &[u8], window: usize) -> String {
        let text = String::from_utf8_lossy(&said[..said.len().min(window)]);
        let Some(key) = &self.api_key else {
            return text.into_owned();
        };
        let mut text = key.redact(&text);
        if said.len() > window {
            let longest = key.forms().iter().map(String::len).max().unwrap_or_default();
            let sound = text.len().saturating_sub(longest);
            cut(&mut text, sound);
        }
        text
    }
}

/// Cuts a text to so many bytes, or some less: never within a character.
pub(crate) fn cut(text: &mut String, most_bytes: usize) {
    text.truncate(text.floor_char_boundary(most_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpts(key: &str) -> Excerpts {
        Excerpts::new(ApiKey::new(key.to_owned()))
    }

    #[test]
    fn an_excerpt_holds_neither_the_key_nor_a_part_of_one_that_was_cut() {
        let key = "s3cret/\"key\"";
        let said = format!("{}{key} and {}", "é".repeat(20), "x".repeat(40));
        for window in 0..=said.len() {
            let excerpt = excerpts(key).of(said.as_bytes(), window);
            for part in ["s3", "cret", "key\""] {
                assert!(!excerpt.contains(part), "{window}: {excerpt}");
            }
        }
        let whole = excerpts(key).of(said.as_bytes(), said.len());
        assert_eq!(whole, said.replace(key, "[API_KEY]"));
        assert!(
            excerpts(key)
                .of(br#"{"a": "s3cret\/\"key\""}"#, 100)
                .contains("[API_KEY]")
        );
    }

    #[test]
    fn without_a_key_an_excerpt_is_the_beginning_and_what_is_no_text_is_replaced() {
        assert_eq!(Excerpts::default().of(b"abcdef", 3), "abc");
        assert_eq!(Excerpts::default().of(b"a\xffb", 3), "a\u{fffd}b");
        let mut text = "aé".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
        cut(&mut text, 9);
        assert_eq!(text, "a");
    }
}
