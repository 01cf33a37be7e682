//! As much GraphQL as the service needs: the root fields of an operation, literal and variable arguments, and which
//! fields were selected at all. Not a parser of the language.

use serde_json::Value;

/// An operation as it came.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) name: Option<String>,
    pub(super) query: String,
    pub(super) variables: Value,
}

impl Operation {
    /// Reads a request body.
    ///
    /// # Errors
    /// What the service says about a body that is no operation.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| format!("POST body sent invalid JSON: {error}"))?;
        let query = body.get("query").and_then(Value::as_str).unwrap_or("");
        if query.trim().is_empty() {
            return Err("Must provide query string.".to_owned());
        }
        if !balanced(query) {
            return Err("Syntax Error: Expected Name, found <EOF>.".to_owned());
        }
        let named = body.get("operationName").and_then(Value::as_str).map(str::to_owned);
        let own = own_name(query);
        if let (Some(named), Some(own)) = (&named, &own)
            && named != own
        {
            return Err(format!("Unknown operation named \"{named}\"."));
        }
        let variables = body.get("variables").cloned().unwrap_or(Value::Null);
        Ok(Operation { name: named.or(own), query: query.to_owned(), variables })
    }

    /// Names of the fields directly below the operation, aliases resolved.
    pub(super) fn roots(&self) -> Vec<String> {
        let mut roots = Vec::new();
        let (mut braces, mut parens) = (0_u32, 0_u32);
        for token in tokens(&self.query) {
            match token.as_str() {
                "{" if parens == 0 => braces += 1,
                "}" if parens == 0 => braces = braces.saturating_sub(1),
                "(" => parens += 1,
                ")" => parens = parens.saturating_sub(1),
                ":" if braces == 1 && parens == 0 => {
                    roots.pop();
                }
                word if braces == 1 && parens == 0 && is_name(word) => roots.push(word.to_owned()),
                _ => {}
            }
        }
        roots
    }

    /// The value given for a key, wherever it stands: literally in the query, through a variable, or inside one.
    pub(super) fn argument(&self, key: &str) -> Option<Value> {
        let tokens = tokens(&self.query);
        for (at, window) in tokens.windows(4).enumerate() {
            // Not where the operation declares a variable of this name.
            let declared = at > 0 && tokens[at - 1] == "$";
            if window[0] == key && window[1] == ":" && !declared {
                return match window[2].as_str() {
                    "$" => self.variables.get(&window[3]).cloned(),
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    "null" => Some(Value::Null),
                    text => Some(Value::String(text.trim_matches('"').to_owned())),
                };
            }
        }
        find_key(&self.variables, key).cloned()
    }

    /// Removes from an answer what the query did not ask for.
    pub(super) fn pruned(&self, answer: Value) -> Value {
        let words = tokens(&self.query);
        prune(answer, &words)
    }
}

fn prune(value: Value, words: &[String]) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(key, _)| words.contains(key))
                .map(|(key, value)| (key, prune(value, words)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| prune(item, words)).collect()),
        other => other,
    }
}

/// Depth-first; variables are small and not deep (the body has a size limit, and JSON a depth limit).
fn find_key<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|value| find_key(value, key))),
        _ => None,
    }
}

fn own_name(query: &str) -> Option<String> {
    let tokens = tokens(query);
    let keyword = tokens.first()?;
    let name = tokens.get(1)?;
    (matches!(keyword.as_str(), "query" | "mutation") && is_name(name)).then(|| name.clone())
}

fn balanced(query: &str) -> bool {
    let mut open = Vec::new();
    for token in tokens(query) {
        match token.as_str() {
            "{" | "(" | "[" => open.push(token),
            "}" | ")" | "]" => {
                let wanted = match token.as_str() {
                    "}" => "{",
                    ")" => "(",
                    _ => "[",
                };
                if open.pop().as_deref() != Some(wanted) {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty() && query.contains('{')
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names, quoted strings (with their quotes) and single punctuation marks; commas and white space vanish.
fn tokens(query: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !matches!(first, '#' | ',') {
            tokens.push(token.to_owned());
        }
        rest = after.trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn operation(query: &str, variables: Value) -> Operation {
        Operation::read(json!({"query": query, "variables": variables}).to_string().as_bytes()).expect("an operation")
    }

    #[test]
    fn roots_and_names() {
        let setup = operation(
            "query checkTowerIsSetup { organizations(first: 10, where: {a: \"}\"}) { id name } done: userCreated { created } }",
            json!({}),
        );
        assert_eq!(setup.name.as_deref(), Some("checkTowerIsSetup"));
        assert_eq!(setup.roots(), ["organizations", "userCreated"]);
        assert_eq!(operation("{ deploys { id } }", json!({})).roots(), ["deploys"]);
    }

    #[test]
    fn arguments_are_found_wherever_they_stand() {
        let literal = operation(
            "mutation m($p: String!) { createUser(data: {username: \"root\", password: $p}, effect: {encoded: true}) { id } }",
            json!({"p": "secret"}),
        );
        assert_eq!(literal.argument("username"), Some(json!("root")));
        assert_eq!(literal.argument("password"), Some(json!("secret")));
        assert_eq!(literal.argument("encoded"), Some(json!(true)));
        let variable = operation(
            "mutation m($data: X!) { createUser(data: $data) { id } }",
            json!({"data": {"username": "root", "password": "secret"}}),
        );
        let declared = operation("query q($skip: Int) { rules(skip: $skip) { id } }", json!({"skip": 50}));
        assert_eq!(declared.argument("skip"), Some(json!(50)));
        assert_eq!(variable.argument("password"), Some(json!("secret")));
        assert_eq!(variable.argument("encoded"), None);
    }

    #[test]
    fn what_was_not_selected_is_not_answered() {
        let query = operation("{ deploys { id license { type } } }", json!({}));
        let answer = json!({"deploys": [{"id": "a", "version": "b", "license": {"type": "TRIAL", "vendor": "c"}}]});
        assert_eq!(query.pruned(answer), json!({"deploys": [{"id": "a", "license": {"type": "TRIAL"}}]}));
    }

    #[test]
    fn nonsense_is_an_error() {
        for body in ["", "[]", "{}", "{\"query\": \"\"}", "{\"query\": \"query x { a\"}", "{\"query\": \"x } {\"}"] {
            assert!(Operation::read(body.as_bytes()).is_err(), "{body}");
        }
        let wrong = json!({"operationName": "b", "query": "query a { x }"}).to_string();
        assert!(Operation::read(wrong.as_bytes()).is_err());
        assert!(Operation::read("{\"query\": \"{ \\\"\"}".as_bytes()).is_err(), "an open string does not panic");
    }
}
