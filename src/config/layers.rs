//! The four layers: defaults < file < environment < flags. All give text, so that one syntax holds in each of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys;

/// The file that is read if it exists and `--config` does not name another.
const DEFAULT_FILE: &str = "tidegate.toml";
/// What our variables begin with.
const PREFIX: &str = "TIDEGATE_";
/// `TIDEGATE_API_KEY` and `TIDEGATE_API_KEY_<NAME>` hold keys of masters.
const API_KEY: &str = "API_KEY";

/// Where a configuration is read from. Tests make one with values, the program with [`Sources::of_process`].
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; must exist.
    pub config: Option<PathBuf>,
    /// Directory in which `tidegate.toml` is looked for; `None` looks for none.
    pub directory: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// `--database-url`.
    pub database_url: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--endpoint NAME=URL`.
    pub endpoints: Vec<String>,
}

impl Sources {
    /// The process's environment and working directory, no flags. The only place that reads the environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self { directory: Some(PathBuf::new()), environment: std::env::vars_os().collect(), ..Self::default() }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// An entry of `[[endpoints]]` or an `--endpoint`: its fields as text.
#[derive(Clone, Debug)]
pub(super) struct GivenEndpoint {
    pub(super) origin: Origin,
    pub(super) fields: BTreeMap<String, Given>,
}

/// Everything that the layers say. Keys exist; values are not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) values: BTreeMap<&'static str, Given>,
    pub(super) endpoints: Vec<GivenEndpoint>,
    /// Keys of masters: by the variable's suffix, `""` for `TIDEGATE_API_KEY`.
    pub(super) api_keys: BTreeMap<String, String>,
    pub(super) rust_log: Option<String>,
}

impl Layers {
    pub(super) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        for key in keys::KEYS {
            if let Some(default) = key.default {
                layers.values.insert(key.name, Given { text: default.to_owned(), origin: Origin::Default });
            }
        }
        layers.file(sources)?;
        layers.environment(&sources.environment)?;
        layers.flags(sources)?;
        Ok(layers)
    }

    pub(super) fn put(&mut self, name: &str, text: String, origin: Origin) -> Result<(), ConfigError> {
        let Some(key) = keys::find(name) else {
            let hint = hint(name, &origin);
            return Err(ConfigError::UnknownKey { key: name.to_owned(), origin, hint });
        };
        self.values.insert(key.name, Given { text, origin });
        Ok(())
    }

    fn file(&mut self, sources: &Sources) -> Result<(), ConfigError> {
        let path = match (&sources.config, &sources.directory) {
            (Some(path), _) => path.clone(),
            (None, Some(directory)) if directory.join(DEFAULT_FILE).exists() => directory.join(DEFAULT_FILE),
            _ => return Ok(()),
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::File { path: path.clone(), detail: error.to_string() })?;
        let file = File { path: &path, text: &text };
        let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            origin: file.origin(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        self.table(&file, "", table.get_ref())
    }

    fn table(&mut self, file: &File<'_>, section: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let full = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            let origin = file.origin(name.span().start);
            match value.get_ref() {
                DeValue::Array(entries) if full == "endpoints" => {
                    for entry in entries.iter() {
                        let endpoint = file.endpoint(entry)?;
                        self.endpoints.push(endpoint);
                    }
                }
                DeValue::Table(inner) => self.table(file, &full, inner)?,
                _ => {
                    // An unknown key is the better complaint, so it comes before one about the value's type.
                    if keys::find(&full).is_none() {
                        self.put(&full, String::new(), origin.clone())?;
                    }
                    let text = scalar(&full, value.get_ref(), &origin)?;
                    self.put(&full, text, origin)?;
                }
            }
        }
        Ok(())
    }

    fn environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let Some(variable) = variable.to_str() else { continue };
            let Some(name) = variable.strip_prefix(PREFIX) else {
                if variable == "RUST_LOG" {
                    self.rust_log = value.to_str().map(str::to_owned);
                }
                continue;
            };
            if name.starts_with("TEST_") {
                continue;
            }
            let origin = Origin::Variable(variable.to_owned());
            let text = value.to_str().ok_or_else(|| ConfigError::NotUnicode { origin: origin.clone() })?.to_owned();
            match name.strip_prefix(API_KEY) {
                Some("") => {
                    self.api_keys.insert(String::new(), text);
                }
                Some(suffix) if suffix.len() > 1 && suffix.starts_with('_') => {
                    self.api_keys.insert(suffix[1..].to_owned(), text);
                }
                _ => self.put(&name.to_ascii_lowercase().replace("__", "."), text, origin)?,
            }
        }
        Ok(())
    }

    fn flags(&mut self, sources: &Sources) -> Result<(), ConfigError> {
        for set in &sources.set {
            let (name, value) = set.split_once('=').ok_or_else(|| ConfigError::SetSyntax { text: set.clone() })?;
            self.put(name.trim(), value.trim().to_owned(), Origin::Flag("--set"))?;
        }
        if let Some(url) = &sources.database_url {
            self.put("database.url", url.clone(), Origin::Flag("--database-url"))?;
        }
        if let Some(listen) = &sources.listen {
            self.put("http.listen", listen.clone(), Origin::Flag("--listen"))?;
        }
        for endpoint in &sources.endpoints {
            let (name, url) = endpoint.split_once('=').ok_or(ConfigError::EndpointSyntax)?;
            let origin = Origin::Flag("--endpoint");
            let given = |text: &str| Given { text: text.trim().to_owned(), origin: origin.clone() };
            // A flag goes over the file's entry of that name: address from here, the rest from there.
            let same_name = |entry: &&mut GivenEndpoint| entry.fields.get("name").is_some_and(|field| field.text == name.trim());
            if let Some(entry) =
                self.endpoints.iter_mut().filter(|entry| matches!(entry.origin, Origin::File { .. })).find(same_name)
            {
                entry.fields.insert("url".to_owned(), given(url));
                entry.origin = origin;
            } else {
                let fields = [("name".to_owned(), given(name)), ("url".to_owned(), given(url))].into();
                self.endpoints.push(GivenEndpoint { origin, fields });
            }
        }
        Ok(())
    }
}

/// The text of the configuration file and where it lies.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Origin::File { path: self.path.to_owned(), line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    }

    fn endpoint(&self, entry: &Spanned<DeValue<'_>>) -> Result<GivenEndpoint, ConfigError> {
        let origin = self.origin(entry.span().start);
        let table = entry.get_ref().as_table().ok_or_else(|| ConfigError::Value {
            key: "endpoints".to_owned(),
            value: format!("a list of {}s", entry.get_ref().type_str()),
            origin: origin.clone(),
            allowed: "a table [[endpoints]] for each endpoint".to_owned(),
        })?;
        let mut fields = BTreeMap::new();
        for (name, value) in table {
            let origin = self.origin(name.span().start);
            let text = scalar(&format!("endpoints.{}", name.get_ref()), value.get_ref(), &origin)?;
            fields.insert(name.get_ref().to_string(), Given { text, origin });
        }
        Ok(GivenEndpoint { origin, fields })
    }
}

/// A TOML scalar as the text that the other layers would hold.
fn scalar(key: &str, value: &DeValue<'_>, origin: &Origin) -> Result<String, ConfigError> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        other => Err(ConfigError::Value {
            key: key.to_owned(),
            value: format!("of type {}", other.type_str()),
            origin: origin.clone(),
            allowed: keys::find(key)
                .map_or_else(|| "a text, a whole number or true or false".to_owned(), |key| key.kind.to_string()),
        }),
    }
}

/// What to do about a key that does not exist.
fn hint(name: &str, origin: &Origin) -> String {
    let spelt = |name: &str| match origin {
        Origin::Variable(_) => format!("{PREFIX}{}", name.to_ascii_uppercase().replace('.', "__")),
        _ => format!("`{name}`"),
    };
    if name == "endpoints" || name.starts_with("endpoints.") {
        return "endpoints are tables [[endpoints]] in the file, or --endpoint NAME=URL".to_owned();
    }
    if keys::KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name)) {
        return format!("`{name}` is a section, write for example {}", spelt(section_example(name)));
    }
    match keys::closest(name) {
        Some(key) => format!("did you mean {}?", spelt(key.name)),
        None => "`tidegate run --help` lists all keys".to_owned(),
    }
}

fn section_example(section: &str) -> &'static str {
    let inside = |key: &&keys::Key| key.name.split_once('.').is_some_and(|(first, _)| first == section);
    keys::KEYS.iter().find(inside).map_or("log", |key| key.name)
}
