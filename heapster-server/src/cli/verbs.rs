//! [`VERBS`]: the commands for a store's directory. Parsing, help and docs/cli.md come from this
//! table; what they do is in [`crate::verbs`].

use super::flags::{Flag, Group::OfVerb, flag};
use super::value::Kind::{Bool, Choice, Duration, Each, Int, Moment, Path, Text};

/// A command for a store's directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// The word on the command line.
    pub name: &'static str,
    /// The words behind it as the help shows them; `…` at the end of the last allows more of it.
    pub words: &'static str,
    /// What it does, in half a line.
    pub summary: &'static str,
    /// What one should know, in paragraphs.
    pub about: &'static [&'static str],
    /// Its flags.
    pub flags: &'static [Flag],
    /// Command lines with what they are for.
    pub examples: &'static [(&'static str, &'static str)],
    /// Its exit codes where they differ from those of all verbs.
    pub exit_codes: &'static str,
}

impl Verb {
    /// The words it needs.
    pub fn required(&self) -> impl Iterator<Item = &'static str> {
        self.words.split_whitespace().map(|word| word.trim_end_matches('…'))
    }

    /// How many words it takes.
    pub fn words_max(&self) -> usize {
        if self.words.ends_with('…') { usize::MAX } else { self.required().count() }
    }
}

/// The verb of that name.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

const fn verb_flag(
    name: &'static str,
    kind: super::value::Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    flag(OfVerb, name, kind, default, help)
}

const HELP: Flag = verb_flag("help", Bool, "false", "Print this help, and exit.");
const NO_PROGRESS: Flag = verb_flag(
    "no-progress",
    Bool,
    "false",
    "Show no progress. It is shown only when stderr is a terminal.",
);
const MATCH: Flag = verb_flag(
    "match",
    Each("SELECTOR"),
    "",
    "Only series that match, such as `{type=\"pod\"}`, `cpu/usage{namespace_name=~\"kube-.*\"}` or \
     `{__name__=~\"memory/.*\"}`. May be repeated; a series that matches one of them is taken.",
);
const START: Flag = verb_flag(
    "start",
    Moment,
    "",
    "Only samples from this time on: RFC 3339, a date, Unix seconds, `now`, or time ago such as \
     `-36h` or `-7d`.",
);
const END: Flag = verb_flag("end", Moment, "", "Only samples up to this time, which is included.");
const DRY_RUN: Flag =
    verb_flag("dry-run", Bool, "false", "Say what would be done, and do nothing.");
const COMPACT: Flag = verb_flag(
    "compact",
    Bool,
    "false",
    "Merge all segments at the end instead of leaving that to the server, which does it in the \
     background.",
);
const COPY_EXIT_CODES: &str = "0 copied, 1 failed, or the original is damaged and was copied as far as it can be, 2 the \
     command line, or a directory that is not usable, 3 another backup writes to DEST, 4 a newer \
     version wrote it.";
const FORMATS: &[&str] = &["csv", "prometheus", "parquet"];
const OUTPUT: Flag = verb_flag(
    "output",
    Choice(&["table", "json"]),
    "table",
    "Form of the result on stdout; also `-o`.",
);

