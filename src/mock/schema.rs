//! A value that a JSON Schema accepts, for answers with `response_format` and for the arguments of tool calls.
//!
//! In: a schema of the kind that structured outputs allow. Out: one value, always the same one. An object gets its required
//! members only, an array one item where it may have one. `pattern`, `not`, `if` and `uniqueItems` are not read. A schema that
//! refers to itself ends at the first place where it may end; one that cannot end gets a null there.

use serde_json::{Map, Number, Value};

/// The most values of one instance: a schema of a few lines can describe billions.
const MAX_VALUES: u32 = 10_000;
/// The deepest nesting, below the 128 levels that JSON readers take.
const MAX_DEPTH: usize = 64;

/// A value that `schema` accepts.
pub fn instance(schema: &Value) -> Value {
    Builder { root: schema, open: Vec::new(), left: MAX_VALUES, depth: 0 }.value(schema)
}

struct Builder<'a> {
    root: &'a Value,
    /// References that are being followed, to notice a schema that refers to itself.
    open: Vec<&'a str>,
    left: u32,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn value(&mut self, schema: &'a Value) -> Value {
        if self.left == 0 || self.depth >= MAX_DEPTH {
            return Value::Null;
        }
        self.left -= 1;
        self.depth += 1;
        let value = self.unbounded(schema);
        self.depth -= 1;
        value
    }

    fn unbounded(&mut self, schema: &'a Value) -> Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.referred(reference);
        }
        if let Some(only) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
            return only.clone();
        }
        if let Some(one) = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(word)?.as_array()) {
            return self.one_of(one);
        }
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            return self.all_of(schema, all);
        }
        match kind(schema) {
            "object" => Value::Object(self.object(schema)),
            "array" => self.array(schema),
            "string" => Value::from(text(schema)),
            "integer" => Value::from(number(schema, true)),
            "number" => Value::from(number(schema, false)),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    /// Whether the walk is inside a schema that refers to itself, and takes the shortest way out.
    fn again(&self) -> bool {
        self.open.last().is_some_and(|last| self.open.iter().filter(|one| *one == last).count() > 1)
    }

    fn referred(&mut self, reference: &'a str) -> Value {
        let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else {
            return Value::Null;
        };
        self.open.push(reference);
        let value = self.value(target);
        self.open.pop();
        value
    }

    /// The first alternative that is not null; null, where it is one, inside a schema that refers to itself.
    fn one_of(&mut self, alternatives: &'a [Value]) -> Value {
        let is_null = |one: &&Value| one.get("type").and_then(Value::as_str) == Some("null");
        let null = alternatives.iter().find(is_null);
        if null.is_some() && !self.open.is_empty() && self.repeats(alternatives) {
            return Value::Null;
        }
        let ends = alternatives.iter().find(|one| !is_null(one) && !self.leads_back(one));
        let first = ends.or_else(|| alternatives.iter().find(|one| !is_null(one))).or(null);
        first.map_or(Value::Null, |one| self.value(one))
    }

    fn repeats(&self, alternatives: &[Value]) -> bool {
        alternatives.iter().any(|one| self.leads_back(one))
    }

    /// Whether a schema is a reference that is being followed.
    fn leads_back(&self, schema: &Value) -> bool {
        schema.get("$ref").and_then(Value::as_str).is_some_and(|reference| self.open.contains(&reference))
    }

    /// The members of all parts together; for parts that are not objects, the value of the first one.
    fn all_of(&mut self, schema: &'a Value, parts: &'a [Value]) -> Value {
        let mut members = self.object(schema);
        for part in parts {
            match self.value(part) {
                Value::Object(more) => members.extend(more),
                other => return other,
            }
        }
        Value::Object(members)
    }

    fn object(&mut self, schema: &'a Value) -> Map<String, Value> {
        static ANY: Value = Value::Null;
        let required = schema.get("required").and_then(Value::as_array);
        let mut members = Map::new();
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            let member = schema.get("properties").and_then(|all| all.get(name)).unwrap_or(&ANY);
            members.insert(name.to_owned(), self.value(member));
        }
        members
    }

    fn array(&mut self, schema: &'a Value) -> Value {
        let size = |word: &str| schema.get(word).and_then(Value::as_u64);
        let prefix = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let items = schema.get("items").filter(|items| items.is_object());
        let least = size("minItems").unwrap_or(0);
        let usual = u64::from(items.is_some_and(|items| !self.again() && !self.leads_back(items)));
        let count = usual.max(least).max(prefix.len() as u64).min(size("maxItems").unwrap_or(u64::MAX)).min(1_000);
        let mut list = Vec::new();
        for place in 0..usize::try_from(count).unwrap_or(0) {
            match prefix.get(place).or(items) {
                Some(item) => list.push(self.value(item)),
                None => list.push(Value::from("token")),
            }
        }
        Value::Array(list)
    }
}

/// The type: the first one listed that is not null, or the one that the other words suggest.
fn kind(schema: &Value) -> &str {
    let suggested = || {
        let has = |word: &str| schema.get(word).is_some();
        if has("properties") || has("required") {
            "object"
        } else if has("items") || has("prefixItems") {
            "array"
        } else if has("minimum") || has("maximum") || has("multipleOf") {
            "number"
        } else {
            "string"
        }
    };
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ => suggested(),
    }
}

