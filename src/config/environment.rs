//! The process environment as the configuration sees it: a snapshot, so that tests can bring their own.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// Start of the names of overriding variables: `TRUNKLINE__SECTION__KEY=value`.
pub(super) const OVERRIDE_PREFIX: &str = "TRUNKLINE__";

/// A snapshot of environment variables. Values may be secrets: `Debug` prints the names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn from_process() -> Self {
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
    }

    /// The value of one variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// With these variables instead of those of the same name, whatever its case.
    pub(super) fn with(&self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut all = self.0.clone();
        for (name, value) in variables {
            all.retain(|known, _| !known.eq_ignore_ascii_case(&name));
            all.insert(name, value);
        }
        Self(all)
    }

    /// The overrides `TRUNKLINE__…`, by name.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(name, _)| name.starts_with(OVERRIDE_PREFIX)).map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Replaces every `${VAR}` in `text` by the variable's value; `$${` is a literal `${`.
///
/// The error names the variable, never the text around it.
pub(super) fn interpolate(text: &str, env: &Environment) -> Result<Zeroizing<String>, String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let name = body.split_once('}').map(|(name, _)| name);
        let valid = |name: &str| {
            let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        match name {
            Some(name) if valid(name) => {
                let value = env.get(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
                out.push_str(value);
                rest = &body[name.len() + 1..];
            }
            _ => return Err("\"${\" must be followed by the name of an environment variable and \"}\"".into()),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether `text` is nothing but `${VAR}`: no secret stands in the file itself.
pub(super) fn is_only_interpolation(text: &str) -> bool {
    text.strip_prefix("${").and_then(|t| t.strip_suffix('}')).is_some_and(|name| !name.contains(['{', '}', '$']))
}