/// The verbs in the order of the help.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "query",
        words: "EXPR",
        summary: "ask a server or a directory in PromQL",
        about: &[
            "Evaluates the PromQL expression EXPR at one moment, or with --start at steps up to \
             --end, and prints what it finds. With --url a server is asked, which may be a \
             Prometheus; with --data-dir the store in a directory, to which a server may be writing \
             meanwhile. Without either the server on this machine is asked.",
            "Of an expression that cannot be read the place is marked. Warnings go to stderr. An \
             expression that begins with a minus goes behind `--`.",
        ],
        flags: &[
            verb_flag(
                "at",
                Moment,
                "",
                "The moment of evaluation: RFC 3339, a date, Unix seconds, `now`, or time ago such \
                 as `-36h` or `-7d`. Default: now.",
            ),
            verb_flag("start", Moment, "", "The first of several moments of evaluation."),
            verb_flag("end", Moment, "", "The last of them at most. Default: now."),
            verb_flag(
                "step",
                Duration(0),
                "",
                "Time between them, such as `30s` or `5m`. Default: a 120th of the whole.",
            ),
            verb_flag(
                "url",
                Text,
                "",
                "Address of the server, such as `https://metrics.example:8082`. Default: \
                 `http://127.0.0.1:8082`.",
            ),
            verb_flag("data-dir", Path, "", "Directory of the store to ask instead of a server."),
            verb_flag("timeout", Duration(0), "30s", "Longest time the query may take."),
            verb_flag(
                "output",
                Choice(&["table", "json", "csv", "chart"]),
                "table",
                "Form of the result on stdout; also `-o`. `json` is that of Prometheus' API; `chart` \
                 needs --start and draws twelve series at most.",
            ),
            HELP,
        ],
        examples: &[
            (
                "heapster query 'topk(3, memory_working_set{type=\"pod\"})'",
                "The three pods with the most memory now.",
            ),
            (
                "heapster query 'sum(cpu_usage_rate{type=\"node\"}) / 1000' --start=-6h -o chart",
                "CPU cores used in the last six hours, drawn.",
            ),
            (
                "heapster query 'rate(up[5m])' --data-dir=/var/lib/heapster --at=2026-11-01 -o csv",
                "From the directory, as csv.",
            ),
        ],
        exit_codes: "0 answered, 1 the query failed, or the server does not answer, 2 the command \
                     line or the expression cannot be read, or the directory is not usable, 4 a \
                     newer version wrote it.",
    },
    Verb {
        name: "top",
        words: "nodes|pods",
        summary: "show what nodes or pods use, now or then",
        about: &[
            "Asks a server for what `kubectl top` shows, and for what was asked for and allowed, which it \
             does not show. With --at everything is as it was then.",
        ],
        flags: &[
            verb_flag("url", Text, "", "The server. Default: the one on this machine."),
            verb_flag("all-namespaces", Bool, "false", "Pods of all namespaces; also `-A`."),
            verb_flag("namespace", Text, "default", "Pods of this namespace; also `-n`."),
            verb_flag("containers", Bool, "false", "A line for each container of a pod."),
            verb_flag(
                "selector",
                Text,
                "",
                "Only what has these labels, such as `app=web,!canary`; also `-l`.",
            ),
            verb_flag(
                "sort-by",
                Choice(&["name", "cpu", "memory"]),
                "name",
                "What decides the order.",
            ),
            verb_flag("at", Moment, "", "The moment to show. Default: now."),
            verb_flag(
                "window",
                Text,
                "",
                "Averages over this time, such as `1h`, in place of the newest rates.",
            ),
            verb_flag("watch", Bool, "false", "Show it again every 15 s."),
            verb_flag(
                "output",
                Choice(&["table", "wide", "json", "yaml"]),
                "table",
                "Form of the result; `wide` has the last 15 minutes; also `-o`.",
            ),
            verb_flag("timeout", Duration(1), "30s", "Longest time an answer may take."),
            HELP,
        ],
        examples: &[
            ("heapster top nodes -o wide", "Nodes, with the last 15 minutes."),
            ("heapster top pods -A --sort-by=memory", "All pods, the largest first."),
            (
                "heapster top pods -n shop --containers --at=-2h",
                "Containers as they were two hours ago.",
            ),
        ],
        exit_codes: "",
    },
    Verb {
        name: "check",
        words: "DIR",
        summary: "verify every byte of a store",
        about: &[
            "Reads all files of the store in DIR and verifies checksums, indexes and values. \
             Nothing is changed, and a server may be writing to the store meanwhile.",
            "What is wrong is printed with the file, where in it, and what to do.",
        ],
        flags: &[OUTPUT, NO_PROGRESS, HELP],
        examples: &[
            ("heapster check /var/lib/heapster", "Verify the store of the server."),
            ("heapster check -o json ./data | jq .findings", "The same for a script."),
        ],
        exit_codes: "0 sound, 1 damage was found, 2 the command line, or DIR cannot be read as a \
                     store, 4 a newer version wrote it.",
    },
    Verb {
        name: "stats",
        words: "DIR",
        summary: "say what a store holds and what it costs",
        about: &[
            "Series, sets, samples, time range, bytes by kind of file and tier, encodings, and the \
             labels and metrics with the most values. Nothing is changed, and a server may be \
             writing to the store meanwhile.",
        ],
        flags: &[
            OUTPUT,
            verb_flag("top", Int(0, 100_000), "10", "How many labels and metrics to list."),
            HELP,
        ],
        examples: &[
            ("heapster stats /var/lib/heapster", "An overview."),
            ("heapster stats --top=50 -o json ./data | jq .labels", "What makes the store wide."),
        ],
        exit_codes: "",
    },
    Verb {
        name: "backup",
        words: "DIR DEST",
        summary: "copy a store, also while a server writes to it",
        about: &[
            "Copies the store in DIR into the directory DEST, which is missing, empty, or holds an \
             earlier backup of the same store. Then only what is new is copied, and what the store \
             does not have any more is removed. A server may be writing to the store meanwhile; \
             the backup is the store as it was when the verb began.",
            "What was copied is read back and verified. A run that dies leaves the backup of \
             before. A backup is read by `stats`, `check` and `export`; to write to it, restore it.",
        ],
        flags: &[DRY_RUN, NO_PROGRESS, HELP],
        examples: &[(
            "heapster backup /var/lib/heapster /mnt/backup/heapster",
            "Make a backup, or bring it up to date; every night, for example.",
        )],
        exit_codes: COPY_EXIT_CODES,
    },
    Verb {
        name: "restore",
        words: "BACKUP DIR",
        summary: "make a store out of a backup",
        about: &[
            "Copies the backup, or another store, into DIR, which is missing or empty, and makes a \
             store of it. What was copied is read back and verified. The backup stays as it is.",
        ],
        flags: &[DRY_RUN, NO_PROGRESS, HELP],
        examples: &[
            (
                "heapster restore /mnt/backup/heapster /var/lib/heapster",
                "Begin where the backup ended.",
            ),
            ("heapster --data-dir=/var/lib/heapster", "Then serve it."),
        ],
        exit_codes: COPY_EXIT_CODES,
    },
    Verb {
        name: "delete",
        words: "DIR",
        summary: "delete samples by labels and time",
        about: &[
            "Deletes all metrics of the sets that --match selects, in the range of time that \
             --start and --end give. What will go is said first, and asked for on a terminal. No \
             server may have the store open.",
            "Reads do not see the samples from then on. Their bytes leave the disk when the server \
             merges the segments, or at once with --compact.",
        ],
        flags: &[
            verb_flag(
                "match",
                Each("SELECTOR"),
                "",
                "The sets to delete from, such as `{namespace_name=\"test\"}`; without a metric, as \
                 all metrics of a set go. May be repeated; a set that matches one of them loses \
                 samples.",
            ),
            START,
            END,
            verb_flag("yes", Bool, "false", "Do not ask; also `-y`."),
            DRY_RUN,
            COMPACT,
            HELP,
        ],
        examples: &[
            (
                "heapster delete ./data --match='{pod_name=~\"load-test-.*\"}' --dry-run",
                "What would go?",
            ),
            (
                "heapster delete ./data --match='{nodename=\"n7\"}' --start=2026-11-01 \
                 --end=2026-11-02 --yes",
                "A day of a node whose clock was wrong.",
            ),
        ],
        exit_codes: "0 deleted, or nothing matched; 1 failed, or not confirmed; 2 the command \
                     line, or DIR is not usable; 3 another process has the store open; 4 a newer \
                     version wrote it.",
    },
    Verb {
        name: "export",
        words: "DIR",
        summary: "write samples to a csv, Prometheus or Parquet file",
        about: &[
            "Writes the raw samples of the store in DIR, or those that the flags choose. Nothing \
             is changed, and a server may be writing to the store meanwhile; what it adds during \
             the export is not in it.",
            "csv and parquet keep everything: integers, every bit of floats, kinds of metrics. \
             The Prometheus text format knows neither delta metrics nor the bits of NaN, and the \
             times of a set (`__time__/…`) are left out.",
            "Memory is bounded by the number of series, not by the number of samples.",
        ],
        flags: &[
            verb_flag("format", Choice(FORMATS), "", "Format of the file. Default: by its name."),
            verb_flag(
                "output",
                Path,
                "-",
                "The file to write; also `-o`; `-` is stdout. It gets its name when it is whole.",
            ),
            verb_flag("force", Bool, "false", "Replace the file if it is there."),
            MATCH,
            verb_flag(
                "metric",
                Each("NAME"),
                "",
                "Only metrics of this name, such as `cpu/usage`. May be repeated.",
            ),
            START,
            END,
            NO_PROGRESS,
            HELP,
        ],
        examples: &[
            ("heapster export ./data -o all.parquet", "Everything, for DuckDB, polars or pandas."),
            (
                "heapster export ./data --format=csv --match='{pod_name=\"web-1\"}' --start=-1h",
                "The last hour of a pod on stdout.",
            ),
            (
                "heapster export ./data --metric=cpu/usage --metric=memory/usage -o two.csv",
                "Two metrics of everything.",
            ),
        ],
        exit_codes: "",
    },
    Verb {
        name: "import",
        words: "DIR FILE…",
        summary: "read samples from csv, Prometheus or Parquet files",
        about: &[
            "Adds the samples of the files to the store in DIR, which is made if it is missing. \
             `-` is stdin. Samples may be of any time and in any order. To import a file twice \
             does no harm: each series has one sample per time. No server may have the store open.",
            "A line that cannot be read is reported with its number and left out. After \
             --bad-lines of them the import ends.",
            "A csv file begins with a line of column names: `time`, `metric` and `value`, and if \
             they are there `kind` and `labels` (a JSON object). Every other column is a label.",
        ],
        flags: &[
            verb_flag(
                "format",
                Choice(FORMATS),
                "",
                "Format of the files. Default: by their names.",
            ),
            verb_flag(
                "label",
                Each("NAME=VALUE"),
                "",
                "A label to set on every sample; wins over one of the file. May be repeated.",
            ),
            verb_flag(
                "time",
                Moment,
                "now",
                "Time of samples that have none (Prometheus text allows that).",
            ),
            verb_flag(
                "floats",
                Bool,
                "false",
                "Take `5` for 5.0. Otherwise a number without point and exponent is an integer, \
                 which is right for what heapster wrote.",
            ),
            verb_flag(
                "bad-lines",
                Int(0, i64::MAX),
                "10",
                "End at the first bad line beyond so many.",
            ),
            verb_flag("skip-bad", Bool, "false", "Never end because of bad lines."),
            COMPACT,
            NO_PROGRESS,
            HELP,
        ],
        examples: &[
            ("heapster import ./data all.parquet", "What an export wrote."),
            (
                "curl -s localhost:9100/metrics | heapster import ./data - --format=prometheus \
                 --label=instance=web-1",
                "What an exporter says now.",
            ),
        ],
        exit_codes: "0 everything was imported, or only bad lines were not and --skip-bad was \
                     given; 1 some was not.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_of_a_verb_is_unique_and_its_default_is_accepted() {
        for verb in VERBS {
            for (index, flag) in verb.flags.iter().enumerate() {
                let others = &verb.flags[..index];
                assert!(others.iter().all(|other| other.name != flag.name), "{}", flag.name);
                assert!(
                    flag.default.is_empty() || flag.kind.accepts(flag.default),
                    "{}",
                    flag.name
                );
            }
            assert!(verb.flags.iter().any(|flag| flag.name == "help"), "{}", verb.name);
        }
    }

    #[test]
    fn a_verb_knows_how_many_words_it_takes() {
        let import = find("import").unwrap();
        assert_eq!(import.required().collect::<Vec<_>>(), ["DIR", "FILE"]);
        assert_eq!((import.words_max(), find("check").unwrap().words_max()), (usize::MAX, 1));
    }
}
