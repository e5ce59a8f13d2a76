//! The `Link` header (RFC 8288), as far as paging needs it.

use url::Url;

/// A `Link` header that cannot be read. Taking it for "no further page" could lose the rest of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not of RFC 8288's form.
    #[error("a Link header that is not of the form <url>; rel=\"next\"")]
    Malformed,
    /// The next page's URL is none.
    #[error("a Link header whose rel=\"next\" is not a URL")]
    NotAUrl,
}

/// The URL of the next page, from the values of an answer's `Link` headers; relative ones are resolved against `base`,
/// the URL that was asked.
///
/// # Errors
/// If a header cannot be read.
pub fn next_page<'a>(headers: impl IntoIterator<Item = &'a str>, base: &Url) -> Result<Option<Url>, LinkError> {
    for header in headers {
        let mut rest = header.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let (link, after) = take_link(rest)?;
            if link.is_next {
                return base.join(link.target).map(Some).map_err(|_| LinkError::NotAUrl);
            }
            rest = after.trim_start_matches([' ', '\t', ',']);
        }
    }
    Ok(None)
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// One link-value, and what follows its comma.
fn take_link(text: &str) -> Result<(Link<'_>, &str), LinkError> {
    let (target, mut rest) = text
        .strip_prefix('<')
        .and_then(|text| text.split_once('>'))
        .ok_or(LinkError::Malformed)?;
    let (mut relation, mut has_anchor): (Option<String>, _) = (None, false);
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() || rest.starts_with(',') {
            // A link with an anchor is about something other than the page that was asked for.
            let is_next = !has_anchor && relation.is_some_and(|relation| names_next(&relation));
            return Ok((Link { target, is_next }, rest));
        }
        rest = rest.strip_prefix(';').ok_or(LinkError::Malformed)?;
        rest = rest.trim_start_matches([' ', '\t']);
        let name_ends = rest.find(['=', ';', ',', ' ', '\t']).unwrap_or(rest.len());
        let name = &rest[..name_ends];
        rest = rest[name_ends..].trim_start_matches([' ', '\t']);
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = take_value(after.trim_start_matches([' ', '\t']))?;
        }
        if name.eq_ignore_ascii_case("rel") {
            // Only the first counts, says RFC 8288, section 3.3.
            relation.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            has_anchor = true;
        }
    }
}

/// A parameter's value, a token or a quoted string, and what follows it.
fn take_value(text: &str) -> Result<(String, &str), LinkError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let ends = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        return Ok((text[..ends].to_owned(), &text[ends..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next().ok_or(LinkError::Malformed)?.1),
            _ => value.push(character),
        }
    }
    Err(LinkError::Malformed)
}

/// A relation can be several, apart by spaces, in any case of letters.
fn names_next(relation: &str) -> bool {
    relation
        .split_ascii_whitespace()
        .any(|name| name.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(headers: &[&str]) -> Result<Option<String>, LinkError> {
        let base = Url::parse("https://vendor.test/sales?employeeID=1").unwrap();
        next_page(headers.iter().copied(), &base).map(|url| url.map(Into::into))
    }

    #[test]
    fn the_next_page_is_found_in_every_form_that_the_rfc_allows() {
        let page = Ok(Some("https://vendor.test/sales?employeeID=1&page=2".to_owned()));
        for header in [
            r#"<https://vendor.test/sales?employeeID=1&page=2>; rel="next""#,
            r#"</sales?employeeID=1&page=2>;rel=next"#,
            r#"<?employeeID=1&page=2> ; REL = "prefetch NEXT""#,
            r#"</a>; rel="prev"; title="a, \"b\"; rel=next", </sales?employeeID=1&page=2>; rel="next", </z>; rel=last"#,
            r#", ,</sales?employeeID=1&page=2>; crossorigin; rel=next; rel=prev,"#,
        ] {
            assert_eq!(next(&[header]), page, "{header}");
        }
        assert_eq!(
            next(&[r#"</a>; rel="last""#, r#"</sales?employeeID=1&page=2>; rel="next""#]),
            page
        );
    }

    #[test]
    fn other_links_are_no_next_page() {
        for header in [
            "",
            r#"</a>; rel="last""#,
            "</a>",
            r#"</a>; rel="prev"; rel="next""#,
            r#"</a>; rel="next"; anchor="/elsewhere""#,
            r#"</a>; rel="nextish""#,
            r#"</a>; title="rel=next""#,
        ] {
            assert_eq!(next(&[header]), Ok(None), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_last_page() {
        for header in [
            "/a; rel=next",
            "</a; rel=next",
            r#"</a>; rel="next"#,
            "</a> rel=next",
            "<a>; rel=\"x\\",
        ] {
            assert_eq!(next(&[header]), Err(LinkError::Malformed), "{header}");
        }
        assert_eq!(next(&["<https://[>; rel=next"]), Err(LinkError::NotAUrl));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(header in "[<>;,=\"\\\\ a-z/é]{0,40}") {
            let _ = next(&[&header]);
        }
    }
}
