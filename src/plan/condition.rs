//! Conditions of metrics: CEL over `result`. Knows nothing of limits or verdicts.
//!
//! `result` is a number for a PromQL scalar and a list of numbers for a vector. An answer of several series needs a
//! condition that speaks of them all, by a macro such as `all` or `exists` or by `size`; one that only indexes is refused.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Program, Value};

use super::cost::{self, Shape};
use super::measurement::Sample;
use crate::api::status::Assessment;

/// What a condition may call, put together once: that takes longer than to judge an answer.
static FUNCTIONS: LazyLock<Context<'static, 'static>> = LazyLock::new(|| {
    let mut functions = Context::default();
    // Only a name that is taken is refused.
    let _ = functions.add_function("isNaN", |number: f64| number.is_nan());
    let _ = functions.add_function("isInf", |number: f64| number.is_infinite());
    functions
});

/// What a condition says of an answer.
pub type Answer = Result<bool, String>;

/// Conditions whose faults are remembered.
const REMEMBERED: usize = 1_000;

/// The longest condition, as in the definition: what is longer is not read at all, for the reader's own errors break on it.
const LONGEST: usize = 1024;

/// Series of an answer that every condition must be fit for.
const FEW: usize = 10;

/// What is wrong with the conditions that were read last, which is always the same: to read one takes as long as half a
/// plan.
static FAULTS: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());

/// Says what is wrong with a condition, or nothing.
pub fn fault(condition: &str) -> Option<String> {
    if condition.len() > LONGEST {
        return Some(format!("is longer than {LONGEST} characters; shorten it"));
    }
    let mut known = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fault) = known.get(condition) {
        return fault.clone();
    }
    if known.len() >= REMEMBERED {
        known.clear();
    }
    let fault = read(condition);
    known.insert(condition.to_owned(), fault.clone());
    fault
}

fn read(condition: &str) -> Option<String> {
    match Program::compile(condition) {
        Err(error) => Some(format!("is not CEL: {}", one_line(&error.to_string()))),
        Ok(program) => {
            let references = program.references();
            let unknown = references
                .variables()
                .into_iter()
                .find(|name| *name != "result" && !is_bound(program.expression(), name));
            let unknown = unknown.map(|name| format!("names {name}; a condition knows only `result`"));
            unknown.or_else(|| {
                let is_too_much = cost::of(program.expression(), Shape::numbers(FEW)) > cost::MOST;
                is_too_much.then(|| "is too much work for any answer; write fewer macros within each other".to_owned())
            })
        }
    }
}

/// Judges an answer by both conditions, of which at least one is given or the answer is a success.
pub fn assess(sample: &Sample, success: Option<&str>, failure: Option<&str>) -> Result<Assessment, String> {
    let holds = |condition: Option<&str>| condition.map(|condition| evaluate(condition, sample)).transpose();
    Ok(match (holds(success)?, holds(failure)?) {
        (None, None) => Assessment::Success,
        (_, Some(true)) => Assessment::Failure,
        (Some(true), _) => Assessment::Success,
        (Some(false), None) => Assessment::Failure,
        (None, Some(false)) => Assessment::Success,
        (Some(false), Some(false)) => Assessment::Inconclusive,
    })
}

/// Whether a condition holds of an answer.
fn evaluate(condition: &str, sample: &Sample) -> Answer {
    let program = Program::compile(condition).map_err(|error| one_line(&error.to_string()))?;
    let (result, shape, hint) = match sample {
        Sample::Scalar(number) => (Value::Float(*number), Shape::ONE, "result is a number"),
        Sample::Vector(numbers) => {
            if numbers.len() > 1 && !speaks_of_all(program.expression()) {
                return Err(format!(
                    "the query answered {} series, and `{condition}` speaks of one; aggregate in PromQL, or write result.all(x, …)",
                    numbers.len()
                ));
            }
            let list: Vec<Value> = numbers.iter().map(|number| Value::Float(*number)).collect();
            let shape = Shape::numbers(numbers.len());
            (Value::List(list.into()), shape, "result is a list of numbers: write result[0]")
        }
        Sample::Web(answer) => {
            // One value is itself; several, as a path may have, are a list.
            let (value, shape) = match answer.values.as_slice() {
                [one] => (cel::to_value(one), Shape::json(one)),
                several => (cel::to_value(several), Shape::list(several)),
            };
            let value = value.map_err(|error| format!("the answer cannot be read: {error}"))?;
            (value, shape, "result is what jsonPath leads to")
        }
        Sample::Job(_) => return Err("how a Job ended is not for conditions".to_owned()),
        Sample::Counters(_) => return Err("counters are not for conditions".to_owned()),
    };
    if cost::of(program.expression(), shape) > cost::MOST {
        return Err(format!(
            "`{condition}` is too much work over this answer; aggregate in the query, or write fewer macros within each other"
        ));
    }
    let mut context = FUNCTIONS.new_inner_scope();
    context.add_variable_from_value("result", result);
    match program.execute(&context) {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(_) => Err(format!("`{condition}` is neither true nor false")),
        Err(error) => Err(format!("`{condition}` cannot be evaluated: {} ({hint})", one_line(&error.to_string()))),
    }
}

/// Whether an expression has a macro over a list, or asks its size.
fn speaks_of_all(expression: &IdedExpr) -> bool {
    any(expression, &|expression| match expression {
        Expr::Comprehension(_) => true,
        Expr::Call(call) => call.func_name == "size",
        Expr::Unspecified
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => false,
    })
}

