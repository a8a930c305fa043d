//! A command: a list of words, or a text that is split into words; and what is filled in.

mod copied;
mod placeholder;
mod reader;
mod syntax;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use copied::{copied_from, for_another_user, whole_line};
use reader::Reader;
use syntax::Syntax;

/// The variables that are filled in wherever they occur in a command.
const FILLED_IN: [&str; 3] = ["PORT", "HOST", "DATA_DIR"];

/// A command: a list of words, or one string split as a shell splits words. No shell runs it.
///
/// In its words `$PORT`, `$HOST` and `$DATA_DIR` stand for their values, and a dollar that should stay before one of
/// these names is doubled. Every other dollar is itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Returns the words, before anything is filled in; there is at least one.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Returns the words with the values of `variables` filled in. A name without a value stays as it is.
    pub fn filled_in(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        self.0.iter().map(|word| fill_in(word, &mut |name| variables.get(name).cloned())).collect()
    }

    /// Returns whether one of the words has this variable filled in.
    pub fn uses(&self, variable: &str) -> bool {
        let mut found = false;
        for word in &self.0 {
            fill_in(word, &mut |name| {
                found |= name == variable;
                None
            });
        }
        found
    }

    /// Checks the words.
    ///
    /// # Errors
    /// The program is not a name, an absolute path, or a path beneath the bundle.
    pub fn of_words(words: Vec<String>) -> Result<Self, String> {
        let Some(program) = words.first() else { return Err("the command is empty".into()) };
        if program.is_empty() || program.starts_with(['+', '-', '!', '@', ':', '|']) {
            return Err(format!(
                "{program:?} is not a program: a name, an absolute path, or a path beneath the bundle like ./app"
            ));
        }
        if !program.starts_with('/') && program.split('/').any(|part| part == "..") {
            return Err(format!("{program:?} leads out of the bundle"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(NUL.into());
        }
        Ok(Self(words))
    }

    /// Reads a command from one text.
    ///
    /// # Errors
    /// It contains what only a shell understands; the message has the list that runs one.
    pub fn of_text(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err(NUL.into());
        }
        let reader = Reader::of(text)?;
        let filled = placeholder::replaced(text);
        if let Some(placeholder::Found { written, name, text }) = filled {
            let as_it_is = if written.starts_with(['$', '<']) { "" } else { "; quote it if it is meant as it is" };
            return Err(format!("{written} is not filled in, ${name} is; {}{as_it_is}", Reader::line_of(&text)));
        }
        match reader.found() {
            Some(syntax @ Syntax::Foreign(_)) => Err(syntax.to_string()),
            Some(syntax) => Err(format!("{syntax}; {}", reader.instead(&syntax))),
            None => Self::of_words(reader.words),
        }
    }

    /// Says what is wrong with a program that cannot be one. A stored command is not checked again: it was accepted
    /// once. `unconfined`: it runs without a sandbox.
    pub fn flaw(&self, unconfined: bool) -> Option<String> {
        let (program, arguments) = self.0.split_first()?;
        let copied =
            copied_from(program, arguments).or_else(|| for_another_user(program, arguments).filter(|_| !unconfined));
        let kubernetes = || {
            let written = |name: &&&str| self.0.iter().any(|word| word.contains(&format!("$({name})")));
            let name = FILLED_IN.iter().find(written)?;
            Some(format!("$({name}) is how Kubernetes fills in a variable; write ${name}"))
        };
        let whole_line = || whole_line(program).filter(|_| arguments.is_empty());
        if let Some(flaw) = copied.or_else(kubernetes).or_else(whole_line) {
            return Some(flaw);
        }
        let after_name =
            |text: &str| name_in(text).filter(|(name, _)| !FILLED_IN.contains(name)).map(|(_, length)| length);
        let unknown = program.strip_prefix('$').and_then(|text| text[after_name(text)?..].strip_prefix('/'));
        (program.starts_with('~') || unknown.is_some()).then(|| {
            format!(
                "{program:?} is a place that only a shell finds, and apps cannot get at homes; a program of the artifact is \
                 written ./name, one of the project's data $DATA_DIR/name, one that is installed by its name or whole path"
            )
        })
    }
}

const NUL: &str = "a word holds a NUL byte, which no argument can";

