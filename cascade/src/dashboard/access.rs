//! Who may see the page.
//!
//! On loopback everybody on this machine may, as with the embedded cloud; but no page of somebody else's that the same browser has
//! open: neither by asking across origins, nor by a name of theirs that they make lead here (DNS rebinding). Elsewhere a token is
//! needed, which whoever starts the server is told once.

use std::fmt;
use std::net::IpAddr;

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use subtle::ConstantTimeEq;
use uuid::Uuid;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The name of the token in the page's address.
const PARAMETER: &str = "token";

/// A secret in the page's address. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one, of 244 random bits.
    pub fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The page's address with the token in it.
    pub(super) fn address(&self, url: &str) -> String {
        format!("{url}?{PARAMETER}={}", self.0)
    }

    /// Whether `other` is this token, in a time that does not tell how much of it is.
    fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whom the server lets in.
#[derive(Clone, Debug)]
pub enum Access {
    /// This machine.
    Loopback,
    /// Whoever has the token.
    Token(Token),
}

/// Somebody is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// A cookie to be set, so that the token need not stay in the address.
    pub(super) cookie: Option<String>,
}

/// Somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request names another host than this machine.
    OtherHost,
    /// Another site's page asks.
    OtherOrigin,
    /// The token is missing or wrong.
    NoToken,
}

impl Refusal {
    /// How it is answered.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::OtherHost | Self::OtherOrigin => StatusCode::FORBIDDEN,
            Self::NoToken => StatusCode::UNAUTHORIZED,
        }
    }

    /// What is said about it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::OtherHost => {
                "This page answers under this machine's own names only: open it as http://127.0.0.1 or http://localhost, with its port.\n"
            }
            Self::OtherOrigin => "This page does not answer other sites' pages.\n",
            Self::NoToken => {
                "This page needs its token: open the address that cascade printed when it started, or start it anew for another one.\n"
            }
        }
    }
}

impl Access {
    /// What is to be asked of those who come to `address`: on loopback nothing, elsewhere a new token.
    pub fn of(address: IpAddr) -> Self {
        if address.is_loopback() {
            Self::Loopback
        } else {
            Self::Token(Token::random())
        }
    }

    /// Decides about a request to the server on `port`.
    ///
    /// # Errors
    /// If it is to be refused.
    pub(super) fn judge(&self, request: &Parts, port: u16) -> Result<Admitted, Refusal> {
        let host = host(request).ok_or(Refusal::OtherHost)?;
        if !is_same_origin(&request.headers, host, is_navigation(request)) {
            return Err(Refusal::OtherOrigin);
        }
        let token = match self {
            Self::Loopback if is_loopback(host) => return Ok(Admitted { cookie: None }),
            Self::Loopback => return Err(Refusal::OtherHost),
            Self::Token(token) => token,
        };
        // A host's ports share their cookies.
        let name = format!("cascade_dashboard_{port}");
        if cookies(&request.headers).any(|(found, value)| found == name && token.is(value)) {
            return Ok(Admitted { cookie: None });
        }
        let query = request.uri.query().unwrap_or_default();
        let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut told = parameters.filter(|(name, _)| *name == PARAMETER);
        match told.any(|(_, value)| token.is(value)) {
            true => Ok(Admitted {
                cookie: Some(format!("{name}={}; HttpOnly; SameSite=Strict; Path=/", token.0)),
            }),
            false => Err(Refusal::NoToken),
        }
    }
}

/// The host that a request names, with its port.
fn host(request: &Parts) -> Option<&str> {
    let named = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri.authority().map(|authority| authority.as_str()))
}

/// Whether a host's name, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether somebody goes to the page itself, by typing its address or by following a link.
fn is_navigation(request: &Parts) -> bool {
    request.uri.path() == "/" && text(&request.headers, &FETCH_MODE) == Some("navigate")
}

