//! Queries, arguments filled in: whether they are PromQL, and how far they look back.

use jiff::SignedDuration;
use promql_parser::parser::{self, Expr};

/// The longest query that is read, as in the definition.
const QUERY_MOST: usize = 8192;
/// How deep a query may nest; a longer chain of operators is not read either.
const DEPTH_MOST: usize = 64;

/// What the parser says of a function that it does not know, before its name in quotes.
const UNKNOWN: &str = "unknown function with name '";

/// A query, understood.
pub(super) struct Query {
    /// The ranges that it looks back by, the shortest first.
    pub windows: Vec<SignedDuration>,
    /// A function that Prometheus does not have, though other servers may.
    pub unknown: Option<String>,
}

/// Understands a query; none where that would take too long.
pub(super) fn read(query: &str) -> Result<Option<Query>, String> {
    if query.len() > QUERY_MOST || is_too_deep(query) {
        return Ok(None);
    }
    match parser::parse(query) {
        Ok(expression) => {
            let mut windows = Vec::new();
            collect(&expression, &mut windows);
            windows.sort();
            Ok(Some(Query { windows, unknown: None }))
        }
        Err(message) => match message.strip_prefix(UNKNOWN) {
            Some(name) => {
                Ok(Some(Query { windows: Vec::new(), unknown: Some(name.trim_end_matches('\'').to_owned()) }))
            }
            None => Err(message.split_whitespace().collect::<Vec<_>>().join(" ")),
        },
    }
}

/// Whether reading a query would nest too deep: by brackets, or by operators.
fn is_too_deep(query: &str) -> bool {
    let (mut depth, mut deepest, mut operators) = (0_usize, 0_usize, 0_usize);
    for one in query.chars() {
        match one {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '^' => operators += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest > DEPTH_MOST || operators > 16 * DEPTH_MOST
}

fn collect(expression: &Expr, windows: &mut Vec<SignedDuration>) {
    let mut add = |range: std::time::Duration| windows.extend(SignedDuration::try_from(range).ok());
    match expression {
        Expr::MatrixSelector(matrix) => add(matrix.range),
        Expr::Subquery(subquery) => {
            add(subquery.range);
            collect(&subquery.expr, windows);
        }
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|inner| collect(inner, windows));
            collect(&aggregate.expr, windows);
        }
        Expr::Unary(unary) => collect(&unary.expr, windows),
        Expr::Binary(binary) => {
            collect(&binary.lhs, windows);
            collect(&binary.rhs, windows);
        }
        Expr::Paren(paren) => collect(&paren.expr, windows),
        Expr::Call(call) => call.args.args.iter().for_each(|inner| collect(inner, windows)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::VectorSelector(_) | Expr::Extension(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(query: &str) -> Vec<i64> {
        let query = read(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        query.into_iter().flat_map(|query| query.windows).map(|window| window.as_secs()).collect()
    }

    #[test]
    fn windows_are_found_wherever_they_are() {
        assert_eq!(windows("sum(rate(a[5m])) / sum(rate(b{c=\"d\"}[1m]))"), [60, 300]);
        assert_eq!(windows("max_over_time(rate(a[30s])[10m:1m])"), [30, 600]);
        assert_eq!(windows("up == 1"), Vec::<i64>::new());
        assert_eq!(windows("histogram_quantile(0.99, sum by (le) (rate(a_bucket[2m])))"), [120]);
    }

    #[test]
    fn what_is_no_promql_is_refused() {
        for query in ["sum(rate(a[5m])", "rate(a)", "sum(a[5m])", "a{b=}", "a b", "", "{{args.x}}"] {
            assert!(read(query).is_err(), "{query}");
        }
    }

    #[test]
    fn hostile_queries_end() {
        for part in ["(", "-", "1+", "1^", "a[", "{", "sum(", "a and "] {
            let _ = read(&part.repeat(QUERY_MOST / part.len()));
        }
    }
}
