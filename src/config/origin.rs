//! What a configuration was made from, so that it can be made again with single settings changed.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::environment::{Environment, OVERRIDE_PREFIX};
use super::load::{self, Loaded};
use super::problem::Errors;
use super::urls::UrlArgs;
use super::{Config, urls};

/// What a configuration was made from. It holds secrets: nothing of it is printed.
#[derive(Clone)]
pub struct Origin(Kind);

#[derive(Clone)]
enum Kind {
    Text { name: String, text: Zeroizing<String>, dir: PathBuf },
    Urls(Box<UrlArgs>),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin(…)")
    }
}

impl Origin {
    pub(super) fn text(name: &str, text: &str, dir: PathBuf) -> Self {
        Self(Kind::Text { name: name.to_owned(), text: Zeroizing::new(text.to_owned()), dir })
    }

    pub(super) fn urls(args: &UrlArgs) -> Self {
        Self(Kind::Urls(Box::new(args.clone())))
    }

    /// The configuration as it was read then, with single settings changed: `section.key` and its value. A file is not
    /// read again; those that it names are.
    ///
    /// # Errors
    /// All mistakes at once; values that do not fit are among them.
    pub fn load_with<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        env: &Environment,
    ) -> Result<Loaded, Errors> {
        let settings = settings.into_iter().map(|(path, value)| {
            (format!("{OVERRIDE_PREFIX}{}", path.to_ascii_uppercase().replace('.', "__")), value.to_owned())
        });
        match &self.0 {
            Kind::Text { name, text, dir } => load::load_text(name, text, dir, &env.with(settings)),
            Kind::Urls(args) => {
                let overrides = Environment::default().with(settings);
                Config::from_urls_with(args, env, &urls::Overrides(overrides))
            }
        }
    }
}