/// Replaces the names that are filled in; the values come from `value`.
fn fill_in(word: &str, value: &mut dyn FnMut(&str) -> Option<String>) -> String {
    let (mut filled, mut rest) = (String::with_capacity(word.len()), word);
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let dollars = rest[at..].len() - rest[at..].trim_start_matches('$').len();
        rest = &rest[at + dollars..];
        let Some((name, length)) = name_in(rest).filter(|(name, _)| FILLED_IN.contains(name)) else {
            filled.push_str(&"$".repeat(dollars));
            continue;
        };
        filled.push_str(&"$".repeat(dollars / 2));
        if dollars % 2 == 0 {
            filled.push_str(&rest[..length]);
        } else {
            match value(name) {
                Some(value) => filled.push_str(&value),
                None => filled.push_str(&format!("${}", &rest[..length])),
            }
        }
        rest = &rest[length..];
    }
    filled.push_str(rest);
    filled
}

/// Returns the variable that a text begins with, without the dollar before it, and its length as written.
fn name_in(text: &str) -> Option<(&str, usize)> {
    if let Some(inside) = text.strip_prefix('{') {
        let name = &inside[..inside.find('}')?];
        return is_name(name).then_some((name, name.len() + 2));
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    is_name(&text[..length]).then_some((&text[..length], length))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a string or a list of words")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Command, E> {
                Command::of_text(raw).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Command, A::Error> {
                let words = Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                Command::of_words(words).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).0
    }

    fn run(text: &str) -> Vec<String> {
        let values = [("PORT", "21003"), ("HOST", "127.0.0.1"), ("DATA_DIR", "/data")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).filled_in(&values)
    }

    fn refusal(text: &str) -> String {
        Command::of_text(text).err().unwrap_or_default()
    }

    #[test]
    fn a_text_without_shell_syntax_is_split_as_a_shell_splits_it() {
        for text in [
            "./app",
            "  ./app  serve\t--a=b c=d\n",
            "./app 'a && b' \"x; y\" a\\ b '' \"\" a'b'\"c\"d",
            "./app \"a\\\"b\\n\" # a comment",
            "./app a#b -- {} * ~ ? [x] (y) !z %h --f={a,b} A=b",
            "é 'ü' \"→\"",
        ] {
            assert_eq!(words(text), shlex::split(text).unwrap(), "{text}");
        }
        assert_eq!(words("./app \\\n --long"), ["./app", "--long"], "a line that goes on, as in a shell");
        for text in ["'", "a \"b", "a \\"] {
            assert!(shlex::split(text).is_none() && Command::of_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn three_variables_are_filled_in_wherever_they_stand_in_a_text() {
        for (text, meant) in [
            ("./app $PORT --port", "21003"),
            ("./app --listen=$HOST:$PORT", "--listen=127.0.0.1:21003"),
            ("./app x${PORT}y", "x21003y"),
            ("./app \"$DATA_DIR/my file\"", "/data/my file"),
            ("./app '${DATA_DIR}/x'", "/data/x"),
            ("./app '$OTHER $(x) && `y` $PORTS'", "$OTHER $(x) && `y` $PORTS"),
            ("./app $$", "$"),
            ("./app $$PORT", "$PORT"),
            ("./app $$$PORT", "$21003"),
            ("./app $$$$PORT", "$$PORT"),
            ("./app \\$PORT", "$PORT"),
            ("./app \"\\$PORT\"", "$PORT"),
            ("./app \\$'PORT'", "$PORT"),
            ("./app $$HOME 5$ 1$% a", "$HOME"),
        ] {
            assert_eq!(run(text)[1], meant, "{text}");
        }
        assert_eq!(run("$DATA_DIR/bin/app"), ["/data/bin/app"]);
    }

    #[test]
    fn in_a_list_three_variables_are_filled_in_and_the_rest_stays() {
        let list = |word: &str| {
            let values = [("DATA_DIR".to_owned(), "/data".to_owned())].into();
            Command::of_words(vec!["sh".into(), word.into()]).unwrap().filled_in(&values)[1].clone()
        };
        for (written, meant) in [
            ("cd $DATA_DIR && exec x \"$HOME\" | y > ${DATA_DIR}/z", "cd /data && exec x \"$HOME\" | y > /data/z"),
            ("echo $$ $DATA_DIRS ${DATA_DIR:-x} $", "echo $$ $DATA_DIRS ${DATA_DIR:-x} $"),
            ("$$DATA_DIR", "$DATA_DIR"),
            ("$PORT", "$PORT"),
        ] {
            assert_eq!(list(written), meant, "{written}");
        }
    }

    #[test]
    fn a_program_that_only_a_shell_finds_is_a_flaw_and_is_read_all_the_same() {
        for (words, flawed) in [
            (["~/bin/app", "x"], true),
            (["$HOME/bin/app", "x"], true),
            (["${HOME}/app", "x"], true),
            (["$DATA_DIR/app", "x"], false),
            (["./app", "~/x"], false),
            (["sh", "$HOME"], false),
        ] {
            let command = Command::of_words(words.map(str::to_owned).to_vec()).unwrap();
            assert_eq!(command.flaw(false).is_some(), flawed, "{words:?}");
        }
        for text in ["~/bin/app serve", "$HOME/bin/app serve", "${HOME}/bin/app serve"] {
            let flaw = Command::of_words(words(text)).unwrap().flaw(false).unwrap_or_default();
            assert!(flaw.contains("apps cannot get at homes"), "{text}: {flaw}");
        }
        assert!(refusal("./app $HOME/x").contains("$HOME is filled in by a shell"));
    }

    #[test]
    fn an_option_on_the_next_line_is_joined_to_its_command() {
        let said = refusal("./app serve\n  --port $PORT\n  -v\n");
        assert!(said.ends_with("; write ./app serve --port $PORT -v"), "{said}");
        assert!(refusal("./a\n./b").contains("where another command begins"));
        assert!(refusal("./a x\u{2000}y|z").contains('|'), "a wide blank is no byte");
        for program in [r"a\ b*", r"\ \n", r"ü*\n", "ü:", "[ü"] {
            let command = Command::of_words(vec![program.to_owned(), "x]".to_owned()]).unwrap();
            assert_eq!(command.flaw(false), None, "a file may have any name");
        }
    }

    #[test]
    fn what_other_tools_fill_in_is_refused_with_the_line_to_write() {
        for (text, written, line) in [
            ("./a --port %PORT%", "%PORT%", "write ./a --port $PORT; quote it"),
            ("./a -b {{HOST}}:{{ PORT }}", "{{HOST}}", "write ./a -b $HOST:$PORT; quote it"),
            ("./a --port={{ .PORT }} {{env.HOST}}", "{{ .PORT }}", "write ./a --port=$PORT $HOST"),
            ("./a {PORT}", "{PORT}", "write ./a $PORT"),
            ("./a <PORT>", "<PORT>", "write ./a $PORT"),
            ("./a @PORT@ __HOST__", "@PORT@", "write ./a $PORT $HOST"),
            ("./a $(PORT)", "$(PORT)", "write ./a $PORT"),
            ("./a \"$(DATA_DIR)/x y\"", "$(DATA_DIR)", "write ./a \"$DATA_DIR/x y\""),
            ("./a ${PORT:-3000}", "${PORT:-3000}", "write ./a $PORT"),
            ("./a -b ${HOST-0.0.0.0}:${PORT}", "${HOST-0.0.0.0}", "write ./a -b $HOST:${PORT}"),
            ("./a ${{ PORT }}", "${{ PORT }}", "write ./a $PORT"),
            ("./a $env:PORT", "$env:PORT", "write ./a $PORT"),
            ("./a $port", "$port", "write ./a $PORT"),
            ("./a --port=${process.env.PORT}", "${process.env.PORT}", "write ./a --port=$PORT"),
            ("./a -p${process.env.PORT || 3000}x", "${process.env.PORT || 3000}", "write ./a -p${PORT}x"),
            ("./a ${server.host}:${server.port:8080}", "${server.host}", "write ./a $HOST:$PORT"),
            ("./a \"${app.server.port}\"", "${app.server.port}", "write ./a \"$PORT\""),
            ("./a ${PORT:8080}", "${PORT:8080}", "write ./a $PORT"),
            ("./a ${port:8080}", "${port:8080}", "write ./a $PORT"),
            ("./a ${ PORT }", "${ PORT }", "write ./a $PORT"),
            ("./a ${{ vars.PORT }}", "${{ vars.PORT }}", "write ./a $PORT"),
            ("./a -p <%= ENV['PORT'] %>", "<%= ENV['PORT'] %>", "write ./a -p $PORT"),
            ("./a -p <%= ENV.fetch(\"PORT\", 3000) %>", "<%= ENV.fetch(\"PORT\", 3000) %>", "write ./a -p $PORT"),
            ("./a <%=port%>", "<%=port%>", "write ./a $PORT"),
            ("./a #{ENV['PORT']}", "#{ENV['PORT']}", "write ./a $PORT"),
            ("./a {{ env \"PORT\" }}", "{{ env \"PORT\" }}", "write ./a $PORT"),
            ("./a {$PORT} {env.HOST}", "{$PORT}", "write ./a $PORT $HOST"),
            ("./a --port=%(ENV_PORT)s", "%(ENV_PORT)s", "write ./a --port=$PORT; quote it"),
            ("./a [PORT]", "[PORT]", "write ./a $PORT; quote it"),
            ("./a <port> -v", "<port>", "write ./a $PORT"),
            ("./a --bind 0.0.0.0:port", "port", "write ./a --bind 0.0.0.0:$PORT; quote it"),
            ("./a :PORT", "PORT", "write ./a :$PORT; quote it"),
            ("./a -b $HOST:port", "port", "write ./a -b $HOST:$PORT"),
            ("cd x && ./a %PORT%", "%PORT%", r#"[sh, -c, "cd x && exec ./a $PORT"]"#),
        ] {
            let said = refusal(text);
            let begin = format!("{written} is not filled in, $");
            assert!(said.starts_with(&begin) && said.contains(line), "{text}: {said}");
        }
        for text in [
            "./a '%PORT%' \"{PORT}\" '<PORT>'",
            "./a name:port --map a:PORT [port] [x] [PORTS] %(ENV_PORTS)s \\${a.port} $${a.b}",
            "node -e 'listen(`${process.env.PORT}`)'",
            "./a %h %PORTS% {PORTS} x{PORT}y {{ port }} {host} %PORT a@HOST b__PORT__",
            "./a --query 'SELECT * FROM x' --match '^a.*$' \"*.js\"",
            "./a *.js --origin *.example.com --allow * -I ?",
            "java -cp lib/* Main",
            "node server.js *.txt",
            "sh -c 'exec node *.js'",
            "./a 'C:\\x' \"a\\b\"",
        ] {
            assert_eq!(refusal(text), "", "{text}");
        }
    }

    #[test]
    fn what_no_shell_fills_in_gets_no_advice_to_run_one() {
        for (text, written) in [
            ("./a --db=${process.env.DATABASE_URL}", "${process.env.DATABASE_URL}"),
            ("cd x && ./a ${app.name}", "${app.name}"),
            ("./a > log ${{ matrix.x }}", "${{ matrix.x }"),
            ("./a \"${#A:-x}\" &", "${#A:-x}"),
            ("./a <%= name %>", "<%= name %>"),
            ("./a --token <YOUR-TOKEN> x", "<YOUR-TOKEN>"),
            ("./a --token <your token>", "<your token>"),
            ("./a <name> --x", "<name>"),
        ] {
            let said = refusal(text);
            let is_foreign = said.starts_with(&format!("{written} is filled in by another tool"));
            assert!(is_foreign && !said.contains("-c"), "{text}: {said}");
        }
        let said = refusal("./a ${server.port} ${app.name}");
        assert!(said.contains("$PORT is; ${app.name} is filled in by another tool"), "{said}");
        for (text, shell) in [
            ("./a ${A:-x} ${A%y} ${#A} ${A+z} ${1}", "[sh, -c"),
            ("./a ${A/x/y}", "[bash, -c"),
            ("./a ${A:0:3}", "[bash, -c"),
            ("./a ${A^^}", "[bash, -c"),
            ("./a ${A[0]} ${#A[@]} ${!A}", "[bash, -c"),
            ("./a <in >out", "[sh, -c"),
            ("./a <in> out", "[sh, -c"),
        ] {
            assert!(refusal(text).contains(shell), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn a_line_copied_from_elsewhere_is_known_by_its_first_word() {
        for (text, said) in [
            ("web: node server.js", "web: is how a line of a Procfile begins; write node server.js"),
            ("CMD node server.js", "CMD is a Dockerfile's word; write node server.js"),
            ("'$' ./app --x 'a b'", "$ is a shell's prompt; write ./app --x 'a b'"),
            (r#"["node", "server.js"]"#, "without quotes around it: run: [node, server.js]"),
            ("./app-* serve", r#"name the program, or write [sh, -c, "exec ./app-* serve"]"#),
            ("'bin\\app'", "is a path of Windows"),
            ("sudo ./app --x", "write ./app --x"),
            ("sudo -E -u www-data A=b ./app -u x", "write ./app -u x"),
            ("sudo -- node s.js", "write node s.js"),
            ("gosu app ./app", "gosu is for other users"),
            ("su-exec app:app ./app x", "write ./app x"),
            ("doas ./app", "write ./app"),
            ("su - app -c ./app", "su is for"),
        ] {
            let flaw = Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).flaw(false);
            assert!(flaw.as_ref().is_some_and(|flaw| flaw.contains(said)), "{text}: {flaw:?}");
        }
        let list = |words: &[&str]| Command::of_words(words.iter().map(|word| (*word).to_owned()).collect()).unwrap();
        assert!(list(&["./a", "--port=$(PORT)"]).flaw(false).unwrap().ends_with("write $PORT"));
        assert_eq!(list(&["sudo", "./a"]).flaw(true), None, "without a sandbox it may be allowed");
        for (line, words) in [
            ("npm start", r#"["npm", "start"]"#),
            ("./app --port 3000", r#"["./app", "--port", "3000"]"#),
            ("sh -c \"python3 a.py\"", r#"["sh", "-c", "python3 a.py"]"#),
        ] {
            let flaw = list(&[line]).flaw(false).unwrap_or_default();
            assert!(flaw.ends_with(&format!("a list has each word by itself: {words}")), "{line}: {flaw}");
        }
        for words in [&["./my app"][..], &["/opt/My App/bin/x"], &["my app", "x"]] {
            assert_eq!(list(words).flaw(false), None, "{words:?}");
        }
        for words in [&["./a", "*", "web:", "$(date)"][..], &["[", "-e", "x", "]"], &["sh", "-c", "sudo x"]] {
            assert_eq!(list(words).flaw(false), None, "{words:?}");
        }
    }

    #[test]
    fn shell_syntax_is_refused_with_the_list_that_runs_a_shell() {
        for (text, what, list) in [
            ("./a && ./b", "&& is what runs one command after another", r#"[sh, -c, "./a && exec ./b"]"#),
            ("cd app && node s.js", "cd is a shell's own word", r#"[sh, -c, "cd app && exec node s.js"]"#),
            ("cd app; node s.js", "cd is", r#"[sh, -c, "cd app; exec node s.js"]"#),
            ("NODE_ENV=production ./app", "put NODE_ENV under env", r#"[sh, -c, "NODE_ENV=production ./app"]"#),
            ("./a | ./b", "| is a shell's pipe", r#"[sh, -c, "./a | ./b"]"#),
            ("./a | ./b", "at a stop both sides are signalled", ""),
            ("python3 w.py | cat", "leave out `| cat`, since the journal keeps", "write python3 w.py"),
            ("./a --x 2>&1 | tee -a $DATA_DIR/log", "leave out `| tee -a", "write ./a --x"),
            ("./a |& logger -t a", "leave out `| logger -t a`", "write ./a"),
            ("nohup ./a 2>&1 | tee log &", "leave out `| tee log`", "write ./a"),
            ("cd x && ./a | tee log", "leave out `| tee log`", r#"[sh, -c, "cd x && exec ./a"]"#),
            ("./a | grep -v x | tee log", "leave out `| tee log`", r#"[sh, -c, "./a | grep -v x"]"#),
            ("cat x | ./a", "| is a shell's pipe", r#"[sh, -c, "cat x | ./a"]"#),
            ("./a | tee log | ./b", "| is a shell's pipe", r#"[sh, -c, "./a | tee log | ./b"]"#),
            ("./a || ./b", "|| is", r#"[sh, -c, "./a || ./b"]"#),
            ("./a > \"$DATA_DIR/log\"", "> is", r#"[sh, -c, "exec ./a > \"$DATA_DIR/log\""]"#),
            ("./a 2>&1", ">& is", r#"[sh, -c, "exec ./a 2>&1"]"#),
            ("./a > log", "a file of its own belongs in $DATA_DIR", r#"[sh, -c, "exec ./a > $DATA_DIR/log"]"#),
            ("./a >>'my log' 2>&1", ">> is", r#"[sh, -c, "exec ./a >>'$DATA_DIR/my log' 2>&1"]"#),
            ("./a &> log", "&> is", r#"[bash, -c, "exec ./a &> $DATA_DIR/log"]"#),
            ("cat <<EOF\nhi\nEOF", "<< is", r#"[sh, -c, "cat <<EOF\nhi\nEOF"]"#),
            ("cat <<< hi", "<< is", r#"[bash, -c, "exec cat <<< hi"]"#),
            (
                "source env.sh && ./a",
                "what that file sets stands under env",
                r#"[bash, -c, "source env.sh && exec ./a"]"#,
            ),
            (". env.sh && ./a", ". is a shell's own word", r#"[bash, -c, ". env.sh && exec ./a"]"#),
            (". ./env.sh; ./a", ". is a shell's own word", r#"[sh, -c, ". ./env.sh; exec ./a"]"#),
            ("export A=b && ./a", "variables stand under env", r#"[sh, -c, "export A=b && exec ./a"]"#),
            ("nohup ./a --x &", "leave out & and nohup; write ./a --x", ""),
            ("nohup ./a > log 2>&1 &", "leave out & and nohup", r#"[sh, -c, "exec ./a > $DATA_DIR/log 2>&1"]"#),
            ("cd x && ./a &", "leave out & and nohup", r#"[sh, -c, "cd x && exec ./a"]"#),
            ("./a & ./b", "is a process of its own", r#"[sh, -c, "./a & exec ./b"]"#),
            ("./a http://x/?a=1&b=2 -v", "& ends a word in a shell", "quote it; write ./a 'http://x/?a=1&b=2' -v"),
            ("./a --u=http://x/?a=1&b=2;c", "& ends a word", "quote it; write ./a '--u=http://x/?a=1&b=2;c'"),
            ("if true; then ./a; fi", "if is", r#"[sh, -c, "if true; then ./a; fi"]"#),
            ("./a; (./b)", "; is", r#"[sh, -c, "./a; (./b)"]"#),
            ("./a<b", "< is", "exec ./a<b"),
            ("./a &", "& starts a command in the background", "write ./a"),
            ("./a;./b", "; is", r#"[sh, -c, "./a; exec ./b"]"#),
            ("./a `date`", "` is the output of another command", "exec ./a `date`"),
            ("./a \"`date`\"", "` is", "`date`"),
            ("./a $(date)", "$( is", "exec ./a $(date)"),
            ("./a --x=$HOME/y", "$HOME is filled in by a shell", "exec ./a --x=$HOME/y"),
            ("./a \"${NAME}\"", "${NAME} is", r#"exec ./a \"${NAME}\""#),
            ("./a $(date) $(NAME)", "$( is", "exec ./a $(date) $NAME"),
            ("./a ${NAME:-3000}", "${NAME:-3000} is", "exec ./a ${NAME:-3000}"),
            ("./a;", "; is", "write ./a"),
            (
                "node *.js",
                "*.js is a shell's pattern for names",
                r#"name the file; to run a shell, write [sh, -c, "exec node *.js"]"#,
            ),
            ("java -Xmx1g -jar target/*.jar", "is a shell's pattern", "exec java -Xmx1g -jar target/*.jar"),
            (".\\start.cmd x", ".\\start.cmd is a path of Windows", "separated by /; write ./start.cmd x"),
            ("C:\\app\\x.exe", "is a path of Windows", "write app/x.exe"),
            ("./a $1", "$1 is", "exec ./a $1"),
            ("./a $PORTS", "$PORTS is", "exec ./a $PORTS"),
            ("exec ./a", "so leave it out", "write ./a"),
            ("npm ci\nnpm start", "a new line is", r#"[sh, -c, "npm ci\nnpm start"]"#),
            ("sh -c \"./a $X\"", "$X is", r#"[sh, -c, "./a $X"]"#),
        ] {
            let said = refusal(text);
            assert!(said.contains(what) && said.contains(list), "{text}: {said}");
        }
    }
}
