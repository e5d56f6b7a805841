//! The texts made from the tables of flags and verbs: `heapster --help`, `heapster help VERB`,
//! docs/configuration.md and docs/cli.md.

use std::fmt::Write as _;

use super::flags::{FLAGS, Flag, Group};
use super::value::Kind;
use super::verbs::{VERBS, Verb};

const INTRO: &str = "\
heapster collects resource metrics, keeps them on disk and serves the Heapster APIs.

Usage:
  heapster [serve] [flags]   collect, store and serve until told to stop
  heapster VERB …            ask a store, or do something with its directory
  heapster help [VERB]       print this help, or that of a verb
  heapster version           print version and commit
";

const EXAMPLES: &str = "
Examples:
  heapster
      Collect this machine (in a pod: its cluster) and serve on http://127.0.0.1:8082/.
  heapster --data-dir=./data --metric-resolution=10s --sink=log
      Keep data in ./data, take a batch every ten seconds, and print each one.
  heapster --source='kubernetes.summary_api:?inClusterConfig=false&auth=/root/.kube/config'
      Collect a cluster from outside.
  heapster --source=none --data-dir=/backup/heapster --heapster-port=9000
      Look at stored data without collecting or deleting any.
  heapster export ./data -o yesterday.parquet --start=-1d
      Take a day of it to another program.

Flags of serve are --name=value or --name value; - and _ in names are alike. A duration is written
as in Go: 20s, 1m30s, 1h.
";

const OUTRO: &str = "
Signals: SIGTERM and SIGINT end the process within ten seconds, with everything stored; a second one
ends it at once. Exit codes: 0 ok, 1 failed while running, 2 command line or configuration, 3 the
data directory is in use, 4 the data directory was written by a newer version.
";

const EXIT_CODES: &str = "0 ok, 1 failed, 2 the command line or something it names is not usable, \
                          3 another process has the store open, 4 a newer version wrote it.";

/// Where help texts begin, and where lines end.
const INDENT: usize = 8;
const WIDTH: usize = 100;

/// The text of `heapster --help`.
pub fn help() -> String {
    let mut text = INTRO.to_owned();
    text.push_str("\nVerbs:\n");
    for verb in VERBS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<9}{}", verb.name, verb.summary);
    }
    text.push_str(EXAMPLES);
    for group in Group::ALL {
        let _ = writeln!(text, "\n{}:", group.title());
        let flags: Vec<&Flag> = FLAGS.iter().filter(|flag| flag.group == group).collect();
        if group == Group::NoEffect {
            let names: Vec<String> = flags.iter().map(|flag| format!("--{}", flag.name)).collect();
            wrap(&mut text, 2, &names.join(" "));
            continue;
        }
        describe(flags, &mut text);
    }
    text + OUTRO
}

/// The text of `heapster help VERB`.
pub fn help_of(verb: &Verb) -> String {
    let mut text = format!("heapster {}: {}\n", verb.name, verb.summary);
    let _ = writeln!(text, "\nUsage:\n  heapster {} {} [flags]", verb.name, verb.words);
    for paragraph in verb.about {
        text.push('\n');
        wrap(&mut text, 0, paragraph);
    }
    text.push_str("\nFlags:\n");
    describe(verb.flags, &mut text);
    text.push_str("\nExamples:\n");
    for (line, purpose) in verb.examples {
        let _ = writeln!(text, "  {line}");
        wrap(&mut text, INDENT, purpose);
    }
    text.push('\n');
    wrap(&mut text, 0, &format!("Exit codes: {}", exit_codes(verb)));
    text
}

fn exit_codes(verb: &Verb) -> &'static str {
    if verb.exit_codes.is_empty() { EXIT_CODES } else { verb.exit_codes }
}

/// The lines of flags in a help text.
fn describe<'a>(flags: impl IntoIterator<Item = &'a Flag>, text: &mut String) {
    for flag in flags {
        let _ = writeln!(text, "  --{}{}", flag.name, argument(flag));
        wrap(text, INDENT, &format!("{}{}", flag.help, default_note(flag)));
    }
}

fn argument(flag: &Flag) -> String {
    match flag.kind {
        Kind::Bool => String::new(),
        kind => format!("={}", kind.placeholder().trim_start_matches('|')),
    }
}

fn default_note(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "") | (Kind::Bool, "false") => String::new(),
        (_, default) => format!(" Default: `{default}`."),
    }
}

fn wrap(into: &mut String, indent: usize, text: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            into.push('\n');
            column = 0;
        }
        if column == 0 {
            into.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            into.push(' ');
            column += 1;
        }
        into.push_str(word);
        column += length;
    }
    into.push('\n');
}

const PAGE_INTRO: &str = "\
# Configuration

`heapster` is configured by its command line alone. This page is made from the program's table of
flags (`heapster-server/src/cli/flags.rs`); a test compares them.

```text
heapster [serve] [flags]
```

