//! How much work a condition is, told before it is done: tenants write them, servers write the answers, and nothing of it may keep
//! the controller from its passes. What is told is never less than what is done.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use serde_json::Value;

/// The most work, in values that are looked at; a second or so.
pub const MOST: u64 = 10_000_000;
/// Characters that a number has at most when it becomes text.
const NUMBER: u64 = 350;
/// States of a regular expression that the condition puts together.
const PATTERN_UNKNOWN: u64 = 1_000_000;
/// What it takes to read a regular expression, for each of its states.
pub const COMPILED: u64 = 10;
/// What answers with one value, however large its arguments are.
const SCALAR: &[&str] = &[
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "_&&_",
    "_||_",
    "!_",
    "-_",
    "_-_",
    "_*_",
    "_/_",
    "_%_",
    "@in",
    "_in_",
    "in",
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "bool",
    "isNaN",
    "isInf",
    "@not_strictly_false",
];
/// What looks at none of its arguments, but for whether they are true, or numbers.
const LOGICAL: &[&str] = &["_&&_", "_||_", "!_", "_?_:_", "@not_strictly_false", "-_", "_-_", "_*_", "_/_", "_%_"];
/// What looks at no more than the smaller of its arguments.
const COMPARING: &[&str] = &["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"];

/// How large a value is at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its elements, where it is a list or a map; else 1.
    items: u64,
    /// The values within the largest of them.
    each: u64,
    /// The values within all of them.
    total: u64,
}

impl Shape {
    /// One number.
    pub const ONE: Self = Self { items: 1, each: 1, total: 1 };
    const NOTHING: Self = Self { items: 0, each: 0, total: 0 };

    /// So many numbers.
    pub fn numbers(count: usize) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self { items: count, each: 1, total: count }
    }

    /// A value of JSON.
    pub fn json(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::NOTHING.with(items.iter().map(values)),
            Value::Object(fields) => Self::NOTHING.with(fields.values().map(values)),
            Value::String(text) => Self::text(text.len()),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::ONE,
        }
    }

    /// A list of such values.
    pub fn list(items: &[Value]) -> Self {
        Self::NOTHING.with(items.iter().map(values))
    }

    fn text(length: usize) -> Self {
        let length = u64::try_from(length).unwrap_or(u64::MAX).max(1);
        Self { items: length, each: 1, total: length }
    }

    fn with(self, sizes: impl Iterator<Item = u64>) -> Self {
        sizes.fold(self, |shape, size| Self {
            items: shape.items.saturating_add(1),
            each: shape.each.max(size),
            total: shape.total.saturating_add(size),
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            items: self.items.saturating_add(other.items),
            each: self.each.max(other.each),
            total: self.total.saturating_add(other.total),
        }
    }

    fn times(self, count: u64) -> Self {
        Self { items: self.items.saturating_mul(count), each: self.each, total: self.total.saturating_mul(count) }
    }

    /// Any of its elements.
    fn element(self) -> Self {
        Self { items: self.each, each: self.each, total: self.each }
    }
}

/// The values within a value of JSON, and the characters of its texts.
pub fn values(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(values).fold(1, u64::saturating_add),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| values(value).saturating_add(length(key))).fold(1, u64::saturating_add)
        }
        Value::String(text) => length(text).max(1),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// The work of a condition over an answer of this shape.
pub fn of(expression: &IdedExpr, result: Shape) -> u64 {
    let mut bound = vec![("result".to_owned(), result)];
    visit(expression, &mut bound).0
}

/// The work of an expression, and the shape of its value.
fn visit(expression: &IdedExpr, bound: &mut Vec<(String, Shape)>) -> (u64, Shape) {
    match &expression.expr {
        Expr::Unspecified => (1, Shape::ONE),
        Expr::Ident(name) => {
            let known = bound.iter().rev().find(|(known, _)| known == name);
            (1, known.map_or(Shape::ONE, |(_, shape)| *shape))
        }
        Expr::Literal(literal) => (1, of_literal(literal)),
        Expr::Select(select) => {
            let (work, shape) = visit(&select.operand, bound);
            (work.saturating_add(1), shape.element())
        }
        Expr::List(list) => of_all(list.elements.iter(), bound),
        Expr::Map(map) => of_all(map.entries.iter().flat_map(|entry| parts(&entry.expr)), bound),
        Expr::Struct(own) => of_all(own.entries.iter().flat_map(|entry| parts(&entry.expr)), bound),
        Expr::Call(call) => of_call(call, bound),
        Expr::Comprehension(inner) => of_comprehension(inner, bound),
    }
}