/// A text of the schema's format and length.
fn text(schema: &Value) -> String {
    let size = |word: &str| schema.get(word).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let known = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("duration") => "PT1S",
        Some("email") => "token@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("uri" | "url") => "https://example.com/",
        _ => {
            let least = size("minLength").unwrap_or(0).min(65_536);
            let most = size("maxLength").unwrap_or(usize::MAX);
            return "token ".chars().cycle().take(least.max(5).min(most)).collect();
        }
    };
    known.to_owned()
}

/// A number within the schema's bounds: 1 or 0.5 or the step where it fits, else the one next to a bound.
fn number(schema: &Value, whole: bool) -> Number {
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let (least, above) = (bound("minimum"), bound("exclusiveMinimum"));
    let (most, below) = (bound("maximum"), bound("exclusiveMaximum"));
    let step = bound("multipleOf").filter(|step| *step > 0.0).or(whole.then_some(1.0));
    let usual = step.unwrap_or(0.5);
    let fits = least.is_none_or(|least| usual >= least)
        && above.is_none_or(|above| usual > above)
        && most.is_none_or(|most| usual <= most)
        && below.is_none_or(|below| usual < below);
    let value = match (step, least.or(above), most.or(below)) {
        _ if fits => usual,
        (Some(step), Some(low), _) if least.is_some() => (low / step).ceil() * step,
        (Some(step), Some(low), _) => ((low / step).floor() + 1.0) * step,
        (Some(step), None, Some(high)) if most.is_some() => (high / step).floor() * step,
        (Some(step), None, Some(high)) => ((high / step).ceil() - 1.0) * step,
        (None, Some(low), Some(high)) => f64::midpoint(low, high),
        (None, Some(low), None) => low + 0.5,
        (None, None, Some(high)) => high - 0.5,
        (_, None, None) => usual,
    };
    #[allow(clippy::cast_possible_truncation)] // bounds beyond an i64 saturate
    if whole { Number::from(value as i64) } else { Number::from_f64(value).unwrap_or_else(|| Number::from(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instance_has_required_members_by_type() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"}, "age": {"type": "integer"}, "score": {"type": "number"},
                "ok": {"type": "boolean"}, "none": {"type": "null"}, "unit": {"enum": ["celsius", "kelvin"]},
                "kind": {"const": "weather"}, "maybe": {"type": ["null", "string"]}, "optional": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            },
            "required": ["name", "age", "score", "ok", "none", "unit", "kind", "maybe", "tags", "place"],
            "additionalProperties": false,
        });
        let wanted = json!({
            "name": "token", "age": 1, "score": 0.5, "ok": true, "none": null, "unit": "celsius", "kind": "weather",
            "maybe": "token", "tags": ["token"], "place": {"lat": 0.5},
        });
        assert_eq!(instance(&schema), wanted);
    }

    #[test]
    fn instance_follows_references() {
        let schema = json!({
            "$defs": {"Step": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
            "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}, "minItems": 2}},
            "required": ["steps"],
        });
        assert_eq!(instance(&schema), json!({"steps": [{"text": "token"}, {"text": "token"}]}));
    }

    #[test]
    fn instance_ends_where_a_schema_refers_to_itself() {
        let list = json!({
            "$defs": {"Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name", "next", "children"],
            }},
            "$ref": "#/$defs/Node",
        });
        assert_eq!(instance(&list), json!({"name": "token", "next": null, "children": []}));
        let root = json!({"type": "object", "properties": {"self": {"type": "array", "items": {"$ref": "#"}}}, "required": ["self"]});
        let found = instance(&root);
        assert_eq!(found["self"][0]["self"], json!([]), "{found}");
    }

    #[test]
    fn instance_is_bounded() {
        let endless = json!({"$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}, "$ref": "#/$defs/A"});
        assert!(instance(&endless).is_object());
        let mut defs = Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/L{}", level + 1)});
            let one = json!({"type": "object", "properties": {"a": next, "b": next}, "required": ["a", "b"]});
            defs.insert(format!("L{level}"), one);
        }
        let many = json!({"$defs": defs, "$ref": "#/$defs/L0"});
        assert!(instance(&many).to_string().len() < 1_000_000);
    }

    #[test]
    fn instance_keeps_bounds() {
        for (schema, wanted) in [
            (
                json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64}),
                json!(1),
            ),
            (json!({"type": "integer", "minimum": 18}), json!(18)),
            (json!({"type": "integer", "exclusiveMinimum": 18}), json!(19)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "integer", "exclusiveMaximum": 0}), json!(-1)),
            (json!({"type": "integer", "minimum": 11, "multipleOf": 5}), json!(15)),
            (json!({"type": "number", "minimum": 0, "maximum": 1}), json!(0.5)),
            (json!({"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 0.25}), json!(0.125)),
            (json!({"type": "string", "minLength": 8}), json!("token to")),
            (json!({"type": "string", "maxLength": 2}), json!("to")),
            (json!({"type": "string", "format": "date"}), json!("2026-01-01")),
            (json!({"type": "array", "items": {"type": "integer"}, "maxItems": 0}), json!([])),
            (
                json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}]}),
                json!(["token", true]),
            ),
            (
                json!({"allOf": [{"required": ["a"]}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}]}),
                json!({"a": "token", "b": 1}),
            ),
            (json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), json!(1)),
            (json!({}), json!("token")),
            (json!(true), json!("token")),
        ] {
            assert_eq!(instance(&schema), wanted, "{schema}");
        }
    }
}
