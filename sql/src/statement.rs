//! What may be asked: statements that only read.

use std::collections::BTreeSet;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, SetExpr, Statement as Sql};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::diagnosis::{Diagnosis, Known};
use crate::place::Place;

/// How deeply a question may be nested: the parser and the planner call themselves as deep.
const DEEPEST: usize = 64;

/// A statement that only reads.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(crate) parsed: Parsed,
    /// What each column is called, where it has no name of its own.
    pub(crate) headings: Vec<Option<String>>,
}

impl Statement {
    /// The statements of a text, which semicolons divide.
    ///
    /// # Errors
    /// If the text is no SQL, or one of them does more than read.
    pub fn read(text: &str) -> Result<Vec<Self>, Diagnosis> {
        let refuse = |error| Diagnosis::of(&error, text, Known::default());
        let parsed = DFParserBuilder::new(text)
            .with_dialect(&GenericDialect {})
            .with_recursion_limit(DEEPEST)
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(refuse)?;
        let mut statements = Vec::new();
        for (number, mut statement) in parsed.into_iter().enumerate() {
            if !only_reads(&statement) {
                return Err(refusal().at(start_of(text, number)));
            }
            number_alike(&mut statement);
            statements.push(Self {
                headings: headings(&statement),
                parsed: statement,
            });
        }
        Ok(statements)
    }
}

/// What is said of a statement that does more than read.
pub(crate) fn refusal() -> Diagnosis {
    Diagnosis::new("the lake is only read here: expected SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE")
}

fn only_reads(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(sql) => sql_only_reads(sql),
        Parsed::Explain(explain) => only_reads(&explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => false,
    }
}

fn sql_only_reads(sql: &Sql) -> bool {
    match sql {
        Sql::Query(query) => body_only_reads(&query.body),
        Sql::Explain { statement, .. } => sql_only_reads(statement),
        Sql::ExplainTable { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowCreate { .. }
        | Sql::ShowVariable { .. } => true,
        // Whatever else SQL has, and whatever it will have.
        _ => false,
    }
}

fn body_only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => body_only_reads(&query.body),
        SetExpr::SetOperation { left, right, .. } => body_only_reads(left) && body_only_reads(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

/// The names of a statement's columns, as far as they are computed and have no name: their own text. DataFusion's names
/// for them, such as `sum(sales.amount)` and `Int64(1)`, say how it reads them.
fn headings(statement: &Parsed) -> Vec<Option<String>> {
    let Parsed::Statement(sql) = statement else {
        return Vec::new();
    };
    let Sql::Query(query) = sql.as_ref() else {
        return Vec::new();
    };
    let items = first_select(&query.body).map(|select| select.projection.as_slice());
    let headings = items.unwrap_or_default().iter().map(|item| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => Some(None),
        SelectItem::UnnamedExpr(computed) => {
            let text = computed.to_string();
            Some(Some(text.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
        SelectItem::ExprWithAlias { .. } => Some(None),
        // So many columns that their places are not known here.
        _ => None,
    });
    headings.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Gives a name to each column that DataFusion would take for another one, as Trino does: `_col1` to the second one.
fn number_alike(statement: &mut Parsed) {
    let Parsed::Statement(sql) = statement else { return };
    let Sql::Query(query) = sql.as_mut() else { return };
    let Some(select) = first_select_mut(&mut query.body) else {
        return;
    };
    let has_all = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let plain = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expression) => column_of(expression).map(str::to_owned),
        _ => None,
    });
    let plain: BTreeSet<String> = plain.collect();
    let mut texts = BTreeSet::new();
    for (position, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(computed) = item else {
            continue;
        };
        let named_after = without_casts(computed);
        let is_alike = match (column_of(computed), column_of(named_after)) {
            // It is among all the others.
            (Some(_), _) => has_all || !texts.insert(computed.to_string()),
            (None, Some(column)) => has_all || plain.contains(column) || !texts.insert(named_after.to_string()),
            (None, None) => !texts.insert(named_after.to_string()),
        };
        // One subquery is like any other.
        let is_subquery = matches!(computed, Expr::Subquery(_));
        if is_alike || is_subquery {
            *item = SelectItem::ExprWithAlias {
                expr: computed.clone(),
                alias: Ident::new(format!("_col{position}")),
            };
        }
    }
}

/// What DataFusion calls a column after: its name leaves casts out.
fn without_casts(mut expression: &Expr) -> &Expr {
    while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) | Expr::AtTimeZone { timestamp: inner, .. } =
        expression
    {
        expression = inner;
    }
    expression
}

/// The name of a column that is asked for as it is.
fn column_of(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Identifier(name) => Some(&name.value),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.as_str()),
        _ => None,
    }
}

fn first_select_mut(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select_mut(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select_mut(left),
        _ => None,
    }
}

