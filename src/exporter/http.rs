//! One request and its answer: as much of HTTP/1.1 as a probe needs.

/// Longest head of a request, bytes.
pub const MAX_HEAD: usize = 8 << 10;

/// Headers a request may have.
const MAX_HEADERS: usize = 64;

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, without the query.
    pub path: String,
    /// Whether only the head of the answer is wanted.
    pub head_only: bool,
}

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// It is not complete yet.
    More,
    /// A request.
    Asked(Asked),
    /// Something to be answered with this status.
    Refused(Status),
}

/// The answers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 400
    Bad,
    /// 404
    NotFound,
    /// 405
    Method,
    /// 431
    TooLarge,
    /// 503
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Bad => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::Method => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Reads what has come of a request so far.
pub fn parse(bytes: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Head::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Head::Refused(Status::TooLarge);
        }
        Err(_) => return Head::Refused(Status::Bad),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Head::Refused(Status::Method),
    };
    let target = request.path.unwrap_or_default();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Head::Asked(Asked {
        path: path.to_owned(),
        head_only,
    })
}

/// An answer; the connection ends with it.
pub fn answer(status: Status, kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n",
        status.line(),
        body.len()
    );
    if status == Status::Method {
        out.push_str("Allow: GET, HEAD\r\n");
    }
    out.push_str("\r\n");
    if !head_only {
        out.push_str(body);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_read_and_others_refused() {
        let asked = |path: &str, head_only| {
            Head::Asked(Asked {
                path: path.into(),
                head_only,
            })
        };
        for (text, head) in [
            ("", Head::More),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Head::More),
            (
                "GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
                asked("/metrics", false),
            ),
            ("HEAD /healthz HTTP/1.0\r\n\r\n", asked("/healthz", true)),
            ("POST / HTTP/1.1\r\n\r\n", Head::Refused(Status::Method)),
            ("\x16\x03\x01", Head::Refused(Status::Bad)),
            ("GET / HTTP/9\r\n\r\n", Head::Refused(Status::Bad)),
        ] {
            assert_eq!(parse(text.as_bytes()), head, "{text:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        let cut = &long.as_bytes()[..MAX_HEAD];
        assert_eq!(parse(cut), Head::Refused(Status::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(parse(many.as_bytes()), Head::Refused(Status::TooLarge));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
