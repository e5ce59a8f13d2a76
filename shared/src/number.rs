//! Exact decimal numbers, from the vendor's bytes to DynamoDB's `N`: no float on the way.

use std::fmt;

/// The significant digits that a DynamoDB number can hold.
///
/// Source: "Supported data types: Number", Amazon DynamoDB Developer Guide.
pub const MAX_SIGNIFICANT_DIGITS: usize = 38;

/// The powers of ten that a DynamoDB number's first digit can stand for: `1E-130` to `9.9…E+125`.
const MAGNITUDES: std::ops::RangeInclusive<i64> = -130..=125;

/// A decimal number that DynamoDB's `N` holds exactly, in one canonical form: `1.10`, `1.1` and `11e-1` are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(String);

/// Why a number cannot be held by DynamoDB's `N`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It would have to be rounded.
    #[error("has {0} significant digits, more than the {MAX_SIGNIFICANT_DIGITS} that DynamoDB keeps")]
    TooManyDigits(usize),
    /// It is too large or too close to zero.
    #[error("is outside DynamoDB's range of 1E-130 to 9.9E+125")]
    OutOfRange,
    /// It is no decimal number at all.
    #[error("is not a decimal number")]
    Malformed,
}

impl Number {
    /// Reads a decimal number such as `-12.50e+3`.
    ///
    /// # Errors
    /// If `text` is no decimal number, or one that `N` cannot hold without loss.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(NumberError::Malformed);
        }

        let mut digits = String::with_capacity(whole.len() + fraction.len());
        digits.push_str(whole);
        digits.push_str(fraction);
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
        let exponent = exponent.map_or(Some(0), parse_exponent);
        if significant.is_empty() {
            // Zero, whatever its exponent; but `0ex` is still no number.
            return match exponent {
                Some(_) => Ok(Self("0".to_owned())),
                None => Err(NumberError::Malformed),
            };
        }
        let exponent = exponent.ok_or(NumberError::Malformed)?;
        if significant.len() > MAX_SIGNIFICANT_DIGITS {
            return Err(NumberError::TooManyDigits(significant.len()));
        }
        // The power of ten of the last significant digit, then of the first.
        let last = exponent
            .saturating_sub(fraction.len() as i64)
            .saturating_add(trailing_zeros as i64);
        let first = last.saturating_add(significant.len() as i64 - 1);
        if !MAGNITUDES.contains(&first) {
            return Err(NumberError::OutOfRange);
        }
        Ok(Self(canonical(negative, significant, last, first)))
    }

    /// The number in its canonical form, as it is sent to DynamoDB.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many significant digits it has; `0` has one.
    pub fn significant_digits(&self) -> usize {
        let mantissa = self.0.split('E').next().unwrap_or_default();
        let digits = || mantissa.bytes().filter(u8::is_ascii_digit);
        let leading = digits().take_while(|digit| *digit == b'0').count();
        let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
        // In a zero each of them is both.
        (digits().count() - leading).saturating_sub(trailing).max(1)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The exponent's value, held at the ends of `i64` (where any number is out of range); `None` if it is no integer.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Half of the range is left for the digits of the mantissa to be added.
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX).min(i64::MAX / 2);
    Some(if negative { -magnitude } else { magnitude })
}

/// Plain notation where that stays short, scientific notation elsewhere.
fn canonical(negative: bool, digits: &str, last: i64, first: i64) -> String {
    let mut text = String::with_capacity(digits.len() + 8);
    if negative {
        text.push('-');
    }
    match (last, first) {
        (0.., ..=37) => {
            text.push_str(digits);
            text.extend(std::iter::repeat_n('0', last as usize));
        }
        (..0, 0..=37) => {
            let (whole, fraction) = digits.split_at(first as usize + 1);
            text.push_str(whole);
            text.push('.');
            text.push_str(fraction);
        }
        (..0, -10..0) => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', (-first - 1) as usize));
            text.push_str(digits);
        }
        _ => {
            let (lead, rest) = digits.split_at(1);
            text.push_str(lead);
            if !rest.is_empty() {
                text.push('.');
                text.push_str(rest);
            }
            text.push('E');
            text.push_str(&first.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> String {
        Number::parse(text).unwrap().to_string()
    }

    #[test]
    fn the_same_number_written_differently_is_the_same() {
        for (text, canonical) in [
            ("1.10", "1.1"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("100.000", "100"),
            ("-0", "0"),
            ("0e999999999999999999999", "0"),
            ("0.0", "0"),
            ("11e-1", "1.1"),
            ("-0.001200", "-0.0012"),
            ("0.1", "0.1"),
            (
                "12345678901234567890.12345678901234567",
                "12345678901234567890.12345678901234567",
            ),
            ("1e40", "1E40"),
            ("-25e-21", "-2.5E-20"),
            ("1E-130", "1E-130"),
            ("100000000000000000000000000000000000000000000", "1E44"),
            (
                "123456789012345678901234567890123456780000",
                "1.2345678901234567890123456789012345678E41",
            ),
        ] {
            assert_eq!(parsed(text), canonical, "{text}");
        }
    }

    #[test]
    fn what_n_cannot_hold_exactly_is_refused() {
        let digits39 = "123456789012345678901234567890123456789";
        assert_eq!(Number::parse(digits39), Err(NumberError::TooManyDigits(39)));
        assert_eq!(Number::parse("1e126"), Err(NumberError::OutOfRange));
        assert_eq!(Number::parse("9.9e-131"), Err(NumberError::OutOfRange));
        assert_eq!(Number::parse("1e99999999999999999999999"), Err(NumberError::OutOfRange));
        assert_eq!(
            Number::parse("-1e-99999999999999999999999"),
            Err(NumberError::OutOfRange)
        );
        assert!(Number::parse("9.9999999999999999999999999999999999999e125").is_ok());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", ".", "e5", "1e", "1e+", "0x10", "NaN", "1 ", "--1", "1.2.3", "0ex", "१",
        ] {
            assert_eq!(Number::parse(text), Err(NumberError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn significant_digits_are_counted_without_padding() {
        for (text, count) in [("0", 1), ("100", 1), ("-0.0012", 2), ("1.5E50", 2), ("105", 3)] {
            assert_eq!(Number::parse(text).unwrap().significant_digits(), count, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_a_fixed_point(digits in "-?[0-9]{1,20}(\\.[0-9]{1,17})?", exponent in -60i32..60) {
            let number = Number::parse(&format!("{digits}e{exponent}")).unwrap();
            prop_assert_eq!(Number::parse(number.as_str()).unwrap(), number);
        }

        #[test]
        fn moving_the_point_is_no_change(digits in "[1-9][0-9]{0,30}", shift in 1usize..20) {
            let written_out = format!("{digits}{}", "0".repeat(shift));
            let shifted = format!("{digits}e{shift}");
            prop_assert_eq!(Number::parse(&written_out), Number::parse(&shifted));
        }

        #[test]
        fn different_integers_stay_different(a in any::<i128>(), b in any::<i128>()) {
            let (a, b) = (a / 1000, b / 1000);
            prop_assert_eq!(a == b, Number::parse(&a.to_string()) == Number::parse(&b.to_string()));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            let _ = Number::parse(&text);
        }
    }
}
