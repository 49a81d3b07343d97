//! The values that cross to the server's objects and back: a request's head out of its scope, answers into its protocol.
//!
//! Attribute names are interned once; strings are copied once. Every list of headers handed to the server is built here.

use aigw_core::request::{Answer, BodyLength, Head, Header, Headers, Surface};
use aigw_core::units::RequestId;
use aigw_io::upstream::AnswerHead;
use http::Method;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Interned names of the server's attributes and methods.
pub(crate) struct Names {
    method: Py<PyString>,
    path: Py<PyString>,
    query_string: Py<PyString>,
    headers: Py<PyString>,
    items: Py<PyString>,
    client: Py<PyString>,
    http_version: Py<PyString>,
    authority: Py<PyString>,
    response_bytes: Py<PyString>,
    response_empty: Py<PyString>,
    response_stream: Py<PyString>,
    pub(crate) send_bytes: Py<PyString>,
    pub(crate) add_done_callback: Py<PyString>,
    pub(crate) result: Py<PyString>,
    pub(crate) client_disconnect: Py<PyString>,
    pub(crate) aiter: Py<PyString>,
    pub(crate) anext: Py<PyString>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

impl Names {
    pub(crate) fn get(py: Python<'_>) -> &'static Self {
        NAMES.get_or_init(py, || {
            let name = |text| PyString::intern(py, text).unbind();
            Self {
                method: name("method"),
                path: name("path"),
                query_string: name("query_string"),
                headers: name("headers"),
                items: name("items"),
                client: name("client"),
                http_version: name("http_version"),
                authority: name("authority"),
                response_bytes: name("response_bytes"),
                response_empty: name("response_empty"),
                response_stream: name("response_stream"),
                send_bytes: name("send_bytes"),
                add_done_callback: name("add_done_callback"),
                result: name("result"),
                client_disconnect: name("client_disconnect"),
                aiter: name("__aiter__"),
                anext: name("__anext__"),
            }
        })
    }
}

/// Header names as Python strings, made once: interning a name for each answer costs a dictionary's insert and delete.
static HEADER_NAMES: Mutex<Option<HashMap<Box<str>, Py<PyString>>>> = Mutex::new(None);
/// More names than this come from an upstream and are not kept.
const MAX_NAMES: usize = 256;

/// A header's name as a Python string.
fn name_of<'py>(py: Python<'py>, name: &str) -> Bound<'py, PyString> {
    let mut names = HEADER_NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_with(HashMap::new);
    if let Some(known) = names.get(name) {
        return known.bind(py).clone();
    }
    let made = PyString::new(py, name);
    if names.len() < MAX_NAMES {
        names.insert(name.into(), made.clone().unbind());
    }
    made
}

thread_local! {
    /// The gateway's own headers as they were last sent, by name. Eleven of the fifteen headers of a 429 repeat the answer
    /// before: without this a 429 costs 1.6 us (4 %) more (docs/decisions/008-written-by-hand.md).
    /// The list has a few dozen names, each at one address: a look through it costs a third of a hash.
    static LAST: RefCell<Vec<Sent>> = RefCell::default();
}

struct Sent {
    name: &'static str,
    key: Py<PyString>,
    /// The value of `pair`.
    value: String,
    /// `None` while no value was short enough.
    pair: Option<Py<PyTuple>>,
}

/// A longer value belongs to one request, and never repeats.
const MAX_REPEATED: usize = 24;

/// Append headers of the gateway's own.
fn append_own(py: Python<'_>, list: &Bound<'_, PyList>, own: &[Header]) -> PyResult<()> {
    LAST.with_borrow_mut(|last| {
        for (name, value) in own {
            let known = last.iter().position(|sent| std::ptr::eq(sent.name, *name));
            let at = known.unwrap_or_else(|| {
                last.push(Sent { name, key: name_of(py, name).unbind(), value: String::new(), pair: None });
                last.len() - 1
            });
            let sent = &mut last[at];
            if let Some(pair) = &sent.pair
                && sent.value == **value
            {
                list.append(pair.bind(py))?;
                continue;
            }
            let pair = PyTuple::new(py, [sent.key.bind(py), &PyString::new(py, value)])?;
            list.append(&pair)?;
            if value.len() <= MAX_REPEATED {
                sent.value.clear();
                sent.value.push_str(value);
                sent.pair = Some(pair.unbind());
            }
        }
        Ok(())
    })
}

