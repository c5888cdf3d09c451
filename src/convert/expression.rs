//! Conditions of Argo Rollouts (the language of expr-lang) to Serin's (CEL): what is exactly translatable, and nothing else.
//!
//! Serin judges an answer only when it has data, so that `result[0]` exists; what speaks of another series is refused.

/// A condition in CEL, or why there is none.
pub(super) fn to_cel(condition: &str) -> Result<String, String> {
    parse(condition).map(|expression| expression.text)
}

/// What a condition says of NaN, and of an answer without any series; nothing where it fails, or where an argument decides.
pub(super) fn without_data(condition: &str) -> [Option<bool>; 2] {
    let seen = parse(condition).map(|expression| expression.seen).unwrap_or_default();
    seen.map(|worth| match worth {
        Some(Worth::Truth(truth)) => Some(truth),
        Some(Worth::Number(_)) | None => None,
    })
}

fn parse(condition: &str) -> Result<Expression, String> {
    let tokens = tokens(condition)?;
    let mut parser = Parser { tokens, at: 0, in_closure: false };
    let expression = parser.ternary()?;
    if let Some(token) = parser.peek() {
        return Err(format!("`{token}` is not understood"));
    }
    if expression.kind != Kind::Truth {
        return Err("it is neither true nor false".to_owned());
    }
    Ok(expression)
}

/// What an expression comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Worth {
    Truth(bool),
    Number(f64),
}

/// What an expression comes to of NaN, and of no series at all.
type Seen = [Option<Worth>; 2];

fn join(left: Seen, right: Seen, worth: impl Fn(Option<Worth>, Option<Worth>) -> Option<Worth>) -> Seen {
    let [of_nan, of_nothing] = left;
    let [right_of_nan, right_of_nothing] = right;
    [worth(of_nan, right_of_nan), worth(of_nothing, right_of_nothing)]
}

fn truth(worth: Option<Worth>) -> Option<bool> {
    match worth {
        Some(Worth::Truth(truth)) => Some(truth),
        Some(Worth::Number(_)) | None => None,
    }
}

fn negated(seen: Seen) -> Seen {
    seen.map(|worth| truth(worth).map(|truth| Worth::Truth(!truth)))
}

/// A comparison; NaN compares with nothing, whatever the other side is.
fn compared(left: Option<Worth>, operator: &str, right: Option<Worth>) -> Option<Worth> {
    let is_nan = |worth: Option<Worth>| matches!(worth, Some(Worth::Number(number)) if number.is_nan());
    if is_nan(left) || is_nan(right) {
        return Some(Worth::Truth(operator == "!="));
    }
    let order = match (left?, right?) {
        (Worth::Number(left), Worth::Number(right)) => left.partial_cmp(&right)?,
        (Worth::Truth(left), Worth::Truth(right)) => left.cmp(&right),
        (Worth::Number(_), Worth::Truth(_)) | (Worth::Truth(_), Worth::Number(_)) => return None,
    };
    Some(Worth::Truth(match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        ">=" => order.is_ge(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_lt(),
    }))
}

fn calculated(left: Option<Worth>, operator: &str, right: Option<Worth>) -> Option<Worth> {
    let number = |worth: Option<Worth>| match worth {
        Some(Worth::Number(number)) => Some(number),
        Some(Worth::Truth(_)) | None => None,
    };
    let (left, right) = (number(left)?, number(right)?);
    Some(Worth::Number(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ => left / right,
    }))
}

/// What an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Truth,
    /// A floating-point number.
    Real,
    /// A whole number that CEL counts with as such.
    Whole,
    /// A number as written, which may be either.
    Literal,
    /// An argument that is filled in later.
    Argument,
    List,
    /// `result` by itself: a number for a scalar, a list for a vector.
    Answer,
}

struct Expression {
    text: String,
    kind: Kind,
    /// How tightly it binds; an operand that binds less is put in parentheses.
    binds: u8,
    seen: Seen,
}

impl Expression {
    fn atom(text: String, kind: Kind, seen: Seen) -> Self {
        Self { text, kind, binds: 9, seen }
    }

    fn within(&self, binds: u8) -> String {
        if self.binds < binds { format!("({})", self.text) } else { self.text.clone() }
    }

