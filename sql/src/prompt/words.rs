//! What a word that has been begun can become.

use crate::session::Table;

/// Words of SQL that are worth completing.
const KEYWORDS: [&str; 58] = [
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SHOW",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNION",
    "USING",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Words after which a table comes.
const BEFORE_A_TABLE: [&str; 4] = ["FROM", "JOIN", "DESCRIBE", "DESC"];

/// The prompt's own commands.
pub(super) const COMMANDS: [&str; 3] = ["\\d", "\\q", "\\?"];

/// Everything that a word can become.
pub(super) struct Words {
    tables: Vec<Table>,
    functions: Vec<String>,
}

impl Words {
    pub(super) fn new(tables: Vec<Table>, functions: Vec<String>) -> Self {
        Self { tables, functions }
    }

    /// Where in `text` the word begins that ends at `cursor`, and what it can become.
    pub(super) fn complete(&self, text: &str, cursor: usize) -> (usize, Vec<String>) {
        let Some(before) = text.get(..cursor) else {
            return (cursor, Vec::new());
        };
        if let Some(command) = before.trim_start().strip_prefix('\\') {
            return self.complete_command(before, command);
        }
        let start = before
            .rfind(|letter| !is_part(letter))
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let (earlier, word) = before.split_at(start);
        if earlier.matches('\'').count() % 2 == 1 {
            return (start, Vec::new());
        }
        let mentioned = self.mentioned(text);
        if let Some(owner) = earlier.strip_suffix('.') {
            let owner = owner.rsplit(|letter| !is_part(letter)).next().unwrap_or_default();
            let owners = mentioned.iter().filter(|mention| mention.is(owner));
            return (start, matching(word, owners.flat_map(|mention| columns(mention.table))));
        }
        let previous = earlier.split_whitespace().next_back().unwrap_or_default();
        let tables = self.tables.iter().map(|table| table.name.as_str());
        if BEFORE_A_TABLE
            .iter()
            .any(|keyword| keyword.eq_ignore_ascii_case(previous))
        {
            return (start, matching(word, tables));
        }
        let mut found = matching(word, mentioned.iter().flat_map(|mention| columns(mention.table)));
        if !word.is_empty() {
            // The columns are mostly typed before anything says whose they are.
            if mentioned.is_empty() {
                found = matching(word, self.tables.iter().flat_map(columns));
            }
            found.extend(matching(word, tables));
            found.extend(matching(word, self.functions.iter().map(String::as_str)));
            let is_small = word.chars().all(|letter| !letter.is_uppercase());
            let keywords = matching(word, KEYWORDS.into_iter()).into_iter();
            found.extend(keywords.map(|keyword| if is_small { keyword.to_lowercase() } else { keyword }));
        }
        (start, found)
    }

    fn complete_command(&self, before: &str, command: &str) -> (usize, Vec<String>) {
        if let Some(name) = command.strip_prefix("d ") {
            let word = name.trim_start();
            let tables = self.tables.iter().map(|table| table.name.as_str());
            return (before.len() - word.len(), matching(word, tables));
        }
        let word = &before[before.len() - command.len() - 1..];
        (before.len() - word.len(), matching(word, COMMANDS.into_iter()))
    }

    /// The tables that a text names, and the names that it gives them.
    fn mentioned(&self, text: &str) -> Vec<Mention<'_>> {
        let words: Vec<&str> = text
            .split(|letter| !is_part(letter))
            .filter(|word| !word.is_empty())
            .collect();
        let mut mentioned = Vec::new();
        for (position, word) in words.iter().enumerate() {
            let Some(table) = self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(word)) else {
                continue;
            };
            let mut after = words[position + 1..]
                .iter()
                .filter(|word| !word.eq_ignore_ascii_case("as"));
            let alias = after
                .next()
                .filter(|alias| !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(alias)));
            mentioned.push(Mention {
                table,
                alias: alias.map(|alias| (*alias).to_owned()),
            });
        }
        mentioned
    }
}