/// The SELECT that gives the columns their names.
fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// Whether a text ends in a semicolon that is no part of a string or a comment, and so wants to be run.
pub(crate) fn is_finished(text: &str) -> bool {
    matches!(
        tokens(text).as_deref(),
        Some([
            ..,
            TokenWithSpan {
                token: Token::SemiColon,
                ..
            }
        ])
    )
}

/// Where the first word of the statement with this number is.
fn start_of(text: &str, number: usize) -> Option<Place> {
    let tokens = tokens(text)?;
    let mut statements = tokens
        .split(|token| token.token == Token::SemiColon)
        .filter_map(|statement| statement.first());
    let first = statements.nth(number)?;
    Some(Place {
        line: usize::try_from(first.span.start.line).ok()?,
        column: usize::try_from(first.span.start.column).ok()?,
        length: first.token.to_string().chars().count().max(1),
    })
}

/// The words of a text, without white space and comments; none if it cannot be read, as inside of a string.
fn tokens(text: &str) -> Option<Vec<TokenWithSpan>> {
    let mut tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().ok()?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_is_let_through() {
        for text in [
            "SELECT 1",
            "with a as (select 1) select * from a",
            "VALUES (1)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW COLUMNS FROM sales",
            "SHOW FUNCTIONS",
            "SHOW CREATE TABLE sales",
            "DESCRIBE sales",
            "DESC sales",
            "(SELECT 1) UNION ALL (SELECT 2)",
        ] {
            assert_eq!(Statement::read(text).map(|read| read.len()).ok(), Some(1), "{text}");
        }
        assert_eq!(
            Statement::read("SELECT 1; ; -- a comment; of sorts\nSELECT ';';")
                .unwrap()
                .len(),
            2
        );
        assert!(Statement::read(" -- nothing\n").unwrap().is_empty());
    }

    #[test]
    fn what_does_more_is_refused_at_its_first_word() {
        for text in [
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "DROP VIEW sales",
            "INSERT INTO sales VALUES (1)",
            "WITH a AS (SELECT 1) INSERT INTO sales SELECT * FROM a",
            "UPDATE sales SET amount = 1",
            "DELETE FROM sales",
            "SELECT 1 INTO t",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "USE other",
        ] {
            let text = format!("SELECT 1;\n  {text}");
            let refused = Statement::read(&text).unwrap_err();
            assert!(
                refused.to_string().starts_with("the lake is only read here"),
                "{text}: {refused}"
            );
            let place = refused.place().unwrap();
            assert_eq!((place.line, place.column), (2, 3), "{text}");
        }
    }

    #[test]
    fn what_is_no_sql_is_refused_where_it_ends_to_be() {
        for (text, message, line, column) in [
            ("SELECT * FROM ,", "expected identifier, found ,", 1, 15),
            ("SELECT 1\nFORM sales s t", "expected end of statement, found", 2, 6),
            ("SELECT 'a", "Unterminated string literal", 1, 8),
            ("SELECT 1 +", "expected an expression, found the end", 1, 11),
            ("SELECT (1", "expected ), found the end", 1, 10),
        ] {
            let refused = Statement::read(text).unwrap_err();
            assert!(refused.to_string().starts_with(message), "{text}: {refused}");
            let place = refused.place();
            assert_eq!(
                place.map(|place| (place.line, place.column)),
                Some((line, column)),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn what_is_computed_is_called_by_its_text() {
        let headings = |text: &str| Statement::read(text).unwrap()[0].headings.clone();
        let called = |text: &str| Some(text.to_owned());
        assert_eq!(
            headings("SELECT a, t.b, sum( c ) FROM t UNION SELECT 1, 2, 3"),
            [None, None, called("sum(c)")]
        );
        assert_eq!(
            headings("SELECT\n CASE WHEN a\n THEN 'x\ny' END"),
            [called("CASE WHEN a THEN 'x y' END")]
        );
        assert_eq!(headings("(SELECT 'x' AS y, 1)"), [None, called("1")]);
        assert!(headings("SELECT *, 1 FROM t").is_empty());
        assert!(headings("DESCRIBE t").is_empty());
    }

    #[test]
    fn a_question_may_be_nested_but_not_without_end() {
        let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Statement::read(&nested(20)).is_ok());
        assert_eq!(
            Statement::read(&nested(10_000)).unwrap_err().to_string(),
            "the question is nested too deeply"
        );
    }

    #[test]
    fn a_text_is_finished_by_a_semicolon_that_is_one() {
        for text in ["SELECT 1;", "SELECT 1; ", "SELECT ';' ; -- so", ";"] {
            assert!(is_finished(text), "{text}");
        }
        for text in [
            "",
            "SELECT 1",
            "SELECT ';",
            "SELECT 1 -- ;",
            "SELECT /* ; */ 1",
            "SELECT 1; SELECT 2",
        ] {
            assert!(!is_finished(text), "{text}");
        }
    }
}
