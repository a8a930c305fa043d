#!/usr/bin/env python3
"""Counts which mutants of the planner the tests notice. cargo-mutants lists them; here all are compiled at once, each as
an arm of `match mutant()` around its function's body, and MUTANT chooses one at run time. So a mutant costs a run of the
tests and no build. First each meets the tests beside it, then the golden plans; those that live on meet the simulator.

usage: mutants.py CRATE [NAME]...    lays the crate out in a directory; with names only mutants that have one in theirs.
What became of each goes to CRATE/mutants.txt."""

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CRATE = Path(sys.argv[1])
ONLY = sys.argv[2:]
SWARM = os.environ.get("SWARM", "1500")
TESTS = [
    # The files' own tests; those of the library alone are named so.
    ("zexio", ["plan::"]),
    ("golden", []),
    ("sim", ["--skip", "swarm::"]),
    ("sim", ["swarm::report::", "--skip", "a_seed_repeats_exactly"]),
]


def listed():
    asked = ["cargo", "mutants", "--list", "--json", "--file", "src/plan/**"]
    found = json.loads(subprocess.run(asked, cwd=CRATE, check=True, capture_output=True, text=True).stdout)
    # What stands in a constant is decided when it is compiled.
    found = [mutant for mutant in found if mutant["function"]]
    return [mutant | {"number": number} for number, mutant in enumerate(found, 1)]


class Source:
    """A file, and where a line and column are in it."""

    def __init__(self, path):
        self.text = path.read_text()
        self.lines = [0]
        for line in self.text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def at(self, place):
        return self.lines[place["line"] - 1] + place["column"] - 1

    def span(self, span):
        return self.at(span["start"]), self.at(span["end"])

    def body(self, span):
        """The body is the first brace that no parenthesis is around."""
        start, end = self.span(span)
        depth, begin = 0, self.text.index("fn ", start)
        while depth or self.text[begin] != "{":
            depth += (self.text[begin] in "([") - (self.text[begin] in ")]")
            begin += 1
        return begin, end


def written(path, mutants):
    """Returns the file with an arm for each mutant, and on which lines each stands."""
    source = Source(path)
    functions = defaultdict(list)
    for mutant in mutants:
        functions[source.body(mutant["function"]["span"])].append(mutant)
    text, done, arms = "", 0, []
    for (begin, end), inside in sorted(functions.items(), key=lambda function: function[0]):
        text += source.text[done:begin] + "{ match crate::mutant() {\n"
        for mutant in inside:
            start, stop = source.span(mutant["span"])
            first = text.count("\n") + 1
            text += f"{mutant['number']} => {source.text[begin:start]}{mutant['replacement']} {source.text[stop:end]}\n"
            arms.append((first, text.count("\n"), mutant["number"]))
        text += f"_ => {source.text[begin:end]} }} }}"
        done = end
    return text + source.text[done:], arms


def compiled(mutants, originals):
    """Writes all mutants, and leaves out those that do not compile until the rest does. Returns these."""
    unviable = set()
    while True:
        arms = {}
        for path, original in originals.items():
            path.write_text(original)
            own = [mutant for mutant in mutants if CRATE / mutant["file"] == path and mutant["number"] not in unviable]
            text, arms[path] = written(path, own)
            path.write_text(text)
        check = ["cargo", "check", "--locked", "--lib", "--message-format=json"]
        said = subprocess.run(check, cwd=CRATE, capture_output=True, text=True).stdout
        messages = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        errors = [m["message"] for m in messages if m["reason"] == "compiler-message" and m["message"]["level"] == "error"]
        if not errors:
            return unviable
        before = len(unviable)
        for error in errors:
            # Where arms differ in type, the compiler points at the original and only notes the mutant.
            at = lambda noted: {
                number
                for span in error["spans"]
                if span["is_primary"] or noted
                for first, last, number in arms.get(CRATE / span["file_name"], [])
                if first <= span["line_start"] <= last
            }
            unviable |= at(False) or at(True)
        print(f"{len(unviable)} do not compile", flush=True)
        if len(unviable) == before:
            sys.exit("could not compile the mutants:\n" + "".join(error["rendered"] for error in errors))


def binaries():
    build = ["cargo", "test", "--locked", "--lib", "--test", "golden", "--test", "sim", "--no-run", "--message-format=json"]
    said = subprocess.run(build, cwd=CRATE, check=True, capture_output=True, text=True).stdout
    made = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: m["executable"] for m in made if m.get("executable")}


def runs(made, test, number, seconds):
    """Runs a test on a mutant. What is limited is the processor's time: a busy machine is no endless loop."""
    name, arguments = test
    environment = os.environ | {"MUTANT": str(number), "SWARM": SWARM, "RUST_BACKTRACE": "0"}
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    command = [made[name], *arguments]
    ended = subprocess.run(command, cwd=CRATE, env=environment, preexec_fn=limit, capture_output=True).returncode
    return "missed" if ended == 0 else "caught" if ended == 101 else "timeout"


def main():
    subprocess.run(["tests/mutants/crate.sh", CRATE], check=True)
    sources = sorted((CRATE / "src/plan").rglob("*.rs"))
    originals = {path: path.read_text() for path in sources}
    mutants = [mutant for mutant in listed() if not ONLY or any(only in mutant["name"] for only in ONLY)]
    results = {number: ("unviable", "") for number in compiled(mutants, originals)}
    made = binaries()
    left = [mutant for mutant in mutants if mutant["number"] not in results]
    print(f"{len(left)} mutants", flush=True)
    for test in TESTS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if runs(made, test, 0, 3600) != "missed":
            sys.exit(f"{test} fails without a mutant")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        usual = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        name, began = " ".join([test[0], *test[1]]), time.monotonic()
        with ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count()))) as pool:
            ends = pool.map(lambda mutant: runs(made, test, mutant["number"], int(usual * 10) + 20), left)
            for mutant, end in zip(left, ends):
                results[mutant["number"]] = (end, name)
                if end != "caught":
                    print(f"{end} by {name}: {mutant['name']}", flush=True)
        left = [mutant for mutant in left if results[mutant["number"]][0] == "missed"]
        print(f"{len(left)} live on after {name} ({usual:.1f} s each), {time.monotonic() - began:.0f} s", flush=True)
    lines = [f"{results[mutant['number']][0]} {mutant['name']}\n" for mutant in mutants]
    (CRATE / "mutants.txt").write_text("".join(lines))
    print(dict(Counter(end for end, _ in results.values())))


main()