struct Mention<'a> {
    table: &'a Table,
    alias: Option<String>,
}

impl Mention<'_> {
    fn is(&self, owner: &str) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(owner);
        is(&self.table.name) || self.alias.as_deref().is_some_and(is)
    }
}

fn columns(table: &Table) -> impl Iterator<Item = &str> {
    table.columns.iter().map(|(name, _)| name.as_str())
}

fn is_part(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

/// Those that begin like `word`, in any case of letters, each once.
fn matching<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let begins = |name: &&str| {
        name.get(..word.len())
            .is_some_and(|beginning| beginning.eq_ignore_ascii_case(word))
    };
    let mut found: Vec<String> = Vec::new();
    for name in names.filter(begins) {
        if !found.iter().any(|other| other == name) {
            found.push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::DataType;

    fn words() -> Words {
        let table = |name: &str, columns: &[&str]| Table {
            name: name.to_owned(),
            about: String::new(),
            columns: columns
                .iter()
                .map(|column| ((*column).to_owned(), DataType::Utf8))
                .collect(),
        };
        let tables = vec![
            table("branches", &["branch_id", "branch_name"]),
            table("sales", &["sale_id", "branch_id", "amount"]),
            table("sales_changes", &["sale_id"]),
        ];
        Words::new(tables, vec!["abs".to_owned(), "sum".to_owned()])
    }

    /// The `|` is the cursor.
    fn complete(text: &str) -> String {
        let cursor = text.find('|').unwrap();
        let text = text.replace('|', "");
        let (start, found) = words().complete(&text, cursor);
        format!("{}: {}", &text[start..cursor], found.join(" "))
    }

    #[test]
    fn a_word_becomes_a_column_a_table_a_function_or_a_keyword() {
        assert_eq!(complete("SELECT am| FROM sales"), "am: amount");
        assert_eq!(complete("SELECT a| FROM sales"), "a: amount abs all and as asc");
        assert_eq!(complete("SELECT A| FROM sales"), "A: amount abs ALL AND AS ASC");
        assert_eq!(complete("sel|"), "sel: select");
        assert_eq!(complete("SELECT su|"), "su: sum");
        assert_eq!(complete("SELECT branch|"), "branch: branch_id branch_name branches");
    }

    #[test]
    fn after_from_and_join_comes_a_table() {
        for text in ["SELECT * FROM s|", "SELECT * FROM branches JOIN S|", "describe s|"] {
            assert!(
                complete(text).ends_with(": sales sales_changes"),
                "{text}: {}",
                complete(text)
            );
        }
        assert_eq!(complete("SELECT * FROM |"), ": branches sales sales_changes");
    }

    #[test]
    fn a_table_or_its_other_name_owns_its_columns() {
        for text in [
            "SELECT b.| FROM branches b",
            "SELECT B.| FROM branches AS b, sales",
            "SELECT branches.| FROM branches",
        ] {
            assert!(
                complete(text).ends_with(": branch_id branch_name"),
                "{text}: {}",
                complete(text)
            );
        }
        assert_eq!(
            complete("SELECT s.a| FROM branches b JOIN sales s ON true"),
            "a: amount"
        );
        assert_eq!(complete("SELECT x.| FROM branches b"), ": ");
    }

    #[test]
    fn a_column_of_two_tables_is_offered_once() {
        assert_eq!(complete("SELECT branch_i| FROM branches, sales"), "branch_i: branch_id");
    }

    #[test]
    fn nothing_is_offered_inside_of_a_text_nor_for_nothing() {
        assert_eq!(complete("SELECT 'am| FROM sales"), "am: ");
        assert_eq!(complete("SELECT |"), ": ");
        assert_eq!(complete("é|"), "é: ");
    }

    #[test]
    fn the_prompts_commands_are_completed_too() {
        assert_eq!(complete("\\d sa|"), "sa: sales sales_changes");
        assert_eq!(complete("\\|"), "\\: \\d \\q \\?");
    }
}