/// Whether a request comes from the page itself, or from no page. Browsers say where one comes from by `Sec-Fetch-Site`, and
/// the older of them by `Origin`; what is no browser says neither.
fn is_same_origin(headers: &HeaderMap, host: &str, is_navigation: bool) -> bool {
    let origin_fits = match headers.get(ORIGIN) {
        None => true,
        Some(origin) => {
            let named = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            named.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
    };
    let site_fits = match text(headers, &FETCH_SITE) {
        None | Some("same-origin" | "none") => true,
        Some(_) => is_navigation,
    };
    origin_fits && site_fits
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    all.flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const PORT: u16 = 8702;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn judged(access: &Access, uri: &str, headers: &[(&str, &str)]) -> Result<Admitted, Refusal> {
        access.judge(&request(uri, headers), PORT)
    }

    const IN: Result<Admitted, Refusal> = Ok(Admitted { cookie: None });

    #[test]
    fn on_loopback_this_machines_names_are_let_in_whatever_the_port() {
        for host in [
            "127.0.0.1:8702",
            "localhost:9000",
            "LOCALHOST",
            "[::1]:8702",
            "127.0.0.2",
            "[::1]",
        ] {
            assert_eq!(judged(&Access::Loopback, "/", &[("host", host)]), IN, "{host}");
        }
    }

    #[test]
    fn on_loopback_a_name_that_somebody_made_lead_here_is_refused() {
        for host in [
            "rebound.example:8702",
            "127.0.0.1.example",
            "localhost.example",
            "10.0.0.1",
            "[::2]",
            "[localhost",
            "",
            "localhost@example",
        ] {
            assert_eq!(
                judged(&Access::Loopback, "/events", &[("host", host)]),
                Err(Refusal::OtherHost),
                "{host}"
            );
        }
        assert_eq!(judged(&Access::Loopback, "/", &[]), Err(Refusal::OtherHost));
    }

    #[test]
    fn another_sites_page_gets_nothing_but_may_link_here() {
        let host = ("host", "localhost:8702");
        for other in [
            ("origin", "https://example.com"),
            ("origin", "null"),
            ("origin", "http://localhost:8703"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(
                judged(&Access::Loopback, "/events", &[host, other]),
                Err(Refusal::OtherOrigin),
                "{other:?}"
            );
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(judged(&Access::Loopback, "/", &link), IN);
        assert_eq!(
            judged(&Access::Loopback, "/snapshot.json", &link),
            Err(Refusal::OtherOrigin)
        );
        let own = [
            host,
            ("origin", "http://localhost:8702"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(judged(&Access::Loopback, "/events", &own), IN);
    }

    #[test]
    fn the_token_is_taken_from_the_address_once_and_then_from_a_cookie() {
        let token = Token::random();
        let access = Access::Token(token.clone());
        let host = ("host", "cascade.example:8702");
        assert_eq!(judged(&access, "/", &[host]), Err(Refusal::NoToken));
        let first = judged(&access, &token.address("/"), &[host]).unwrap();
        let cookie = first.cookie.unwrap();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/");
        assert_eq!(judged(&access, "/events", &[host, ("cookie", pair)]), IN);
        let among_others = format!("a=b; {pair}; c=d");
        assert_eq!(judged(&access, "/events", &[host, ("cookie", &among_others)]), IN);
    }

    #[test]
    fn a_wrong_token_or_the_cookie_of_another_port_is_refused() {
        let token = Token::random();
        let access = Access::Token(token.clone());
        let host = ("host", "cascade.example");
        let other = format!("cascade_dashboard_8703={}", token.0);
        assert_eq!(judged(&access, "/", &[host, ("cookie", &other)]), Err(Refusal::NoToken));
        let short = &token.0[..token.0.len() - 1];
        for query in [
            "/?token=".to_owned(),
            format!("/?token={short}"),
            format!("/?tokens={}", token.0),
        ] {
            assert_eq!(judged(&access, &query, &[host]), Err(Refusal::NoToken), "{query}");
        }
        // What lets somebody in does not let another site's page in.
        let pair = format!("cascade_dashboard_{PORT}={}", token.0);
        let foreign = [host, ("cookie", &pair), ("origin", "https://example.com")];
        assert_eq!(judged(&access, "/events", &foreign), Err(Refusal::OtherOrigin));
    }

    #[test]
    fn a_token_is_long_differs_and_does_not_show_itself() {
        let (one, other) = (Token::random(), Token::random());
        assert_eq!(one.0.len(), 64);
        assert!(!one.is(&other.0) && one.is(&one.0.clone()));
        assert!(!format!("{:?}", Access::Token(one.clone())).contains(&one.0));
    }

    #[test]
    fn elsewhere_than_on_loopback_there_is_a_token() {
        for (address, needs) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("10.0.0.1", true),
        ] {
            let access = Access::of(address.parse().unwrap());
            assert_eq!(matches!(access, Access::Token(_)), needs, "{address}");
        }
    }
}
