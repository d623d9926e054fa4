//! A master's API key: from a file, the environment or a prompt, never from an argument, which others on the machine can read.

use std::io::{self, Read};
use std::path::Path;

use super::exit::Failure;
use super::output;
use crate::config::{ApiKeys, EndpointConfig};
use crate::endpoint::ApiKey;

/// A key has 32 characters; a file that is longer than this is another file.
const KEY_BYTES_MAX: u64 = 4_096;

/// The key for an endpoint that is added or gets a new one: the file, else the environment, else a prompt.
///
/// # Errors
/// Usage: the file cannot be read, or there is nothing to ask on.
pub fn obtain(file: Option<&Path>, keys: &ApiKeys, name: &str) -> Result<ApiKey, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    if let Some(key) = keys.for_endpoint(name) {
        return checked(key.reveal(), "the key in the environment");
    }
    if !output::can_ask() {
        return Err(Failure::usage(format!(
            "no API key for `{name}`: give --api-key-file FILE (`-` is standard input) or set {} or TIDEGATE_API_KEY; \
             --no-api-key is for a master that asks for none",
            ApiKeys::variable(name)
        )));
    }
    let typed = rpassword::prompt_password(format!("API key of {name} (not shown): "));
    checked(&typed.map_err(|error| Failure::usage(format!("cannot read the API key: {error}")))?, "what was typed")
}

/// The key for an endpoint of the configuration that is made at start; empty if none is given anywhere.
///
/// # Errors
/// Usage: the file cannot be read.
pub fn configured(endpoint: &EndpointConfig, keys: &ApiKeys) -> Result<ApiKey, Failure> {
    match (&endpoint.api_key_file, keys.for_endpoint(&endpoint.name)) {
        (Some(file), _) => from_file(file),
        (None, Some(key)) => checked(key.reveal(), "the key in the environment"),
        (None, None) => Ok(ApiKey::new("")),
    }
}

fn from_file(file: &Path) -> Result<ApiKey, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(KEY_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(KEY_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read the API key from {}: {error}", file.display())))?;
    checked(&text, &format!("the content of {}", file.display()))
}

/// A key must fit into a header line. The message does not repeat it.
fn checked(text: &str, source: &str) -> Result<ApiKey, Failure> {
    let key = ApiKey::new(text);
    if !key.reveal().is_empty() && key.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    Err(Failure::usage(format!(
        "{source} is not an API key: it is one word of ASCII characters; the master prints it when it starts"
    )))
}