    fn is_number(&self) -> bool {
        match self.kind {
            Kind::Real | Kind::Whole | Kind::Literal | Kind::Argument | Kind::Answer => true,
            Kind::Truth | Kind::List => false,
        }
    }

    /// The same as a floating-point number.
    fn real(&self, binds: u8) -> String {
        match self.kind {
            Kind::Literal if !self.text.contains(['.', 'e']) => format!("{}.0", self.text),
            Kind::Whole | Kind::Argument => format!("double({})", self.text),
            Kind::Truth | Kind::Real | Kind::Literal | Kind::List | Kind::Answer => self.within(binds),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    const PAIRS: [&str; 9] = ["&&", "||", "==", "!=", ">=", "<=", "**", "..", "??"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("{{") {
            rest.find("}}").ok_or("an argument is not closed")? + 2
        } else if first.is_ascii_digit() {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_');
            rest.find(end).unwrap_or(rest.len())
        } else if first.is_alphabetic() || first == '_' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if PAIRS.iter().any(|pair| rest.starts_with(pair)) {
            2
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = tail.trim_start();
    }
    Ok(tokens)
}

/// The deepest that parentheses may be nested.
const DEEPEST: usize = 64;

struct Parser {
    tokens: Vec<String>,
    at: usize,
    in_closure: bool,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self, wanted: &[&str]) -> Option<String> {
        let token = self.tokens.get(self.at).filter(|token| wanted.contains(&token.as_str()))?.clone();
        self.at += 1;
        Some(token)
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        self.take(&[wanted]).map(|_| ()).ok_or_else(|| format!("`{wanted}` is missing"))
    }

    fn ternary(&mut self) -> Result<Expression, String> {
        if self.tokens.iter().take(self.at).filter(|token| *token == "(").count() > DEEPEST {
            return Err("it is nested too deeply".to_owned());
        }
        let condition = self.or()?;
        if self.take(&["?"]).is_none() {
            return Ok(condition);
        }
        let yes = self.ternary()?;
        self.expect(":")?;
        let no = self.ternary()?;
        if condition.kind != Kind::Truth || yes.kind != Kind::Truth || no.kind != Kind::Truth {
            return Err("`? :` is translated between truth values only".to_owned());
        }
        let text = format!("{} ? {} : {}", condition.within(2), yes.within(2), no.within(2));
        let chosen = |at: usize| {
            let side = if truth(condition.seen.get(at).copied()?)? { &yes } else { &no };
            side.seen.get(at).copied()?
        };
        Ok(Expression { text, kind: Kind::Truth, binds: 1, seen: [chosen(0), chosen(1)] })
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut left = self.and()?;
        while self.take(&["||", "or"]).is_some() {
            left = logic(&left, "||", &self.and()?, 2)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.not()?;
        while self.take(&["&&", "and"]).is_some() {
            left = logic(&left, "&&", &self.not()?, 3)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, String> {
        let mut count = 0_usize;
        while self.take(&["!", "not"]).is_some() {
            count += 1;
        }
        // `!` binds to the next operand alone.
        let inner = if count > 0 { self.unary()? } else { self.comparison()? };
        if count == 0 {
            return Ok(inner);
        }
        if inner.kind != Kind::Truth {
            return Err("`!` needs a truth value".to_owned());
        }
        if count.is_multiple_of(2) {
            return Ok(inner);
        }
        let text = format!("!{}", inner.within(8));
        Ok(Expression { text, kind: Kind::Truth, binds: 8, seen: negated(inner.seen) })
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.sum()?;
        let Some(operator) = self.take(&["==", "!=", ">=", "<=", ">", "<"]) else {
            return Ok(left);
        };
        let right = self.sum()?;
        let both_truth =
            left.kind == Kind::Truth && right.kind == Kind::Truth && ["==", "!="].contains(&operator.as_str());
        if !(both_truth || left.is_number() && right.is_number()) {
            return Err(format!("`{} {operator} {}` does not compare numbers", left.text, right.text));
        }
        let text = format!("{} {operator} {}", left.within(5), right.within(5));
        let seen = join(left.seen, right.seen, |left, right| compared(left, &operator, right));
        Ok(Expression { text, kind: Kind::Truth, binds: 4, seen })
    }

    fn sum(&mut self) -> Result<Expression, String> {
        let mut left = self.product()?;
        while let Some(operator) = self.take(&["+", "-"]) {
            left = arithmetic(&left, &operator, &self.product()?, 5)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, String> {
        let mut left = self.unary()?;
        while let Some(operator) = self.take(&["*", "/"]) {
            left = arithmetic(&left, &operator, &self.unary()?, 6)?;
        }
        if let Some(operator) =
            self.peek().filter(|token| ["%", "**", "^", "|", "in", "matches", "contains", "??"].contains(token))
        {
            return Err(format!("the operator `{operator}` has no exact equal in CEL"));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.take(&["-"]).is_some() {
            let inner = self.postfix()?;
            if !inner.is_number() {
                return Err("`-` needs a number".to_owned());
            }
            let text = if inner.kind == Kind::Argument {
                format!("-{}", inner.real(7))
            } else {
                format!("-{}", inner.within(7))
            };
            let kind = if inner.kind == Kind::Argument { Kind::Real } else { inner.kind };
            let zero = [Some(Worth::Number(0.0)); 2];
            let seen = join(zero, inner.seen, |zero, inner| calculated(zero, "-", inner));
            return Ok(Expression { text, kind, binds: 7, seen });
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Expression, String> {
        let inner = self.primary()?;
        match self.peek() {
            Some("[") => {}
            Some(".") => {
                return Err("an answer of Prometheus has no fields; it is a number or a list of numbers".to_owned());
            }
            _ => return Ok(inner),
        }
        self.at += 1;
        let index = self.ternary()?;
        self.expect("]")?;
        if inner.kind != Kind::Answer || index.text != "0" {
            return Err(format!("`{}[{}]` is one of several series; aggregate in PromQL", inner.text, index.text));
        }
        Ok(Expression::atom("result[0]".to_owned(), Kind::Real, [Some(Worth::Number(f64::NAN)), None]))
    }

    fn primary(&mut self) -> Result<Expression, String> {
        let Some(token) = self.tokens.get(self.at).cloned() else { return Err("it ends too early".to_owned()) };
        self.at += 1;
        match token.as_str() {
            "(" => {
                let inner = self.ternary()?;
                self.expect(")")?;
                Ok(inner)
            }
            "true" | "false" => {
                let seen = [Some(Worth::Truth(token == "true")); 2];
                Ok(Expression::atom(token, Kind::Truth, seen))
            }
            // A scalar always has a number; as a list it is looked at by those that take lists.
            "result" => Ok(Expression::atom(token, Kind::Answer, [Some(Worth::Number(f64::NAN)); 2])),
            "#" if self.in_closure => {
                Ok(Expression::atom("x".to_owned(), Kind::Real, [Some(Worth::Number(f64::NAN)), None]))
            }
            _ if token.starts_with("{{") => Ok(Expression::atom(token, Kind::Argument, [None; 2])),
            _ if token.starts_with(|c: char| c.is_ascii_digit()) => number(&token),
            _ if self.peek() == Some("(") => self.call(&token),
            _ => Err(format!("`{token}` is not understood")),
        }
    }

    fn call(&mut self, function: &str) -> Result<Expression, String> {
        self.expect("(")?;
        let first = self.ternary()?;
        let test = |is: fn(f64) -> bool| {
            first.seen.map(|worth| match worth {
                Some(Worth::Number(number)) => Some(Worth::Truth(is(number))),
                Some(Worth::Truth(_)) | None => None,
            })
        };
        let whole = |number: f64| Some(Worth::Number(number));
        let call = match function {
            "len" if first.kind == Kind::Answer => {
                Ok((format!("size({})", first.text), Kind::Whole, [whole(1.0), whole(0.0)]))
            }
            "len" if first.kind == Kind::List => Ok((format!("size({})", first.text), Kind::Whole, first.seen)),
            "asFloat" if first.is_number() && first.kind != Kind::Answer => Ok((first.real(9), Kind::Real, first.seen)),
            "asInt" if first.kind == Kind::Real => Ok((format!("int({})", first.text), Kind::Whole, [None; 2])),
            "isNaN" if matches!(first.kind, Kind::Real | Kind::Answer) => {
                Ok((format!("isNaN({})", first.text), Kind::Truth, test(f64::is_nan)))
            }
            "isInf" if matches!(first.kind, Kind::Real | Kind::Answer) => {
                Ok((format!("isInf({})", first.text), Kind::Truth, test(f64::is_infinite)))
            }
            "default" if first.kind == Kind::Answer => {
                self.expect(",")?;
                let _ = self.ternary()?;
                Ok((first.text, Kind::Answer, first.seen))
            }
            "default" => {
                Err("`default` looks at the whole result, whatever is written in it, and gives a list here".to_owned())
            }
            "isNil" => Err("`isNil` is never true of an answer of Prometheus; remove it".to_owned()),
            "all" | "any" | "none" | "one" | "filter" | "count" => self.over_all(function, &first),
            _ => Err(format!("`{function}` has no equal in Serin's conditions")),
        };
        let (text, kind, seen) = call?;
        self.expect(")")?;
        Ok(Expression::atom(text, kind, seen))
    }

    /// A function over every number of a list, with a condition in braces or without.
    fn over_all(&mut self, function: &str, list: &Expression) -> Result<(String, Kind, Seen), String> {
        if !matches!(list.kind, Kind::Answer | Kind::List) || self.in_closure {
            return Err(format!("`{function}` needs the result, and cannot be nested"));
        }
        self.expect(",")?;
        let has_braces = self.take(&["{"]).is_some();
        self.in_closure = true;
        let condition = self.ternary()?;
        self.in_closure = false;
        if has_braces {
            self.expect("}")?;
        }
        if condition.kind != Kind::Truth {
            return Err(format!("what `{function}` asks is neither true nor false"));
        }
        let holds = truth(condition.seen.first().copied().flatten());
        let of_nan = holds.map(Worth::Truth);
        let counted = holds.map(|holds| Worth::Number(f64::from(u8::from(holds))));
        let is = |truth: bool| Some(Worth::Truth(truth));
        let (list, condition) = (&list.text, &condition.text);
        let none = Some(Worth::Number(0.0));
        Ok(match function {
            "any" => (format!("{list}.exists(x, {condition})"), Kind::Truth, [of_nan, is(false)]),
            "all" => (format!("{list}.all(x, {condition})"), Kind::Truth, [of_nan, is(true)]),
            "none" => (
                format!("!{list}.exists(x, {condition})"),
                Kind::Truth,
                [holds.map(|holds| Worth::Truth(!holds)), is(true)],
            ),
            "one" => (format!("{list}.exists_one(x, {condition})"), Kind::Truth, [of_nan, is(false)]),
            "count" => (format!("size({list}.filter(x, {condition}))"), Kind::Whole, [counted, none]),
            // What is known of a list is how long it is.
            _ => (format!("{list}.filter(x, {condition})"), Kind::List, [counted, none]),
        })
    }
}

fn number(token: &str) -> Result<Expression, String> {
    let text = token.replace('_', "");
    if text.parse::<f64>().is_err() || text.ends_with('.') {
        return Err(format!("`{token}` is not a number"));
    }
    let seen = [text.parse().ok().map(Worth::Number); 2];
    Ok(Expression::atom(text, Kind::Literal, seen))
}

fn logic(left: &Expression, operator: &str, right: &Expression, binds: u8) -> Result<Expression, String> {
    if left.kind != Kind::Truth || right.kind != Kind::Truth {
        return Err(format!("`{operator}` needs truth values"));
    }
    let text = format!("{} {operator} {}", left.within(binds), right.within(binds + 1));
    // The right side is not looked at where the left one decides.
    let decides = operator == "||";
    let seen = join(left.seen, right.seen, |left, right| {
        let left = truth(left)?;
        if left == decides { Some(Worth::Truth(left)) } else { right }
    });
    Ok(Expression { text, kind: Kind::Truth, binds, seen })
}

/// CEL does not mix whole numbers with others, and divides whole numbers without a rest: all become floating-point.
fn arithmetic(left: &Expression, operator: &str, right: &Expression, binds: u8) -> Result<Expression, String> {
    if !left.is_number() || !right.is_number() {
        return Err(format!("`{operator}` needs numbers"));
    }
    let text = format!("{} {operator} {}", left.real(binds), right.real(binds + 1));
    let seen = join(left.seen, right.seen, |left, right| calculated(left, operator, right));
    Ok(Expression { text, kind: Kind::Real, binds, seen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::condition;

    fn check(condition: &str, cel: &str) {
        assert_eq!(to_cel(condition).as_deref(), Ok(cel), "{condition}");
        assert_eq!(condition::fault(&cel.replace("{{args.limit}}", "1.0")), None, "{condition}");
    }

    #[test]
    fn what_is_exactly_translatable() {
        check("result[0] >= 0.95", "result[0] >= 0.95");
        check("result >= 0.95", "result >= 0.95");
        check("asFloat(result[0]) >= 95", "result[0] >= 95");
        check("result[0] * 100 >= 95", "result[0] * 100.0 >= 95");
        check("len(result) == 0 || result[0] >= 0.95", "size(result) == 0 || result[0] >= 0.95");
        check("isNaN(result[0]) or result[0] < 0.05", "isNaN(result[0]) || result[0] < 0.05");
        check("!isNaN(result[0]) && not isInf(result[0])", "!isNaN(result[0]) && !isInf(result[0])");
        check("!(result[0] > 1)", "!(result[0] > 1)");
        check("all(result, # > 1)", "result.all(x, x > 1)");
        check("any(result, {# > 1 && # < 5})", "result.exists(x, x > 1 && x < 5)");
        check("count(result, {# > 1}) < 2", "size(result.filter(x, x > 1)) < 2");
        check("result[0] <= {{args.limit}}", "result[0] <= {{args.limit}}");
        check("result[0] / {{args.limit}} < 2", "result[0] / double({{args.limit}}) < 2");
        check("default(result, 0) < 0.05", "result < 0.05");
        check("(result[0] > 1 || result[0] < 0) && true", "(result[0] > 1 || result[0] < 0) && true");
        check("result[0] - (1 - 0.5) > -1", "result[0] - (1.0 - 0.5) > -1");
        check("len(result) / 2 > 1", "double(size(result)) / 2.0 > 1");
        check("result[0] > 1 ? true : false", "result[0] > 1 ? true : false");
    }

    #[test]
    fn what_is_said_without_data() {
        for (condition, seen) in [
            ("result[0] >= 0.95", [Some(false), None]),
            ("result[0] > {{args.limit}}", [Some(false), None]),
            ("!(result[0] > 1)", [Some(true), None]),
            ("len(result) == 0 || isNaN(result[0]) || result[0] < 1", [Some(true), Some(true)]),
            ("isNaN(result[0]) || result[0] < 1", [Some(true), None]),
            ("len(result) > 0 && result[0] * 2 < 1", [Some(false), Some(false)]),
            ("all(result, # < 1)", [Some(false), Some(true)]),
            ("len(filter(result, # < 1)) == 0", [Some(true), Some(true)]),
            ("result < 1", [Some(false), Some(false)]),
            ("len(result) < {{args.limit}}", [None, None]),
            ("isNaN(result[0]) ? true : result[0] > 1", [Some(true), None]),
        ] {
            assert_eq!(without_data(condition), seen, "{condition}");
        }
    }

    #[test]
    fn what_is_not() {
        for (condition, why) in [
            ("result[1] > 1", "one of several series"),
            ("result.successPercent > 0.95", "no fields"),
            ("result[0] % 2 == 0", "`%`"),
            ("default(result[0], 0) < 1", "whole result"),
            ("isNil(result)", "never true"),
            ("result[0] in [1, 2]", "`in`"),
            ("result == \"ok\"", "not understood"),
            ("sum(result) > 1", "`sum`"),
            ("result[0]", "neither true nor false"),
            ("result[0] > 1 )", "not understood"),
            ("", "too early"),
            ("all(result, any(result, # > 1))", "nested"),
        ] {
            let told = to_cel(condition).unwrap_err();
            assert!(told.contains(why), "{condition}: {told}");
        }
    }
}
