//! Prometheus' own test scripts, on every kind of store, each instant query also replayed with `@`
//! and as a step of a range query, as Prometheus' runner does.
//!
//! The scripts lie outside the repository; where they are missing the test says that it is skipped.

use std::fs;
use std::path::Path;
use std::time::Duration;

use heapster_core::{Labels, Timestamp};
use heapster_query::QueryError;
use heapster_query::fuzz_support::promql_fixed;
use heapster_query::promql::{
    Control, Engine, EngineOptions, QueryAnswer, QueryLimits, QueryValue,
};

use crate::script::{self, Command, Eval, Expected, When};
use crate::storage::{Data, KINDS, Kind};
use crate::verdict::{COUNTS, LeftOut, check_answer, check_value, left_out, same_series};

#[test]
fn prometheus_own_scripts_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    if !folder.exists() {
        eprintln!("skipped: no shared promqltest beside the workspace");
        return;
    }
    let mut failures = Vec::new();
    let mut counted = Vec::new();
    for (name, ..) in COUNTS {
        let text = fs::read_to_string(folder.join(name).with_extension("test")).unwrap();
        let commands = script::parse(&text);
        let mut counts = None;
        for kind in KINDS {
            let run = Run::of(name, kind, &commands);
            failures.extend(run.failures);
            let own = (run.passed, run.native, run.experimental);
            assert_eq!(*counts.get_or_insert(own), own, "{name}: {kind:?} runs other cases");
            if kind == Kind::Memory {
                run.skipped.iter().for_each(|line| println!("{line}"));
            }
        }
        let (passed, native, experimental) = counts.unwrap();
        println!(
            "{name}: {passed} passed, {native} need native histograms, {experimental} are experimental"
        );
        counted.push((name, passed, native, experimental));
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert_eq!(counted, COUNTS);
}

/// A run of a script on one kind of store.
struct Run<'a> {
    file: &'a str,
    kind: Kind,
    engine: Engine,
    data: Data,
    histograms: Vec<Labels>,
    passed: usize,
    native: usize,
    experimental: usize,
    skipped: Vec<String>,
    failures: Vec<String>,
}

impl<'a> Run<'a> {
    fn of(file: &'a str, kind: Kind, commands: &[Command]) -> Self {
        let limits = QueryLimits { samples_max: 10_000, ..QueryLimits::default() };
        let engine = Engine::new(EngineOptions { limits, threads: 2, ..EngineOptions::default() });
        let mut run = Self {
            file,
            kind,
            engine,
            data: Data::new(kind),
            histograms: Vec::new(),
            passed: 0,
            native: 0,
            experimental: 0,
            skipped: Vec::new(),
            failures: Vec::new(),
        };
        for command in commands {
            match command {
                Command::Clear => {
                    run.data = Data::new(kind);
                    run.histograms.clear();
                }
                Command::Load { floats, histograms } => {
                    run.data.load(floats);
                    run.histograms.extend_from_slice(histograms);
                }
                Command::Eval(eval) => run.eval(eval),
            }
        }
        run
    }

    fn eval(&mut self, eval: &Eval) {
        match left_out(eval, &self.histograms) {
            Some(LeftOut::Native(why)) => {
                self.native += 1;
                self.skip(eval, &why);
                return;
            }
            Some(LeftOut::Experimental(why)) => {
                self.experimental += 1;
                self.skip(eval, &why);
                return;
            }
            None => {}
        }
        match self.check(eval) {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!(
                "{}.test:{} on {:?}: {}\n    {why}",
                self.file, eval.line, self.kind, eval.query
            )),
        }
    }

    fn skip(&mut self, eval: &Eval, why: &str) {
        self.skipped.push(format!("{}.test:{}: skipped: {why}", self.file, eval.line));
    }

    fn check(&self, eval: &Eval) -> Result<(), String> {
        let answer = self.ask(&eval.query, eval.when);
        check_answer(eval, &answer)?;
        let When::Instant(at) = eval.when else { return Ok(()) };
        self.replay_fixed(eval, at)?;
        if matches!(eval.expected, Expected::Text(_) | Expected::Series { grid: Some(_), .. }) {
            return Ok(());
        }
        self.replay_in_range(eval, at)
    }

    fn ask(&self, query: &str, when: When) -> Result<QueryAnswer, QueryError> {
        let snapshot = self.data.snapshot();
        let (control, time) = (Control::default(), Timestamp::from_millis);
        match when {
            When::Instant(at) => self.engine.instant(&*snapshot, query, time(at), &control),
            When::Range { start, end, step } => {
                let step = Duration::from_millis(step.try_into().unwrap());
                self.engine.range(&*snapshot, query, time(start), time(end), step, &control)
            }
        }
    }

    /// With `@` everywhere the moment of evaluation does not matter.
    fn replay_fixed(&self, eval: &Eval, at: i64) -> Result<(), String> {
        let Some(query) = promql_fixed(&eval.query, at) else { return Ok(()) };
        let times = match at {
            0 => vec![-1000, 0, 1000],
            _ => vec![-10 * at, 0, at / 5, at, 10 * at],
        };
        for time in times {
            let answer = self.ask(&query, When::Instant(time));
            // Places in the text have moved, so only the answer is looked at.
            check_value(eval, &answer).map_err(|why| format!("at {time} {query}: {why}"))?;
        }
        Ok(())
    }

    fn replay_in_range(&self, eval: &Eval, at: i64) -> Result<(), String> {
        let when = When::Range { start: at - 60_000, end: at + 60_000, step: 60_000 };
        let answer = match self.ask(&eval.query, when) {
            Err(_) if eval.fails.is_some() => return Ok(()),
            // Steps before and after may fail where the step itself does not.
            Err(QueryError::Execution(_)) => return Ok(()),
            Err(error) => return Err(format!("in a range: {error}")),
            Ok(answer) => answer,
        };
        if eval.fails.is_some() {
            return Err("in a range it does not fail".to_owned());
        }
        let QueryValue::Matrix(series) = &answer.value else { return Err("no matrix".to_owned()) };
        let at = Timestamp::from_millis(at);
        let own = series.iter().filter_map(|series| {
            let point = series.points.iter().find(|point| point.0 == at)?;
            Some((series.labels.clone(), vec![Some(point.1)]))
        });
        let expected = match &eval.expected {
            Expected::Scalar(value) => vec![(Labels::new(), vec![Some(*value)])],
            Expected::Series { series, .. } => series.clone(),
            _ => return Ok(()),
        };
        same_series(&expected, &own.collect::<Vec<_>>()).map_err(|why| format!("in a range: {why}"))
    }
}