/// Whether a macro of the expression binds this name.
fn is_bound(expression: &IdedExpr, name: &str) -> bool {
    any(
        expression,
        &|expression| matches!(expression, Expr::Comprehension(inner) if inner.iter_var == name || inner.accu_var == name),
    )
}

fn any(expression: &IdedExpr, is_it: &impl Fn(&Expr) -> bool) -> bool {
    if is_it(&expression.expr) {
        return true;
    }
    match &expression.expr {
        Expr::Call(call) => {
            call.target.iter().any(|target| any(target, is_it)) || call.args.iter().any(|arg| any(arg, is_it))
        }
        Expr::Comprehension(inner) => {
            [&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result]
                .into_iter()
                .any(|part| any(part, is_it))
        }
        Expr::List(list) => list.elements.iter().any(|element| any(element, is_it)),
        Expr::Select(select) => any(&select.operand, is_it),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => false,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &str, sample: &Sample, want: Result<bool, &str>) {
        match (evaluate(condition, sample), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{condition} of {sample:?}"),
            (Err(got), Err(want)) => {
                assert!(got.contains(want), "{condition} of {sample:?}: {got}")
            }
            (got, want) => panic!("{condition} of {sample:?}: {got:?}, not {want:?}"),
        }
    }

    #[test]
    fn conditions() {
        let vector = |numbers: &[f64]| Sample::Vector(numbers.to_vec());
        check("result[0] >= 0.95", &vector(&[0.99]), Ok(true));
        check("result[0] >= 0.95", &vector(&[0.5]), Ok(false));
        check("result[0] >= 1", &vector(&[1.0]), Ok(true));
        check("result > 10", &Sample::Scalar(11.5), Ok(true));
        check("result[0] >= 0.95", &vector(&[0.99, 0.98]), Err("answered 2 series"));
        check("result.all(x, x >= 0.95)", &vector(&[0.99, 0.98]), Ok(true));
        check("result.exists(x, x < 0.95)", &vector(&[0.99, 0.9]), Ok(true));
        check("size(result) == 2", &vector(&[0.99, 0.9]), Ok(true));
        check("result >= 0.95", &vector(&[0.99]), Err("write result[0]"));
        check("result[0]", &vector(&[0.99]), Err("neither true nor false"));
        check("isInf(result[0])", &vector(&[f64::INFINITY]), Ok(true));
    }

    /// Each would take hours, or all of the memory.
    #[test]
    fn what_would_never_end_is_refused() {
        let few = Sample::Vector(vec![1.0; 10]);
        let many = Sample::Vector(vec![1.0; 30_000]);
        let nested = |depth: usize| {
            let open = (0..depth).map(|at| format!("result.all(x{at}, ")).collect::<Vec<_>>().concat();
            format!("{open}x0 > 0.0{}", ")".repeat(depth))
        };
        check(&nested(1), &many, Ok(true));
        check(&nested(2), &Sample::Vector(vec![1.0; 300]), Ok(true));
        check(&nested(2), &many, Err("too much work"));
        assert_eq!(fault(&nested(3)), None);
        assert!(fault(&nested(12)).is_some_and(|fault| fault.contains("too much work")));
        // Twice as long with each macro, though each sees but one element.
        let doubled = (0..40).map(|at| format!("[a{at}+a{at}].map(a{}, ", at + 1)).collect::<Vec<_>>().concat();
        let doubled = format!("['aa'].map(a0, {doubled}1){}.size() > 0", ")".repeat(40));
        assert!(doubled.len() <= LONGEST, "{}", doubled.len());
        assert!(fault(&doubled).is_some_and(|fault| fault.contains("too much work")), "{:?}", fault(&doubled));
        let literal = format!("[{}]", ["1"; 60].join(","));
        let literals = format!("{literal}.all(a, {literal}.all(b, {literal}.all(c, {literal}.all(d, d > 0))))");
        check(&literals, &few, Err("too much work"));
        check("result.all(x, string(x).matches('((a{99}){99}){99}'))", &few, Err("too much work"));
        check("string(result[0]).matches('^[0-9.]{1,3}$')", &Sample::Vector(vec![1.0]), Ok(true));
        let items: Vec<serde_json::Value> =
            (0..1_000).map(|at| serde_json::json!({"name": format!("check-{at}"), "ok": true})).collect();
        let answer =
            crate::plan::measurement::WebAnswer { status: 200, values: vec![serde_json::json!({"items": items})] };
        let answer = Sample::Web(answer);
        check("result.items.all(i, i.ok && i.name != '')", &answer, Ok(true));
        check("result.items.all(i, result.items.all(j, j.ok))", &answer, Err("too much work"));
    }

    #[test]
    fn faults() {
        assert_eq!(fault("result[0] >= 0.95"), None);
        assert_eq!(fault("result.all(x, x >= 0.95)"), None);
        assert!(fault("result[0] >=").is_some_and(|fault| fault.contains("not CEL")));
        for hostile in ["(", ")", "!", "[", "{", "a.", "\"", "\\", "?", "\n", "é", "x ? ", "result.all(x, "] {
            assert!(fault(&hostile.repeat(LONGEST / hostile.len())).is_some(), "{hostile}");
        }
        assert!(fault(&"(".repeat(100_000)).is_some_and(|fault| fault.contains("longer than")));
        assert!(fault("value > 1").is_some_and(|fault| fault.contains("names value")));
    }
}
