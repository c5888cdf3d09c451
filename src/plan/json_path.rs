//! Where a value is in the JSON of an answer: a path that a tenant writes, over what a server writes. Nothing is looked up that
//! would be too much work.

use jsonpath_rust::JsonPath as _;
use jsonpath_rust::parser::parse_json_path;
use serde_json::Value;

use super::cost;

/// Brackets within brackets, whose reader tries them in several ways each.
const NESTED_MOST: usize = 8;
/// The longest path, as in the definition.
const LONGEST: usize = 1024;

/// What is wrong with a path, or nothing.
pub fn fault(path: &str) -> Option<String> {
    hostile(path).or_else(|| {
        let error = parse_json_path(path).err()?.to_string();
        Some(format!("is no JSONPath: {}", error.lines().last().unwrap_or_default().trim()))
    })
}

/// The values that a path leads to.
pub fn find(path: &str, answer: &Value) -> Result<Vec<Value>, String> {
    if let Some(why) = hostile(path).or_else(|| refusal(path, answer)) {
        return Err(format!("jsonPath {path} {why}"));
    }
    let found = answer.query(path).map_err(|error| format!("jsonPath {path}: {error}"))?;
    Ok(found.into_iter().cloned().collect())
}

/// What is wrong with a path before it is read.
fn hostile(path: &str) -> Option<String> {
    if path.len() > LONGEST {
        return Some(format!("is longer than {LONGEST} characters; shorten it"));
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for one in path.chars() {
        match one {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    (deepest > NESTED_MOST).then(|| format!("has more than {NESTED_MOST} brackets within each other; write fewer"))
}

/// Why a path is not looked up in an answer: each `..`, each filter and each `$` in one looks at all of it again, and each comma
/// finds things twice.
fn refusal(path: &str, answer: &Value) -> Option<String> {
    let size = cost::values(answer);
    let again = path.matches("..").count() + path.matches('?').count() + path.matches('$').count().saturating_sub(1);
    let again = u32::try_from(again.max(1)).unwrap_or(u32::MAX);
    let twice = u32::try_from(path.matches(',').count()).unwrap_or(u32::MAX);
    let mut work = size.saturating_pow(again).saturating_mul(2_u64.saturating_pow(twice));
    if path.contains("match") || path.contains("search") {
        work = work.saturating_mul(cost::states(path)).saturating_mul(cost::COMPILED);
    }
    (work > cost::MOST).then(|| {
        format!(
            "is too much work over an answer of {size} values; write a path with fewer of .. ? and commas, or answer less"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each finds a small answer again and again.
    #[test]
    fn what_would_never_end_is_refused() {
        let nest = serde_json::json!([[[[1]]]]);
        let many = Value::Array(vec![nest; 2_000]);
        for hostile in [
            "$..*..*..*..*..*..*",
            "$[?count($..*) > 1]",
            "$[*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*]",
            "$[?search(@[0][0], '((a{99}){99}){99}')]",
        ] {
            let told = find(hostile, &many);
            assert!(told.as_ref().is_err_and(|error| error.contains("too much work")), "{hostile}: {told:?}");
        }
        let nested = format!("$[?{}@.a{}]", "(".repeat(300), ")".repeat(300));
        assert!(fault(&nested).is_some_and(|error| error.contains("brackets within each other")));
        assert!(fault(&"[".repeat(100_000)).is_some_and(|error| error.contains("longer than")));
        assert_eq!(find("$[*][0][0][0][0]", &many).map(|found| found.len()), Ok(2_000));
        assert_eq!(find("$..[0]", &many).map(|found| found.len()), Ok(8_001));
        let answer = serde_json::json!({"items": [{"name": "a", "ok": true}, {"name": "b", "ok": false}]});
        assert_eq!(find("$.items[?@.ok == false].name", &answer), Ok(vec!["b".into()]));
    }
}
