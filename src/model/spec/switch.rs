//! Reads one of a set of words that includes `off`. In YAML 1.1 `off`, `no` and `false` are one value, so programs that
//! write it turn `off` into `false`.

use std::fmt;
use std::marker::PhantomData;

use schemars::Schema;
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::{Value, json};

/// Reads `T` from one of its words, and `off` from what YAML 1.1 makes of it.
///
/// # Errors
/// Not one of the words, which the message lists. No word corresponds to `true`.
pub fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Word<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Word<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word")
        }
        fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
            let is_off = ["off", "no", "false"].iter().any(|off| word.eq_ignore_ascii_case(off));
            T::deserialize(StrDeserializer::new(if is_off { "off" } else { word }))
        }
        fn visit_bool<E: de::Error>(self, on: bool) -> Result<T, E> {
            self.visit_str(if on { "true" } else { "off" })
        }
    }
    deserializer.deserialize_any(Word(PhantomData))
}

/// Adds to the schema that `false` is accepted too.
pub fn allow_false(schema: &mut Schema) {
    let off = json!({ "const": false, "description": "The same as `off`, as YAML 1.1 writes it." });
    match schema.get_mut("oneOf") {
        Some(Value::Array(words)) => words.push(off),
        _ => {
            let words = std::mem::take(schema).to_value();
            schema.insert("anyOf".into(), json!([words, off]));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::document::parse;
    use crate::model::spec::{Document, Sandbox, Tls};

    fn read(sandbox: &str, tls: &str) -> Result<Document, String> {
        let text = format!(
            "zexio: 1\nproject: shop\nartifact: {{ file: x }}\nsandbox: {sandbox}\n\
             processes: {{ web: {{ run: ./x, routes: [{{ host: a.b.c, tls: {tls} }}] }} }}\n"
        );
        parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_yaml_makes_of_off_is_off() {
        for off in ["off", "Off", "OFF", "\"off\"", "false", "False", "FALSE", "no", "No", "NO"] {
            let document = read(off, off).unwrap_or_else(|error| panic!("{off}: {error}"));
            let route = document.processes.values().flat_map(|process| &process.routes).next().unwrap();
            assert_eq!((document.sandbox, route.tls), (Sandbox::Off, Tls::Off), "{off}");
        }
        let json =
            r#"{"zexio":1,"project":"shop","artifact":{"file":"x"},"sandbox":false,"processes":{"web":{"run":"./x"}}}"#;
        assert_eq!(parse(json.as_bytes()).unwrap().sandbox, Sandbox::Off);
    }

    #[test]
    fn nothing_is_made_of_on() {
        for on in ["true", "on", "yes"] {
            let refused = |sandbox, tls| read(sandbox, tls).err().unwrap_or_default();
            let said = format!("sandbox: \"{on}\" is not one of standard, strict, off");
            assert!(refused(on, "off").contains(&said), "{}", refused(on, "off"));
            let said = format!("tls: \"{on}\" is not one of auto, internal, off");
            assert!(refused("off", on).contains(&said), "{}", refused("off", on));
        }
        assert!(read("3", "off").is_err_and(|error| error.contains("the number 3 stands where a word is expected")));
    }
}
