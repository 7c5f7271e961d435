//! Only some fields of an object.

use serde_json::{Map, Value};

/// The fields of these paths, `source.pod_name`; what is not there is left out.
pub fn masked(value: &Value, paths: &[&str]) -> Value {
    let mut out = Map::new();
    let Value::Object(fields) = value else {
        return value.clone();
    };
    for (name, field) in fields {
        let mut inner = Vec::new();
        let mut is_whole = false;
        for path in paths {
            match path.split_once('.') {
                Some((head, rest)) if head == name => inner.push(rest),
                None if *path == name => is_whole = true,
                _ => {}
            }
        }
        if is_whole {
            out.insert(name.clone(), field.clone());
        } else if !inner.is_empty() {
            out.insert(name.clone(), masked(field, &inner));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::masked;
    use serde_json::json;

    #[test]
    fn only_fields_that_are_asked_for_are_left() {
        let flow = json!({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": 4});
        assert_eq!(
            masked(&flow, &["a", "b.d", "x.y"]),
            json!({"a": 1, "b": {"d": {"e": 3}}})
        );
        assert_eq!(
            masked(&flow, &["b", "b.c"]),
            json!({"b": {"c": 2, "d": {"e": 3}}})
        );
    }
}
