use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use actix_web::http::StatusCode;
use actix_web::test::{self, TestRequest};
use actix_web::{App, body::MessageBody, dev::ServiceResponse};
use flate2::read::GzDecoder;

use super::*;

/// The page's promise: what a browser fetches for the first view.
const WEIGHT_BYTES_MAX: usize = 250_000;

async fn ask(path: &str, headers: &[(header::HeaderName, &str)]) -> ServiceResponse<impl MessageBody + use<>> {
    let app = test::init_service(App::new().configure(configure)).await;
    let request = headers.iter().fold(TestRequest::with_uri(path), |request, header| request.insert_header(header.clone()));
    test::call_service(&app, request.to_request()).await
}

/// The value of a header that must be there.
fn of<B>(response: &ServiceResponse<B>, name: header::HeaderName) -> String {
    response.headers().get(&name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

fn asset(name: &str) -> String {
    format!("/assets/{}/{name}", SITE.version)
}

fn text(name: &str) -> String {
    let (_, content) = FILES.iter().find(|(file, _)| *file == name).unwrap();
    String::from_utf8(content.to_vec()).unwrap()
}

/// A table of texts is a JSON object behind `export default`.
pub(super) fn table<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = text(name);
    let json = text.split_once("export default").unwrap().1.trim().trim_end_matches(';');
    serde_json::from_str(json).unwrap()
}

fn strings() -> BTreeMap<String, BTreeMap<String, String>> {
    table("strings.js")
}

/// The modules that are our own.
fn sources() -> impl Iterator<Item = (&'static str, String)> {
    FILES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| is_module(name) && !name.starts_with("vendor/"))
        .map(|name| (name, text(name)))
}

/// What stands between `before` and the next `after`, wherever `before` occurs.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0))
}

#[actix_rt::test]
async fn the_page_weighs_less_than_it_may() {
    let weight: usize = SITE.files.iter().map(|file| file.compressed.len()).sum();
    assert!(weight < WEIGHT_BYTES_MAX, "{weight} bytes compressed");
    assert!(weight > 10_000, "{weight} bytes compressed: something is missing");
}

/// A file that is in the folder and not in the list would be missing in the program alone.
#[actix_rt::test]
async fn every_file_of_the_folder_is_served_and_every_import_leads_to_one() {
    let folder = std::path::Path::new("src/http/page");
    let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut found = BTreeSet::new();
    for part in ["", "vendor"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_none_or(|extension| extension != "LICENSE") {
                found.insert(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(listed, found);
    for (name, text) in sources() {
        for import in between(&text, "from \"./", '"') {
            assert!(listed.contains(import), "{name} imports {import}");
        }
    }
}

#[actix_rt::test]
async fn a_file_of_this_version_is_kept_for_good_and_another_version_is_not_there() {
    let response = ask(&asset("app.js"), &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(of(&response, header::CACHE_CONTROL), "private, max-age=31536000, immutable");
    assert_eq!(of(&response, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
    assert_eq!(test::read_body(response).await, text("app.js").into_bytes());
    for path in ["/assets/000000000000/app.js".to_owned(), asset("nothing.js"), asset("../page.rs"), asset("")] {
        assert_eq!(ask(&path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[actix_rt::test]
async fn the_document_is_asked_for_again_and_answered_shortly_while_it_is_the_same() {
    for path in ["/", "/login", "/assets/login.css", "/assets/login.js"] {
        let response = ask(path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(of(&response, header::CACHE_CONTROL), "no-cache");
        let tag = of(&response, header::ETAG);
        let again = ask(path, &[(header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert!(test::read_body(again).await.is_empty());
        assert_eq!(ask(path, &[(header::IF_NONE_MATCH, "W/\"other\"")]).await.status(), StatusCode::OK);
    }
}

#[actix_rt::test]
async fn what_is_compressed_is_the_same_file() {
    let response = ask(&asset("app.css"), &[(header::ACCEPT_ENCODING, "br, gzip;q=0.8")]).await;
    assert_eq!(of(&response, header::CONTENT_ENCODING), "gzip");
    assert_eq!(of(&response, header::VARY), "accept-encoding");
    let mut plain = String::new();
    GzDecoder::new(&test::read_body(response).await[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, text("app.css"));
    for refused in ["identity", "gzip;q=0", ""] {
        let response = ask(&asset("app.css"), &[(header::ACCEPT_ENCODING, refused)]).await;
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{refused}");
    }
}

/// All that the documents name is ours: no other origin, nothing inline.
#[actix_rt::test]
async fn the_documents_name_files_that_are_there_and_hold_nothing_inline() {
    for path in ["/", "/login"] {
        let response = ask(path, &[]).await;
        let policy = of(&response, header::CONTENT_SECURITY_POLICY);
        assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none'"), "{policy}");
        let document = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
        assert!(!document.contains("{{") && !document.contains("<style") && !document.contains(" on"), "{document}");
        assert!(!document.contains("<script>"), "{document}");
        for name in between(&document, "href=\"", '"').chain(between(&document, "src=\"", '"')).filter(|name| *name != "data:,") {
            assert_eq!(ask(name, &[]).await.status(), StatusCode::OK, "{path} names {name}");
        }
    }
}

/// What masters say becomes text and never markup.
#[actix_rt::test]
async fn no_module_makes_markup_from_text() {
    for (name, text) in sources() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!text.contains(way), "{name} uses {way}");
        }
    }
}

#[actix_rt::test]
async fn every_text_is_there_in_both_languages_with_the_same_values() {
    for (name, languages) in strings() {
        let keys: Vec<&str> = languages.keys().map(String::as_str).collect();
        assert_eq!(keys, ["en", "zh"], "{name}");
        let values = |language: &str| between(&languages[language], "{", '}').map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(values("en"), values("zh"), "{name}");
        assert!(languages.values().all(|text| !text.trim().is_empty()), "{name}");
    }
}

/// Names in `t("...")` are there, and each name that is there occurs in the code: by itself, or its group in `word("...")`
/// or `` t(`...` ``.
#[actix_rt::test]
async fn the_code_uses_the_texts_that_there_are_and_no_others() {
    let strings = strings();
    let code: String = sources().filter(|(name, _)| *name != "strings.js").map(|(_, text)| text).collect();
    for (at, call) in code.match_indices("t(\"") {
        // Not the end of another name, such as `get("`.
        let alone = !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let name = code[at + call.len()..].split('"').next().unwrap();
        assert!(!alone || strings.contains_key(name), "t(\"{name}\") has no text");
    }
    for name in strings.keys() {
        let group = name.split('.').next().unwrap();
        let used = code.contains(&format!("\"{name}\""))
            || (group != name && (code.contains(&format!("word(\"{group}\"")) || code.contains(&format!("t(`{group}."))));
        assert!(used, "the text {name} is used nowhere");
    }
}
