//! The usage of each dialect, plain and streamed, as `tests/golden/usage/` has it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aigw_core::price;
use aigw_core::stream::find::Finder;
use aigw_core::stream::gauge::Unbounded;
use aigw_core::stream::sse::{Events, Wish};
use serde::Deserialize;
use serde_json::Value;

/// One dialect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dialect {
    /// The difference from the others, in a sentence.
    about: String,
    /// Tokens by class.
    classes: Classes,
    /// Tokens of images and audio, where there are some.
    #[serde(default)]
    media: Media,
    /// The service tier that the answer names.
    #[serde(default)]
    service_tier: String,
    /// A plain answer.
    plain: Value,
    /// The chunks of a stream.
    events: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Classes {
    input: u64,
    cached_input: u64,
    cache_write_input: u64,
    output: u64,
    reasoning: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names)] // the names of the files
struct Media {
    image_input: u32,
    audio_input: u32,
    image_output: u32,
    audio_output: u32,
}

fn dialects() -> BTreeMap<String, Dialect> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/usage");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: &Path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let dialect: Result<Dialect, _> = serde_json::from_slice(&fs::read(path).unwrap());
        assert!(dialect.is_ok(), "{name}: {:?}", dialect.err());
        (name, dialect.unwrap())
    };
    files.map(|path| read(&path)).collect()
}

fn usage(dialect: &Dialect) -> price::Classes {
    let Classes { input, cached_input, cache_write_input: cache_write, output, reasoning } = dialect.classes;
    let Media { image_input, audio_input, image_output, audio_output } = dialect.media;
    let media = price::Media { image_input, audio_input, image_output, audio_output };
    let service = price::ServiceTier::of_name(&dialect.service_tier);
    price::Classes { input, cached_input, cache_write, output, reasoning, media, service }
}

#[test]
fn each_dialect_has_its_classes_plain_and_streamed() {
    let dialects = dialects();
    assert!(dialects.len() >= 10);
    for (name, dialect) in &dialects {
        assert!(dialect.about.ends_with('.'), "{name}");
        let wanted = Some(usage(dialect));
        let plain = dialect.plain.to_string();
        let stream: String = dialect
            .events
            .iter()
            .flat_map(|chunk| ["data: ".to_owned(), chunk.to_string(), "\n\n".to_owned()])
            .collect();
        for size in [1, 7, plain.len().max(stream.len())] {
            let mut finder = Finder::default();
            plain.as_bytes().chunks(size).for_each(|piece| finder.push(piece));
            assert_eq!((finder.usage(), finder.has_error()), (wanted, false), "{name}, plain, pieces of {size}");
            for strip in [false, true] {
                let mut events = Events::new(if strip { Wish::Strip } else { Wish::Watch }, None);
                for piece in format!("{stream}data: [DONE]\n\n").as_bytes().chunks(size) {
                    events.push(piece, &mut Unbounded);
                }
                assert_eq!((events.usage(), events.has_error()), (wanted, false), "{name}, stream, pieces of {size}");
            }
        }
    }
}

#[test]
fn stream_without_usage_wish_loses_top_level_usage_alone() {
    for (name, dialect) in dialects() {
        let mut events = Events::new(Wish::Strip, None);
        let mut passed = Vec::new();
        for chunk in &dialect.events {
            passed.extend(events.push(format!("data: {chunk}\n\n").as_bytes(), &mut Unbounded).unwrap());
        }
        let passed = String::from_utf8(passed).unwrap();
        let got: Vec<Value> =
            passed.split_terminator("\n\n").map(|event| serde_json::from_str(&event[6..]).unwrap()).collect();
        let mut wanted = dialect.events;
        // A chunk with nothing else: no choices, and of the other members none that a reader of the answer wants.
        wanted
            .retain(|chunk| chunk["choices"] != serde_json::json!([]) || chunk.get("usage").is_none_or(Value::is_null));
        for chunk in &mut wanted {
            chunk.as_object_mut().unwrap().remove("usage");
        }
        assert_eq!(got, wanted, "{name}");
    }
}