fn of_literal(literal: &LiteralValue) -> Shape {
    match literal {
        LiteralValue::String(text) => Shape::text(text.inner().len()),
        LiteralValue::Bytes(bytes) => Shape::text(bytes.inner().len()),
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => Shape::ONE,
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What puts several values together.
fn of_all<'a>(all: impl Iterator<Item = &'a IdedExpr>, bound: &mut Vec<(String, Shape)>) -> (u64, Shape) {
    let mut work = 1_u64;
    let mut sizes = Vec::new();
    for one in all {
        let (own, shape) = visit(one, bound);
        work = work.saturating_add(own).saturating_add(shape.total);
        sizes.push(shape.total.max(1));
    }
    (work, Shape::NOTHING.with(sizes.into_iter()))
}

fn of_call(call: &CallExpr, bound: &mut Vec<(String, Shape)>) -> (u64, Shape) {
    let mut work = 1_u64;
    let mut shapes = Vec::new();
    for argument in call.target.iter().map(|target| &**target).chain(&call.args) {
        let (own, shape) = visit(argument, bound);
        work = work.saturating_add(own);
        shapes.push(shape);
    }
    let name = call.func_name.as_str();
    if ["_[_]", "_[?_]", "_?._"].contains(&name) {
        let whole = shapes.first().copied().unwrap_or(Shape::ONE);
        return (work, whole.element());
    }
    if name == "matches" {
        let text = shapes.first().map_or(1, |shape| shape.total);
        let pattern = call.args.last().map_or(PATTERN_UNKNOWN, of_pattern);
        return (work.saturating_add(pattern.saturating_mul(text.saturating_add(COMPILED))), Shape::ONE);
    }
    let looked_at = shapes.iter().map(|shape| shape.total);
    let looked_at = if LOGICAL.contains(&name) {
        0
    } else if COMPARING.contains(&name) {
        looked_at.min().unwrap_or(0)
    } else {
        looked_at.fold(0, u64::saturating_add)
    };
    let shape = if SCALAR.contains(&name) {
        Shape::ONE
    } else {
        let own = if name == "string" { Shape { items: NUMBER, each: 1, total: NUMBER } } else { Shape::NOTHING };
        shapes.into_iter().fold(own, Shape::and)
    };
    (work.saturating_add(looked_at), shape)
}

/// The states of a regular expression, which each character of a text may meet; a repetition copies what it repeats.
fn of_pattern(pattern: &IdedExpr) -> u64 {
    match &pattern.expr {
        Expr::Literal(LiteralValue::String(text)) => states(text.inner()),
        Expr::Literal(_)
        | Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => PATTERN_UNKNOWN,
    }
}

/// The most states of a regular expression that is written in a text.
pub fn states(pattern: &str) -> u64 {
    let repetitions = u32::try_from(pattern.matches('{').count()).unwrap_or(u32::MAX);
    length(pattern).saturating_add(1).saturating_mul(100_u64.saturating_pow(repetitions))
}

/// A macro: its body once for each element, and what it puts together as often.
fn of_comprehension(inner: &ComprehensionExpr, bound: &mut Vec<(String, Shape)>) -> (u64, Shape) {
    let (range_work, range) = visit(&inner.iter_range, bound);
    let (init_work, init) = visit(&inner.accu_init, bound);
    let depth = bound.len();
    bound.push((inner.iter_var.clone(), range.element()));
    bound.extend(inner.iter_var2.clone().map(|name| (name, range.element())));
    bound.push((inner.accu_var.clone(), Shape::NOTHING));
    let (condition_work, _) = visit(&inner.loop_cond, bound);
    let (step_work, step) = visit(&inner.loop_step, bound);
    bound.truncate(depth);
    let made = init.and(step.times(range.items));
    bound.push((inner.accu_var.clone(), made));
    let (result_work, shape) = visit(&inner.result, bound);
    bound.truncate(depth);
    let body = condition_work.saturating_add(step_work).saturating_add(step.total);
    let all = [range_work, init_work, body.saturating_mul(range.items), result_work];
    (all.into_iter().fold(1, u64::saturating_add), shape)
}