/// Reads a request's head from the server's scope. `tls`: the listener speaks TLS. Raises the errors of the scope.
pub(crate) fn read_head(py: Python<'_>, scope: &Bound<'_, PyAny>, id: RequestId, tls: bool) -> PyResult<Head> {
    let names = Names::get(py);
    let items = scope.getattr(names.headers.bind(py))?.call_method0(names.items.bind(py))?;
    let items = items.cast_into::<PyList>()?;
    let mut headers = Headers::with_capacity(items.len());
    for item in items.iter() {
        let pair = item.cast_into::<PyTuple>()?;
        let name = pair.get_borrowed_item(0)?;
        let value = pair.get_borrowed_item(1)?;
        headers.push(name.cast::<PyString>()?.to_str()?, value.cast::<PyString>()?.to_str()?);
    }
    let method = scope.getattr(names.method.bind(py))?;
    let method = method.cast::<PyString>()?.to_str()?;
    let with_host = headers.get("host").is_some();
    Ok(Head {
        arrived: Instant::now(),
        id,
        request_id: id.to_string(),
        // The server parsed it as a token already; a method that it refuses cannot come here.
        method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::TRACE),
        path: scope.getattr(names.path.bind(py))?.extract()?,
        query: scope.getattr(names.query_string.bind(py))?.extract()?,
        headers,
        length: BodyLength::None,
        surface: Surface::Kong,
        peer: scope.getattr(names.client.bind(py))?.cast::<PyString>()?.to_str()?.parse().ok(),
        tls,
        // Only a request without a Host asks: every later version must have one.
        http10: !with_host && scope.getattr(names.http_version.bind(py))?.cast::<PyString>()?.to_str()? == "1",
        closes: false,
        passes: 0,
        authority: scope.getattr(names.authority.bind(py))?.extract()?,
    })
}

/// Sends an answer that the gateway made. `keep`: the header of a connection that stays open.
pub(crate) fn send_own(py: Python<'_>, proto: &Py<PyAny>, answer: &Answer, keep: Option<&Header>) -> PyResult<()> {
    let headers = PyList::empty(py);
    append_own(py, &headers, &answer.headers)?;
    if answer.close {
        append_own(py, &headers, &[("connection", Cow::Borrowed("close"))])?;
    } else if let Some(keep) = keep {
        append_own(py, &headers, std::slice::from_ref(keep))?;
    }
    let body = PyBytes::new(py, &answer.body);
    proto.bind(py).call_method1(Names::get(py).response_bytes.bind(py), (answer.status, headers, body))?;
    Ok(())
}

/// The header list of an upstream's answer, with the gateway's own added.
fn header_list<'py>(py: Python<'py>, head: &AnswerHead, keep: Option<&Header>) -> PyResult<Bound<'py, PyList>> {
    let (headers, own) = (&head.headers, &head.own);
    let list = PyList::empty(py);
    for (name, value) in headers {
        // A value that is not visible ASCII cannot cross the server's interface. The gateway's own headers replace the
        // upstream's.
        let said = name.as_str().starts_with(['x', 'r', 'v']) && own.iter().any(|(own, _)| *own == name.as_str());
        if !said && let Ok(value) = value.to_str() {
            list.append((name_of(py, name.as_str()), value))?;
        }
    }
    append_own(py, &list, own)?;
    // `connection: close` of a worker that drains is the last of its own headers.
    if let Some(keep) = keep.filter(|_| own.last().is_none_or(|(name, _)| *name != "connection")) {
        append_own(py, &list, std::slice::from_ref(keep))?;
    }
    Ok(list)
}

/// Passes a whole answer of an upstream on.
pub(crate) fn send_whole(
    py: Python<'_>,
    proto: &Py<PyAny>,
    head: &AnswerHead,
    body: &[u8],
    keep: Option<&Header>,
) -> PyResult<()> {
    let list = header_list(py, head, keep)?;
    let (names, status) = (Names::get(py), head.status.as_u16());
    if body.is_empty() {
        proto.bind(py).call_method1(names.response_empty.bind(py), (status, list))?;
    } else {
        proto.bind(py).call_method1(names.response_bytes.bind(py), (status, list, PyBytes::new(py, body)))?;
    }
    Ok(())
}

/// Passes the head of an answer on, whose body follows in pieces; returns the server's transport.
pub(crate) fn send_head(
    py: Python<'_>,
    proto: &Py<PyAny>,
    head: &AnswerHead,
    keep: Option<&Header>,
) -> PyResult<Py<PyAny>> {
    let list = header_list(py, head, keep)?;
    let status = head.status.as_u16();
    Ok(proto.bind(py).call_method1(Names::get(py).response_stream.bind(py), (status, list))?.unbind())
}

/// Pass a piece on. False when the client is gone.
pub(crate) fn send_piece(py: Python<'_>, transport: &Py<PyAny>, piece: &[u8]) -> PyResult<bool> {
    static GONE: PyOnceLock<Py<pyo3::types::PyType>> = PyOnceLock::new();
    let sent = transport.bind(py).call_method1(Names::get(py).send_bytes.bind(py), (PyBytes::new(py, piece),))?;
    // The server answers with a finished awaitable; its type shows whether the piece was accepted.
    let kind = sent.get_type();
    if let Some(gone) = GONE.get(py) {
        return Ok(!kind.is(gone.bind(py)));
    }
    if kind.name()?.to_str()? == "PyErrAwaitable" {
        let _ = GONE.set(py, kind.unbind());
        return Ok(false);
    }
    Ok(true)
}
