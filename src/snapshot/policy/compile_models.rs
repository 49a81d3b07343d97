//! As-written models -> [`Model`]: every value checked. Sealed values stay sealed: `balance::target` opens them.

use http::HeaderName;

use super::checks::{address, prices, scheme, timeouts, uuid, value};
use super::model::{
    CapParameter, FailoverOn, InputBounds, Model, ModelUpstream, Pair, StreamUsage, Template, Timeouts, Tokenizer,
    UpstreamTls,
};
use super::wire_model as wire;
use crate::snapshot::error::{Part, SnapshotError};

pub(super) fn model(from: wire::Model) -> Result<Model, SnapshotError> {
    let wire::Model {
        n,
        id,
        name,
        features,
        max_output_tokens,
        created_at,
        stream_usage,
        cap_parameter,
        failover_on,
        timeouts: times,
        stream_ping_ms,
        tokenizer,
        template: wire::Template { per_message, per_request },
        input_bounds: wire::InputBounds { image, audio, file },
        cost,
        upstreams,
    } = from;
    let at = Part::Entity("model", n);
    if name.is_empty() || upstreams.is_empty() {
        return Err(value(at, "a model has a name and at least one upstream"));
    }
    if stream_ping_ms == Some(0) {
        return Err(value(at, "stream_ping must be above 0"));
    }
    let wire::Timeouts { connect_ms, first_byte_ms, between_ms, total_ms } = times;
    let upstreams = upstreams.into_iter().map(|one| upstream(at, one)).collect::<Result<_, _>>()?;
    Ok(Model {
        n,
        id: uuid(&id, at)?,
        name: name.into(),
        features: features.into_iter().map(Into::into).collect(),
        max_output_tokens: max_output_tokens.filter(|&cap| cap > 0),
        created_at,
        stream_usage: match stream_usage {
            wire::StreamUsage::Auto => StreamUsage::Auto,
            wire::StreamUsage::Always => StreamUsage::Always,
            wire::StreamUsage::Never => StreamUsage::Never,
        },
        cap_parameter: match cap_parameter {
            wire::CapParameter::Auto => CapParameter::Auto,
            wire::CapParameter::MaxTokens => CapParameter::MaxTokens,
            wire::CapParameter::MaxCompletionTokens => CapParameter::MaxCompletionTokens,
            wire::CapParameter::None => CapParameter::None,
        },
        failover_on: failover(at, failover_on)?,
        timeouts: timeouts(at, Timeouts { connect_ms, first_byte_ms, between_ms, total_ms })?,
        stream_ping_ms,
        tokenizer: self::tokenizer(at, tokenizer)?,
        template: Template { per_message, per_request },
        input_bounds: InputBounds { image, audio, file },
        cost: cost.map(|cost| prices(at, cost)).transpose()?,
        upstreams,
    })
}

fn tokenizer(at: Part, from: wire::Tokenizer) -> Result<Tokenizer, SnapshotError> {
    Ok(match from {
        wire::Tokenizer::O200kBase => Tokenizer::O200kBase,
        wire::Tokenizer::Cl100kBase => Tokenizer::Cl100kBase,
        wire::Tokenizer::Bytes => Tokenizer::Bytes,
        wire::Tokenizer::File(wire::TokenizerFile { name, per_byte }) => {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(value(at, "a tokenizer's file is named by the hash of its content"));
            }
            if per_byte == 0 {
                return Err(value(at, "a byte of text can become at least one token"));
            }
            Tokenizer::File { name: name.into(), per_byte }
        }
    })
}

fn failover(at: Part, from: wire::FailoverOn) -> Result<FailoverOn, SnapshotError> {
    let wire::FailoverOn { connect, mut statuses } = from;
    if statuses.iter().any(|status| !(300..=599).contains(status)) {
        return Err(value(at, "failover_on takes statuses from 300 to 599"));
    }
    statuses.sort_unstable();
    Ok(FailoverOn { connect, statuses: statuses.into() })
}

fn upstream(at: Part, from: wire::ModelUpstream) -> Result<ModelUpstream, SnapshotError> {
    let wire::ModelUpstream {
        number,
        protocol,
        host,
        port,
        path,
        base_query,
        model,
        weight,
        api_key,
        auth,
        headers,
        query,
        tls_verify,
        tls_server_name,
        tls_ca,
        tls_cert,
        tls_key,
    } = from;
    let path = path.trim_end_matches('/');
    address(at, &host, port, (!path.is_empty()).then_some(path))?;
    if model.is_empty() {
        return Err(value(at, "an upstream's model has a name"));
    }
    if base_query.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(value(at, "the query of an upstream must be percent-encoded"));
    }
    let wire::Auth { header, scheme: auth_scheme } = auth;
    let wrong = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_err();
    if wrong(&header) || headers.iter().any(|(name, ..)| wrong(name)) {
        return Err(value(at, "an upstream's headers have names of letters, digits and hyphens"));
    }
    if tls_cert.is_some() != tls_key.is_some() {
        return Err(value(at, "a certificate and its key go together"));
    }
    Ok(ModelUpstream {
        number,
        scheme: scheme(protocol),
        host: host.into(),
        port,
        path: path.into(),
        base_query: base_query.into(),
        model: model.into(),
        weight,
        api_key: api_key.map(Into::into),
        auth_header: header.into(),
        auth_scheme: auth_scheme.into(),
        headers: pairs(headers),
        query: pairs(query),
        tls: UpstreamTls {
            verify: tls_verify,
            server_name: tls_server_name.map(Into::into),
            ca: tls_ca.map(Into::into),
            cert: tls_cert.map(Into::into),
            key: tls_key.map(Into::into),
        },
    })
}

fn pairs(from: Vec<(String, String, bool)>) -> Box<[Pair]> {
    from.into_iter().map(|(name, value, sealed)| Pair { name: name.into(), value: value.into(), sealed }).collect()
}
