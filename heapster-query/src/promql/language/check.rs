//! Types and what else can be told from the tree alone, in Prometheus' words.

use super::ast::{Aggregate, Binary, Duration, Expr, Op, Span, Type};
use super::functions::Signature;
use super::{Fault, quoted};

/// Checks an expression and all below it; what comes first in the text is reported first.
pub(super) fn check(expr: &Expr) -> Result<(), Fault> {
    match expr {
        Expr::Number { .. } | Expr::Seconds { .. } | Expr::Text { .. } | Expr::Selector(_) => {
            Ok(())
        }
        Expr::Range { range, span, .. } => check_range(range, *span),
        Expr::Subquery { expr, range, step, span, .. } => {
            check(expr)?;
            let kind = expr.kind();
            if kind != Type::Vector {
                let message =
                    format!("subquery is only allowed on instant vector, got {kind} instead");
                return Err(Fault::new(*span, message));
            }
            check_range(range, *span)?;
            step.as_ref().map_or(Ok(()), |step| check_range(step, *span))
        }
        Expr::Call { function, args, span } => check_call(function, args, *span),
        Expr::Aggregate(aggregate) => check_aggregate(aggregate),
        Expr::Unary { expr: inner, span, .. } => {
            check(inner)?;
            match inner.kind() {
                Type::Scalar | Type::Vector => Ok(()),
                kind => {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        quoted(&kind.to_string())
                    );
                    Err(Fault::new(*span, message))
                }
            }
        }
        Expr::Binary(binary) => check_binary(binary),
        Expr::Paren { expr, .. } => check(expr),
    }
}

/// A duration that needs no query to be known must be positive here already.
fn check_range(range: &Duration, span: Span) -> Result<(), Fault> {
    match range.literal_millis() {
        Some(millis) if millis <= 0 => Err(Fault::new(span, "duration must be greater than 0")),
        _ => Ok(()),
    }
}

fn expect(expr: &Expr, wanted: Type, context: &str) -> Result<(), Fault> {
    check(expr)?;
    let kind = expr.kind();
    if kind == wanted {
        return Ok(());
    }
    Err(Fault::new(expr.span(), format!("expected type {wanted} in {context}, got {kind}")))
}

fn check_call(function: &Signature, args: &[Expr], span: Span) -> Result<(), Fault> {
    let (count, name) = (args.len(), quoted(function.name));
    let fault = |how: &str, number: usize| {
        let message = format!("expected {how}{number} argument(s) in call to {name}, got {count}");
        Err(Fault::new(span, message))
    };
    let most = function.args.len();
    if function.required == most && !function.repeats && count != most {
        return fault("", most);
    }
    if count < function.required {
        return fault("at least ", function.required);
    }
    if count > most && !function.repeats {
        return fault("at most ", most);
    }
    let context = format!("call to function {name}");
    for (index, arg) in args.iter().enumerate() {
        let wanted = function.args[index.min(most - 1)];
        expect(arg, wanted, &context)?;
    }
    Ok(())
}

fn check_aggregate(aggregate: &Aggregate) -> Result<(), Fault> {
    if let (Some(wanted), Some(param)) = (aggregate.op.param(), &aggregate.param) {
        expect(param, wanted, "aggregation parameter")?;
    }
    expect(&aggregate.expr, Type::Vector, "aggregation expression")
}

fn check_binary(binary: &Binary) -> Result<(), Fault> {
    let Binary { op, op_span, returns_bool, matching, lhs, rhs } = binary;
    check(lhs)?;
    check(rhs)?;
    let (left, right) = (lhs.kind(), rhs.kind());
    if *returns_bool && !op.is_comparison() {
        return Err(Fault::new(*op_span, "bool modifier can only be used on comparison operators"));
    }
    for (side, kind) in [(lhs, left), (rhs, right)] {
        if !matches!(kind, Type::Scalar | Type::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Fault::new(side.span(), message));
        }
    }
    let both_scalar = left == Type::Scalar && right == Type::Scalar;
    if op.is_comparison() && !returns_bool && both_scalar {
        return Err(Fault::new(*op_span, "comparisons between scalars must use BOOL modifier"));
    }
    if op.is_set() && (left == Type::Scalar || right == Type::Scalar) {
        let message =
            format!("set operator {} not allowed in binary scalar expression", quoted(op.name()));
        return Err(Fault::new(*op_span, message));
    }
    let span = matching.span.unwrap_or(*op_span);
    if matching.span.is_some() && (left != Type::Vector || right != Type::Vector) {
        let is_bare = matching.labels.is_empty() && matching.group.is_none();
        if !is_bare {
            return Err(Fault::new(span, "vector matching only allowed between instant vectors"));
        }
    }
    let Some(group) = &matching.group else { return Ok(()) };
    if matches!(op, Op::And | Op::Or | Op::Unless) {
        let message = format!("no grouping allowed for {} operation", quoted(op.name()));
        return Err(Fault::new(span, message));
    }
    let both = |label: &&heapster_core::Text| matching.on && matching.labels.contains(label);
    match group.include.iter().find(both) {
        Some(label) => {
            let message =
                format!("label {} must not occur in ON and GROUP clause at once", quoted(label));
            Err(Fault::new(span, message))
        }
        None => Ok(()),
    }
}
