//! The echo service: it answers with the request itself, in httpbin's JSON form, so a demo needs no httpbin.
//!
//! In: any request. Out: answers of `/get`, `/post`, `/headers`, `/status/N`, `/bytes/N`, `/delay/S`; 404 for other paths.
//! Forms, files, cookies and redirects are left out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::service::{Answer, Service, json as answer_json};

const MAX_BYTES: usize = 100 * 1024; // httpbin's own bound for /bytes
const MAX_DELAY_S: f64 = 10.0; // and for /delay

/// The echo service.
pub struct Echo;

impl Service for Echo {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> io::Result<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = head.uri.path().to_owned();
        let mut words = path.trim_start_matches('/').splitn(2, '/');
        let (first, rest) = (words.next().unwrap_or(""), words.next());
        match (&head.method, first, rest) {
            (&Method::GET | &Method::HEAD, "get", None) => Ok(echoed(&head, None, peer)),
            (&Method::POST, "post", None) => Ok(echoed(&head, Some(&body), peer)),
            (&Method::GET | &Method::HEAD, "headers", None) => {
                Ok(answer_json(StatusCode::OK, pretty(&json!({"headers": headers(&head)}))))
            }
            (_, "status", Some(code)) => match code.parse().ok().and_then(|c| StatusCode::from_u16(c).ok()) {
                Some(status) if status.as_u16() >= 200 => Ok(answer_json(status, Bytes::new())),
                _ => Ok(refused("the status is a number from 200 to 999")),
            },
            (&Method::GET | &Method::HEAD, "bytes", Some(count)) => match count.parse::<usize>() {
                Ok(count) => Ok(bytes_of(count.min(MAX_BYTES))),
                Err(_) => Ok(refused("the count of bytes is a whole number")),
            },
            (_, "delay", Some(seconds)) => match seconds.parse::<f64>() {
                Ok(seconds) if seconds >= 0.0 => {
                    tokio::time::sleep(Duration::from_secs_f64(seconds.min(MAX_DELAY_S))).await;
                    Ok(echoed(&head, Some(&body), peer))
                }
                _ => Ok(refused("the delay is a number of seconds, at most 10")),
            },
            _ => Ok(answer_json(StatusCode::NOT_FOUND, "{\"message\":\"not found\"}\n")),
        }
    }
}

fn refused(why: &str) -> Answer {
    answer_json(StatusCode::BAD_REQUEST, pretty(&json!({ "message": why })))
}

fn bytes_of(count: usize) -> Answer {
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(count).collect();
    let mut answer = Answer::new(Full::new(Bytes::from(data)).map_err(|never| match never {}).boxed());
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/octet-stream"));
    answer
}

/// httpbin's object; with a body also `data` and `json`.
fn echoed(head: &Parts, body: Option<&[u8]>, peer: SocketAddr) -> Answer {
    let forwarded = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let origin = forwarded("x-forwarded-for").map_or_else(|| peer.ip().to_string(), str::to_owned);
    let host = forwarded("x-forwarded-host").or_else(|| forwarded("host")).unwrap_or("localhost");
    let scheme = forwarded("x-forwarded-proto").unwrap_or("http");
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut object = json!({
        "args": args(head.uri.query().unwrap_or("")),
        "headers": headers(head),
        "method": head.method.as_str(),
        "origin": origin,
        "url": format!("{scheme}://{host}{target}"),
    });
    if let Some(body) = body {
        object["data"] = Value::from(String::from_utf8_lossy(body));
        object["json"] = serde_json::from_slice(body).unwrap_or(Value::Null);
    }
    answer_json(StatusCode::OK, pretty(&object))
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default(); // a Value always has a text
    text.push('\n');
    text
}

/// Names written as httpbin writes them (`X-Request-Id`); repeated headers are joined by a comma.
fn headers(head: &Parts) -> Map<String, Value> {
    let mut map = Map::new();
    for name in head.headers.keys() {
        let values: Vec<_> = head.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        map.insert(title(name.as_str()), Value::from(values.join(",")));
    }
    map
}

fn title(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (head, tail) = word.split_at(word.len().min(1)); // header names are ASCII
        head.to_ascii_uppercase() + tail
    });
    words.collect::<Vec<_>>().join("-")
}

/// The query's arguments; one that is repeated becomes a list.
fn args(query: &str) -> Map<String, Value> {
    let mut map = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = Value::from(decoded(value));
        match map.get_mut(&decoded(name)) {
            None => drop(map.insert(decoded(name), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::from(vec![one.take(), value]),
        }
    }
    map
}

/// Percent-decodes a part of a query; `+` is a space, and a broken escape stays.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_have_httpbins_form() {
        let found = Value::Object(args("a=1&b=x+y%21&a=2&c&d=%zz"));
        assert_eq!(found, json!({"a": ["1", "2"], "b": "x y!", "c": "", "d": "%zz"}));
    }

    #[test]
    fn title_writes_header_names() {
        assert_eq!(title("x-request-id"), "X-Request-Id");
        assert_eq!(title("-x-"), "-X-");
    }
}