Flags are `--name=value` or `--name value`. `-` and `_` in names are alike, so `--metric_resolution`
works as it did in Heapster. A flag that is true or false is set by its name alone or by
`--name=false`. Of a flag given twice the last one counts, unless it may be repeated. Durations are
written as in Go: `20s`, `1m30s`, `1h`.

An unknown flag or a value that is not accepted ends the program with exit code 2 before anything
is opened.
";

const PAGE_OUTRO: &str = "
## Sources and sinks

A source or sink is `KEY[:URL]` with options in the query of the URL. `$VAR` and `${VAR}` in the URL
are replaced by environment variables.

| source | what it collects |
|---|---|
| `host` | this machine, as one node with its containers |
| `kubernetes.summary_api` | the kubelets of a cluster, by `GET /stats/summary/` |
| `kubernetes` | the same kubelets by `POST /stats/container/`, for old ones |
| `none` | nothing; what is stored is served |

| sink | what it does |
|---|---|
| `metric` | accepted; the store, which is always there, takes its place |
| `log` | prints each batch to stdout as Heapster's log sink printed it |

`elasticsearch`, `gcm`, `graphite`, `hawkular`, `honeycomb`, `influxdb`, `kafka`, `librato`,
`opentsdb`, `riemann`, `stackdriver`, `statsd` and `wavefront` are known but not available in this
version. A sink that cannot be built is logged and skipped; when sinks were asked for and none could
be built, the program ends with exit code 2.

## Rounds

A round starts for each interval of the resolution, aligned to UTC, five seconds after the interval
ends (a quarter of the resolution if that is less). Its batch closes when all sources have answered.
It does not wait long for the last ones: about two seconds, or three times what most have taken, and
one second for those that gave nothing in the round before. At the latest it closes after 20 seconds
or a little less than the resolution. A source that has not answered by then is missing from that
batch; nothing else is. Sinks have queues of eight batches; what
a full queue cannot take is dropped and counted in `heapster_exporter_dropped_batches_total`. The
store has no queue: a round waits for it.

## Signals and exit codes

SIGTERM and SIGINT stop the rounds, close the batch under way with what has arrived, work off the
sinks' queues, write everything to disk and end with code 0, within ten seconds. A second signal ends the process at once;
the store recovers at the next start.

| exit code | meaning |
|---|---|
| 0 | ended as asked |
| 1 | failed while running |
| 2 | the command line, or something it names, is not usable |
| 3 | another process uses the data directory |
| 4 | the data directory was written by a newer version |
";

/// The text of docs/configuration.md.
pub fn page() -> String {
    let mut text = PAGE_INTRO.to_owned();
    for group in Group::ALL {
        let _ = write!(text, "\n## {}\n", group.title());
        match group {
            Group::Securing => {
                text.push_str("\nHow these work together is in [security.md](security.md).\n");
            }
            Group::NoEffect => text.push_str(
                "\nThese are read and checked so that old command lines keep working. Each says so \
                 in one line on\nstderr when it is given another value than its default.\n",
            ),
            _ => {}
        }
        tabulate(FLAGS.iter().filter(|flag| flag.group == group), &mut text);
    }
    text + PAGE_OUTRO
}

/// A table of flags in a page.
fn tabulate<'a>(flags: impl IntoIterator<Item = &'a Flag>, text: &mut String) {
    text.push_str("\n| flag | value | default | |\n|---|---|---|---|\n");
    for flag in flags {
        let default =
            if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let value = flag.kind.placeholder();
        let value = value.trim_start_matches('|').replace('|', "\\|");
        let (name, help) = (flag.name, flag.help);
        let _ = writeln!(text, "| `--{name}` | {value} | {default} | {help} |");
    }
}

const VERBS_INTRO: &str = "\
# Verbs for a store's directory

Besides `serve`, `heapster` has verbs that work on the directory of a store. This page is made from
the program's table (`heapster-server/src/cli/verbs.rs`); a test compares them. `heapster help VERB`
prints the same on a terminal. What the files look like is in
[export-formats.md](export-formats.md).

| verb | what it does |
|---|---|
";

/// The text of docs/cli.md.
pub fn verbs_page() -> String {
    let mut text = VERBS_INTRO.to_owned();
    for verb in VERBS {
        let _ = writeln!(text, "| [`{0}`](#{0}) | {1} |", verb.name, verb.summary);
    }
    for verb in VERBS {
        let _ = write!(text, "\n## {}\n\n", verb.name);
        let _ = writeln!(text, "```text\nheapster {} {} [flags]\n```", verb.name, verb.words);
        for paragraph in verb.about {
            text.push('\n');
            wrap(&mut text, 0, paragraph);
        }
        tabulate(verb.flags, &mut text);
        for (line, purpose) in verb.examples {
            let _ = write!(text, "\n{purpose}\n\n```sh\n{line}\n```\n");
        }
        text.push('\n');
        wrap(&mut text, 0, &format!("Exit codes: {}", exit_codes(verb)));
    }
    text
}
